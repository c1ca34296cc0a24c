"""What MongoDB's manual says of the query operators that the engine uses, in plain Python.

https://www.mongodb.com/docs/manual/reference/operator/query/ and, on arrays on a path,
https://www.mongodb.com/docs/manual/tutorial/query-array-of-documents/
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator, Mapping
from typing import Any

from gateway.store.filter.matcher import same, type_of

_MISSING = object()
_COMPARE = {"$gt": operator.gt, "$gte": operator.ge, "$lt": operator.lt, "$lte": operator.le}


def holds(query: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    """Whether a row is found."""
    return all(_part(name, condition, row) for name, condition in query.items())


def _part(name: str, condition: Any, row: Mapping[str, Any]) -> bool:
    if name == "$and":
        return all(holds(part, row) for part in condition)
    if name == "$or":
        return any(holds(part, row) for part in condition)
    values = list(_values(row, name.split(".")))
    operators = condition if isinstance(condition, Mapping) else {"$eq": condition}
    return all(any(_holds(op, operand, value) for value in values) for op, operand in operators.items())


def _values(value: Any, path: list[str]) -> Iterator[Any]:
    if not path:
        yield value
    elif isinstance(value, Mapping):
        yield from _values(value.get(path[0], _MISSING), path[1:])
    elif isinstance(value, list):
        for element in value:
            if isinstance(element, Mapping):
                yield from _values(element, path)
    else:
        yield _MISSING


def _holds(op: str, operand: Any, value: Any) -> bool:
    if op == "$exists":
        return (value is not _MISSING) == operand
    if value is _MISSING:
        return False
    if op == "$size":
        return isinstance(value, list) and len(value) == operand
    if op == "$elemMatch":
        return isinstance(value, list) and any(isinstance(e, Mapping) and holds(operand, e) for e in value)
    return any(_of_value(op, operand, item) for item in (value, *(value if isinstance(value, list) else ())))


def _of_value(op: str, operand: Any, value: Any) -> bool:
    if op == "$eq":
        return same(value, operand)
    if op == "$in":
        return any(same(value, item) for item in operand)
    if op == "$type":
        return type_of(value) == operand
    if op == "$regex":
        return isinstance(value, str) and re.search(operand, value) is not None
    return type_of(value) == type_of(operand) and bool(_COMPARE[op](value, operand))
