"""What the writer of a file knows of its collections, so that a write need not read it each time.

It is true as long as no other connection has written, which SQLite knows for next to nothing (PRAGMA
data_version), and nothing was rolled back.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from gateway.store.filter.nodes import Path
from gateway.store.json.large import Shape, shape
from gateway.store.model import collection as collections
from gateway.store.model.collection import NO_SETTINGS, TTL, Collection, CollectionSettings, Index
from gateway.store.model.document import entity_tag, new_incarnation
from gateway.store.schema.validate import Schema
from gateway.store.sqlite.read.statement import key_of

MAX_KNOWN = 1000
MAX_KNOWN_TEXT = 1024 * 1024  # characters of their settings, of which the objects take many times that

_READ = "SELECT incarnation, version, settings, documents, bytes FROM collections WHERE name = ?"
_KEY = f"SELECT {key_of('?')}"
_INDEXES = "SELECT n, name, fields, is_unique, many, building FROM indexes WHERE collection = ? ORDER BY n"
_ALTERATION = "SELECT token, settings, position, until, conflict, undo FROM alterations WHERE collection = ?"
_TOTALS = "SELECT documents, bytes + settings + remembered, collections FROM held"
# The name is free again as a key unless there are documents still under it.
_FREE = "DELETE FROM aliases WHERE name = ? AND NOT EXISTS (SELECT 1 FROM trash WHERE key = ?)"
_STORE = """
    INSERT INTO collections (name, incarnation, version, settings, documents, bytes) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (name) DO UPDATE SET version = excluded.version, settings = excluded.settings,
        documents = excluded.documents, bytes = excluded.bytes"""


@dataclass(slots=True)
class StoredIndex:
    """A declared index under its number. many: a document has, or had, several entries in it. building: it is
    not complete, and so only written."""

    n: int
    index: Index
    many: bool
    building: bool = False

    @property
    def path(self) -> Path:
        """The field of an index of one field."""
        return self.index.fields[0]


@dataclass(frozen=True, slots=True)
class Alteration:
    """Settings that a collection is about to have; see sqlite/write/alterations.py. conflict: the number of
    an index that cannot be unique. undo: an alteration failed, and they are those that it has already."""

    token: str
    settings: CollectionSettings
    position: str
    until: str
    conflict: int | None
    undo: bool

    def covers(self, identifier: str) -> bool:
        """Whether a document of this id is by the new indexes and the new ttl already."""
        return identifier <= self.position or identifier > self.until


@dataclass(slots=True)
class State:
    """A collection as the writer knows it. key: under which its documents are. settings_text: None when it is
    not declared. indexes: also those that are being built."""

    name: str
    incarnation: str
    key: str = ""
    version: int = 0
    settings_text: str | None = None
    documents: int = 0
    bytes: int = 0
    settings: CollectionSettings = NO_SETTINGS
    indexes: tuple[StoredIndex, ...] = ()
    alteration: Alteration | None = None
    schema: Schema | None = None
    stored: bool = field(default=False, compare=False)

    def redeclare(self, settings_text: str) -> None:
        """Other settings are in force from now on."""
        self.version += 1
        self.settings_text = settings_text

    def indexes_of(self, identifier: str) -> tuple[StoredIndex, ...]:
        """The indexes that hold a document of this id."""
        if self.alteration is None or self.alteration.covers(identifier):
            return self.indexes
        return tuple(stored for stored in self.indexes if not stored.building)

    def ttl_of(self, identifier: str) -> TTL | None:
        """The ttl by which a document of this id ends."""
        if self.alteration is None or not self.alteration.covers(identifier):
            return self.settings.ttl
        return self.alteration.settings.ttl

    def shape_of(self, identifier: str, *, checked: bool = True) -> Shape:
        """What must be known of a large document of this id. checked: by the schema."""
        altered = None if self.alteration is None else self.alteration.settings.ttl
        ttls = (self.settings.ttl, altered)
        held = tuple(stored.index for stored in self.indexes_of(identifier))
        schema = self.schema.text if checked and self.schema is not None else None
        return shape(held, ttls, schema, identifier)

    @property
    def collection(self) -> Collection:
        """The collection as its clients see it."""
        etag = entity_tag(self.incarnation, self.version)
        return Collection.stored(self.name, self.settings_text, etag, self.documents, self.bytes)


class Totals(NamedTuple):
    """What a tenant holds. bytes: of documents, settings and remembered writes. collections: those stored."""

    documents: int
    bytes: int
    collections: int


class States:
    """The states of one file. check: called in the first transaction, and in each one after another process
    has written; what it raises ends the transaction."""

    def __init__(self, connection: sqlite3.Connection, check: Callable[[], None] = lambda: None) -> None:
        self._connection = connection
        self._check = check
        self._known: dict[str, State] = {}
        self._known_text = 0  # since it was last empty, of those too that were dropped
        self._changed: dict[str, State] = {}
        self._data_version = -1
        # The quota by which the file's size is limited, and the pages that it may have without one.
        self.file_quota: int | None = None
        (self.max_pages,) = connection.execute("PRAGMA max_page_count").fetchone()
        self._totals: Totals | None = None

    def remember_file_quota(self, quota: int | None) -> None:
        """The file's size is limited by this quota now. In bytes; None for none."""
        self.file_quota = quota

    def begin(self) -> None:
        """At the begin of a transaction: forget what another process may have changed."""
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        if version != self._data_version or len(self._known) > MAX_KNOWN or self._known_text > MAX_KNOWN_TEXT:
            self.forget()
            if version != self._data_version:
                self._check()
            self._data_version = version

    def forget(self) -> None:
        """After a rollback."""
        self._known.clear()
        self._known_text = 0
        self._changed.clear()
        self._totals = None

    def drop(self, name: str) -> None:
        """Forget one collection, of which nothing is counted that was not written."""
        self._known.pop(name, None)

    def get(self, name: str) -> State:
        """The state, a new one for a collection that is not there."""
        state = self._known.get(name)
        if state is None:
            state = self._known[name] = read_state(self._connection, name)
            if state.settings.schema is not None:
                state.schema = Schema(state.settings.schema)
            self._known_text += len(state.settings_text or "")
        return state

    @property
    def new(self) -> list[str]:
        """The collections that were written to and are not stored yet."""
        return [name for name, state in self._changed.items() if not state.stored]

    def totals(self) -> Totals:
        """Of all collections."""
        if self._totals is None:
            self.flush()
            self._totals = Totals(*self._connection.execute(_TOTALS).fetchone())
        return self._totals

    def recount(self) -> None:
        """After what is no document was stored or removed: the totals are to be read again."""
        self._totals = None

    def add(self, state: State, documents: int, size: int) -> None:
        """Count what was written."""
        state.documents += documents
        state.bytes += size
        self._known[state.name] = self._changed[state.name] = state
        if self._totals is not None:
            before = self._totals
            self._totals = before._replace(documents=before.documents + documents, bytes=before.bytes + size)

    def flush(self) -> None:
        """Write what was counted; collections that are neither declared nor hold documents go."""
        for name, state in self._changed.items():
            if not (state.stored and state.documents):
                self._totals = None  # there is one more, or one less
            if state.settings_text is None and state.documents == 0:
                self._connection.execute("DELETE FROM collections WHERE name = ?", (name,))
                self._connection.execute(_FREE, (name, name))
                self._known.pop(name, None)
            else:
                store_state(self._connection, state)
        self._changed.clear()


def read_state(connection: sqlite3.Connection, name: str) -> State:
    """As it is stored, without its schema; stored is false when it is not there."""
    (key,) = connection.execute(_KEY, (name, name)).fetchone()
    row = connection.execute(_READ, (name,)).fetchone()
    state = State(name, new_incarnation(), key) if row is None else State(name, row[0], key, *row[1:])
    state.stored = row is not None
    state.settings = read_settings(state.settings_text)
    state.indexes = read_indexes(connection, name)
    state.alteration = _read_alteration(connection, state)
    return state


def read_settings(text: str | None) -> CollectionSettings:
    """Settings as they were stored."""
    return NO_SETTINGS if text is None else collections.from_data(json.loads(text), stored=True)


def _read_alteration(connection: sqlite3.Connection, state: State) -> Alteration | None:
    row = connection.execute(_ALTERATION, (state.name,)).fetchone()
    if row is None:
        return None
    token, text, position, until, conflict, undo = row
    settings = state.settings if undo else read_settings(text)
    return Alteration(token, settings, position, until, conflict, bool(undo))


def store_state(connection: sqlite3.Connection, state: State) -> None:
    """Write the row of a collection, which then is stored."""
    row = (state.name, state.incarnation, state.version, state.settings_text, state.documents, state.bytes)
    connection.execute(_STORE, row)
    state.stored = True


def read_indexes(connection: sqlite3.Connection, name: str) -> tuple[StoredIndex, ...]:
    """The indexes of a collection, those too that are being built."""
    return tuple(
        StoredIndex(n, Index(title, _paths(fields), bool(unique)), bool(many), bool(building))
        for n, title, fields, unique, many, building in connection.execute(_INDEXES, (name,)).fetchall()
    )


@lru_cache(maxsize=1024)  # each page of a list asks for the same few
def _paths(fields: str) -> tuple[Path, ...]:
    return tuple(map(tuple, json.loads(fields)))
