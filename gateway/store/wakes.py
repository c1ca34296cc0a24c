"""The open feeds of a store, by tenant: when they are woken, and the reads that they share.

A tenant with a hundred feeds and a writer at full speed would have each change read, signed and encoded a
hundred times. So its feeds are woken together and not too often (a single feed at once), and the feeds that
are at the same position share one read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")
INTERVAL = 0.0005  # seconds between two wakes, for each feed of the tenant: about a fifth of the loop's time
MAX_DELAY = 0.25  # seconds that a change may wait for a wake


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
    """The feeds of all tenants. T: the result of a read. All methods are for the event loop only."""

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
