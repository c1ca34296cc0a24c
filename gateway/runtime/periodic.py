"""Periodic tasks beside the requests (sweeps, watches, polls, ticks) and their error boundary.

A periodic task has no caller that could handle an error, and much depends on it: without the sweep no timeout
fires. So all of them share the one error boundary here. The error boundary of a request is in life.py.
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
_MOST = 100  # different failures that are remembered

T = TypeVar("T")
Sleep = Callable[[float], Awaitable[None]]


class Boundary:
    """A context manager that logs an exception of its block and suppresses it. A cancellation passes through.

    what: names the work in the log. reraises: exceptions that are left to the caller. The same failure (its
    type and the line that raised it) is logged once, until it has not occurred for QUIET seconds; one that
    persists is logged again every REMIND seconds. report(text, error): logs it, instead of this module.
    It may be entered any number of times.
    """

    __slots__ = ("_failures", "_now", "_report", "_reraises", "what")

    def __init__(
        self,
        what: str,
        now: Callable[[], float] = monotonic,
        reraises: tuple[type[Exception], ...] = (),
        report: Callable[[str, Exception], None] | None = None,
    ) -> None:
        self.what = what
        self._report = report or _log
        self._reraises = reraises
        self._now = now
        self._failures: dict[object, _Failure] = {}

    def __enter__(self) -> Boundary:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception) or isinstance(error, self._reraises):
            return False
        self._failed(error)
        return True

    def each(self, items: Iterable[T], work: Callable[[T], None]) -> None:
        """Call work(item) for each item; an exception of one call does not keep the others from theirs."""
        for item in items:
            with self:
                work(item)

    def _failed(self, error: Exception) -> None:
        now, key = self._now(), _raised_at(error)
        failure = self._failures.get(key)
        if failure is None or now - failure.last > QUIET:
            if len(self._failures) >= _MOST:
                self._failures.clear()
            self._failures[key] = _Failure(now)
            self._report(f"A bug in the gateway: {self.what} failed; it goes on", error)
            return
        failure.last = now
        failure.unreported += 1
        if now - failure.reported_at > REMIND:
            self._report(f"{self.what} still fails ({failure.unreported} times more)", error)
            failure.reported_at, failure.unreported = now, 0


class _Failure:
    """A failure that may recur. last, reported_at: when it was seen and logged last. unreported: occurrences
    since then."""

    __slots__ = ("last", "reported_at", "unreported")

    def __init__(self, now: float) -> None:
        self.last = self.reported_at = now
        self.unreported = 0


def _log(text: str, error: Exception) -> None:
    L.error("%s", text, exc_info=error)


def _raised_at(error: Exception) -> object:
    """The type of the error and the line that raised it: what identifies a failure."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return type(error), trace and (trace.tb_frame.f_code, trace.tb_lineno)


class PeriodicTask:
    """Calls a function every so many seconds, for the first time after that time; its errors do not end it.

    seconds: a number, or a function that is asked before each pause. work: a plain function, or one whose
    result is awaited. boundary: catches its errors; work that goes through several items may use it for each
    of them. Either start() and stop(), any number of times, or await run().
    """

    def __init__(
        self,
        what: str,
        seconds: float | Callable[[], float],
        work: Callable[[], Awaitable[None] | None],
        *,
        sleep: Sleep = asyncio.sleep,
        now: Callable[[], float] = monotonic,
    ) -> None:
        self.boundary = Boundary(what, now)
        self._seconds = seconds if callable(seconds) else lambda: seconds
        self._work = work
        self._sleep = sleep
        self._task: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._task is not None and not self._task.done()

    def start(self) -> None:
        """Start it on the running loop, unless it runs already."""
        if not self.running:
            self._task = asyncio.get_running_loop().create_task(self.run(), name=self.boundary.what)

    def cancel(self) -> None:
        """Cancel it; work that is under way is cancelled where it awaits."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def stop(self) -> None:
        """Cancel it and wait until it has ended."""
        task = self._task
        self.cancel()
        if task is not None:
            await asyncio.wait([task])

    async def run(self) -> None:
        """Work periodically until cancelled."""
        while True:
            await self._sleep(self._seconds())
            with self.boundary:
                awaited = self._work()
                if awaited is not None:
                    await awaited
