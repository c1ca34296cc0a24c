"""The filter language: from JSON text to nodes. Errors have a JSON pointer to what is not accepted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NoReturn, cast, get_args

from gateway.core.errors import BadRequest
from gateway.store.filter import nodes, regex
from gateway.store.filter.condition_count import COMBINATIONS, exceeds, is_of_values
from gateway.store.json import strict
from gateway.store.model import instants

MAX_CONDITIONS = 100
MAX_VALUES = 1000  # of $in, $nin and $all
MAX_VALUES_ALL = 2000  # of all $in and $nin of a filter
LARGE = 16  # conditions; with more of them SQLite takes milliseconds to prepare a statement
MAX_TEXT = 1000  # characters of $prefix and $contains
QUICK_PATTERNS = 4  # new and small patterns of a quick filter: compiling them locks the interpreter
SUPPORTED = (
    "$and $or $nor (of filters); $eq $ne $gt $gte $lt $lte $in $nin $not $exists $type $all $size $elemMatch "
    "$mod $prefix $contains $regex (of a field)"
)
_REFUSED = "The filter is not accepted; see errors."
_INT_MIN, _INT_MAX = strict.INT_MIN, strict.INT_MAX
_TOO_MANY = f"more than {MAX_CONDITIONS} conditions"
_OF_INSTANTS = frozenset({"$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$not"})


class NotQuick(Exception):
    """Parsing the filter takes longer than a moment: a worker process has to do it."""


def parse(text: str, *, quick: bool = False) -> nodes.Node:
    """The nodes of a filter, `{"a": 1, "b.c": {"$gt": 2}}`. Raises BadRequest with a JSON pointer; and
    NotQuick, when `quick` was asked for and parsing takes long."""
    return parse_value(strict.read(text, "filter", _REFUSED, problem=BadRequest), quick=quick)


def parse_value(value: Any, *, quick: bool = False) -> nodes.Node:
    """As parse, of a value that strict.read gave, such as a member of a query's body."""
    if exceeds(value, MAX_CONDITIONS):
        _refuse("", _TOO_MANY)
    if quick and not _is_quick(value):
        raise NotQuick
    node = _filter(value, "", inner=False)
    if sum(1 for _ in conditions(node)) > MAX_CONDITIONS:
        _refuse("", _TOO_MANY)
    if sum(len(part.values) for part in conditions(node) if isinstance(part, nodes.In)) > MAX_VALUES_ALL:
        _refuse("", f"more than {MAX_VALUES_ALL} values of $in and $nin in all")
    if sum(map(regex.check, patterns(node))) > regex.MAX_PROGRAMS:
        text = "the patterns of a filter are too large together"
        _refuse("", f"{text}: repeat less often, or narrower classes than \\p{{L}}")
    return node


def patterns(node: nodes.Node) -> set[str]:
    """The patterns of all $regex that are not literal."""
    return {part.value for part in conditions(node) if isinstance(part, nodes.Text) and part.kind == "regex"}


def _is_quick(value: Any) -> bool:
    """Whether no more than a few small patterns have to be compiled, wherever in the value they are."""
    count, left = 0, [value]
    while left:
        item = left.pop()
        if isinstance(item, list):
            left += item
        elif isinstance(item, dict):
            left += item.values()
            if "$regex" in item:
                pattern = _flagged(item["$regex"], item.get("$options"))
                if regex.literal(pattern) is None and not regex.is_known(pattern):
                    count += 1
                    if count > QUICK_PATTERNS or not regex.is_small(pattern):
                        return False
    return True


def _flagged(pattern: Any, options: Any) -> str:
    """A pattern with its $options in it; empty for what is no pattern, which is refused later."""
    if not isinstance(pattern, str):
        return ""
    return f"(?{options}){pattern}" if options else pattern


def is_large(node: nodes.Node) -> bool:
    """Whether a filter has more than LARGE conditions and empty branches, so that an engine should not
    prepare it on the event loop."""
    return sum(1 for _ in islice(_leaves(node), LARGE + 1)) > LARGE


def _leaves(node: nodes.Node) -> Iterator[nodes.Condition | nodes.And | nodes.Or]:
    """Conditions, and branches without one; an ElemMatch counts, and so do the conditions in it."""
    if isinstance(node, nodes.And | nodes.Or) and node.nodes:
        for part in node.nodes:
            yield from _leaves(part)
    elif isinstance(node, nodes.Not):
        yield from _leaves(node.node)
    else:
        yield node
        if isinstance(node, nodes.ElemMatch):
            yield from _leaves(node.node)


def conditions(node: nodes.Node) -> Iterator[nodes.Condition]:
    """The leaves of a tree that are conditions."""
    return (leaf for leaf in _leaves(node) if not isinstance(leaf, nodes.And | nodes.Or))


def _filter(value: Any, at: str, *, inner: bool) -> nodes.Node:
    if not isinstance(value, dict):
        _refuse(at, "a filter is a JSON object")
    parts: list[nodes.Node] = []
    for name, operand in value.items():
        here = at + strict.pointer(name)
        if name in COMBINATIONS:
            parts.append(_combination(name, operand, here, inner=inner))
        elif name.startswith("$"):
            _refuse(here, f"this operator is not supported here; supported are {SUPPORTED}")
        else:
            try:
                path = nodes.parse_path(name, inner=inner)
            except ValueError as error:
                _refuse(here, str(error))
            parts.append(_field(path, operand, here, inner=inner))
    return _all(parts)


def _combination(name: str, operand: Any, at: str, *, inner: bool) -> nodes.Node:
    if not isinstance(operand, list) or not operand:
        _refuse(at, f"{name} takes an array of one or more filters")
    parts = tuple(_filter(item, f"{at}/{index}", inner=inner) for index, item in enumerate(operand))
    if name == "$and":
        return nodes.And(parts)
    return nodes.Or(parts) if name == "$or" else nodes.Not(nodes.Or(parts))


def _field(path: nodes.Path, operand: Any, at: str, *, inner: bool) -> nodes.Node:
    if isinstance(operand, dict) and any(name.startswith("$") for name in operand):
        return _operators(path, operand, at, inner=inner)
    return _equal(path, operand, at, inner=inner)


def _operators(path: nodes.Path, operand: dict[str, Any], at: str, *, inner: bool) -> nodes.Node:
    parts: list[nodes.Node] = []
    for name, value in operand.items():
        here = at + strict.pointer(name)
        if not name.startswith("$"):
            _refuse(here, "a value cannot mix operators and members")
        if name == "$options" and "$regex" in operand:
            continue
        if name not in _OPERATORS and name not in ("$regex", "$not", "$elemMatch"):
            _refuse(here, f"not supported here; supported operators are {SUPPORTED}")
        if path in nodes.META and not inner and name not in _OF_INSTANTS:
            _refuse(here, 'an instant can only be compared, as in {"$gte": "2026-01-31T00:00:00Z"}')
        if name == "$regex":
            parts.append(_regex(path, value, operand.get("$options", ""), here))
        elif name == "$not":
            if not isinstance(value, dict) or not value or not all(n.startswith("$") for n in value):
                _refuse(here, '$not takes operators, such as {"$gt": 1}')
            parts.append(nodes.Not(_operators(path, value, here, inner=inner)))
        elif name == "$elemMatch":
            parts.append(_elem_match(path, value, here))
        else:
            parts.append(_OPERATORS[name](path, _instants(path, value, here, inner=inner), here))
    return _all(parts)


def _all(parts: list[nodes.Node]) -> nodes.Node:
    return parts[0] if len(parts) == 1 else nodes.And(tuple(parts))


def _equal(path: nodes.Path, value: Any, at: str, *, inner: bool) -> nodes.Eq:
    return _eq(path, _instants(path, value, at, inner=inner), at)


def _instants(path: nodes.Path, value: Any, at: str, *, inner: bool) -> Any:
    """The operand; for _created and _modified in seconds since the epoch."""
    if inner or path not in nodes.META:
        return value
    if isinstance(value, list):
        return [_instants(path, item, f"{at}/{index}", inner=False) for index, item in enumerate(value)]
    seconds = instants.parse(value) if isinstance(value, str) else None
    if seconds is None:
        _refuse(at, "an instant is a string such as 2026-01-31T10:00:00Z (RFC 3339)")
    return int(seconds) if seconds.is_integer() else seconds


# --- the operators: path, operand, JSON pointer to it -> node --------------------------------------


def _eq(path: nodes.Path, value: Any, at: str) -> nodes.Eq:
    _check_value(value, at)
    return nodes.Eq(path, value, strict.dumps(value))


def _compare(op: nodes.Comparison) -> Callable[[nodes.Path, Any, str], nodes.Node]:
    def operator(path: nodes.Path, value: Any, at: str) -> nodes.Node:
        if not isinstance(value, str | int | float):
            _refuse(at, "takes a number, a string, true or false")
        return nodes.Compare(path, op, value, strict.dumps(value))

    return operator


def _in(path: nodes.Path, value: Any, at: str) -> nodes.Node:
    if not isinstance(value, list) or len(value) > MAX_VALUES:
        _refuse(at, f"takes an array of at most {MAX_VALUES} values")
    for index, item in enumerate(value):
        _check_value(item, f"{at}/{index}")
    texts = {strict.dumps(item): item for item in value}
    if not texts:
        return nodes.NOTHING
    if len(texts) == 1:
        return _eq(path, value[0], at)
    return nodes.In(path, tuple(texts.values()), tuple(texts))


def _every(path: nodes.Path, value: Any, at: str) -> nodes.Node:
    if not isinstance(value, list) or len(value) > MAX_CONDITIONS:
        _refuse(at, f"takes an array of at most {MAX_CONDITIONS} values")
    if not value:
        return nodes.NOTHING
    return _all([_eq(path, item, f"{at}/{index}") for index, item in enumerate(value)])


def _exists(path: nodes.Path, value: Any, at: str) -> nodes.Node:
    if not isinstance(value, bool):
        _refuse(at, "takes true or false")
    return nodes.Exists(path) if value else nodes.Not(nodes.Exists(path))


def _type(path: nodes.Path, value: Any, at: str) -> nodes.Node:
    names = value if isinstance(value, list) else [value]
    if not names or not all(isinstance(name, str) and name in get_args(nodes.TypeName) for name in names):
        _refuse(at, f"takes one of {', '.join(get_args(nodes.TypeName))}, or an array of them")
    return nodes.Type(path, frozenset(cast("list[nodes.TypeName]", names)))


def _size(path: nodes.Path, value: Any, at: str) -> nodes.Node:
    if type(value) is not int or value < 0:
        _refuse(at, "takes a whole number from 0")
    return nodes.Size(path, value)


def _mod(path: nodes.Path, value: Any, at: str) -> nodes.Node:
    if not (isinstance(value, list) and len(value) == 2 and all(type(number) is int for number in value)):
        _refuse(at, "takes two whole numbers, [divisor, remainder]")
    if value[0] == 0:
        _refuse(f"{at}/0", "nothing can be divided by 0")
    return nodes.Mod(path, value[0], value[1])


def _text(kind: nodes.TextKind) -> Callable[[nodes.Path, Any, str], nodes.Node]:
    def operator(path: nodes.Path, value: Any, at: str) -> nodes.Node:
        if not isinstance(value, str) or len(value) > MAX_TEXT:
            _refuse(at, f"takes a string of at most {MAX_TEXT} characters")
        return nodes.Text(path, kind, value)

    return operator


def _regex(path: nodes.Path, value: Any, options: Any, at: str) -> nodes.Node:
    if not isinstance(value, str):
        _refuse(at, "takes a pattern as a string")
    if not isinstance(options, str) or not set(options) <= set("ims") or len(set(options)) < len(options):
        _refuse(at, "$options are of i, m and s")
    plain = None if options else regex.literal(value)
    if plain is not None and len(plain[1]) <= MAX_TEXT:
        begin, text, end = plain
        if begin and end:
            return nodes.Eq(path, text, strict.dumps(text))
        return nodes.Text(path, "prefix" if begin else "suffix" if end else "contains", text)
    pattern = _flagged(value, options)
    try:
        regex.check(pattern)
    except ValueError as error:
        _refuse(at, str(error))
    return nodes.Text(path, "regex", pattern)


def _elem_match(path: nodes.Path, value: Any, at: str) -> nodes.Node:
    if not isinstance(value, dict) or not value:
        _refuse(at, "takes a filter on the elements, or operators on them")
    if is_of_values(value):
        return nodes.ElemMatch(path, _operators(nodes.ITSELF, value, at, inner=True))
    is_object = nodes.Type(nodes.ITSELF, frozenset({"object"}))
    return nodes.ElemMatch(path, nodes.And((is_object, _filter(value, at, inner=True))))


_OPERATORS: dict[str, Callable[[nodes.Path, Any, str], nodes.Node]] = {
    "$eq": _eq,
    "$ne": lambda path, value, at: nodes.Not(_eq(path, value, at)),
    "$gt": _compare("gt"),
    "$gte": _compare("gte"),
    "$lt": _compare("lt"),
    "$lte": _compare("lte"),
    "$in": _in,
    "$nin": lambda path, value, at: nodes.Not(_in(path, value, at)),
    "$all": _every,
    "$exists": _exists,
    "$type": _type,
    "$size": _size,
    "$mod": _mod,
    "$prefix": _text("prefix"),
    "$contains": _text("contains"),
}


def _check_value(value: Any, at: str) -> None:
    """Refuse a value that no document can have: most likely it is an operator in the wrong place."""
    if isinstance(value, dict):
        for name, item in value.items():
            here = at + strict.pointer(name)
            if name.startswith("$") or "." in name:
                _refuse(here, "a member of a value cannot begin with $ or hold a full stop")
            _check_value(item, here)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_value(item, f"{at}/{index}")


def _refuse(pointer: str, detail: str) -> NoReturn:
    raise strict.refusal(_REFUSED, [(pointer, detail)], BadRequest)
