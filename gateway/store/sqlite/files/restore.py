"""Putting a backup in a tenant's place: made beside and verified, then renamed, so that after a crash the
tenant's file is the old one or the new one.

What must not happen is that another process continues to write to the old file, whose log would then be taken
for the new one's (sqlite.org/howtocorrupt.html, 2.4 and 4). So the old file gets back what is in its log,
which SQLite does only for the last connection; then it is locked, where SQLite locks it, until after the
rename. Who opened it meanwhile finds that it was moved (SQLITE_READONLY_DBMOVED), and opens the new one.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from gateway.core.errors import BadRequest, Conflict, StoreUnavailable
from gateway.runtime import durable
from gateway.store.sqlite import errors
from gateway.store.sqlite.files import moves
from gateway.store.sqlite.files.connections import open_writer
from gateway.store.sqlite.files.copy import copy
from gateway.store.sqlite.files.tables import APPLICATION_ID
from gateway.store.sqlite.files.verify import problems

_LOCK_BYTE, _LOCK_BYTES = 0x40000000, 512  # sqlite.org/src/file/src/os.h: PENDING, RESERVED and SHARED
_BUSY_SECONDS = 1.0


def put(path: Path, source: Path, *, replace: bool, progress: Callable[[int, int], None]) -> None:
    """Raises BadRequest (no whole backup), Conflict (data is there, or is open), sqlite3.Error, OSError.

    progress: as of `copy`, and called once more before anything is replaced; what it raises stops the work.
    """
    durable.make_folder(path.parent)
    new = path.with_suffix(".restoring")
    with _only_one(path.parent):
        if os.path.lexists(path):
            _settle(path, replace)  # what is refused is refused before the long work
        remove(new)
        try:
            _copy_whole(source, new, progress)
            progress(1, 1)
            if path.exists():
                _exchange(path, new, replace)
            else:
                _link_new(path, new)
        finally:
            remove(new)


def remove(path: Path) -> None:
    """A file with its companions."""
    for suffix in ("", "-journal", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """One restore at a time: a lock that ends with the process."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(f"Another restore into {folder} is under way: wait for it.") from None
        yield
    finally:
        os.close(descriptor)


def _copy_whole(source: Path, new: Path, progress: Callable[[int, int], None]) -> None:
    """A verified copy of a backup, with an epoch of its own. Raises BadRequest."""
    if not source.is_file():
        raise BadRequest(f"{source} is not a file.")
    if not os.access(source, os.R_OK):
        raise BadRequest(f"{source} cannot be read: look at its permissions.")
    try:
        with closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as backup:
            (application,) = backup.execute("PRAGMA application_id").fetchone()
            if application != APPLICATION_ID:
                raise BadRequest(f"{source} is not a backup of documents.")
            copy(backup, new, progress)
        with closing(open_writer(new, None)) as copied:
            found = problems(copied)
            copied.execute("UPDATE meta SET value = lower(hex(randomblob(8))) WHERE name = 'epoch'")
            moves.unmark(copied)
            copied.execute("PRAGMA journal_mode=DELETE")
    except (sqlite3.Error, StoreUnavailable) as error:
        if isinstance(error, sqlite3.Error) and errors.primary_code(error) == sqlite3.SQLITE_FULL:
            raise
        reason = "; ".join(getattr(error, "__notes__", [str(error)]))
        raise BadRequest(f"{source} is not a whole backup of documents ({reason}).") from None
    if found:
        raise BadRequest(f"{source} is damaged: {' '.join(found)}")
    durable.sync(new)


def _settle(path: Path, replace: bool) -> os.stat_result:
    """Leave the tenant's file without companions; how it is then. Raises Conflict."""
    if not path.is_file():
        raise Conflict(f"{path} is no file: move it away.")
    if path.stat().st_size == 0:  # damaged; SQLite would take it for new, and delete its log
        if not replace:
            raise Conflict(f"{path} has no bytes; say to replace it.")
        return path.stat()
    try:
        with closing(sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode=DELETE")
            if not replace and connection.execute("SELECT EXISTS (SELECT 1 FROM collections)").fetchone()[0]:
                raise Conflict(f"{path} holds documents already; say to replace them.")
    except sqlite3.Error as error:
        if errors.primary_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise _open_elsewhere(path) from None
        if not replace:
            raise Conflict(f"{path} is there already ({error}); say to replace it.") from None
    return path.stat()


def _exchange(path: Path, new: Path, replace: bool) -> None:
    """The new file in the place of one that is there."""
    settled = _settle(path, replace)
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, _LOCK_BYTES, _LOCK_BYTE)
        now = path.stat()
        if (now.st_ino, now.st_mtime_ns, now.st_size) != (
            settled.st_ino,
            settled.st_mtime_ns,
            settled.st_size,
        ):
            raise _open_elsewhere(path)
        for suffix in ("-journal", "-wal", "-shm"):  # only a damaged file has them still
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        durable.rename(new, path)
    except (BlockingIOError, PermissionError):  # POSIX lets fcntl say either
        raise _open_elsewhere(path) from None
    finally:
        os.close(descriptor)


def _link_new(path: Path, new: Path) -> None:
    """The new file where there is none; a gateway that makes one meanwhile keeps its own."""
    for suffix in ("-journal", "-wal"):
        left = path.with_name(path.name + suffix)
        if left.exists():
            raise Conflict(f"{left} is left of a file that is gone, and would spoil the new: move it away.")
    try:
        durable.link(new, path)
    except FileExistsError:
        raise _open_elsewhere(path) from None


def _open_elsewhere(path: Path) -> Conflict:
    return Conflict(f"{path} is open elsewhere: stop the gateway first (`fuser {path}` tells who has it).")
