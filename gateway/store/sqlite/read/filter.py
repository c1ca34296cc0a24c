"""The filter's nodes as SQL: how the values of a path are found. sqlite/read/values.py has what is asked of
one.

The SQL text is made of constants; whatever came from a client, paths too, is a bound parameter. A condition
may be NULL where a value is missing, which is false; NOT makes it 0 first. Equality compares JSON text, which
is one text per value because strict_json and dumps make it so.
"""

from __future__ import annotations

from gateway.store.filter.nodes import (
    CREATED,
    ID,
    ITSELF,
    MODIFIED,
    And,
    Condition,
    ElemMatch,
    Exists,
    Node,
    Not,
    Or,
    Path,
    Size,
    conjuncts,
    fields,
)
from gateway.store.sqlite.read.statement import Bound, json_path
from gateway.store.sqlite.read.values import Value, holds

# Of the documents in a statement; their alias is always d.
_COLUMNS: dict[Path, Value] = {
    ID: Value("'text'", "d.id", ""),
    CREATED: Value("'real'", "d.created", ""),
    MODIFIED: Value("'real'", "d.modified", ""),
}


# SQLite's parser has a stack of 100 (until 3.45, when it began to grow): at a height of 13 some overflow it.
MAX_HEIGHT = 9


class Filter:
    """Renders nodes into a statement with these parameters."""

    def __init__(self, bound: Bound) -> None:
        self._bound = bound

    def condition(self, node: Node) -> str:
        """Of a document, d. What is asked of its columns alone comes first."""
        parts = list(conjuncts(node))
        of_columns = [part for part in parts if all(path in _COLUMNS for path in fields(part))]
        others = [part for part in parts if part not in of_columns]
        rendered = [self._render(part, None) for part in of_columns]
        if others:
            rest = And(tuple(others))
            rendered += self._bound.unless_large(lambda bound: Filter(bound)._render(rest, None))
        return f"({' AND '.join(rendered or ['1'])})"

    def _render(self, node: Node, element: str | None) -> str:
        """element: the alias of the element that an ElemMatch is about."""
        if isinstance(node, And):
            parts = [self._render(part, element) for part in conjuncts(node)]
            return f"({' AND '.join(parts or ['1'])})"
        if element is None and _height(node) > MAX_HEIGHT:
            return self._bound.matches(node)
        if isinstance(node, Or):
            parts = [self._render(part, element) for part in node.nodes]
            return f"({' OR '.join(parts or ['0'])})"
        if isinstance(node, Not):
            return f"NOT ifnull({self._render(node.node, element)}, 0)"
        if element is None:
            column = _COLUMNS.get(node.path)
            if column is not None:
                return self._of_column(node, column)
            return self._at(node, "d.data")
        if node.path == ITSELF:
            return self._of_value(node, _element(element))
        return self._at(node, _object_of(element))

    def _of_column(self, node: Condition, column: Value) -> str:
        """A string or a number that is always there."""
        if isinstance(node, Size | ElemMatch):
            return "0"
        return holds(self._bound, node, column)

    def _at(self, node: Condition, source: str) -> str:
        """Whether one of the values that the path leads to in `source`, an object, holds the condition."""
        *way, last = node.path
        tables = []
        objects = []
        for name in way:
            alias = self._bound.alias()
            tables.append(f"json_each({self._objects(source, name)}) AS {alias}")
            objects.append(f"{alias}.type = 'object'")
            source = _object_of(alias)
        found = self._of_member(node, source, last)
        if not way:
            return found
        where = " AND ".join([*objects, found])
        return f"EXISTS (SELECT 1 FROM {', '.join(tables)} WHERE {where})"  # noqa: S608

    def _objects(self, source: str, name: str) -> str:
        """An array of the objects that a member leads on to; an empty object where the path ends."""
        path = self._bound.bind(json_path(name))
        return (
            f"CASE json_type({source}, {path}) WHEN 'array' THEN {source} -> {path} "
            f"WHEN 'object' THEN '[' || ({source} -> {path}) || ']' ELSE '[{{}}]' END"
        )

    def _of_member(self, node: Condition, source: str, name: str) -> str:
        """Whether a member of an object, or an element of it, holds the condition."""
        path = self._bound.bind(json_path(name))
        kind, text = f"json_type({source}, {path})", f"({source} -> {path})"
        member = Value(kind, f"json_extract({source}, {path})", text)
        own = self._of_value(node, member)
        if isinstance(node, Exists | Size | ElemMatch):
            return own
        alias = self._bound.alias()
        inner = self._of_value(node, _element(alias, text))
        return (
            f"({own} OR ({kind} = 'array' AND "  # noqa: S608
            f"EXISTS (SELECT 1 FROM json_each({source}, {path}) AS {alias} WHERE {inner})))"
        )

    def _of_value(self, node: Condition, value: Value) -> str:
        if not isinstance(node, ElemMatch):
            return holds(self._bound, node, value)
        alias = self._bound.alias()
        inner = self._render(node.node, alias)
        elements = f"CASE WHEN {value.is_kind('array')} THEN {value.text} ELSE '[]' END"
        return f"EXISTS (SELECT 1 FROM json_each({elements}) AS {alias} WHERE {inner})"  # noqa: S608


def _height(node: Node) -> int:
    """How deep the SQL of a node nests, in steps that were found by trying."""
    if isinstance(node, And | Or):
        return 1 + max(map(_height, node.nodes), default=0)
    if isinstance(node, Not):
        return 1 + _height(node.node)
    along = int(len(node.path) > 1)
    return 3 + along + _height(node.node) if isinstance(node, ElemMatch) else 1 + along


def _object_of(alias: str) -> str:
    """The element when it is an object, else NULL, in which JSON functions find nothing."""
    return f"iif({alias}.type = 'object', {alias}.value, NULL)"


def _element(alias: str, array: str = "") -> Value:
    """An element of json_each. Its value is JSON text for arrays and objects; for a number it has been read
    already, so its text is taken from `array`, or (without one) from json_each's own JSON."""
    text = f"({array or alias + '.json'} -> {alias}.key)"
    return Value(f"{alias}.type", f"{alias}.atom", f"iif({alias}.atom IS NULL, {alias}.value, {text})")
