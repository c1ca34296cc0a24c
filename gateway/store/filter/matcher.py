"""What a filter means, in plain Python: the reference that every engine agrees with."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gateway.store.filter import regex
from gateway.store.filter.nodes import (
    ITSELF,
    And,
    Compare,
    Condition,
    ElemMatch,
    Eq,
    Exists,
    In,
    Mod,
    Node,
    Not,
    Or,
    Path,
    Size,
    Text,
    Type,
)
from gateway.store.json import strict


class _Missing:
    """The value of a member that is not there."""


_MISSING = _Missing()
_COMPARE = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}
_TEXT: dict[str, Callable[[str, str], bool]] = {
    "prefix": str.startswith,
    "suffix": str.endswith,
    "contains": str.__contains__,
    "regex": lambda text, pattern: regex.search(pattern)(text),
}


def matches(
    node: Node, identifier: str, data: Mapping[str, Any], created: float = 0, modified: float = 0
) -> bool:
    """Whether a document matches a filter. data: its members. created, modified: seconds since the epoch."""
    return _matches(node, {**data, "id": identifier, "_created": created, "_modified": modified})


def _matches(node: Node, whole: Any) -> bool:
    if isinstance(node, And):
        return all(_matches(part, whole) for part in node.nodes)
    if isinstance(node, Or):
        return any(_matches(part, whole) for part in node.nodes)
    if isinstance(node, Not):
        return not _matches(node.node, whole)
    if node.path == ITSELF:
        return _holds(node, whole)
    if not isinstance(whole, Mapping):
        return False
    return any(_holds_somewhere(node, value) for value in _values(whole, node.path))


def values_at(data: Mapping[str, Any], path: Path) -> Iterator[Any]:
    """Every value that a path leads to; None where it ends too early."""
    return (None if isinstance(value, _Missing) else value for value in _values(data, path))


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


def _holds_somewhere(node: Condition, value: Any) -> bool:
    """Whether a condition holds for a value, or for an element of it."""
    if _holds(node, value):
        return True
    if isinstance(node, Exists | Size | ElemMatch) or not isinstance(value, list):
        return False
    return any(_holds(node, item) for item in value)


def _holds(node: Condition, value: Any) -> bool:
    """Whether a condition holds for a value itself."""
    if isinstance(node, Eq):
        return _equal(value, node.value)
    if isinstance(node, In):
        return any(_equal(value, item) for item in node.values)
    if isinstance(value, _Missing):
        return False
    match node:
        case Exists():
            return True
        case Compare(_, op, operand, _):
            return type_of(value) == type_of(operand) and _COMPARE[op](value, operand)
        case Type(_, names):
            return type_of(value) in names
        case Size(_, count):
            return isinstance(value, list) and len(value) == count
        case Mod(_, divisor, remainder):
            return type_of(value) == "number" and _remainder(value, divisor) == remainder
        case Text(_, kind, text):
            return isinstance(value, str) and _TEXT[kind](value, text)
        case ElemMatch(_, inner):
            return isinstance(value, list) and any(_matches(inner, item) for item in value)


def _equal(value: Any, operand: Any) -> bool:
    return operand is None if isinstance(value, _Missing) else same(value, operand)


def _remainder(value: float, divisor: int) -> int | None:
    cut = math.trunc(value)
    if not strict.INT_MIN <= cut <= strict.INT_MAX:
        return None
    remainder = abs(cut) % abs(divisor)
    return -remainder if cut < 0 else remainder


def type_of(value: Any) -> str:
    """The name of a JSON value's type, as $type has it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "object" if isinstance(value, Mapping) else "array"


def same(left: Any, right: Any, *, ordered: bool = True) -> bool:
    """Whether two JSON values are equal and of the same type. ordered: the order of members counts."""
    if isinstance(left, dict) and isinstance(right, dict):
        alike = list(left) == list(right) if ordered else left.keys() == right.keys()
        return alike and all(same(left[name], right[name], ordered=ordered) for name in left)
    if isinstance(left, list) and isinstance(right, list):
        pairs = zip(left, right, strict=False)
        return len(left) == len(right) and all(same(a, b, ordered=ordered) for a, b in pairs)
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    return bool(left == right)
