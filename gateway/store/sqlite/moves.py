"""The SQLite engine's part in moving tenants; see moving/port.py. All of it blocks, and runs in threads."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import TypeVar

from gateway.core.errors import StoreUnavailable
from gateway.core.model import TenantId
from gateway.store.moving.port import LOG_BATCH, LoggedChange, LogGone, MovedTenants, Remembered
from gateway.store.sqlite import errors
from gateway.store.sqlite.files import moves
from gateway.store.sqlite.files.connections import begin_write, open_reader, open_writer
from gateway.store.sqlite.write.transaction import KINDS

T = TypeVar("T")

_CHANGES = "SELECT seq, collection, kind, id FROM changes WHERE seq > ? ORDER BY seq LIMIT ?"
_LAST = "SELECT ifnull(max(seq), 0) FROM changes"
_REMEMBERED = "SELECT key, fingerprint, at, result FROM idempotency WHERE at >= ? ORDER BY at"
_REMEMBER = "INSERT OR IGNORE INTO idempotency (key, fingerprint, at, result) VALUES (?, ?, ?, ?)"


class SQLiteMoves:
    """See moving.port.Moves; `folder` is the store's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, sqlite3.Connection] = {}

    async def follows(self) -> bool:
        """See moving.port.Moves."""
        return True

    async def position(self, tenant: TenantId) -> int:
        """See moving.port.Moves."""
        return await self._read(tenant, lambda connection: int(connection.execute(_LAST).fetchone()[0]))

    async def changes(self, tenant: TenantId, after: int) -> Sequence[LoggedChange]:
        """See moving.port.Moves."""

        def read(connection: sqlite3.Connection) -> list[LoggedChange]:
            rows = connection.execute(_CHANGES, (after, LOG_BATCH)).fetchall()
            (last,) = connection.execute(_LAST).fetchone()
            if rows[0][0] != after + 1 if rows else last < after:
                raise LogGone()
            return [LoggedChange(number, name, KINDS[kind], id_) for number, name, kind, id_ in rows]

        return await self._read(tenant, read)

    @asynccontextmanager
    async def hold(self, tenant: TenantId) -> AsyncGenerator[None, None]:
        """See moving.port.Moves. It is SQLite's own lock: it ends with this process, however that ends."""
        with _translated(self._path(tenant)):
            connection = await asyncio.to_thread(open_writer, self._path(tenant), None)
            try:
                await asyncio.to_thread(begin_write, connection)
                self._held[tenant.value] = connection
                yield
            finally:
                self._held.pop(tenant.value, None)
                if connection.in_transaction:
                    connection.rollback()
                await asyncio.to_thread(connection.close)

    async def leave(self, tenant: TenantId, to: str, position: int) -> None:
        """See moving.port.Moves."""
        connection = self._held[tenant.value]
        if connection.execute(_LAST).fetchone()[0] != position:  # it cannot be: the file is locked
            raise StoreUnavailable(f"Something was written to {tenant} while its writes were held.")
        moves.mark(connection, to)
        await asyncio.to_thread(connection.commit)
        await asyncio.to_thread(moves.write, self._folder, add=[tenant.value], to=to)

    async def arrive(self, tenant: TenantId) -> None:
        """See moving.port.Moves."""
        await self._write(tenant, moves.unmark)
        await asyncio.to_thread(moves.write, self._folder, remove=[tenant.value])

    async def leave_all(self, to: str) -> None:
        """See moving.port.Moves."""
        await asyncio.to_thread(moves.write, self._folder, to=to, all_=True)

    async def arrive_all(self) -> None:
        """See moving.port.Moves."""
        await asyncio.to_thread(moves.write, self._folder, all_=False)

    async def moved(self) -> MovedTenants:
        """See moving.port.Moves."""
        try:
            return await asyncio.to_thread(moves.read, self._folder)
        except (OSError, ValueError, KeyError, TypeError):
            error = StoreUnavailable("The list of the tenants that were moved cannot be read.")
            error.add_note(f"{self._folder}/moved.json cannot be read; look at it, or at its permissions")
            raise error from None

    async def remembered(self, tenant: TenantId, since: float) -> Sequence[Remembered]:
        """See moving.port.Moves."""
        return await self._read(
            tenant, lambda connection: [Remembered(*row) for row in connection.execute(_REMEMBERED, (since,))]
        )

    async def remember(self, tenant: TenantId, items: Sequence[Remembered]) -> None:
        """See moving.port.Moves."""
        await self._write(tenant, lambda connection: connection.executemany(_REMEMBER, items))

    async def close(self) -> None:
        """See moving.port.Moves."""

    def _path(self, tenant: TenantId) -> Path:
        return self._folder / f"{tenant.value}.db"

    async def _read(self, tenant: TenantId, work: Callable[[sqlite3.Connection], T]) -> T:
        def run() -> T:
            with closing(open_reader(self._path(tenant))) as connection:
                return work(connection)

        with _translated(self._path(tenant)):
            return await asyncio.to_thread(run)

    async def _write(self, tenant: TenantId, work: Callable[[sqlite3.Connection], object]) -> None:
        def run() -> None:
            with closing(open_writer(self._path(tenant), None)) as connection:
                begin_write(connection)
                work(connection)
                connection.commit()

        with _translated(self._path(tenant)):
            await asyncio.to_thread(run)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise errors.translate(error, path) from None
