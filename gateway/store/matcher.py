"""What a filter means, in plain Python: the reference that every engine must agree with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.store.filter import And, Node, Path


class _Missing:
    """The value of a member that is not there."""


_MISSING = _Missing()


def matches(node: Node, identifier: str, data: Mapping[str, Any]) -> bool:
    """Whether a document matches: the reference for every engine."""
    if isinstance(node, And):
        return all(matches(part, identifier, data) for part in node.nodes)
    whole = {**data, "id": identifier}
    return any(_equal_or_holds(value, node.value) for value in _values(whole, node.path))


def _values(data: Mapping[str, Any], path: Path) -> Iterator[Any]:
    """Every value that a path leads to, _MISSING where it ends too early."""
    value = data.get(path[0], _MISSING)
    rest = path[1:]
    if not rest:
        yield value
    elif isinstance(value, Mapping):
        yield from _values(value, rest)
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, Mapping):
                yield from _values(item, rest)
    else:
        yield _MISSING


def _equal_or_holds(value: Any, operand: Any) -> bool:
    if isinstance(value, _Missing):
        return operand is None
    if same(value, operand):
        return True
    return isinstance(value, list) and any(same(item, operand) for item in value)


def same(left: Any, right: Any) -> bool:
    """Equality of JSON values, strict in type."""
    if isinstance(left, dict) and isinstance(right, dict):
        return list(left) == list(right) and all(same(left[name], right[name]) for name in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    return bool(left == right)
