"""The operator's side of the SQLite engine: sizes, backups, restoring, verifying.

A backup is a tenant's file as SQLite's backup interface copies it: one instant, while writes go on. All of it
blocks, and runs in threads.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from gateway.core.errors import BadRequest, Conflict, NotFound, StoreUnavailable
from gateway.core.model import TenantId
from gateway.store import sqlite_errors
from gateway.store.operator import TenantSize
from gateway.store.sqlite_connections import open_reader, open_writer
from gateway.store.sqlite_schema import APPLICATION_ID, sync_folder
from gateway.store.sqlite_verify import problems

_SIZE = "SELECT count(*), ifnull(sum(documents), 0), ifnull(sum(bytes), 0) FROM collections"


class SQLiteOperator:
    """See operator.Operator; `folder` is the store's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def tenants(self) -> tuple[TenantId, ...]:
        return await asyncio.to_thread(self._tenants)

    async def size(self, tenant: TenantId) -> TenantSize:
        return await asyncio.to_thread(self._size, tenant)

    async def backup(self, tenant: TenantId, target: Path) -> int:
        return await asyncio.to_thread(self._backup, tenant, target)

    async def restore(self, tenant: TenantId, source: Path, *, replace: bool = False) -> TenantSize:
        return await asyncio.to_thread(self._restore, tenant, source, replace)

    async def verify(self, tenant: TenantId) -> tuple[str, ...]:
        return await asyncio.to_thread(self._verify, tenant)

    async def close(self) -> None:
        """Nothing is left open between calls."""

    def _path(self, tenant: TenantId) -> Path:
        return self._folder / f"{tenant.value}.db"

    def _existing(self, tenant: TenantId) -> Path:
        path = self._path(tenant)
        if not path.is_file():
            raise NotFound(f"The tenant {tenant} has no documents here.")
        return path

    def _tenants(self) -> tuple[TenantId, ...]:
        found = []
        for path in self._folder.glob("*.db"):
            try:
                found.append(TenantId(path.stem))
            except ValueError:  # no tenant's
                continue
        return tuple(sorted(found, key=lambda tenant: tenant.value))

    def _size(self, tenant: TenantId) -> TenantSize:
        path = self._existing(tenant)
        with _mapped(path), closing(_current(path)) as connection:
            collections, documents, size = connection.execute(_SIZE).fetchone()
        companions = (path, path.with_name(path.name + "-wal"))
        stored = sum(file.stat().st_size for file in companions if file.exists())
        return TenantSize(tenant, collections, documents, size, stored)

    def _backup(self, tenant: TenantId, target: Path) -> int:
        path = self._existing(tenant)
        with _mapped(path), closing(_current(path)) as source:
            _copy(source, target)
        return target.stat().st_size

    def _verify(self, tenant: TenantId) -> tuple[str, ...]:
        path = self._existing(tenant)
        try:
            with closing(_current(path)) as connection:
                return tuple(problems(connection))
        except sqlite3.Error as error:
            return (f"{path.name} cannot be read: {error}; put a backup in its place.",)

    def _restore(self, tenant: TenantId, source: Path, replace: bool) -> TenantSize:
        path = self._path(tenant)
        if path.exists() and not replace:
            raise Conflict(f"The tenant {tenant} has documents already; say to replace them.")
        new = path.with_name(f"{tenant.value}.restoring")
        new.unlink(missing_ok=True)
        try:
            with _mapped(path):
                _copy_whole(source, new)
                if path.exists():
                    _close_log(path)
                new.replace(path)
                sync_folder(self._folder)
        finally:
            new.unlink(missing_ok=True)
        return self._size(tenant)


def _current(path: Path) -> sqlite3.Connection:
    """A connection to a file of this version; an older one is brought up to date first."""
    open_writer(path, None).close()
    return open_reader(path)


def _copy(source: sqlite3.Connection, target: Path) -> None:
    """A new file, mode 0600, of one instant, on the disk. Raises FileExistsError."""
    os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        with closing(sqlite3.connect(target, isolation_level=None)) as copy:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, without companions
        _sync(target)
        sync_folder(target.absolute().parent)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _copy_whole(source: Path, new: Path) -> None:
    """A verified copy of a backup, with an epoch of its own. Raises BadRequest."""
    if not source.is_file():
        raise BadRequest(f"{source} is not a file.")
    try:
        with closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as backup:
            (application,) = backup.execute("PRAGMA application_id").fetchone()
            if application != APPLICATION_ID:
                raise BadRequest(f"{source} is not a backup of documents.")
            _copy(backup, new)
        with closing(open_writer(new, None)) as copy:
            found = problems(copy)
            copy.execute("UPDATE meta SET value = lower(hex(randomblob(8))) WHERE name = 'epoch'")
            copy.execute("PRAGMA journal_mode=DELETE")
    except (sqlite3.Error, StoreUnavailable) as error:
        raise BadRequest(f"{source} is not a backup of documents ({error}).") from None
    if found:
        raise BadRequest(f"{source} is damaged: {' '.join(found)}")
    _sync(new)


def _close_log(path: Path) -> None:
    """Leave a file without companions, which needs that nobody has it open."""
    try:
        with closing(sqlite3.connect(path, timeout=1.0, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.Error as error:
        if sqlite_errors.primary_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise Conflict(f"{path} is open elsewhere: stop the gateway first.") from None
        for suffix in ("-wal", "-shm"):  # a damaged file is being replaced; its log belongs to nothing now
            path.with_name(path.name + suffix).unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _mapped(path: Path) -> Iterator[None]:
    """What goes wrong with SQLite as StoreUnavailable, with the file and how to mend it."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreUnavailable(f"{path}: {error}: {sqlite_errors.mend(error)}.") from None
