"""The rows of documents: the statements, and reading one by its id."""

from __future__ import annotations

import sqlite3

from gateway.store.document import Document

# Up to this many bytes a document is read on the event loop itself: a few microseconds, against some
# forty through a thread.
INLINE_BYTES = 64 * 1024

COLUMNS = "id, version, incarnation, created, modified"
INSERT = "INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
UPDATE = """
    UPDATE documents SET version = ?, modified = ?, size = ?, data = ?, expires = ?
    WHERE collection = ? AND id = ?"""
DELETE = "DELETE FROM documents WHERE collection = ? AND id = ?"
_LIVE = "(expires IS NULL OR expires > ?)"
_WHERE = "FROM documents WHERE collection = ? AND id = ?"
_READ_ANY = f"SELECT {COLUMNS}, data, expires {_WHERE}"
_READ = f"SELECT {COLUMNS}, data {_WHERE} AND {_LIVE}"
_READ_SMALL = f"""
    SELECT {COLUMNS}, CASE WHEN size <= {INLINE_BYTES} THEN data END {_WHERE} AND {_LIVE}"""


def read(connection: sqlite3.Connection, collection: str, identifier: str, now: float) -> Document | None:
    rows = connection.execute(_READ, (collection, identifier, now)).fetchall()
    return Document(*rows[0]) if rows else None


def read_small(
    connection: sqlite3.Connection, collection: str, identifier: str, now: float
) -> tuple[bool, Document | None]:
    """As read, unless the document is beyond INLINE_BYTES: then false, and no document.

    fetchall, so that the statement is reset and its snapshot let go before this returns.
    """
    rows = connection.execute(_READ_SMALL, (collection, identifier, now)).fetchall()
    if not rows:
        return True, None
    if rows[0][-1] is None:
        return False, None
    return True, Document(*rows[0])


def read_any(
    connection: sqlite3.Connection, collection: str, identifier: str
) -> tuple[Document | None, float | None]:
    """A document, expired or not, and when it expires."""
    rows = connection.execute(_READ_ANY, (collection, identifier)).fetchall()
    if not rows:
        return None, None
    *columns, expires = rows[0]
    return Document(*columns), expires
