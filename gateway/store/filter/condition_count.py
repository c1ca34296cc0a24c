"""How many conditions a filter has, counted before it is parsed."""

from __future__ import annotations

from typing import Any

COMBINATIONS = frozenset({"$and", "$or", "$nor"})
_ToCount = list[tuple[Any, bool]]  # filters (False), and the operators of a field (True)


def exceeds(value: Any, most: int) -> bool:
    """Whether a filter has more conditions than `most`: each costs the parser, a cursor and the engine some
    work. A branch without a condition counts as one. Any JSON value is accepted; what is wrong with it is
    reported by the parser."""
    counted = 0
    left: _ToCount = [(value, False)]
    while left and counted + len(left) <= most:  # each one left counts at least one
        item, of_field = left.pop()
        counted += _count_operators(item, left, most) if of_field else _count_branch(item, left, most)
    return counted + len(left) > most


def is_of_values(operand: dict[str, Any]) -> bool:
    """Whether the operand of an $elemMatch has operators on the elements, rather than a filter on their
    members."""
    return all(name.startswith("$") and name not in COMBINATIONS for name in operand)


def _count_branch(item: Any, left: _ToCount, most: int) -> int:
    """The conditions of a filter, but for those that are added to `left`."""
    if not isinstance(item, dict) or not item:
        return 1
    if len(item) > most:
        return len(item)
    counted = 0
    for name, operand in item.items():
        if name not in COMBINATIONS:
            left.append((operand, True))
        elif isinstance(operand, list) and operand:
            if len(operand) > most:
                return len(operand)
            left += [(part, False) for part in operand]
        else:
            counted += 1
    return counted


def _count_operators(operand: Any, left: _ToCount, most: int) -> int:
    """The conditions in the operators of a field, but for those that are added to `left`."""
    if not isinstance(operand, dict) or not operand or not any(name.startswith("$") for name in operand):
        return 1
    if len(operand) > most:
        return len(operand)
    counted = 0
    for name, value in operand.items():
        if name == "$all" and isinstance(value, list):
            counted += max(1, len(value))
        elif name == "$not":
            left.append((value, True))
        elif name == "$elemMatch":
            counted += 1
            left.append((value, isinstance(value, dict) and is_of_values(value)))
        elif name != "$options":
            counted += 1
    return counted
