"""The filter's nodes as SQL.

The SQL text is made of constants; whatever came from a client, paths too, is a bound parameter. Values
are compared as JSON text, which is one text per value because strict_json and dumps make it so.
"""

from __future__ import annotations

from typing import Any

from gateway.store.nodes import ID, And, Eq, Node


def json_path(*names: str) -> str:
    """SQLite's path to a member. parse_path refused the characters that its quoting cannot hold."""
    return "$" + "".join(f'."{name}"' for name in names)


class Statement:
    """The parameters of one statement, and the conditions that use them."""

    def __init__(self) -> None:
        self.bound: list[Any] = []
        self._aliases = 0

    def bind(self, value: Any) -> str:
        self.bound.append(value)
        return f"?{len(self.bound)}"

    def condition(self, node: Node) -> str:
        if isinstance(node, And):
            return "(" + " AND ".join(["1", *map(self.condition, node.nodes)]) + ")"
        if node.path == ID:
            return f"id = {self.bind(node.value)}" if isinstance(node.value, str) else "0"
        *way, last = node.path
        if not way:
            return self._member_equals("data", last, node)
        source, tables, objects = "data", [], []
        for name in way:
            alias = self._alias()
            tables.append(f"json_each({self._objects(source, name)}) AS {alias}")
            objects.append(f"{alias}.type = 'object'")
            source = f"{alias}.value"
        found = " AND ".join([*objects, self._member_equals(source, last, node)])
        return f"EXISTS (SELECT 1 FROM {', '.join(tables)} WHERE {found})"  # noqa: S608

    def _objects(self, source: str, name: str) -> str:
        """An array of the objects that a member leads on to; an empty object where the path ends."""
        path = self.bind(json_path(name))
        return (
            f"CASE json_type({source}, {path}) WHEN 'array' THEN {source} -> {path} "
            f"WHEN 'object' THEN '[' || ({source} -> {path}) || ']' ELSE '[{{}}]' END"
        )

    def _member_equals(self, source: str, name: str, node: Eq) -> str:
        path = self.bind(json_path(name))
        if node.value is None:
            equal = f"coalesce(json_type({source}, {path}), 'null') = 'null'"
        else:
            equal = f"({source} -> {path}) = {self.bind(node.text)}"
        element = self._alias()
        held = self._element_equals(element, f"({source} -> {path})", node)
        return (
            f"({equal} OR (json_type({source}, {path}) = 'array' AND "  # noqa: S608
            f"EXISTS (SELECT 1 FROM json_each({source}, {path}) AS {element} WHERE {held})))"
        )

    def _element_equals(self, element: str, array: str, node: Eq) -> str:
        value = node.value
        if value is None or isinstance(value, bool):
            return f"{element}.type = '{node.text}'"
        if isinstance(value, str):
            return f"{element}.type = 'text' AND {element}.atom = {self.bind(value)}"
        if isinstance(value, int):
            return f"{element}.type = 'integer' AND {element}.atom = {self.bind(value)}"
        text = self.bind(node.text)
        if isinstance(value, float):
            # SQLite reads a decimal less exactly than Python: what it finds is confirmed by the text.
            return (
                f"{element}.type = 'real' AND {element}.atom = json_extract({text}, '$') "
                f"AND ({array} -> {element}.key) = {text}"
            )
        kind = "object" if isinstance(value, dict) else "array"
        return f"{element}.type = '{kind}' AND {element}.value = {text}"

    def _alias(self) -> str:
        self._aliases += 1
        return f"j{self._aliases}"
