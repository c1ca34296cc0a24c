"""The rows of documents: the statements, and reading one by its id. A writer knows the key of a collection;
readers find it by the name."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from gateway.store.json.large import LIGHT_BYTES
from gateway.store.json.strict import dumps
from gateway.store.model.document import Document
from gateway.store.sqlite.read.statement import key_of

# Up to this many bytes a document is read on the event loop itself: a few microseconds, against some
# forty through a thread.
INLINE_BYTES = 64 * 1024

COLUMNS = "id, version, incarnation, created, modified"
# The text of a large document comes and goes as bytes: to decode it would lock the interpreter for long.
INSERT = "INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?, CAST(? AS TEXT), ?)"
UPDATE = """
    UPDATE documents SET version = ?, modified = ?, size = ?, data = CAST(? AS TEXT), expires = ?
    WHERE collection = ? AND id = ?"""
DELETE = "DELETE FROM documents WHERE collection = ? AND id = ?"
DATA = f"CASE WHEN size <= {LIGHT_BYTES} THEN data ELSE CAST(data AS BLOB) END"
_READ_ANY = f"SELECT {COLUMNS}, {DATA}, expires FROM documents WHERE collection = ? AND id = ?"  # noqa: S608
_WHERE = f"FROM documents WHERE collection = {key_of('?')} AND id = ? AND (expires IS NULL OR expires > ?)"
_READ = f"SELECT {COLUMNS}, {DATA} {_WHERE}"
_READ_SMALL = f"SELECT {COLUMNS}, CASE WHEN size <= {INLINE_BYTES} THEN data END {_WHERE}"

# CROSS JOIN: in the order of the ids.
_MANY = f"""
    FROM json_each(?) AS wanted CROSS JOIN documents AS d
    WHERE d.collection = {key_of("?")} AND d.id = wanted.value AND (d.expires IS NULL OR d.expires > ?)"""
_MANY_COLUMNS = "SELECT d.id, d.version, d.incarnation, d.created, d.modified"
_READ_MANY = f"{_MANY_COLUMNS}, {DATA} {_MANY}"
_READ_MANY_SMALL = f"{_MANY_COLUMNS}, CASE WHEN size <= {INLINE_BYTES} THEN data END {_MANY}"


def read(connection: sqlite3.Connection, collection: str, identifier: str, now: float) -> Document | None:
    """A document that has not expired at `now` (seconds since the epoch), None when there is none."""
    rows = connection.execute(_READ, (collection, collection, identifier, now)).fetchall()
    return from_row(*rows[0]) if rows else None


def from_row(
    identifier: str, version: int, incarnation: str, created: float, modified: float, text: str | bytes
) -> Document:
    """A document of COLUMNS and DATA, or of what shall be there."""
    if isinstance(text, bytes):
        return Document(identifier, version, incarnation, created, modified, "", text)
    return Document(identifier, version, incarnation, created, modified, text)


def select_many(
    connection: sqlite3.Connection,
    collection: str,
    identifiers: Sequence[str],
    now: float,
    *,
    small: bool = False,
) -> sqlite3.Cursor:
    """The rows (Document) of those of these ids that are there, in their order, read one by one; close it.
    For fifty it takes a third of the time that fifty reads take. small: without the text of those that are
    beyond INLINE_BYTES."""
    statement = _READ_MANY_SMALL if small else _READ_MANY
    return connection.execute(statement, (dumps(list(identifiers)), collection, collection, now))


def read_small(
    connection: sqlite3.Connection, collection: str, identifier: str, now: float
) -> tuple[bool, Document | None]:
    """As read, unless the document is beyond INLINE_BYTES: then false, and no document.

    fetchall, so that the statement is reset and its snapshot let go before this returns.
    """
    rows = connection.execute(_READ_SMALL, (collection, collection, identifier, now)).fetchall()
    if not rows:
        return True, None
    if rows[0][-1] is None:
        return False, None
    return True, Document(*rows[0])


def read_any(
    connection: sqlite3.Connection, key: str, identifier: str
) -> tuple[Document | None, float | None]:
    """A document, expired or not, and when it expires."""
    rows = connection.execute(_READ_ANY, (key, identifier)).fetchall()
    if not rows:
        return None, None
    *columns, expires = rows[0]
    return from_row(*columns), expires
