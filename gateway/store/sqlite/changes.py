"""Feeds of changes. A commit of this process wakes its tenant's feeds at once; what other processes commit is
seen by asking SQLite, which costs a microsecond a file, every POLL_SECONDS.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from gateway.core.errors import BadRequest, Gone, StoreUnavailable
from gateway.runtime.periodic import PeriodicTask
from gateway.store.model.change import Change, Changes
from gateway.store.model.cursor import Cursors
from gateway.store.model.document import Document
from gateway.store.sqlite import documents
from gateway.store.sqlite.files.open_files import Files
from gateway.store.sqlite.read.reads import Reads
from gateway.store.sqlite.write.transaction import KINDS
from gateway.store.wakes import Wakes

POLL_SECONDS = 0.025
CLOSED_POLL_SECONDS = 1.0  # while the tenant's file is not open here, a feed opens it this often
POSITION_SECONDS = 60.0  # after so long without a change, a feed tells how far it has come
BATCH = 200
BATCH_BYTES = 1024 * 1024

# Apart, because SQLite reads the whole table for a minimum and a maximum together.
_EDGES = """
    SELECT ifnull((SELECT min(seq) FROM changes), 1), ifnull((SELECT max(seq) FROM changes), 0),
        (SELECT value FROM meta WHERE name = 'epoch')"""
_READ = """
    SELECT seq, kind, id, tag, at FROM changes WHERE seq > ? AND seq <= ? AND collection = ?
    ORDER BY seq LIMIT ?"""


@dataclass(frozen=True, slots=True)
class _Batch:
    """Changes with their seq, and up to which seq there are no others."""

    epoch: str
    items: tuple[tuple[int, Change], ...]
    until: int
    more: bool


@dataclass(frozen=True, slots=True)
class _Sealed:
    """A batch as all feeds give it that stand where it began."""

    epoch: str
    changes: Changes
    until: int
    more: bool


class Feeds:
    """The feeds of a store. Its methods are called on the event loop only."""

    def __init__(self, files: Files, reads: Reads) -> None:
        self._files = files
        self._reads = reads
        self._wakes: Wakes[_Sealed | None] = Wakes()
        self._versions: dict[str, int] = {}
        self._poller = PeriodicTask("looking for what other processes wrote", POLL_SECONDS, self._poll)
        self._closed = False

    def notify(self, name: str) -> None:
        """Wake the feeds of a tenant."""
        self._wakes.notify(name)

    async def close(self) -> None:
        """End every feed, with StoreUnavailable."""
        self._closed = True
        self._wakes.wake_all()
        await self._wakes.finish()
        await self._poller.stop()

    async def changes(
        self, name: str, collection: str, cursors: Cursors, after: str | None
    ) -> AsyncGenerator[Changes, None]:
        """See port.TenantStore.changes."""
        scope = ("changes", collection)
        epoch, seq = await self._begin(name, scope, cursors, after)
        yield Changes((), cursors.seal(scope, [epoch, seq]))
        event = self._join(name)
        try:
            told = time.monotonic()
            while True:
                event.clear()
                sealed = await self._read(name, collection, epoch, seq, cursors)
                seq, more, changes = sealed.until, sealed.more, sealed.changes
                del sealed
                if changes.items or time.monotonic() - told > POSITION_SECONDS:
                    yield changes
                    told = time.monotonic()
                del changes  # they may be large, and the next ones come who knows when
                if not more:
                    await self._wait(name, event)
        finally:
            self._leave(name, event)

    async def _begin(
        self, name: str, scope: tuple[str, ...], cursors: Cursors, after: str | None
    ) -> tuple[str, int]:
        first, last, epoch = await self._reads.query(name, _edges)
        if after is None:
            return epoch, last
        try:
            of_epoch, seq = cursors.open(scope, after)
        except BadRequest:
            raise BadRequest("The event id is not one of this collection. Begin again without it.") from None
        if of_epoch != epoch or not first - 1 <= seq <= last:
            raise _gone()
        return epoch, seq

    async def _read(self, name: str, collection: str, epoch: str, seq: int, cursors: Cursors) -> _Sealed:
        if self._closed:
            raise StoreUnavailable("The document store is closing.")
        work = self._read_sealed(name, collection, seq, cursors)
        sealed = await self._wakes.read(name, (collection, seq), work)
        if sealed is None or sealed.epoch != epoch:
            raise _gone()
        return sealed

    async def _read_sealed(self, name: str, collection: str, seq: int, cursors: Cursors) -> _Sealed | None:
        batch = await self._reads.query(name, lambda connection: _read_batch(connection, collection, seq))
        return None if batch is None else _seal(batch, cursors, ("changes", collection))

    async def _wait(self, name: str, event: asyncio.Event) -> None:
        seconds = POSITION_SECONDS if self._files.is_open(name) else CLOSED_POLL_SECONDS
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            pass

    def _join(self, name: str) -> asyncio.Event:
        self._poller.start()
        return self._wakes.join(name)

    def _leave(self, name: str, event: asyncio.Event) -> None:
        if self._wakes.leave(name, event):
            self._versions.pop(name, None)

    def _poll(self) -> None:
        """Wake the feeds of those tenants whose files another process has written."""
        self._poller.boundary.each(self._wakes.tenants, self._ask)

    def _ask(self, name: str) -> None:
        version = self._files.data_version(name)
        if version is not None and version != self._versions.get(name):
            self._versions[name] = version
            self.notify(name)


def _edges(connection: sqlite3.Connection) -> tuple[int, int, str]:
    """The first and the last seq that are kept, and the epoch."""
    first, last, epoch = connection.execute(_EDGES).fetchone()
    return first, last, epoch


def _read_batch(connection: sqlite3.Connection, collection: str, seq: int) -> _Batch | None:
    """What comes after seq; None when some of it is not kept any more."""
    connection.execute("BEGIN")
    try:
        first, last, epoch = _edges(connection)
        if not first - 1 <= seq <= last:
            return None
        rows = connection.execute(_READ, (seq, last, collection, BATCH)).fetchall()
        items: list[tuple[int, Change]] = []
        size = 0
        for number, kind, identifier, tag, at in rows:
            document: Document | None = None
            if KINDS[kind] in ("created", "updated"):
                document = documents.read(connection, collection, identifier, time.time())
            size += document.size if document else 0
            items.append((number, Change("", KINDS[kind], identifier, tag, at, document)))
            if size > BATCH_BYTES:
                break
    finally:
        connection.execute("ROLLBACK")
    more = len(items) < len(rows) or len(rows) == BATCH
    return _Batch(epoch, tuple(items), items[-1][0] if more else last, more)


def _seal(batch: _Batch, cursors: Cursors, scope: tuple[str, ...]) -> _Sealed:
    items = []
    for seq, change in batch.items:
        event = cursors.seal(scope, [batch.epoch, seq])
        items.append(Change(event, change.kind, change.id, change.etag, change.at, change.document))
    changes = Changes(tuple(items), cursors.seal(scope, [batch.epoch, batch.until]))
    return _Sealed(batch.epoch, changes, batch.until, batch.more)


def _gone() -> Gone:
    return Gone("The changes behind this event are not kept any more. Read the collection, and begin anew.")
