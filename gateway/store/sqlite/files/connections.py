"""How the connections to a tenant's file are opened.

WAL, synchronous=FULL: a commit is on the disk when it returns. The file has mode 0600, and SQLite gives
its -wal and -shm companions the same.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from time import monotonic, sleep
from urllib.parse import quote

from gateway.core.errors import StoreUnavailable
from gateway.runtime import durable
from gateway.store.filter import regex
from gateway.store.sqlite import errors
from gateway.store.sqlite.files import damage, tables
from gateway.store.sqlite.read.statement import Connection

BUSY_SECONDS = 5.0
_BUSY_PAUSE = 0.002  # seconds
_BUSY_TIMEOUT_MS = 2  # SQLite's own pauses grow to 100 ms, and would miss the time between others' slices
PAGE_BYTES = 4096
_WAL_KEPT_BYTES = 64 * 1024 * 1024
# The log is moved into the file after so many pages. A page that is written again and again, such as one of
# an index, is moved once.
_CHECKPOINT_PAGES = 4000
_STATEMENTS = 16  # that a reader keeps prepared: those of filters hardly come again
_CACHE_KIB = 8192  # what a transaction changes beyond its cache is written to the log several times


def open_writer(path: Path, max_bytes: int | None) -> sqlite3.Connection:
    """The connection that writes; makes the file when it is not there, and brings an older one up to date.

    max_bytes: how large the file may grow, None for no limit of ours. Raises sqlite3.Error, OSError, and
    StoreUnavailable for what cannot be a tenant's file: it is damaged, another program made it, or a newer
    gateway.
    """
    if not os.path.lexists(path):
        _make(path)
    problem = damage.of_file(path)
    if problem:
        raise errors.unusable(path, problem)
    connection = _connect(path, "rw", BUSY_SECONDS)
    try:
        problem = tables.problem(connection)
        if problem:  # found before anything is changed: it may be another program's
            raise errors.unusable(path, problem)
        _use_wal(connection)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
        connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
        # What a savepoint keeps for a rollback: in a file, each operation would write every page it changes.
        connection.execute("PRAGMA temp_store=MEMORY")
        connection.execute(f"PRAGMA journal_size_limit={_WAL_KEPT_BYTES}")
        if max_bytes is not None:
            connection.execute(f"PRAGMA max_page_count={max(1, max_bytes // PAGE_BYTES)}")
        tables.bring_up(connection, path)
        connection.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}")
    except (sqlite3.Error, StoreUnavailable):
        connection.close()
        raise
    return connection


def _make(path: Path) -> None:
    """A new tenant's file. It has its name from the moment on when it is whole: so one that is empty has lost
    what it held, and is never taken for a new one. Raises StoreUnavailable where a log is left of one that is
    gone: SQLite would delete it."""
    problem = damage.of_log(path)
    if problem:
        raise errors.unusable(path, problem)
    with durable.making(path) as beside, closing(_connect(beside, "rw", BUSY_SECONDS)) as connection:
        connection.execute("PRAGMA synchronous=FULL")
        tables.create(connection)


def limit_size(connection: sqlite3.Connection, most_pages: int, most_bytes: int | None) -> None:
    """How large the file may grow: to so many pages, and to so many bytes; a file that is larger stays as it
    is. SQLite fails with SQLITE_FULL beyond that."""
    pages = most_pages if most_bytes is None else min(most_pages, max(1, most_bytes // PAGE_BYTES))
    connection.execute(f"PRAGMA max_page_count={pages}")


def begin_write(connection: sqlite3.Connection) -> None:
    """Begin a transaction on a writer's connection. Blocks, at most BUSY_SECONDS. Raises sqlite3.Error."""
    _patiently(connection, "BEGIN IMMEDIATE", 0.0)


def _use_wal(connection: sqlite3.Connection) -> None:
    """SQLite does not wait when two make a new file a WAL file at once: one of them fails with SQLITE_BUSY
    (https://www.sqlite.org/c3ref/busy_handler.html, on what would else be a deadlock). Blocks."""
    _patiently(connection, "PRAGMA journal_mode=WAL", _BUSY_PAUSE)


def _patiently(connection: sqlite3.Connection, statement: str, pause: float) -> None:
    until = monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute(statement)
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or monotonic() > until:
                raise
            sleep(pause)


def open_reader(path: Path, busy_seconds: float = BUSY_SECONDS) -> sqlite3.Connection:
    """A connection that cannot write. Raises sqlite3.Error."""
    connection = _connect(path, "ro", busy_seconds, _STATEMENTS)
    connection.create_function("regex_search", 2, regex_search, deterministic=True)
    return connection


def _connect(path: Path, mode: str, busy_seconds: float, statements: int = 128) -> Connection:
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}",
        uri=True,
        timeout=busy_seconds,
        isolation_level=None,  # transactions are begun by us, in words
        check_same_thread=False,  # a connection moves between threads, and is in one at a time
        cached_statements=statements,
        factory=Connection,
    )
    connection.make_functions()
    return connection


def regex_search(pattern: str, value: object) -> bool:
    """SQLite also calls it where a condition before it is false already."""
    return isinstance(value, str) and regex.search(pattern)(value)
