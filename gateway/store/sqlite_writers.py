"""The threads that write the tenants' files, and who gets them.

A tenant has one at a time. With more tenants than threads, those that have written for long of late wait
behind the others, and leave one thread to them. What writes much lets short reads go first. Files are opened
and closed in threads apart, so that a tenant whose file is not open yet does not wait for what others write.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from gateway import threads
from gateway.fair_seats import FairSeats
from gateway.scheduling import give_way

NICER = 5  # than the event loop are the threads that read and write
THREADS = 8  # some of them wait for a worker process
OPENING_THREADS = 2
WORK = 0.0005  # seconds of work between two looks at who waits
MAX_REST = 0.005  # seconds


class ShortReads:
    """How many reads in threads are under way that have not turned out to be scans. Changed on the event loop
    only; writers look at it."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class Manners:
    """Those of one group of writes: while there are short reads, it works half of the time.

    A read asks SQLite for each of its documents, and has to get the interpreter's lock back each time: beside
    threads that always want it that takes longer than the read. now: a clock, and sleep, in seconds.
    """

    __slots__ = ("_now", "_reads", "_since", "_sleep")

    def __init__(
        self,
        reads: ShortReads,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._reads, self._now, self._sleep = reads, now, sleep
        self._since = now()

    def step(self) -> None:
        """Between two small pieces of work, in the writer's thread."""
        now = self._now()
        worked = now - self._since
        if worked < WORK:
            return
        if self._reads.count:
            self._sleep(min(worked, MAX_REST))
            now = self._now()
        self._since = now


class Writers:
    """seats: the right to use one of `threads`. short_reads: those that the threads let go first. On the
    event loop only."""

    def __init__(self) -> None:
        self.short_reads = ShortReads()
        self.threads = ThreadPoolExecutor(THREADS, "store-write", give_way, (NICER,))
        self.opening = ThreadPoolExecutor(OPENING_THREADS, "store-open")
        self.seats = FairSeats("writers of the store", THREADS)

    async def close(self) -> None:
        """Wait until what they do is done."""
        await threads.end(self.threads)
        await threads.end(self.opening)
