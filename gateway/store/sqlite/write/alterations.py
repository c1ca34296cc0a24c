"""New settings of a collection, for which its documents may have to be read: to build indexes, and to
write when each document ends.

That goes in slices, in the order of the ids; each is a transaction of its own, so that other writes get
their turn. An alteration, a row in the file, has how far it has come: the documents up to `position` are
in the new indexes and end by the new ttl, and so do those behind `until`, the last id when it began, so
that it need not follow what is appended. Every write of a document keeps to that (State.indexes_of,
State.ttl_of), in this process and in others. The collection has its old settings until the last slice puts
the new ones in force.

An alteration that fails is turned back: its indexes are dropped, and each document ends again when it did.
One that was left behind, by a process that was killed, is turned back by the sweep of any process.

A unique index that is being built refuses no write: until the new settings are in force, only the old
rules are. A write that breaks it makes the alteration fail, as documents do that broke it before; also
when that is repaired before it ends. A new ttl takes hold document by document. Nothing is swept meanwhile,
so that turning back brings the documents back.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gateway.core.errors import StoreUnavailable, Unprocessable
from gateway.store.json.strict import dumps
from gateway.store.model.collection import Collection, CollectionSettings
from gateway.store.model.document import new_incarnation
from gateway.store.model.indexing import EntryBudget
from gateway.store.sqlite.write import index as sqlite_index
from gateway.store.sqlite.write import trash
from gateway.store.sqlite.write.state import Alteration, State, StoredIndex, read_state, store_state
from gateway.store.sqlite.write.transaction import Pace, Transaction

# Without a slice for so long, work was left behind; a process that continues it after all finds out and ends.
LEFT_SECONDS = 10.0
_BATCH_BYTES = 256 * 1024

_ADD_INDEX = "INSERT INTO indexes (collection, name, fields, is_unique, building) VALUES (?, ?, ?, ?, 1)"
_BEGIN = """
    INSERT INTO alterations (collection, token, at, settings, position, until, undo)
    VALUES (?, ?, ?, ?, '', ?, 0)"""
_ADVANCE = "UPDATE alterations SET position = ?, at = ? WHERE collection = ?"
_TURN_BACK = """
    UPDATE alterations
    SET token = ?, at = ?, settings = NULL, position = '', until = ?, conflict = NULL, undo = 1
    WHERE collection = ?"""
_LAST = "SELECT ifnull(max(id), '') FROM documents WHERE collection = ?"
_READ = """
    SELECT rowid, id, modified, expires, data FROM documents
    WHERE collection = ? AND id > ? AND id <= ? ORDER BY id LIMIT ?"""
_LEFT = "abs(at - :now) > :left"  # also in the future: the clock was set back
_IS_LEFT = f"""
    SELECT EXISTS (SELECT 1 FROM alterations WHERE {_LEFT}) OR EXISTS (SELECT 1 FROM trash WHERE {_LEFT})"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Altered:
    """A collection at the end of an alteration. cleared: nothing is left in the trash."""

    collection: Collection
    cleared: bool


@dataclass(frozen=True, slots=True)
class Begun:
    """An alteration. created: the collection was not declared. altered: None when there is more to do."""

    name: str
    token: str
    created: bool
    altered: Altered | None


def begin(transaction: Transaction, state: State, settings: CollectionSettings, pace: Pace) -> Begun:
    """The first slice; the only one, when it is enough. Raises UniqueConflict."""
    there = {stored.index for stored in state.indexes}
    added = [index for index in settings.indexes if index not in there]
    for index in added:
        row = (state.name, index.name, dumps(index.fields), int(index.unique))
        transaction.connection.execute(_ADD_INDEX, row)
    until = _last(transaction, state) if added or settings.ttl != state.settings.ttl else ""
    token, created = new_incarnation(), state.settings_text is None
    text = dumps(settings.data)
    transaction.connection.execute(_BEGIN, (state.name, token, transaction.now, text, until))
    return Begun(state.name, token, created, advance(state.name, token, pace)(transaction))


def advance(name: str, token: str, pace: Pace) -> Callable[[Transaction], Altered | None]:
    """A slice, as an operation that runs alone; its result is None when there is more to do. Raises
    UniqueConflict, and StoreUnavailable when the alteration was taken for one left behind."""

    def operation(transaction: Transaction) -> Altered | None:
        state, alteration = _altered(transaction, name, token)
        for stored in state.indexes:
            if stored.n == alteration.conflict:
                raise sqlite_index.conflict(stored.index)
        position = alteration.position
        while position < alteration.until:
            rows = _read(transaction.connection, state.key, position, alteration.until, pace)
            if not rows:
                break
            _alter(transaction, state, alteration, rows)
            position = rows[-1][1]
            if position < alteration.until and not transaction.has_time(pace):
                transaction.connection.execute(_ADVANCE, (position, transaction.now, name))
                return None
        _finish(transaction, state, alteration)
        collection = read_state(transaction.connection, name).collection
        return Altered(collection, trash.clear(pace)(transaction))

    return operation


def turn_back(name: str, token: str) -> Callable[[Transaction], None]:
    """Begin to leave everything as it was, as an operation that runs alone; `advance` to the end. Raises
    StoreUnavailable as that does."""

    def operation(transaction: Transaction) -> None:
        state, alteration = _altered(transaction, name, token)
        _turn_back(transaction, state, alteration, token)

    return operation


def is_left(connection: sqlite3.Connection, now: float) -> bool:
    """Whether there is work that was left behind."""
    return bool(connection.execute(_IS_LEFT, {"now": now, "left": LEFT_SECONDS}).fetchone()[0])


def take_over(transaction: Transaction) -> list[tuple[str, str]]:
    """Turn back what was left behind: names and tokens, to `advance` with. An operation that runs alone."""
    left = f"SELECT collection FROM alterations WHERE {_LEFT}"  # noqa: S608
    limits, taken = {"now": transaction.now, "left": LEFT_SECONDS}, []
    for (name,) in transaction.connection.execute(left, limits).fetchall():
        state, token = read_state(transaction.connection, name), new_incarnation()
        transaction.states.drop(name)
        assert state.alteration is not None
        _turn_back(transaction, state, state.alteration, token)
        taken.append((name, token))
    return taken


def _altered(transaction: Transaction, name: str, token: str) -> tuple[State, Alteration]:
    """The state as it is stored; what the writer knows of it is forgotten. Raises StoreUnavailable."""
    transaction.states.drop(name)
    state = read_state(transaction.connection, name)
    if state.alteration is None or state.alteration.token != token:
        raise StoreUnavailable("The work stood still for too long and was given up. Nothing was changed.")
    return state, state.alteration


def _last(transaction: Transaction, state: State) -> str:
    """The last id of a collection, empty when there is none."""
    return str(transaction.connection.execute(_LAST, (state.key,)).fetchone()[0])


def _read(connection: sqlite3.Connection, key: str, after: str, until: str, pace: Pace) -> list[Any]:
    """The next documents, fewer when they are large."""
    rows: list[Any] = []
    size = 0
    for row in connection.execute(_READ, (key, after, until, pace.rows)):
        rows.append(row)
        size += len(row[-1])
        if size >= _BATCH_BYTES:
            break
    return rows


def _alter(transaction: Transaction, state: State, alteration: Alteration, rows: list[Any]) -> None:
    """Enter documents into the new indexes, and write when they end. Raises UniqueConflict, Unprocessable."""
    connection = transaction.connection
    building = [stored for stored in state.indexes if stored.building]
    ttl = alteration.settings.ttl
    matters = bool(building) or ttl is not None
    endings = []
    for rowid, identifier, modified, expires, text in rows:
        data = json.loads(text) if matters else {}
        budget = EntryBudget(identifier)
        for stored in building:
            _enter(transaction, stored, identifier, data, budget)
        ends = None if ttl is None else ttl.expires(modified, data)
        if ends != expires:
            endings.append((ends, rowid))
    connection.executemany("UPDATE documents SET expires = ? WHERE rowid = ?", endings)


def _enter(
    transaction: Transaction, stored: StoredIndex, identifier: str, data: dict[str, Any], budget: EntryBudget
) -> None:
    try:
        sqlite_index.add_to(transaction.connection, transaction.entries, stored, identifier, data, budget)
    except Unprocessable as error:
        error.about(f"The index {stored.index.name} cannot be made: document {identifier}")
        raise


def _finish(transaction: Transaction, state: State, alteration: Alteration) -> None:
    """Put the new settings in force."""
    connection = transaction.connection
    connection.execute("DELETE FROM alterations WHERE collection = ?", (state.name,))
    if alteration.undo:
        return
    for stored in state.indexes:
        if stored.index not in alteration.settings.indexes:
            trash.put_index(transaction, stored.n)
    connection.execute("UPDATE indexes SET building = 0 WHERE collection = ?", (state.name,))
    state.redeclare(dumps(alteration.settings.data))
    store_state(connection, state)


def _turn_back(transaction: Transaction, state: State, alteration: Alteration, token: str) -> None:
    for stored in state.indexes:
        if stored.building:
            trash.put_index(transaction, stored.n)
    touched = alteration.undo or alteration.settings.ttl != state.settings.ttl
    until = _last(transaction, state) if touched else ""
    transaction.connection.execute(_TURN_BACK, (token, transaction.now, until, state.name))
