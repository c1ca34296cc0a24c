"""What a tenant's file holds, and how a file of an older gateway becomes one of this.

documents.size: bytes of data, so that a reader knows before it reads. version, incarnation: see Document.
collections: a row for each that is declared (settings) or holds documents; incarnation and version make its
tag. entries: see model/indexing.py; main is 1 for the entry that the order goes by. changes: seq rises with
every change and never begins again, because the newest row is never deleted. meta: `epoch`, which a restored
file gets anew, so that its changes are not taken for those that it had before. held: one row, which triggers
keep, of what counts for the tenant's quota; settings and remembered are bytes.

documents.collection is the collection's key: its name, unless aliases has another for it. indexes.building: 1
for an index that is not complete. alterations: see sqlite/write/alterations.py. trash: see
sqlite/write/trash.py; the key of documents, or the number of an index, that nobody sees any more. Both have
`at`, when they were last worked on, by which what was left behind is recognised.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.store.sqlite import errors

VERSION = 4
APPLICATION_ID = 0x47574453  # "GWDS", so that `file` and we know the file for what it is

_log = logging.getLogger(__name__)

_VERSION_1 = (
    """
    CREATE TABLE documents (
        collection TEXT NOT NULL,
        id TEXT NOT NULL,
        version INTEGER NOT NULL,
        incarnation TEXT NOT NULL,
        created REAL NOT NULL,
        modified REAL NOT NULL,
        size INTEGER NOT NULL,
        data TEXT NOT NULL,
        UNIQUE (collection, id)
    ) STRICT""",
)
_VERSION_2 = (
    "ALTER TABLE documents ADD COLUMN expires REAL",
    "CREATE INDEX documents_expires ON documents (expires) WHERE expires IS NOT NULL",
    """CREATE TABLE collections (
        name TEXT PRIMARY KEY,
        incarnation TEXT NOT NULL,
        version INTEGER NOT NULL,
        settings TEXT,
        documents INTEGER NOT NULL,
        bytes INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
    """INSERT INTO collections
        SELECT collection, lower(hex(randomblob(8))), 0, NULL, count(*), sum(size)
        FROM documents GROUP BY collection""",
    """CREATE TABLE indexes (
        n INTEGER PRIMARY KEY AUTOINCREMENT,
        collection TEXT NOT NULL,
        name TEXT NOT NULL,
        fields TEXT NOT NULL,
        is_unique INTEGER NOT NULL,
        many INTEGER NOT NULL DEFAULT 0,
        UNIQUE (collection, name)
    ) STRICT""",
    """CREATE TABLE entries (
        n INTEGER NOT NULL,
        r INTEGER NOT NULL,
        val ANY NOT NULL,
        id TEXT NOT NULL,
        main INTEGER NOT NULL,
        PRIMARY KEY (n, r, val, id)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE uniques (
        n INTEGER NOT NULL,
        key TEXT NOT NULL,
        id TEXT NOT NULL,
        PRIMARY KEY (n, key)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE changes (
        seq INTEGER PRIMARY KEY,
        collection TEXT NOT NULL,
        kind INTEGER NOT NULL,
        id TEXT NOT NULL,
        tag TEXT NOT NULL,
        at REAL NOT NULL
    ) STRICT""",
    """CREATE TABLE idempotency (
        key TEXT PRIMARY KEY,
        fingerprint BLOB NOT NULL,
        at REAL NOT NULL,
        result TEXT NOT NULL
    ) STRICT""",
    "CREATE INDEX idempotency_at ON idempotency (at)",
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
    "INSERT INTO meta VALUES ('epoch', lower(hex(randomblob(8))))",
)
_VERSION_3 = (
    """CREATE TABLE new_indexes (
        n INTEGER PRIMARY KEY AUTOINCREMENT,
        collection TEXT NOT NULL,
        name TEXT NOT NULL,
        fields TEXT NOT NULL,
        is_unique INTEGER NOT NULL,
        many INTEGER NOT NULL DEFAULT 0,
        building INTEGER NOT NULL,
        UNIQUE (collection, name, building)
    ) STRICT""",
    "INSERT INTO new_indexes SELECT n, collection, name, fields, is_unique, many, 0 FROM indexes",
    "DROP TABLE indexes",
    "ALTER TABLE new_indexes RENAME TO indexes",
    """CREATE TABLE alterations (
        collection TEXT PRIMARY KEY,
        token TEXT NOT NULL,
        at REAL NOT NULL,
        settings TEXT,
        undo INTEGER NOT NULL,
        position TEXT NOT NULL,
        until TEXT NOT NULL,
        conflict INTEGER
    ) STRICT, WITHOUT ROWID""",
    "CREATE TABLE trash (number INTEGER PRIMARY KEY, key TEXT, n INTEGER, at REAL NOT NULL) STRICT",
    "CREATE TABLE aliases (name TEXT PRIMARY KEY, key TEXT NOT NULL) STRICT, WITHOUT ROWID",
)
# 128 is write.KEY_BYTES.
_VERSION_4 = (
    """CREATE TABLE held (
        documents INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        settings INTEGER NOT NULL,
        remembered INTEGER NOT NULL,
        collections INTEGER NOT NULL
    ) STRICT""",
    """INSERT INTO held SELECT ifnull(sum(documents), 0), ifnull(sum(bytes), 0),
            ifnull(sum(length(CAST(settings AS BLOB))), 0),
            (SELECT ifnull(sum(128 + length(key) + length(CAST(result AS BLOB))), 0) FROM idempotency),
            count(*)
        FROM collections""",
    """CREATE TRIGGER collections_new AFTER INSERT ON collections BEGIN
        UPDATE held SET documents = documents + NEW.documents, bytes = bytes + NEW.bytes,
            settings = settings + ifnull(length(CAST(NEW.settings AS BLOB)), 0),
            collections = collections + 1;
    END""",
    """CREATE TRIGGER collections_counted AFTER UPDATE OF documents, bytes ON collections BEGIN
        UPDATE held SET documents = documents + NEW.documents - OLD.documents,
            bytes = bytes + NEW.bytes - OLD.bytes;
    END""",
    """CREATE TRIGGER collections_set AFTER UPDATE OF settings ON collections
        WHEN NEW.settings IS NOT OLD.settings BEGIN
        UPDATE held SET settings = settings + ifnull(length(CAST(NEW.settings AS BLOB)), 0)
            - ifnull(length(CAST(OLD.settings AS BLOB)), 0);
    END""",
    """CREATE TRIGGER collections_gone AFTER DELETE ON collections BEGIN
        UPDATE held SET documents = documents - OLD.documents, bytes = bytes - OLD.bytes,
            settings = settings - ifnull(length(CAST(OLD.settings AS BLOB)), 0),
            collections = collections - 1;
    END""",
    """CREATE TRIGGER remembered AFTER INSERT ON idempotency BEGIN
        UPDATE held SET remembered = remembered + 128 + length(NEW.key) + length(CAST(NEW.result AS BLOB));
    END""",
    """CREATE TRIGGER forgotten AFTER DELETE ON idempotency BEGIN
        UPDATE held SET remembered = remembered - 128 - length(OLD.key) - length(CAST(OLD.result AS BLOB));
    END""",
)
_STEPS = (_VERSION_1, _VERSION_2, _VERSION_3, _VERSION_4)


def create(connection: sqlite3.Connection) -> None:
    """Create the schema in an empty file."""
    with _transaction(connection, "BEGIN IMMEDIATE"):
        _take_steps(connection, 0)


def bring_up(connection: sqlite3.Connection, path: Path) -> None:
    """Bring an older file up to date, in one transaction. It has no `problem`."""
    if _version(connection) == VERSION:
        return
    with _transaction(connection, "BEGIN IMMEDIATE"):
        version = _version(connection)  # another process may have been first
        _take_steps(connection, version)
    if version < VERSION:
        _log.info("documents: %s: brought from version %d to %d", path, version, VERSION)


def problem(connection: sqlite3.Connection) -> str:
    """Why a file is not ours to use, with a hint; empty when it is."""
    with _transaction(connection, "BEGIN"):  # one view of it
        version = _version(connection)
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (objects,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if (version, application, objects) == (0, 0, 0):
        return "it is a database without anything in it, and has lost what it held; " + errors.RESTORE
    if application != APPLICATION_ID:
        return "it is another program's database; move it away, or " + errors.RESTORE
    if version > VERSION:
        return f"its schema is version {version}, this gateway knows {VERSION}; run the newer gateway"
    if version < 1:
        return f"its schema is version {version}, which never was; " + errors.RESTORE
    return ""


def _take_steps(connection: sqlite3.Connection, version: int) -> None:
    for step in _STEPS[version:]:
        for statement in step:
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version={VERSION}")
    connection.execute("COMMIT")


@contextmanager
def _transaction(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
    """What is not committed in it is rolled back."""
    connection.execute(begin)
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)
