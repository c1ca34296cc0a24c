"""How many conditions a filter has, before anything is made of it."""

from __future__ import annotations

from typing import Any

COMBINATIONS = frozenset({"$and", "$or", "$nor"})
_Left = list[tuple[Any, bool]]  # filters, and the operators of a field (True), to be counted


def exceeds(value: Any, most: int) -> bool:
    """Whether it has more conditions: each takes a parser, a cursor and an engine some work. A branch without
    a condition counts as one. Whatever is wrong with the value is told by who parses it."""
    counted = 0
    left: _Left = [(value, False)]
    while left and counted + len(left) <= most:  # each that is left is one at least
        item, of_field = left.pop()
        counted += _count(item, left, most) if of_field else _count_branch(item, left, most)
    return counted + len(left) > most


def is_of_values(operand: dict[str, Any]) -> bool:
    """Whether an $elemMatch has operators on the elements, and is no filter on their members."""
    return all(name.startswith("$") and name not in COMBINATIONS for name in operand)


def _count_branch(item: Any, left: _Left, most: int) -> int:
    """The conditions of a filter, but for those that are left to be counted."""
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


def _count(operand: Any, left: _Left, most: int) -> int:
    """The same of what a field is asked."""
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
