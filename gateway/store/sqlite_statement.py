"""The parameters of one SQL statement."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Protocol

from gateway.store import matcher
from gateway.store.large import LIGHT_BYTES
from gateway.store.nodes import Node
from gateway.store.strict_json import dumps


class Turn(Protocol):
    """What a read in this thread is told of; see sqlite_reads.Reading."""

    def apart(self) -> AbstractContextManager[None]:
        """Around work on a single large document, which nobody else does at the time."""
        ...


class _Here(threading.local):
    turn: Turn | None = None  # of the read that this thread works for


here = _Here()


def apart() -> AbstractContextManager[None]:
    """Around what SQLite does with the JSON of a single large document: it takes ten times the text's memory,
    and long, without asking whether it may go on."""
    return nullcontext() if here.turn is None else here.turn.apart()


class Bound:
    """What is bound to a statement, and the names that it needs.

    outer: of the statement that a statement about one document is part of; they share the nodes that Python
    is asked about.
    """

    def __init__(self, outer: Bound | None = None) -> None:
        self.values: dict[str, Any] = {}  # by name: a text may stand at several places
        self._aliases = 0
        self._nodes: list[Node] = [] if outer is None else outer._nodes
        self._ones: list[Callable[[Bound], str]] = []
        self._rendered: dict[int, tuple[str, Bound]] = {}

    def execute(self, connection: sqlite3.Connection, statement: str) -> sqlite3.Cursor:
        """Raises sqlite3.Error."""
        if self._nodes:
            connection.create_function("filter_matches", 5, self._matches)
        if self._ones:
            connection.create_function("of_one", 2, partial(self._of_one, connection))
        return connection.execute(statement, self.values)

    def unless_large(self, render: Callable[[Bound], str]) -> str:
        """An expression over the JSON of a document, d. Of a large one it is asked by a statement of its own:
        SQLite keeps the last four documents that a statement has read, as parsed, to its end."""
        self._ones.append(render)
        one = f"of_one({len(self._ones) - 1}, d.rowid)"
        return f"CASE WHEN d.size <= {LIGHT_BYTES} THEN {render(self)} ELSE {one} END"

    def _of_one(self, connection: sqlite3.Connection, number: int, row: int) -> Any:
        if number not in self._rendered:
            inner = Bound(self)
            text = self._ones[number](inner)
            statement = f"SELECT {text} FROM documents AS d WHERE d.rowid = {inner.bind(0)}"  # noqa: S608
            self._rendered[number] = statement, inner
        statement, inner = self._rendered[number]
        inner.values[f"p{len(inner.values) - 1}"] = row
        try:
            with apart():
                (value,) = connection.execute(statement, inner.values).fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
                raise
            connection.interrupt()  # the statement around this one ends too
            return None
        return value

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
