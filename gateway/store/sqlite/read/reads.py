"""Reads of the tenants' files: small documents on the event loop, everything else in reader threads.

A reader thread works while its read has a seat (runtime/fair_seats.py), in slices: where SQLite asks whether
it may continue, a read whose slice is over lets the others have theirs, and its thread sleeps with all that
it has found. So a page waits for a slice of a long scan and never for the scan, whoever asked for it.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future
from contextlib import contextmanager
from threading import Event, Lock
from typing import Any, TypeVar

from gateway.core.errors import StoreUnavailable
from gateway.runtime.fair_seats import FairSeats, Seat
from gateway.runtime.processes import memory
from gateway.runtime.processes.pool import JobTooCostly
from gateway.store.filter import regex
from gateway.store.json.large import Jobs
from gateway.store.model import instants
from gateway.store.model.document import Document
from gateway.store.sqlite import documents, errors
from gateway.store.sqlite.files.open_files import Files, TenantFile
from gateway.store.sqlite.read.matching import Asked, Matching, Verdicts, match_each
from gateway.store.sqlite.read.statement import this_thread
from gateway.store.sqlite.write.writers import ShortReads

T = TypeVar("T")

# Of SQLite's virtual machine, between two calls of the progress handler: some 0.1 ms over small documents,
# and over those that are just not large (json/large.py) some 10 ms.
STEPS = 1000
_LARGE = Lock()
_REST = 2.0  # seconds behind a scan, after which the memory that scans freed goes back to the system


class Reading:
    """One read in a thread, and when it pauses or ends. seat: for its first slice. scans: the seats for the
    others. short: where it counts until it turns out to be a scan. seconds: after how long it is given up.
    jobs: of worker processes. cancel() and end() are called on the event loop, the others by the thread."""

    def __init__(self, seat: Seat, scans: FairSeats, short: ShortReads, seconds: float, jobs: Jobs) -> None:
        self.matching = Matching(self._match_each)
        self._jobs = jobs
        self._job: Future[Verdicts] | None = None
        self._seat = seat
        self._scans = scans
        self._short = short
        self._is_short = True
        short.begin()
        self._loop = asyncio.get_running_loop()
        self._until = time.monotonic() + seconds
        self._resumed = Event()
        self._exclusive = False
        self._worked = 0.0  # seconds of processor time of its thread, when it last took up work
        self._used = 0.0
        self._cancelled = self._ended = False
        self.is_large = False  # its statements are nothing to be kept

    def begin_large(self) -> None:
        """Before SQLite prepares a large statement, which takes milliseconds and megabytes and cannot be laid
        down in the middle: it counts as a scan from the beginning. Raises as step does."""
        self.is_large = True
        if self._is_short:
            self._let_others()
        if self.should_interrupt():
            raise errors.interrupted()

    def should_interrupt(self) -> bool:
        """SQLite's progress handler: true ends the statement."""
        if self._cancelled or time.monotonic() > self._until:
            return True
        if self._exclusive:
            return False
        if self._seat.is_over if self._is_short else self._seat.due:
            self._let_others()
        return self._cancelled

    def step(self) -> None:
        """Between two steps of work in Python: the event loop and the other reads go first. Raises
        sqlite3.OperationalError, as an interrupted statement does, when it is to end."""
        time.sleep(0)  # lets go of the interpreter's lock, for which the event loop would else wait 5 ms
        if self.should_interrupt():
            raise errors.interrupted()

    @contextmanager
    def exclusively(self) -> Iterator[None]:
        """Around work on one large document. Nobody else does that at the time, for the memory that it takes,
        and it is not laid down in the middle; so it counts as a scan from the beginning, and others go first.
        """
        if self._is_short or self._seat.due:
            self._let_others()
        with _LARGE:
            self._exclusive = True
            try:
                yield
            finally:
                self._exclusive = False

    def of_one(self, ask: Callable[[], Any]) -> Any:
        """See Matching.of_one."""
        return self.matching.of_one(ask)

    def _match_each(self, asked: Asked) -> Verdicts:
        """By a worker process, with the time that is left; others have the seat meanwhile. Raises
        sqlite3.OperationalError, as an interrupted statement does, and what Jobs.submit raises."""
        left = self._until - time.monotonic()
        if left <= 0 or self._cancelled:
            raise errors.interrupted()
        self.pause()
        self._loop.call_soon_threadsafe(self._leave)
        job = self._job = self._jobs.submit(self._seat.key, left, match_each, asked)
        if self._cancelled:
            job.cancel()
        try:
            return job.result(left)
        except (TimeoutError, CancelledError, JobTooCostly):
            job.cancel()
            raise errors.interrupted() from None
        finally:
            self._job = None
            self._resumed.clear()
            self._loop.call_soon_threadsafe(self._come_back)
            self._resumed.wait(max(0.0, self._until - time.monotonic()))
            self.begin()

    def begin(self) -> None:
        """The thread takes up work."""
        self._worked = time.thread_time()

    def pause(self) -> None:
        """It lays it down. Charged is what it worked: not that it waited for a processor or the lock."""
        self._used = time.thread_time() - self._worked

    def _let_others(self) -> None:
        self.pause()
        self._resumed.clear()
        self._loop.call_soon_threadsafe(self._park)
        self._resumed.wait(max(0.0, self._until - time.monotonic()))
        self.begin()

    def _park(self) -> None:
        if self._cancelled or not self._seat.held:
            self._resumed.set()
        elif self._is_short:  # it turns out to be a scan
            self._leave()
            self._seat.park(self._resumed.set)
        else:
            self._seat.park(self._resumed.set, self._used)

    def _leave(self) -> None:
        """Let go of the seat until it is parked for again. What is not short any more has one for scans."""
        self._seat.release(self._used)
        if self._is_short:
            self._is_short = False
            self._short.end()
            self._seat = self._scans.unheld(self._seat.key, self._seat.weight)

    def _come_back(self) -> None:
        if self._cancelled or self._ended:
            self._resumed.set()
        else:
            self._seat.park(self._resumed.set)

    def cancel(self) -> None:
        """Nobody waits for it any more: it ends when SQLite asks next. It keeps its seat until then."""
        self._cancelled = True
        self._resumed.set()
        if (job := self._job) is not None:
            job.cancel()

    @property
    def elsewhere(self) -> Callable[[str, str], bool] | None:
        """See regex.Here."""
        return self.matching.search if self._jobs.has_workers else None

    @property
    def was_scan(self) -> bool:
        """Whether it took more than its first slice."""
        return not self._is_short

    def end(self) -> None:
        """Release the seat."""
        self._ended = True
        if self._is_short:
            self._short.end()
        self._seat.release(self._used)


class Use:
    """Whether a thread uses something, as the event loop knows it."""

    def __init__(self) -> None:
        self._used = False
        self._then: Callable[[], None] | None = None

    def begin(self) -> None:
        """A thread begins to use it."""
        self._used = True

    def end(self) -> None:
        """The thread has ended."""
        self._used = False
        if self._then is not None:
            self._then()

    def when_free(self, then: Callable[[], None]) -> None:
        """Call it once no thread uses it."""
        self._then = then
        if not self._used:
            then()


class Reads:
    """threads: enough for all that may have begun. processors: how many there are. query_seconds: after how
    long a query is given up.

    seats: for the first slice of every read, so that what is short never waits for a scan. scans: for the
    other slices; with few processors one at a time, so that the event loop finds one.
    """

    def __init__(self, files: Files, threads: Executor, processors: int, query_seconds: float) -> None:
        self._files = files
        self._threads = threads
        self.seats = FairSeats("readers of the store", max(2, min(4, processors)))
        scans = max(1, min(8, processors // 2))
        self.scans = FairSeats("readers of the store", scans, reserve=scans // 4)
        self._query_seconds = query_seconds
        self._running: set[Reading] = set()
        self._giving_back: asyncio.TimerHandle | None = None
        self._closed = False

    def read_inline(self, name: str, collection: str, identifier: str) -> tuple[bool, Document | None]:
        """Whether that settles it, and the document. Never waits; blocks for microseconds.

        Not settled: the file is not open, the document is large, or a lock is held. Raises
        StoreUnavailable.
        """
        file = self._files.get(name)
        if file is None:
            return False, None
        try:
            return documents.read_small(file.inline, collection, identifier, time.time())
        except sqlite3.Error as error:
            if errors.primary_code(error) == sqlite3.SQLITE_BUSY:
                return False, None
            raise self._failure(error, file) from None

    async def read_in_thread(
        self, name: str, collection: str, identifier: str, weight: float
    ) -> Document | None:
        """A document, where read_inline does not settle it. Raises as query does."""
        now = instants.now()
        return await self.query(
            name, lambda connection: documents.read(connection, collection, identifier, now), weight
        )

    async def query(self, name: str, work: Callable[[sqlite3.Connection], T], weight: float = 1.0) -> T:
        """Run `work` in a reader thread. It ends when the caller is cancelled. Raises TenantQueueFull,
        StoreSaturated, StoreUnavailable, and QueryTooSlow past the deadline."""
        return await self.query_in_steps(name, lambda connection, reading: work(connection), weight)

    async def query_in_steps(
        self, name: str, work: Callable[[sqlite3.Connection, Reading], T], weight: float = 1.0
    ) -> T:
        """The same for work that also takes long in Python: it calls Reading.step now and then."""
        file = await self._files.acquire(name)
        try:
            return await (await self.begin(file, lambda reading: self._run(file, work, reading), weight))
        except sqlite3.Error as error:
            raise self._failure(error, file) from None

    async def begin(
        self, file: TenantFile, work: Callable[[Reading], T], weight: float = 1.0, use: Use | None = None
    ) -> asyncio.Future[T]:
        """Begin work on a file in a reader thread, when the tenant's turn has come. The file, which has been
        acquired, is released when the work ends; cancelling the future ends the work too, a little later.
        use: what is used until then.

        Raises TenantQueueFull (429), and StoreSaturated where others are in the way.
        """
        try:
            seat = await self._turn(file, weight)
        except BaseException:
            self._files.release(file)
            raise
        if self._closed:
            seat.release()
            file.end_query()
            self._files.release(file)
            raise _closing()
        use = use or Use()
        use.begin()
        short = self._files.writers.short_reads
        reading = Reading(seat, self.scans, short, self._query_seconds, self._files.jobs)
        self._running.add(reading)
        running = asyncio.get_running_loop().run_in_executor(self._threads, _timed, work, reading)

        def end(running: asyncio.Future[T]) -> None:
            if not running.cancelled():
                running.exception()  # its caller may be gone
            self._running.discard(reading)
            reading.end()
            if reading.was_scan:
                self._give_back_soon()
            use.end()
            file.end_query()
            self._files.release(file)

        running.add_done_callback(end)
        waited: asyncio.Future[T] = asyncio.shield(running)
        waited.add_done_callback(lambda waited: reading.cancel() if waited.cancelled() else None)
        return waited

    async def _turn(self, file: TenantFile, weight: float) -> Seat:
        """A seat for one more of the tenant's reads, which it gets when few of its own have begun."""
        await file.begin_query(self._query_seconds)
        try:
            return await self.seats.take(file.path.stem, weight, max(self._query_seconds, 1.0))
        except BaseException:
            file.end_query()
            raise

    def close(self) -> None:
        """End what runs; nothing more begins."""
        self._closed = True
        if self._giving_back is not None:
            self._giving_back.cancel()
        for reading in self._running:
            reading.cancel()

    def _give_back_soon(self) -> None:
        """Once no scan is under way."""
        if self._giving_back is None and not self._closed:
            self._giving_back = asyncio.get_running_loop().call_later(_REST, self._give_back)

    def _give_back(self) -> None:
        self._giving_back = None
        if self.scans.fair.inside or self.scans.waiting:
            self._give_back_soon()
        else:
            self._threads.submit(memory.return_free)

    def _run(self, file: TenantFile, work: Callable[[sqlite3.Connection, Reading], T], reading: Reading) -> T:
        connection = file.take_reader()
        try:
            connection.set_progress_handler(reading.should_interrupt, STEPS)
            return work(connection, reading)
        finally:
            connection.set_progress_handler(None, 0)
            if reading.is_large:
                connection.close()
            else:
                file.give_reader(connection)

    def _failure(self, error: sqlite3.Error, file: TenantFile) -> Exception:
        if self._closed and errors.primary_code(error) == sqlite3.SQLITE_INTERRUPT:
            return _closing()
        if errors.is_broken(error):
            self._files.detach(file)
        return errors.translate(error, file.path)


def _timed(work: Callable[[Reading], T], reading: Reading) -> T:
    reading.begin()
    this_thread.serve(reading)
    regex.delegate(reading.elsewhere)
    try:
        return work(reading)
    except sqlite3.Error:
        if reading.matching.failed is not None:
            raise reading.matching.failed from None
        raise
    finally:
        this_thread.serve(None)
        regex.delegate(None)
        reading.pause()


def _closing() -> StoreUnavailable:
    return StoreUnavailable("The document store is closing.")
