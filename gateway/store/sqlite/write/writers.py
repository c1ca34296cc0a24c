"""The threads that write the tenants' files, and the order in which tenants get them.

A tenant has one at a time. With more tenants than threads, those that have written for long of late wait
behind the others, and leave one thread to them. What writes much lets short reads go first. Files are opened
and closed in threads apart, so that a tenant whose file is not open yet does not wait for what others write.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock

from gateway.runtime import threads
from gateway.runtime.fair_seats import FairSeats
from gateway.runtime.scheduling import NICENESS, lower_priority, processors

THREADS = 8  # some of them wait for a worker process
OPENING_THREADS = 2
WORK = 0.0005  # seconds of work between two checks for waiters
MAX_REST = 0.005  # seconds
TURN = 0.002  # seconds of work while another writer waits


class ShortReads:
    """How many reads in threads are under way that have not turned out to be scans. Changed on the event loop
    only; read by writers."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def begin(self) -> None:
        """One more; `end` it."""
        self.count += 1

    def end(self) -> None:
        """One less: it has ended, or turns out to be a scan."""
        self.count -= 1


class FifoSemaphore:
    """Lets a few of the writers' threads work at a time, in the order in which they came.

    All of them want the interpreter's lock and the processor, and the event loop has to get both back each
    time. Beside eight threads that wrote it waited 76 of 125 ms for a processor alone, with one it does not.
    None of them is slower for it: where one has the lock the others stand still anyway. For threads only.
    """

    def __init__(self, at_once: int = 1) -> None:
        self._free = at_once
        self._lock = Lock()
        self._waiters: deque[Lock] = deque()

    @property
    def has_waiters(self) -> bool:
        """Whether a thread waits for it."""
        return bool(self._waiters)

    def acquire(self) -> None:
        """Wait for it."""
        with self._lock:
            if self._free:
                self._free -= 1
                return
            turn = Lock()
            turn.acquire()
            self._waiters.append(turn)
        turn.acquire()  # until `release` lets go of it

    def release(self) -> None:
        """Let the next thread work."""
        with self._lock:
            if self._waiters:
                self._waiters.popleft().release()
            else:
                self._free += 1


class WriterPacing:
    """Paces one group of writes: while there are short reads, it works half of the time, and never longer
    than TURN while another group waits.

    A read asks SQLite for each of its documents, and has to get the interpreter's lock back each time: beside
    threads that always want it that takes longer than the read. now: a clock, and sleep, in seconds.
    """

    __slots__ = ("_now", "_reads", "_semaphore", "_since", "_sleep", "_turn")

    def __init__(
        self,
        reads: ShortReads,
        semaphore: FifoSemaphore,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._reads, self._semaphore, self._now, self._sleep = reads, semaphore, now, sleep
        self._since = self._turn = now()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Around all the work of a group."""
        self._begin()
        try:
            yield
        finally:
            self._semaphore.release()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around what is no work of the thread: the disk's, or a worker process's."""
        self._semaphore.release()
        try:
            yield
        finally:
            self._begin()

    def step(self) -> None:
        """Between two small pieces of work, in the writer's thread."""
        now = self._now()
        worked = now - self._since
        if worked < WORK:
            return
        if self._reads.count:
            self._sleep(min(worked, MAX_REST))  # with the semaphore: no other group shall work
            now = self._now()
        self._since = now
        if self._semaphore.has_waiters and now - self._turn >= TURN:
            with self.waiting():
                pass

    def _begin(self) -> None:
        self._semaphore.acquire()
        self._since = self._turn = self._now()


class Writers:
    """seats: the right to use one of `threads`. short_reads: those that the threads let go first. On the
    event loop only, but for the semaphore, which is the threads'."""

    def __init__(self) -> None:
        self.short_reads = ShortReads()
        self.threads = ThreadPoolExecutor(THREADS, "store-write", lower_priority, (NICENESS,))
        self.opening = ThreadPoolExecutor(OPENING_THREADS, "store-open")
        self.seats = FairSeats("writers of the store", THREADS)
        self.semaphore = FifoSemaphore(max(1, min(THREADS // 2, processors() // 2)))

    async def close(self) -> None:
        """Wait until what they do is done."""
        await threads.shutdown(self.threads)
        await threads.shutdown(self.opening)
