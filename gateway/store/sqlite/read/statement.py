"""The parameters of one SQL statement, and what of it Python works out."""

from __future__ import annotations

import json
import sqlite3
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from gateway.store.filter import matcher
from gateway.store.filter.nodes import Node
from gateway.store.json.large import LIGHT_BYTES
from gateway.store.json.strict import dumps


class CurrentRead(Protocol):
    """What is asked of the read that this thread works for; see reads.Reading and inline.InlineRead."""

    def exclusively(self) -> AbstractContextManager[None]:
        """Around work on a single large document, which nobody else does at the time."""
        ...

    def should_interrupt(self) -> bool:
        """Whether the read is to end. May block until others had their turn."""
        ...

    def of_one(self, ask: Callable[[], Any]) -> Any:
        """What `ask` gives of a single large document, asked as often as it takes; see
        sqlite/read/matching.py."""
        ...


TABLES = 4  # of elements, in an expression over documents of LIGHT_BYTES
WHOLE_TEXT = "whole_text"  # the collation


class _ThisThread(threading.local):
    read: CurrentRead | None = None  # None outside of reads

    def serve(self, read: CurrentRead | None) -> CurrentRead | None:
        """What the thread does from now on is for this read. Returns the one before."""
        before, self.read = self.read, read
        return before


this_thread = _ThisThread()


def exclusively() -> AbstractContextManager[None]:
    """Around what SQLite does with the JSON of a single large document: it takes ten times the text's memory,
    and long, without calling the progress handler."""
    return nullcontext() if this_thread.read is None else this_thread.read.exclusively()


class Connection(sqlite3.Connection):
    """Knows the functions and the collation of statements. They are made once: to make one again has SQLite
    prepare all statements anew that the connection keeps. running: the statement that needs them."""

    running: weakref.ref[Bound] | None = None

    def make_functions(self) -> None:
        """Once, before the first statement."""
        this = weakref.ref(self)  # SQLite keeps what it is given, where the collector does not see it

        def running() -> tuple[Connection, Bound]:
            connection = this()
            bound = None if connection is None or connection.running is None else connection.running()
            assert connection is not None and bound is not None
            return connection, bound

        def compare(left: str, right: str) -> int:
            texts = running()[1].texts
            assert texts is not None
            return texts.compare(left, right)

        self.create_function("filter_matches", 5, lambda *given: running()[1].matches_node(*given))
        self.create_function("of_one", 3, lambda *given: running()[1].of_one(running()[0], *given))
        self.create_collation(WHOLE_TEXT, compare)


class Comparing(Protocol):
    """What compares the tokens of texts; see sqlite/read/texts.py."""

    def compare(self, left: str, right: str) -> int:
        """Less than 0, 0, or more than 0; raises nothing."""
        ...


Render = Callable[["Bound"], str]  # an expression over a document, d


class _OfOne:
    """Expressions that are asked of one large document together: its JSON is parsed once."""

    def __init__(self, renders: Sequence[Render]) -> None:
        self.renders = renders
        self.statement: tuple[str, Bound] | None = None
        self.row: int | None = None  # the last one, and what it gave
        self.values: tuple[Any, ...] = ()


class Bound:
    """What is bound to a statement, and the names that it needs.

    outer: of the statement that a statement about one document is part of; they share the nodes that Python
    is asked about. texts: what compares the tokens in it.
    """

    texts: Comparing | None = None

    def __init__(self, outer: Bound | None = None) -> None:
        self.values: dict[str, Any] = {}  # by name: a text may occur several times
        self._aliases = 0
        self._nodes: list[Node] = [] if outer is None else outer._nodes
        self._ones: list[_OfOne] = []

    def compare_with(self, texts: Comparing) -> None:
        """Sets `texts`."""
        self.texts = texts

    def execute(self, connection: sqlite3.Connection, statement: str) -> sqlite3.Cursor:
        """Raises sqlite3.Error. Keep this as long as the cursor is read, and run no other in between."""
        if self._nodes or self._ones or self.texts is not None:
            assert isinstance(connection, Connection)
            connection.running = weakref.ref(self)
        return connection.execute(statement, self.values)

    def unless_large(self, *renders: Render) -> list[str]:
        """Expressions over the JSON of a document, d. Of a large one they are asked by a statement of their
        own: SQLite keeps the last four documents that a statement has read, as parsed, to its end, and each
        of its tables of elements keeps one more. Eight queries of ninety tables laid each other down with
        700 MiB in them; so the more tables there are, the less is large."""
        one = len(self._ones)
        self._ones.append(_OfOne(renders))
        texts = [render(self) for render in renders]
        light = LIGHT_BYTES // max(1, sum(text.count("json_each(") for text in texts) // TABLES)
        return [
            f"CASE WHEN d.size <= {light} THEN {text} ELSE of_one({one}, {number}, d.rowid) END"
            for number, text in enumerate(texts)
        ]

    def of_one(self, connection: sqlite3.Connection, one: int, number: int, row: int) -> Any:
        """The value of such an expression; for SQLite."""
        asked = self._ones[one]
        if asked.row == row:
            return asked.values[number]
        if asked.statement is None:
            inner = Bound(self)
            texts = ", ".join(render(inner) for render in asked.renders)
            statement = f"SELECT {texts} FROM documents AS d WHERE d.rowid = {inner.bind(0)}"  # noqa: S608
            asked.statement = statement, inner
        statement, inner = asked.statement
        inner.values[f"p{len(inner.values) - 1}"] = row

        def ask() -> tuple[Any, ...]:
            with exclusively():
                values: tuple[Any, ...] = connection.execute(statement, inner.values).fetchone()
            return values

        try:
            asked.values = ask() if this_thread.read is None else this_thread.read.of_one(ask)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
                raise
            connection.interrupt()  # the statement around this one ends too
            return None
        asked.row = row
        return asked.values[number]

    def matches(self, node: Node) -> str:
        """A node that the reference is asked about, document by document: ten times slower than SQL."""
        self._nodes.append(node)
        return f"filter_matches({len(self._nodes) - 1}, d.id, d.data, d.created, d.modified)"

    def matches_node(self, number: int, identifier: str, data: str, created: float, modified: float) -> bool:
        """Whether a document matches such a node; for SQLite."""
        return matcher.matches(self._nodes[number], identifier, json.loads(data), created, modified)

    def bind(self, value: Any) -> str:
        """A parameter with this value, as SQL."""
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
        """A name for a table that no other in the statement has."""
        self._aliases += 1
        return f"j{self._aliases}"


def key_of(name: str) -> str:
    """The key of the documents of a collection, given an expression for its name, which is there twice; see
    sqlite/files/tables.py. It costs a read by id half a microsecond.

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
