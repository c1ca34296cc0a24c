"""Collections and their settings: the writes as functions of a transaction, and reading them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from typing import Any

from gateway.core.errors import Conflict, NotFound
from gateway.store import collection as collections
from gateway.store import sqlite_index
from gateway.store.collection import Collection, CollectionSettings
from gateway.store.document import Precondition, merge_patch
from gateway.store.sqlite_state import State, StoredIndex, read_state, store_state
from gateway.store.sqlite_transaction import COLLECTION_DELETED, Transaction
from gateway.store.strict_json import dumps

_LIST = """
    SELECT name, incarnation, version, settings, documents, bytes FROM collections
    WHERE name > ? ORDER BY name LIMIT ?"""
_ADD_INDEX = "INSERT INTO indexes (collection, name, fields, is_unique) VALUES (?, ?, ?, ?)"
_HAS_LIVE = """
    SELECT EXISTS (SELECT 1 FROM documents WHERE collection = ? AND (expires IS NULL OR expires > ?))"""


def put(
    name: str, settings: CollectionSettings, precondition: Precondition
) -> Callable[[Transaction], tuple[Collection, bool]]:
    def operation(transaction: Transaction) -> tuple[Collection, bool]:
        state = _fresh(transaction, name)
        precondition.require(state.collection.etag if state.stored else None)
        created = state.settings_text is None
        return _store(transaction, state, settings), created

    return operation


def patch(
    name: str, members: Any, precondition: Precondition
) -> Callable[[Transaction], Collection]:
    def operation(transaction: Transaction) -> Collection:
        state = _fresh(transaction, name)
        if not state.stored:
            raise NotFound()
        precondition.require(state.collection.etag)
        settings = collections.from_data(merge_patch(state.settings.data, members))
        return _store(transaction, state, settings)

    return operation


def delete(name: str, precondition: Precondition, *, documents: bool) -> Callable[[Transaction], None]:
    def operation(transaction: Transaction) -> None:
        connection, state = transaction.connection, _fresh(transaction, name)
        if not state.stored:
            raise NotFound()
        precondition.require(state.collection.etag)
        if not documents and connection.execute(_HAS_LIVE, (name, transaction.now)).fetchone()[0]:
            raise Conflict("The collection holds documents. Delete them first, or say to delete them too.")
        for stored in state.indexes:
            sqlite_index.drop(connection, stored.n)
        connection.execute("DELETE FROM documents WHERE collection = ?", (name,))
        connection.execute("DELETE FROM collections WHERE name = ?", (name,))
        transaction.record(state, COLLECTION_DELETED)

    return operation


def _fresh(transaction: Transaction, name: str) -> State:
    """The state as it is stored; for operations that run alone. What the writer knows is forgotten."""
    transaction.states.forget()
    return read_state(transaction.connection, name)


def _store(transaction: Transaction, state: State, settings: CollectionSettings) -> Collection:
    connection = transaction.connection
    state.version += 1
    state.settings_text = dumps(settings.data)
    store_state(connection, state)
    _reindex(connection, state, settings)
    if settings.ttl != state.settings.ttl:
        _expire(connection, state.name, settings)
    return read_state(connection, state.name).collection


def _reindex(connection: sqlite3.Connection, state: State, settings: CollectionSettings) -> None:
    """Drop the indexes that are no longer declared, and build those that are new."""
    kept = {stored.index for stored in state.indexes if stored.index in settings.indexes}
    for stored in state.indexes:
        if stored.index not in kept:
            sqlite_index.drop(connection, stored.n)
    for index in settings.indexes:
        if index not in kept:
            row = (state.name, index.name, dumps(index.fields), int(index.unique))
            n = connection.execute(_ADD_INDEX, row).lastrowid
            assert n is not None
            sqlite_index.build(connection, state.name, StoredIndex(n, index, False))


def _expire(connection: sqlite3.Connection, name: str, settings: CollectionSettings) -> None:
    """When each document ends, by the new ttl."""
    if settings.ttl is None:
        connection.execute("UPDATE documents SET expires = NULL WHERE collection = ?", (name,))
        return
    rows = connection.execute("SELECT rowid, modified, data FROM documents WHERE collection = ?", (name,))
    expirations = [
        (settings.ttl.expires(modified, json.loads(text)), rowid) for rowid, modified, text in rows
    ]
    connection.executemany("UPDATE documents SET expires = ? WHERE rowid = ?", expirations)


def read(connection: sqlite3.Connection, name: str) -> Collection | None:
    state = read_state(connection, name)
    return state.collection if state.stored else None


def read_page(
    connection: sqlite3.Connection, after: str, limit: int
) -> tuple[tuple[Collection, ...], str | None]:
    """Collections after `after`, at most `limit`, and the last one's name when there are more."""
    found = []
    for name, incarnation, version, text, documents, size in connection.execute(_LIST, (after, limit + 1)):
        settings = collections.NO_SETTINGS
        if text is not None:
            settings = collections.from_data(json.loads(text), stored=True)
        state = State(name, incarnation, version, text, documents, size, settings)
        found.append(state.collection)
    return tuple(found[:limit]), found[limit - 1].name if len(found) > limit else None
