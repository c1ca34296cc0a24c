"""The exchange of a process with whoever keeps the books: one round trip for all parts, one at a time.

What serves requests never waits for it, with one exception: where a call would be refused because the book
was not asked yet, it may wait for the answer (`wait`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import Protocol

from gateway.core.shared.ports import Away, Body, Part
from gateway.runtime.periodic import Boundary

PACE = 0.01  # the least time between two that nobody waits for


class Engine(Protocol):
    """Where the books are."""

    async def exchange(self, reports: dict[str, Body]) -> dict[str, Body]:
        """The grants for the reports, by the name of the part; a part that is not there has no book. One
        round trip. Raises Away."""
        ...


class Exchange:
    """start() once, on the running loop; stop() once.

    away: why the books could not be asked the last time, "" when they could.
    """

    def __init__(self, engine: Engine, now: Callable[[], float] = monotonic) -> None:
        self.away = ""
        self._engine = engine
        self._now = now
        self._parts: list[Part] = []
        self._wanted = asyncio.Event()
        self._hurried = asyncio.Event()
        self._waiters: list[asyncio.Future[None]] = []
        self._task: asyncio.Task[None] | None = None
        self._boundary = Boundary("the exchange of what processes share", now)

    def add(self, part: Part) -> None:
        """Another part; before `start`."""
        self._parts.append(part)

    def start(self) -> None:
        """Begin, on the running loop."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name=self._boundary.what)

    async def stop(self) -> None:
        """Tell a last time what was used, and end."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            with self._boundary:
                await self.once()

    def kick(self) -> None:
        """Something is short: ask soon."""
        self._wanted.set()

    def wait(self) -> asyncio.Future[None]:
        """Ask at once. Done after an exchange that began after this, whatever came of it."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._hurried.set()
        self._wanted.set()
        return waiter

    async def once(self) -> None:
        """One exchange."""
        waiters, self._waiters = self._waiters, []
        self._wanted.clear()
        self._hurried.clear()
        try:
            await self._exchange()
        finally:
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    async def _exchange(self) -> None:
        now = self._now()
        told: list[Part] = []
        reports = {}
        for part in self._parts:
            report = part.report(now)
            if report is not None:
                reports[part.name] = report
                told.append(part)
        if not reports:
            return
        grants = None
        try:
            grants = await self._engine.exchange(reports)
            self.away = ""
        except Away as away:
            self.away = str(away) or "it does not respond"
        finally:
            now = self._now()
            for part in told:
                with self._boundary:
                    if grants is not None and part.name in grants:
                        part.granted(grants[part.name], now)
                    else:
                        part.lost(now)

    async def _run(self) -> None:
        while True:
            due = _least([part.due(self._now()) for part in self._parts])
            await _at_most(self._wanted, due)
            if due is None or due < PACE or self._wanted.is_set():
                await _at_most(self._hurried, PACE)
            with self._boundary:
                await self.once()


async def _at_most(event: asyncio.Event, seconds: float | None) -> None:
    """Wait for an event, at most so long; None: as long as it takes."""
    if event.is_set():
        return
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def _least(times: Sequence[float | None]) -> float | None:
    known = [time for time in times if time is not None]
    return max(0.001, min(known)) if known else None
