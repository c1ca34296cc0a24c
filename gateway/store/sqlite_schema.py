"""One tenant's file: its schema, and how its connections are opened.

WAL, synchronous=FULL: a commit is on the disk when it returns. The file has mode 0600, and SQLite gives
its -wal and -shm companions the same.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from pathlib import Path
from urllib.parse import quote

from gateway.core.errors import StoreUnavailable

VERSION = 1
APPLICATION_ID = 0x47574453  # "GWDS", so that `file` and we know the file for what it is
BUSY_SECONDS = 5.0
PAGE_BYTES = 4096
_WAL_KEPT_BYTES = 64 * 1024 * 1024

_log = logging.getLogger(__name__)

# size: bytes of data, so that a reader knows before it reads. version, incarnation: see Document.
_SCHEMA = """
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
    ) STRICT
"""


def open_writer(path: Path, max_bytes: int | None) -> sqlite3.Connection:
    """The connection that writes; makes the file when it is not there.

    max_bytes: how large the file may grow, None for no limit of ours. Raises sqlite3.Error, OSError, and
    StoreUnavailable for a file that another program or a newer gateway made.
    """
    _create(path)
    connection = _connect(path, "rw", BUSY_SECONDS)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA journal_size_limit={_WAL_KEPT_BYTES}")
        if max_bytes is not None:
            connection.execute(f"PRAGMA max_page_count={max(1, max_bytes // PAGE_BYTES)}")
        _bring_up(connection, path)
    except (sqlite3.Error, StoreUnavailable):
        connection.close()
        raise
    return connection


def open_reader(path: Path, busy_seconds: float = BUSY_SECONDS) -> sqlite3.Connection:
    """A connection that cannot write. Raises sqlite3.Error."""
    return _connect(path, "ro", busy_seconds)


def _connect(path: Path, mode: str, busy_seconds: float) -> sqlite3.Connection:
    return sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}",
        uri=True,
        timeout=busy_seconds,
        isolation_level=None,  # transactions are begun by us, in words
        check_same_thread=False,  # a connection moves between threads, and is in one at a time
    )


def _create(path: Path) -> None:
    """Make an empty file with its mode, and make its name durable."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _bring_up(connection: sqlite3.Connection, path: Path) -> None:
    """Create the schema in an empty file; refuse a file that is not ours to use."""
    if _is_current(connection, path):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not _is_current(connection, path):  # another process may have been first
            connection.execute(_SCHEMA)
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={VERSION}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _is_current(connection: sqlite3.Connection, path: Path) -> bool:
    """False: the file is empty. Raises StoreUnavailable for a file that is somebody else's."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (objects,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if (version, application, objects) == (0, 0, 0):
        return False
    if application != APPLICATION_ID:
        reason = "it is another program's database; move it away"
    elif version > VERSION:
        reason = f"its schema is version {version}, this gateway knows {VERSION}; run the newer gateway"
    elif version == VERSION:
        return True
    else:
        reason = f"its schema is version {version}, which never was; put a backup in its place"
    _log.error("documents: %s: %s", path, reason)
    raise StoreUnavailable("The tenant's documents cannot be reached at the moment.", retry_after=60)
