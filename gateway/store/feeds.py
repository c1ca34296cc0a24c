"""The feeds of a store: what a subscriber of a collection's changes gets, the same for all engines.

A feed reads the log of its engine behind the position where it is, a batch at a time, and then waits until it
is woken: by a commit of this process at once, by one of another process as soon as that is told, or after the
next poll. Now and then a feed without news gives its position alone.

A tenant with a hundred feeds and a writer at full speed would have each change read, signed and encoded a
hundred times. So its feeds are woken together and not too often (a single feed at once), and the feeds that
are at the same position share one read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

from gateway.core.errors import BadRequest, Gone, StoreUnavailable
from gateway.runtime.periodic import Boundary, PeriodicTask
from gateway.store.model.change import Change, Changes, Kind
from gateway.store.model.cursor import Cursors
from gateway.store.model.document import Document

T = TypeVar("T")
POSITION_SECONDS = 60.0  # after so long without a change, a feed gives its position
BATCH = 200  # changes
BATCH_BYTES = 1024 * 1024  # of their documents; a batch ends with the one that passes it
INTERVAL = 0.0005  # seconds between two wakes, for each feed of the tenant: about a fifth of the loop's time
MAX_DELAY = 0.25  # seconds that a change may wait for a wake


@dataclass(frozen=True, slots=True)
class Position:
    """Behind the change of this number. epoch: of the log; a restored one has another. at: as of which
    instant, seconds since the epoch, where the engine needs it."""

    epoch: str
    number: int
    at: float | None = None


class Entry(NamedTuple):
    """A change in the log. document: as it is now, None when it is gone."""

    position: Position
    kind: Kind
    id: str
    etag: str
    at: float
    document: Document | None


class Batch(NamedTuple):
    """The entries behind a position, and the position behind them. more: there are others already."""

    entries: Sequence[Entry]
    position: Position
    more: bool


class EventIds:
    """The event ids of one collection: positions, sealed as cursors are."""

    def __init__(self, cursors: Cursors, collection: str) -> None:
        self._cursors = cursors
        self._scope = "changes", collection

    def seal(self, position: Position) -> str:
        """The event id of the change that the position is behind."""
        at = () if position.at is None else (position.at,)
        return self._cursors.seal(self._scope, [position.epoch, position.number, *at])

    def open(self, event: str) -> Position:
        """The position behind an event. Raises BadRequest for an id that is not of this collection."""
        try:
            return Position(*self._cursors.open(self._scope, event))
        except BadRequest:
            raise BadRequest("The event id is not one of this collection. Begin again without it.") from None


class ChangeLog(Protocol):
    """An engine's log of changes. POLL_NAME, POLL_SECONDS: of the task that calls `poll`."""

    POLL_NAME: ClassVar[str]
    POLL_SECONDS: ClassVar[float]

    def watch(self) -> None:
        """There are feeds from now on. Called for each that opens."""
        ...

    def rest(self) -> None:
        """There are none any more."""
        ...

    async def begin(self, tenant: str, ids: EventIds, after: str | None) -> Position:
        """Where a feed begins: at the end of the log, or behind an event id. Raises BadRequest, Gone when
        what comes there is not kept any more, and NotSupportedByStore."""
        ...

    async def read(self, tenant: str, collection: str, position: Position) -> Batch:
        """What comes behind a position: at most BATCH entries, or BATCH_BYTES. Raises Gone."""
        ...

    async def poll(
        self, tenants: Sequence[str], boundary: Boundary, on_version: Callable[[str, int], None]
    ) -> None:
        """Call on_version with a number that differs whenever the tenant's log may have grown, for each of
        the tenants; the boundary is for errors of a single one."""
        ...

    def wait_seconds(self, tenant: str) -> float:
        """For how long a feed waits to be woken before it reads again, at most POSITION_SECONDS."""
        ...


class _Tenant:
    """The feeds of one tenant. wakes: how often they were woken. woken: when they were last, by the loop's
    clock. timer: of the next wake."""

    __slots__ = ("feeds", "timer", "wakes", "woken")

    def __init__(self) -> None:
        self.feeds: set[asyncio.Event] = set()
        self.wakes = 0
        self.woken = float("-inf")
        self.timer: asyncio.TimerHandle | None = None


class Wakes(Generic[T]):
    """The open feeds of all tenants: when they are woken, and the reads that they share. T: the result of a
    read. All methods are for the event loop only."""

    def __init__(self) -> None:
        self._tenants: dict[str, _Tenant] = {}
        self._reads: dict[tuple[object, ...], asyncio.Task[T]] = {}

    @property
    def tenants(self) -> list[str]:
        """The tenants that have feeds."""
        return list(self._tenants)

    def join(self, name: str) -> asyncio.Event:
        """Add a feed of this tenant; gives an event that is set when there may be something new."""
        event = asyncio.Event()
        self._tenants.setdefault(name, _Tenant()).feeds.add(event)
        return event

    def leave(self, name: str, event: asyncio.Event) -> bool:
        """Remove a feed; gives whether it was the tenant's last one."""
        tenant = self._tenants[name]
        tenant.feeds.discard(event)
        if tenant.feeds:
            return False
        if tenant.timer is not None:
            tenant.timer.cancel()
        del self._tenants[name]
        return True

    def notify(self, name: str) -> None:
        """Something was written: wake the feeds of a tenant, now or soon."""
        tenant = self._tenants.get(name)
        if tenant is None or tenant.timer is not None:
            return
        loop = asyncio.get_running_loop()
        due = tenant.woken + min(MAX_DELAY, INTERVAL * (len(tenant.feeds) - 1))
        if due <= loop.time():
            self._wake(tenant)
        else:
            tenant.timer = loop.call_at(due, self._wake, tenant)

    def _wake(self, tenant: _Tenant) -> None:
        tenant.timer = None
        tenant.woken = asyncio.get_running_loop().time()
        tenant.wakes += 1
        for event in tenant.feeds:
            event.set()

    def wake_all(self) -> None:
        """Wake all feeds at once: the store closes."""
        for tenant in self._tenants.values():
            self._wake(tenant)

    async def read(self, name: str, position: tuple[object, ...], work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, which reads what is behind a position of a tenant. Feeds at the same position
        share one read, and get the same object, unless they were woken since it began."""
        tenant = self._tenants.get(name)
        key = (name, *position, tenant.wakes if tenant is not None else -1)
        read = self._reads.get(key)
        if read is not None:
            work.close()
        else:
            read = self._reads[key] = asyncio.get_running_loop().create_task(work)
            read.add_done_callback(lambda read: self._read_done(key, read))
        return await asyncio.shield(read)

    def _read_done(self, key: tuple[object, ...], read: asyncio.Task[T]) -> None:
        del self._reads[key]
        if not read.cancelled():
            read.exception()  # marks it as retrieved: all feeds that shared it may be gone

    async def finish(self) -> None:
        """Wait until no read is under way."""
        if self._reads:
            await asyncio.wait(self._reads.values())


class _Reading(NamedTuple):
    """A batch as all feeds give it that were at the same position."""

    changes: Changes
    position: Position
    more: bool


class Feeds:
    """The feeds of a store. Its methods are called on the event loop only."""

    def __init__(self, log: ChangeLog) -> None:
        self._log = log
        self._wakes: Wakes[_Reading] = Wakes()
        self._versions: dict[str, int] = {}
        self._poller = PeriodicTask(log.POLL_NAME, log.POLL_SECONDS, self._poll)
        self._closed = False

    def notify(self, tenant: str) -> None:
        """Wake the feeds of a tenant."""
        self._wakes.notify(tenant)

    async def close(self) -> None:
        """End every feed, with StoreUnavailable."""
        self._closed = True
        self._wakes.wake_all()
        await self._wakes.finish()
        await self._poller.stop()

    async def changes(
        self, tenant: str, collection: str, cursors: Cursors, after: str | None
    ) -> AsyncGenerator[Changes, None]:
        """See port.TenantStore.changes."""
        ids = EventIds(cursors, collection)
        self._require_open()
        position = await self._log.begin(tenant, ids, after)
        yield Changes((), ids.seal(position))
        event = self._join(tenant)
        try:
            given = time.monotonic()
            while True:
                event.clear()
                reading = await self._read(tenant, collection, ids, position)
                changes, position, more = reading
                del reading
                if changes.items or time.monotonic() - given > POSITION_SECONDS:
                    yield changes
                    given = time.monotonic()
                del changes  # they may be large, and the next ones may be long in coming
                if not more:
                    await self._wait(tenant, event)
        finally:
            self._leave(tenant, event)

    async def _read(self, tenant: str, collection: str, ids: EventIds, position: Position) -> _Reading:
        self._require_open()
        key = collection, position.epoch, position.number
        return await self._wakes.read(tenant, key, self._read_log(tenant, collection, ids, position))

    def _require_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("The document store is closing.")

    async def _read_log(self, tenant: str, collection: str, ids: EventIds, position: Position) -> _Reading:
        batch = await self._log.read(tenant, collection, position)
        items = tuple(Change(ids.seal(entry.position), *entry[1:]) for entry in batch.entries)
        return _Reading(Changes(items, ids.seal(batch.position)), batch.position, batch.more)

    async def _wait(self, tenant: str, event: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(self._log.wait_seconds(tenant)):
                await event.wait()
        except TimeoutError:
            pass

    def _join(self, tenant: str) -> asyncio.Event:
        self._poller.start()
        self._log.watch()
        return self._wakes.join(tenant)

    def _leave(self, tenant: str, event: asyncio.Event) -> None:
        if self._wakes.leave(tenant, event):
            self._versions.pop(tenant, None)
            if not self._wakes.tenants:
                self._log.rest()

    async def _poll(self) -> None:
        """Wake the feeds of those tenants in whose logs another process has written."""
        tenants = sorted(self._wakes.tenants)
        if tenants:
            await self._log.poll(tenants, self._poller.boundary, self._on_version)

    def _on_version(self, tenant: str, version: int) -> None:
        if self._versions.get(tenant) != version:
            self._versions[tenant] = version
            self.notify(tenant)


def gone() -> Gone:
    """The error of a position behind which something is missing."""
    return Gone("The changes behind this event are not kept any more. Read the collection, and begin anew.")
