"""The operator's side of the SQLite engine: sizes, backups, restoring, verifying.

A backup is a tenant's file as SQLite's backup interface copies it: one instant, while writes go on. All of it
blocks, and runs in threads.
"""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from gateway.core.errors import NotFound, StoreUnavailable
from gateway.core.model import TenantId
from gateway.runtime import durable
from gateway.store.operator import TenantSize
from gateway.store.sqlite import errors
from gateway.store.sqlite.files import damage as sqlite_damage
from gateway.store.sqlite.files import restore as sqlite_restore
from gateway.store.sqlite.files.connections import open_reader, open_writer
from gateway.store.sqlite.files.copy import copy, damage
from gateway.store.sqlite.files.verify import problems

_SIZE = "SELECT count(*), ifnull(sum(documents), 0), ifnull(sum(bytes), 0) FROM collections"


class SQLiteOperator:
    """See operator.Operator; `folder` is the store's.

    on_progress: called with pages done and pages in all while a file is copied, from another thread.
    """

    def __init__(
        self, folder: Path, on_progress: Callable[[int, int], None] = lambda done, total: None
    ) -> None:
        self._folder = folder
        self._on_progress = on_progress

    async def tenants(self) -> tuple[TenantId, ...]:
        """See operator.Operator.tenants."""
        return await asyncio.to_thread(self._tenants)

    async def size(self, tenant: TenantId) -> TenantSize:
        """See operator.Operator.size."""
        return await asyncio.to_thread(self._size, tenant)

    async def backup(self, tenant: TenantId, target: Path) -> int:
        """See operator.Operator.backup."""
        return await asyncio.to_thread(self._backup, tenant, target)

    async def restore(self, tenant: TenantId, source: Path, *, replace: bool = False) -> TenantSize:
        """See operator.Operator.restore."""
        return await asyncio.to_thread(self._restore, tenant, source, replace)

    async def verify(self, tenant: TenantId) -> tuple[str, ...]:
        """See operator.Operator.verify."""
        return await asyncio.to_thread(self._verify, tenant)

    async def close(self) -> None:
        """Nothing is left open between calls."""

    def _path(self, tenant: TenantId) -> Path:
        return self._folder / f"{tenant.value}.db"

    def _existing(self, tenant: TenantId) -> Path:
        path = self._path(tenant)
        if not os.path.lexists(path) and not sqlite_damage.logs(path):
            raise NotFound(f"The tenant {tenant} has no documents here.")
        return path

    def _tenants(self) -> tuple[TenantId, ...]:
        found: set[TenantId] = set()
        try:
            names = [path.name for path in self._folder.iterdir()]
        except FileNotFoundError:
            return ()
        except OSError as error:
            hint = "it must be a folder that belongs to the user who runs this"
            raise StoreUnavailable(f"{self._folder}: {error.strerror}: {hint}.") from None
        for name in names:
            file, _, log = name.rpartition(".db")
            try:
                if log in ("", *sqlite_damage.LOG_SUFFIXES):  # one whose log alone is left is damaged
                    found.add(TenantId(file))
            except ValueError:  # no tenant's
                continue
        return tuple(sorted(found, key=lambda tenant: tenant.value))

    def _size(self, tenant: TenantId) -> TenantSize:
        path = self._existing(tenant)
        with _mapped(path), _current(path) as connection:
            collections, documents, size = connection.execute(_SIZE).fetchone()
        companions = (path, path.with_name(path.name + "-wal"))
        stored = sum(file.stat().st_size for file in companions if file.exists())
        return TenantSize(tenant, collections, documents, size, stored)

    def _backup(self, tenant: TenantId, target: Path) -> int:
        path = self._existing(tenant)
        if target.exists():
            raise FileExistsError(errno.EEXIST, "it is there already", str(target))
        beside = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            with _mapped(path), _current(path) as source, _mapped(path, target):
                copy(source, beside, self._on_progress)
                found = damage(beside)
            if found:
                raise StoreUnavailable(f"{path} is damaged, and a copy would be too ({found}): verify it.")
            durable.rename(beside, target)
        finally:
            sqlite_restore.remove(beside)
        return target.stat().st_size

    def _verify(self, tenant: TenantId) -> tuple[str, ...]:
        path = self._existing(tenant)
        try:
            with _current(path) as connection:
                return tuple(problems(connection))
        except sqlite3.Error as error:
            return (f"{path} cannot be read: {error}: {errors.hint(error, path)}.",)
        except StoreUnavailable as error:
            return (f"{_reason(error)}.",)

    def _restore(self, tenant: TenantId, source: Path, replace: bool) -> TenantSize:
        path = self._path(tenant)
        with _mapped(path):
            sqlite_restore.put(path, source, replace=replace, progress=self._on_progress)
        return self._size(tenant)


@contextmanager
def _current(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that reads a file of this version; an older one is brought up to date first."""
    # The writer is closed last: a connection that only reads would leave the log behind.
    with closing(open_writer(path, None)), closing(open_reader(path)) as reader:
        yield reader


@contextmanager
def _mapped(path: Path, target: Path | None = None) -> Iterator[None]:
    """What goes wrong with SQLite as StoreUnavailable, with the file and a hint.

    target: the file that is written; all but damage is about it.
    """
    try:
        yield
    except sqlite3.Error as error:
        damaged = errors.primary_code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
        file = path if damaged or target is None else target
        raise StoreUnavailable(f"{file}: {error}: {errors.hint(error, file)}.") from None
    except StoreUnavailable as error:
        raise StoreUnavailable(f"{_reason(error)}.") from None


def _reason(error: StoreUnavailable) -> str:
    """What was noted for the operator."""
    return "; ".join(getattr(error, "__notes__", [str(error).removesuffix(".")]))
