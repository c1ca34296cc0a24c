"""The feeds of a store by tenant: when they are woken, and what they read together.

A tenant with a hundred feeds and a writer at full speed would have each change read, signed and encoded a
hundred times. So its feeds are woken together and not too often (a single one at once), and those that stand
at the same place share one reading.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")
PAUSE = 0.0005  # seconds between two wakes, for each feed of the tenant: about a fifth of the loop's time
MOST = 0.25  # seconds that a change may wait for that


class _Tenant:
    """woken: when its feeds were, by the loop's clock. wake: the wake that is to come."""

    __slots__ = ("feeds", "news", "wake", "woken")

    def __init__(self) -> None:
        self.feeds: set[asyncio.Event] = set()
        self.news = 0
        self.woken = float("-inf")
        self.wake: asyncio.TimerHandle | None = None


class Wakes(Generic[T]):
    """T: what a reading gives. Its methods are called on the event loop only."""

    def __init__(self) -> None:
        self._tenants: dict[str, _Tenant] = {}
        self._reading: dict[tuple[object, ...], asyncio.Task[T]] = {}

    @property
    def tenants(self) -> list[str]:
        """Those that have feeds."""
        return list(self._tenants)

    def join(self, name: str) -> asyncio.Event:
        """A feed of this tenant: set when there may be something new."""
        event = asyncio.Event()
        self._tenants.setdefault(name, _Tenant()).feeds.add(event)
        return event

    def leave(self, name: str, event: asyncio.Event) -> bool:
        """Gives whether it was the tenant's last one."""
        tenant = self._tenants[name]
        tenant.feeds.discard(event)
        if tenant.feeds:
            return False
        if tenant.wake is not None:
            tenant.wake.cancel()
        del self._tenants[name]
        return True

    def notify(self, name: str) -> None:
        """Something was written: wake the feeds of a tenant, now or soon."""
        tenant = self._tenants.get(name)
        if tenant is None or tenant.wake is not None:
            return
        loop = asyncio.get_running_loop()
        due = tenant.woken + min(MOST, PAUSE * (len(tenant.feeds) - 1))
        if due <= loop.time():
            self._wake(tenant)
        else:
            tenant.wake = loop.call_at(due, self._wake, tenant)

    def _wake(self, tenant: _Tenant) -> None:
        tenant.wake = None
        tenant.woken = asyncio.get_running_loop().time()
        tenant.news += 1
        for event in tenant.feeds:
            event.set()

    def wake_all(self) -> None:
        """At once: the store closes."""
        for tenant in self._tenants.values():
            self._wake(tenant)

    async def read(self, name: str, place: tuple[object, ...], work: Coroutine[Any, Any, T]) -> T:
        """Feeds that stand at the same place read together, unless they were woken since the reading began.
        What it gives is the same object for all of them."""
        tenant = self._tenants.get(name)
        key = (name, *place, tenant.news if tenant is not None else -1)
        reading = self._reading.get(key)
        if reading is not None:
            work.close()
        else:
            reading = self._reading[key] = asyncio.get_running_loop().create_task(work)
            reading.add_done_callback(lambda reading: self._read(key, reading))
        return await asyncio.shield(reading)

    def _read(self, key: tuple[object, ...], reading: asyncio.Task[T]) -> None:
        del self._reading[key]
        if not reading.cancelled():
            reading.exception()  # nobody may be left to be told

    async def finish(self) -> None:
        """Until nothing is read any more."""
        if self._reading:
            await asyncio.wait(self._reading.values())
