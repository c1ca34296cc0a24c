"""Keeping the entries of declared indexes beside the documents."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from gateway.core.errors import UniqueConflict
from gateway.store.model.collection import Index
from gateway.store.model.indexing import EntryBudget, check_unique, main_entry, other_entries, unique_key
from gateway.store.sqlite.write.entries import Entries
from gateway.store.sqlite.write.state import State, StoredIndex

_ADD_UNIQUE = "INSERT INTO uniques (n, key, id) VALUES (?, ?, ?)"
_REMOVE_UNIQUE = "DELETE FROM uniques WHERE n = ? AND key = ? AND id = ?"
_CONFLICT = "UPDATE alterations SET conflict = ? WHERE collection = ? AND conflict IS NULL"


def holder(connection: sqlite3.Connection, stored: StoredIndex, data: Mapping[str, Any]) -> str | None:
    """The id of the document that has these values in a unique index."""
    key = unique_key(stored.index, data)
    if key is None:
        return None
    row = connection.execute("SELECT id FROM uniques WHERE n = ? AND key = ?", (stored.n, key)).fetchone()
    return row[0] if row else None


def add(
    connection: sqlite3.Connection, entries: Entries, state: State, identifier: str, data: Mapping[str, Any]
) -> None:
    """Enter a document into every index. Raises Unprocessable for more entries than a document may have, and
    UniqueConflict, but not for an index that is being built: its rule does not hold yet. The write is done,
    and the building of the index fails by it."""
    budget = EntryBudget(identifier)
    for stored in state.indexes_of(identifier):
        try:
            add_to(connection, entries, stored, identifier, data, budget)
        except UniqueConflict:
            if not stored.building:
                raise
            connection.execute(_CONFLICT, (stored.n, state.name))


def add_to(
    connection: sqlite3.Connection,
    entries: Entries,
    stored: StoredIndex,
    identifier: str,
    data: Mapping[str, Any],
    budget: EntryBudget,
) -> None:
    """Enter a document into one index. Raises UniqueConflict and Unprocessable."""
    if stored.index.unique:
        check_unique(stored.index, data)
        key = unique_key(stored.index, data)
        if key is not None:
            _add_unique(connection, stored, key, identifier)
    if len(stored.index.fields) > 1:
        return
    entries.put(stored.n, main_entry(stored.path, data), identifier, 1)
    others = other_entries(stored.path, data, budget)
    if others:
        for entry in others:
            entries.put(stored.n, entry, identifier, 0)
        connection.execute("UPDATE indexes SET many = 1 WHERE n = ? AND many = 0", (stored.n,))


def _add_unique(connection: sqlite3.Connection, stored: StoredIndex, key: str, identifier: str) -> None:
    try:
        connection.execute(_ADD_UNIQUE, (stored.n, key, identifier))
    except sqlite3.IntegrityError:
        raise conflict(stored.index) from None


def conflict(index: Index) -> UniqueConflict:
    """The error of a document that has the same values as another."""
    fields = [".".join(path) for path in index.fields]
    detail = f"Another document has the same {', '.join(fields)}, which the index {index.name} wants unique."
    return UniqueConflict(detail, extra={"index": index.name, "fields": fields})


def remove(
    connection: sqlite3.Connection, entries: Entries, state: State, identifier: str, data: Mapping[str, Any]
) -> None:
    """Take a document out of every index."""
    for stored in state.indexes_of(identifier):
        if stored.index.unique:
            key = unique_key(stored.index, data)
            if key is not None:
                connection.execute(_REMOVE_UNIQUE, (stored.n, key, identifier))
        if len(stored.index.fields) == 1:
            entries.remove(stored.n, main_entry(stored.path, data), identifier, 1)
            for entry in other_entries(stored.path, data):
                entries.remove(stored.n, entry, identifier, 0)
