"""The parameters of one SQL statement."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from gateway.store import matcher
from gateway.store.nodes import Node
from gateway.store.strict_json import dumps


class Bound:
    """What is bound to a statement, and the names that it needs."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}  # by name: a text may stand at several places
        self._aliases = 0
        self._nodes: list[Node] = []

    def execute(self, connection: sqlite3.Connection, statement: str) -> sqlite3.Cursor:
        """Raises sqlite3.Error."""
        if self._nodes:
            connection.create_function("filter_matches", 5, self._matches)
        return connection.execute(statement, self.values)

    def matches(self, node: Node) -> str:
        """A node that the reference is asked about, document by document: ten times slower than SQL."""
        self._nodes.append(node)
        return f"filter_matches({len(self._nodes) - 1}, d.id, d.data, d.created, d.modified)"

    def _matches(self, number: int, identifier: str, data: str, created: float, modified: float) -> bool:
        return matcher.matches(self._nodes[number], identifier, json.loads(data), created, modified)

    def bind(self, value: Any) -> str:
        name = f"p{len(self.values)}"
        self.values[name] = value
        return f":{name}"

    def real(self, value: float) -> str:
        """A number as SQLite reads it in a document: less exactly than Python does."""
        return self.bind(value) if isinstance(value, int) else f"json_extract({self.bind(dumps(value))}, '$')"

    def each(self, values: Sequence[Any]) -> str:
        """A list for IN, as one parameter however long it is."""
        return f"(SELECT value FROM json_each({self.bind(dumps(list(values)))}))"  # noqa: S608

    def alias(self) -> str:
        self._aliases += 1
        return f"j{self._aliases}"


def key_of(name: str) -> str:
    """The key of the documents of a collection, given an expression for its name, which is there twice; see
    sqlite_schema.py. It costs a read by id half a microsecond.

    With "?" as the expression the name is bound twice. SQLite's ?1 would do it once, but Python 3.12 up to
    3.12.3 takes it for a named parameter and warns at each statement."""
    return f"ifnull((SELECT key FROM aliases WHERE name = {name}), {name})"  # noqa: S608


def another_key(name: str, suffix: str) -> str:
    """A key that is no collection's name."""
    return f"{name}~{suffix}"


def name_of(key: str) -> str:
    """The collection of a key."""
    return key.partition("~")[0]


def json_path(*names: str) -> str:
    """SQLite's path to a member. parse_path refused the characters that its quoting cannot hold."""
    return "$" + "".join(f'."{name}"' for name in names)
