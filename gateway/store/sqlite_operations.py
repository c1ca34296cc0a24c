"""The operations on one tenant's file, as functions of a connection.

Writes run inside a transaction that sqlite_writes.py begins and commits, so a precondition is checked
against exactly what is overwritten.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from typing import Any

from gateway.core.errors import Conflict, NotFound
from gateway.store.document import (
    Document,
    Precondition,
    new_id,
    new_incarnation,
    to_text,
)
from gateway.store.patch import Patch, apply
from gateway.store.write import Written

Operation = Callable[[sqlite3.Connection], Any]

# Up to this many bytes a document is read on the event loop itself: a few microseconds, against some
# forty through a thread.
INLINE_BYTES = 64 * 1024

_COLUMNS = "id, version, incarnation, created, modified"
_READ = f"SELECT {_COLUMNS}, data FROM documents WHERE collection = ? AND id = ?"  # noqa: S608
_READ_SMALL = f"""
    SELECT {_COLUMNS}, CASE WHEN size <= {INLINE_BYTES} THEN data END
    FROM documents WHERE collection = ? AND id = ?"""  # noqa: S608
_INSERT = "INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_UPDATE = """
    UPDATE documents SET version = ?, modified = ?, size = ?, data = ?
    WHERE collection = ? AND id = ?"""
_DELETE = "DELETE FROM documents WHERE collection = ? AND id = ?"
# A step per collection and not per document: each one is found by the index, after the one before.
_COLLECTIONS = """
    WITH RECURSIVE c(name) AS (
        SELECT min(collection) FROM documents WHERE collection > ?
        UNION ALL
        SELECT (SELECT min(collection) FROM documents WHERE collection > c.name)
        FROM c WHERE c.name IS NOT NULL
    )
    SELECT name FROM c WHERE name IS NOT NULL LIMIT ?"""


def create(collection: str, text: str, size: int) -> Operation:
    def operation(connection: sqlite3.Connection) -> Document:
        return _insert(connection, collection, new_id(), text, size)

    return operation


def replace(collection: str, identifier: str, text: str, size: int, precondition: Precondition) -> Operation:
    def operation(connection: sqlite3.Connection) -> Written:
        current = read(connection, collection, identifier)
        precondition.require(current.etag if current else None)
        if current is None:
            return Written(_insert(connection, collection, identifier, text, size), True)
        return Written(_update(connection, collection, current, text, size), False)

    return operation


def patch(
    collection: str, identifier: str, change: Patch, precondition: Precondition
) -> Operation:
    def operation(connection: sqlite3.Connection) -> Document:
        current = _require(connection, collection, identifier, precondition)
        text, size = to_text(apply(change, current.data))
        return _update(connection, collection, current, text, size)

    return operation


def delete(collection: str, identifier: str, precondition: Precondition) -> Operation:
    def operation(connection: sqlite3.Connection) -> None:
        _require(connection, collection, identifier, precondition)
        connection.execute(_DELETE, (collection, identifier))

    return operation


def read(connection: sqlite3.Connection, collection: str, identifier: str) -> Document | None:
    rows = connection.execute(_READ, (collection, identifier)).fetchall()
    return Document(*rows[0]) if rows else None


def read_small(
    connection: sqlite3.Connection, collection: str, identifier: str
) -> tuple[bool, Document | None]:
    """As read, unless the document is beyond INLINE_BYTES: then false, and no document.

    fetchall, so that the statement is reset and its snapshot let go before this returns.
    """
    rows = connection.execute(_READ_SMALL, (collection, identifier)).fetchall()
    if not rows:
        return True, None
    if rows[0][-1] is None:
        return False, None
    return True, Document(*rows[0])


def collections(
    connection: sqlite3.Connection, after: str, limit: int
) -> tuple[tuple[str, ...], str | None]:
    """Names after `after`, at most `limit`, and the last of them when there are more."""
    names = tuple(name for (name,) in connection.execute(_COLLECTIONS, (after, limit + 1)))
    return names[:limit], names[limit - 1] if len(names) > limit else None


def _require(
    connection: sqlite3.Connection, collection: str, identifier: str, precondition: Precondition
) -> Document:
    """The document. A missing one is NotFound whatever was asked of it (RFC 9110 section 13.2.1)."""
    current = read(connection, collection, identifier)
    if current is None:
        raise NotFound()
    precondition.require(current.etag)
    return current


def _insert(
    connection: sqlite3.Connection, collection: str, identifier: str, text: str, size: int
) -> Document:
    now = time.time()
    document = Document(identifier, 1, new_incarnation(), now, now, text)
    row = (collection, identifier, 1, document.incarnation, now, now, size, text)
    try:
        connection.execute(_INSERT, row)
    except sqlite3.IntegrityError:
        raise Conflict("A document with this id is there already.") from None
    return document


def _update(
    connection: sqlite3.Connection, collection: str, current: Document, text: str, size: int
) -> Document:
    version, now = current.version + 1, time.time()
    connection.execute(_UPDATE, (version, now, size, text, collection, current.id))
    return Document(current.id, version, current.incarnation, current.created, now, text)
