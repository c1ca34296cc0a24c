"""Conditions on one value as SQL; sqlite/read/filter.py finds the values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gateway.store.filter.nodes import (
    Compare,
    Eq,
    Exists,
    In,
    Mod,
    Size,
    Text,
    TextKind,
    Type,
    TypeName,
)
from gateway.store.sqlite.read.statement import Bound

_OPERATORS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_KINDS: dict[TypeName, tuple[str, ...]] = {
    "null": ("null",),
    "bool": ("true", "false"),
    "number": ("integer", "real"),
    "string": ("text",),
    "object": ("object",),
    "array": ("array",),
}
# The doubles that can be cut to an integer of 64 bits.
_IN_64_BITS = "{atom} >= -9223372036854775808.0 AND {atom} < 9223372036854775808.0"


@dataclass(frozen=True, slots=True)
class Value:
    """A value as SQL expressions. kind: SQLite's name of its JSON type, NULL when it is missing. atom: the
    value of a scalar. text: its JSON text, empty for a column, which is a scalar that is always there."""

    kind: str
    atom: str
    text: str

    def is_kind(self, *kinds: str) -> str:
        """Whether its type is one of these, by SQLite's names, as SQL."""
        if len(kinds) == 1:
            return f"{self.kind} = '{kinds[0]}'"
        return f"{self.kind} IN ({', '.join(repr(kind) for kind in kinds)})"


def holds(bound: Bound, node: Eq | In | Compare | Exists | Type | Mod | Text | Size, value: Value) -> str:
    """Whether a condition holds for the value itself; NULL is false."""
    match node:
        case Eq(_, operand, text):
            return _equals(bound, operand, text, value)
        case In(_, values, texts):
            return _is_one_of(bound, values, texts, value)
        case Compare(_, op, operand, _):
            return _compares(bound, _OPERATORS[op], operand, value)
        case Exists():
            return f"{value.kind} IS NOT NULL"
        case Type(_, names):
            return value.is_kind(*(kind for name in sorted(names) for kind in _KINDS[name]))
        case Size(_, count):
            return f"({value.is_kind('array')} AND json_array_length({value.text}) = {bound.bind(count)})"
        case Mod(_, divisor, remainder):
            return _leaves(bound, divisor, remainder, value)
        case Text(_, kind, operand):
            return f"({value.is_kind('text')} AND {_TEXTS[kind](bound, operand, value.atom)})"


def _equals(bound: Bound, operand: Any, text: str, value: Value) -> str:
    if operand is None:
        return f"ifnull({value.kind}, 'null') = 'null'"
    if isinstance(operand, bool):
        return value.is_kind(text)
    if isinstance(operand, str):
        return f"({value.is_kind('text')} AND {value.atom} = {bound.bind(operand)})"
    if isinstance(operand, int):
        return f"({value.is_kind('integer', 'real')} AND {value.atom} = {bound.bind(operand)})"
    if isinstance(operand, float):
        if not value.text:
            return f"({value.is_kind('real')} AND {value.atom} = {bound.bind(operand)})"
        # SQLite reads a decimal less exactly than Python: what it finds is confirmed by the text.
        return (
            f"({value.is_kind('real')} AND {value.atom} = {bound.real(operand)} "
            f"AND {value.text} = {bound.bind(text)})"
        )
    if not value.text:
        return "0"
    kind = "object" if isinstance(operand, dict) else "array"
    return f"({value.is_kind(kind)} AND {value.text} = {bound.bind(text)})"


def _is_one_of(bound: Bound, values: tuple[Any, ...], texts: tuple[str, ...], value: Value) -> str:
    found = []
    strings = [item for item in values if isinstance(item, str)]
    if strings:
        found.append(f"({value.is_kind('text')} AND {value.atom} IN {bound.each(strings)})")
    whole = [item for item in values if type(item) is int]
    if whole:
        found.append(f"({value.is_kind('integer', 'real')} AND {value.atom} IN {bound.each(whole)})")
    pairs = list(zip(values, texts, strict=True))
    if value.text:
        for kind, of_type in (("real", float), ("object", dict), ("array", list)):
            alike = [text for item, text in pairs if isinstance(item, of_type)]
            if alike:
                found.append(f"({value.is_kind(kind)} AND {value.text} IN {bound.each(alike)})")
    else:
        # Each bound by itself: in a JSON list SQLite would read them less exactly.
        real = [bound.bind(item) for item in values if isinstance(item, float)]
        found.append(f"({value.is_kind('real')} AND {value.atom} IN ({', '.join(real)}))")
    bare = [pair for pair in pairs if pair[1] in ("null", "true", "false")]
    found += [_equals(bound, item, text, value) for item, text in bare]
    return f"({' OR '.join(found) or '0'})"


def _compares(bound: Bound, sign: str, operand: float | int | str | bool, value: Value) -> str:
    if isinstance(operand, bool):
        return f"({value.is_kind('true', 'false')} AND ({value.kind} = 'true') {sign} {int(operand)})"
    if isinstance(operand, str):
        return f"({value.is_kind('text')} AND {value.atom} {sign} {bound.bind(operand)})"
    number = bound.real(operand) if value.text else bound.bind(operand)
    return f"({value.is_kind('integer', 'real')} AND {value.atom} {sign} {number})"


def _leaves(bound: Bound, divisor: int, remainder: int, value: Value) -> str:
    by, leaves, atom = bound.bind(divisor), bound.bind(remainder), value.atom
    inside = _IN_64_BITS.format(atom=atom)
    whole = f"({value.is_kind('integer')} AND {atom} % {by} = {leaves})"
    cut = f"({value.is_kind('real')} AND {inside} AND CAST({atom} AS INTEGER) % {by} = {leaves})"
    return f"({whole} OR {cut})"


def _ends_with(bound: Bound, text: str, atom: str) -> str:
    if not text:
        return "1"
    wanted = bound.bind(text)
    return f"substr({atom}, -length({wanted})) = {wanted}"


def _begins_with(bound: Bound, text: str, atom: str) -> str:
    wanted = bound.bind(text)
    return f"substr({atom}, 1, length({wanted})) = {wanted}"


_TEXTS: dict[TextKind, Callable[[Bound, str, str], str]] = {
    "prefix": _begins_with,
    "suffix": _ends_with,
    "contains": lambda bound, text, atom: f"instr({atom}, {bound.bind(text)}) > 0",
    "regex": lambda bound, text, atom: f"regex_search({bound.bind(text)}, {atom})",
}
