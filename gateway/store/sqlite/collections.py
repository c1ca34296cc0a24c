"""Collections and their settings: the writes as functions of a transaction, and reading them.

The writes are the first slices of what may take more (sqlite/write/long_writes.py). They give None while the
settings of the collection are being altered: then they are to be tried again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

from gateway.core.errors import Conflict, NotFound
from gateway.store.json.strict import dumps
from gateway.store.model import collection as collections
from gateway.store.model.collection import Collection, CollectionSettings
from gateway.store.model.document import Precondition, merge_patch
from gateway.store.sqlite.write import alterations, trash
from gateway.store.sqlite.write.alterations import Begun
from gateway.store.sqlite.write.state import State, read_state
from gateway.store.sqlite.write.transaction import Pace, Transaction

_LIST = """
    SELECT name, incarnation, version, settings, documents, bytes FROM collections
    WHERE name > ? ORDER BY name LIMIT ?"""
_HAS_LIVE = """
    SELECT EXISTS (SELECT 1 FROM documents WHERE collection = ? AND (expires IS NULL OR expires > ?))"""


def put(
    name: str, settings: CollectionSettings, precondition: Precondition, pace: Pace
) -> Callable[[Transaction], Begun | None]:
    """See port.TenantStore.put_collection."""

    def wanted(state: State) -> CollectionSettings:
        precondition.require(state.collection.etag if state.stored else None)
        return settings

    return _alteration(name, wanted, pace)


def patch(
    name: str, members: Any, precondition: Precondition, pace: Pace
) -> Callable[[Transaction], Begun | None]:
    """See port.TenantStore.patch_collection. members: of the merge patch."""

    def wanted(state: State) -> CollectionSettings:
        if not state.stored:
            raise NotFound()
        precondition.require(state.collection.etag)
        return collections.from_data(merge_patch(state.settings.data, members), apart=True)

    return _alteration(name, wanted, pace)


def delete(
    name: str, precondition: Precondition, pace: Pace, *, documents: bool
) -> Callable[[Transaction], bool | None]:
    """All of it is in the trash at once; the result is whether that is cleared already."""

    def operation(transaction: Transaction) -> bool | None:
        connection, state = transaction.connection, _fresh(transaction, name)
        if state.alteration is not None:
            return None
        if not state.stored:
            raise NotFound()
        precondition.require(state.collection.etag)
        if not documents and connection.execute(_HAS_LIVE, (state.key, transaction.now)).fetchone()[0]:
            raise Conflict("The collection holds documents. Delete them first, or add ?documents=delete.")
        for stored in state.indexes:
            trash.put_index(transaction, stored.n)
        trash.put_documents(transaction, state)
        connection.execute("DELETE FROM collections WHERE name = ?", (name,))
        transaction.record(state, "collection_deleted")
        return trash.clear(pace)(transaction)

    return operation


def _alteration(
    name: str, wanted: Callable[[State], CollectionSettings], pace: Pace
) -> Callable[[Transaction], Begun | None]:
    """Begins to give a collection the settings that are wanted of its state; None while another change of
    them is under way."""

    def operation(transaction: Transaction) -> Begun | None:
        state = _fresh(transaction, name)
        if state.alteration is not None:
            return None
        settings = wanted(state)
        _require_room(transaction, state, settings)
        return alterations.begin(transaction, state, settings, pace)

    return operation


def _require_room(transaction: Transaction, state: State, settings: CollectionSettings) -> None:
    """Whether new settings fit into the quota. Raises QuotaExceeded."""
    if not state.stored:
        transaction.require_collection(state)
    larger = len(dumps(settings.data).encode()) - len((state.settings_text or "").encode())
    if larger > 0:
        transaction.require_bytes(larger)


def _fresh(transaction: Transaction, name: str) -> State:
    """The state as it is stored; for operations that run alone. What the writer knows is forgotten."""
    transaction.states.forget()
    return read_state(transaction.connection, name)


def read(connection: sqlite3.Connection, name: str) -> Collection | None:
    """A collection, None when it is neither declared nor holds documents."""
    state = read_state(connection, name)
    return state.collection if state.stored else None


def read_page(
    connection: sqlite3.Connection, after: str, limit: int
) -> tuple[tuple[Collection, ...], str | None]:
    """Collections after `after`, at most `limit` and as many as a page holds; and the last one's name when
    there are more."""
    found: list[Collection] = []
    held = 0
    with closing(connection.execute(_LIST, (after, limit + 1))) as rows:
        for name, incarnation, version, text, documents, size in rows:
            if len(found) == limit or held > collections.PAGE_BYTES:
                return tuple(found), found[-1].name
            found.append(State(name, incarnation, "", version, text, documents, size).collection)
            held += len(found[-1].text)
    return tuple(found), None
