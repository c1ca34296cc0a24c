"""What the writer of a file knows of its collections, so that a write need not read it each time.

It is true as long as no other connection has written, which SQLite tells for next to nothing (PRAGMA
data_version), and nothing was rolled back.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass, field

from gateway.store import collection as collections
from gateway.store import schema
from gateway.store.collection import NO_SETTINGS, Collection, CollectionSettings, Index
from gateway.store.document import entity_tag, new_incarnation
from gateway.store.nodes import Path

MAX_KNOWN = 1000

_READ = "SELECT incarnation, version, settings, documents, bytes FROM collections WHERE name = ?"
_INDEXES = "SELECT n, name, fields, is_unique, many FROM indexes WHERE collection = ? ORDER BY n"
_STORE = """
    INSERT INTO collections (name, incarnation, version, settings, documents, bytes) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (name) DO UPDATE SET version = excluded.version, settings = excluded.settings,
        documents = excluded.documents, bytes = excluded.bytes"""


@dataclass(slots=True)
class StoredIndex:
    """A declared index under its number. many: a document has, or had, several entries in it."""

    n: int
    index: Index
    many: bool

    @property
    def path(self) -> Path:
        """The field of an index of one field."""
        return self.index.fields[0]


@dataclass(slots=True)
class State:
    """A collection as the writer knows it. settings_text: None when it is not declared."""

    name: str
    incarnation: str
    version: int = 0
    settings_text: str | None = None
    documents: int = 0
    bytes: int = 0
    settings: CollectionSettings = NO_SETTINGS
    indexes: tuple[StoredIndex, ...] = ()
    validator: schema.Validator | None = None
    stored: bool = field(default=False, compare=False)

    @property
    def collection(self) -> Collection:
        declared = self.settings_text is not None
        etag = entity_tag(self.incarnation, self.version)
        return Collection(self.name, self.settings, etag, declared, self.documents, self.bytes)


class States:
    """The states of one file."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._known: dict[str, State] = {}
        self._changed: dict[str, State] = {}
        self._data_version = -1
        self._totals: tuple[int, int] | None = None

    def begin(self) -> None:
        """At the begin of a transaction: forget what another process may have changed."""
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        if version != self._data_version or len(self._known) > MAX_KNOWN:
            self.forget()
            self._data_version = version

    def forget(self) -> None:
        """After a rollback."""
        self._known.clear()
        self._changed.clear()
        self._totals = None

    def get(self, name: str) -> State:
        """The state, a new one for a collection that is not there."""
        state = self._known.get(name)
        if state is None:
            state = self._known[name] = read_state(self._connection, name)
            if state.settings.schema is not None:
                state.validator = schema.compile_schema(state.settings.schema)
        return state

    def totals(self) -> tuple[int, int]:
        """Documents and bytes of all collections."""
        if self._totals is None:
            self.flush()
            sums = "SELECT ifnull(sum(documents), 0), ifnull(sum(bytes), 0) FROM collections"
            self._totals = self._connection.execute(sums).fetchone()
        return self._totals

    def add(self, state: State, documents: int, size: int) -> None:
        """Count what was written."""
        state.documents += documents
        state.bytes += size
        self._known[state.name] = self._changed[state.name] = state
        if self._totals is not None:
            self._totals = (self._totals[0] + documents, self._totals[1] + size)

    def flush(self) -> None:
        """Write what was counted; collections that are neither declared nor hold documents go."""
        for name, state in self._changed.items():
            if state.settings_text is None and state.documents == 0:
                self._connection.execute("DELETE FROM collections WHERE name = ?", (name,))
                self._known.pop(name, None)
            else:
                store_state(self._connection, state)
        self._changed.clear()


def read_state(connection: sqlite3.Connection, name: str) -> State:
    """As it is stored, without a validator; stored is false when it is not there."""
    row = connection.execute(_READ, (name,)).fetchone()
    if row is None:
        return State(name, new_incarnation())
    incarnation, version, text, documents, size = row
    state = State(name, incarnation, version, text, documents, size, stored=True)
    if text is not None:
        state.settings = collections.from_data(json.loads(text), stored=True)
        state.indexes = read_indexes(connection, name)
    return state


def store_state(connection: sqlite3.Connection, state: State) -> None:
    row = (state.name, state.incarnation, state.version, state.settings_text, state.documents, state.bytes)
    connection.execute(_STORE, row)
    state.stored = True


def read_indexes(connection: sqlite3.Connection, name: str) -> tuple[StoredIndex, ...]:
    return tuple(
        StoredIndex(n, Index(title, tuple(map(tuple, json.loads(paths))), bool(unique)), bool(many))
        for n, title, paths, unique, many in connection.execute(_INDEXES, (name,)).fetchall()
    )
