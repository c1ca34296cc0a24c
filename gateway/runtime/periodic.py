"""Work that is done again and again beside the requests: sweeps, watches, polls, ticks.

Such work has no caller to be told of an error, and all depends on its going on: with a sweep ends every
time-out. So there is one error boundary for all of it, here. A request's own is in life.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from time import monotonic
from types import TracebackType
from typing import TypeVar

L = logging.getLogger(__name__)
QUIET = 60.0  # seconds without a failure, after which the same one is news again
REMIND = 600.0  # seconds between two lines about one that never ends
_MOST = 100  # kinds of failure that are told apart

T = TypeVar("T")
Sleep = Callable[[float], Awaitable[None]]


class Boundary:
    """Logs a bug in what runs inside and goes on, as often as it is entered. A cancellation passes.

    what: names the work in the log. passes: errors that are the caller's to catch. The same failure (its
    kind and the place where it was raised) is logged once, until it has been away for QUIET seconds; one that
    stays is told again every REMIND seconds. report(text, error): logs it, where not here.
    """

    __slots__ = ("_now", "_passes", "_report", "_seen", "what")

    def __init__(
        self,
        what: str,
        now: Callable[[], float] = monotonic,
        passes: tuple[type[Exception], ...] = (),
        report: Callable[[str, Exception], None] | None = None,
    ) -> None:
        self.what = what
        self._report = report or _log
        self._passes = passes
        self._now = now
        self._seen: dict[object, _Burst] = {}

    def __enter__(self) -> Boundary:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception) or isinstance(error, self._passes):
            return False
        self._failed(error)
        return True

    def each(self, items: Iterable[T], work: Callable[[T], None]) -> None:
        """Do it for each of them; one that fails keeps it from no other."""
        for item in items:
            with self:
                work(item)

    def _failed(self, error: Exception) -> None:
        now, key = self._now(), _place(error)
        burst = self._seen.get(key)
        if burst is None or now - burst.last > QUIET:
            if len(self._seen) >= _MOST:
                self._seen.clear()
            self._seen[key] = _Burst(now)
            self._report(f"A bug in the gateway: {self.what} failed; it goes on", error)
            return
        burst.last = now
        burst.count += 1
        if now - burst.told > REMIND:
            self._report(f"{self.what} still fails ({burst.count} times more)", error)
            burst.told, burst.count = now, 0


class _Burst:
    """One failure that comes again and again. count: of those that were not told."""

    __slots__ = ("count", "last", "told")

    def __init__(self, now: float) -> None:
        self.last = self.told = now
        self.count = 0


def _log(text: str, error: Exception) -> None:
    L.error("%s", text, exc_info=error)


def _place(error: Exception) -> object:
    """What makes a failure the same as another."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return type(error), trace and (trace.tb_frame.f_code, trace.tb_lineno)


class Periodic:
    """A round every so many seconds, the first one after that time; none ends it by failing.

    round: a plain function, or one whose result is awaited. boundary: also for the items of a round, which
    must not keep each other from their turn. start() and stop() as often as wanted; or await run().
    """

    def __init__(
        self,
        what: str,
        seconds: float,
        round: Callable[[], Awaitable[None] | None],
        *,
        sleep: Sleep = asyncio.sleep,
        now: Callable[[], float] = monotonic,
    ) -> None:
        self.boundary = Boundary(what, now)
        self._seconds = seconds
        self._round = round
        self._sleep = sleep
        self._task: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        return self._task is not None and not self._task.done()

    def start(self) -> None:
        """Begin, on the running loop, unless it runs."""
        if not self.running:
            self._task = asyncio.get_running_loop().create_task(self.run(), name=self.boundary.what)

    def cancel(self) -> None:
        """End it; a round that is under way is cut where it waits."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def stop(self) -> None:
        """End it, and return when nothing of it runs any more."""
        task = self._task
        self.cancel()
        if task is not None:
            await asyncio.wait([task])

    async def run(self) -> None:
        """Rounds until cancelled."""
        while True:
            await self._sleep(self._seconds)
            with self.boundary:
                work = self._round()
                if work is not None:
                    await work
