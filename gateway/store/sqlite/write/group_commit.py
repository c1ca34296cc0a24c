"""Group commit: the writes of one tenant that arrive together share one transaction and one fsync.

Each operation has a savepoint of its own, so one that fails leaves the others as they are. No write has a
result before COMMIT has returned.

A group has a writer's seat. The writers are shared by all tenants, each of whom has one at most; a tenant
with long groups waits for the others when there are more tenants than writers, and leaves them a reserve.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

from gateway.core.errors import GatewayError, InternalError, StoreUnavailable, forget_traces
from gateway.runtime.fair_seats import Seat
from gateway.store.model.write import NO_QUOTA
from gateway.store.port import Moved
from gateway.store.sqlite import errors
from gateway.store.sqlite.files.connections import begin_write, limit_size
from gateway.store.sqlite.write.state import States
from gateway.store.sqlite.write.transaction import Operation, Transaction
from gateway.store.sqlite.write.writers import FifoSemaphore, ShortReads, WriterPacing, Writers

_log = logging.getLogger(__name__)

MAX_GROUP = 128
# A group that has gone on for so long ends with the operation that it is at; what is left of it comes next.
# So writers change tenants often, and no tenant's group is long by its many operations.
GROUP_SECONDS = 0.05
MAX_WAITING = 4096
# How large a tenant's file may be, by its quota of bytes of documents. Small documents in many indexes take
# some ten times their size.
FILE_FACTOR, FILE_BYTES = 16, 64 * 1024 * 1024
# Where the log is full: how long writes wait for readers at most, and how long between two checks.
LOG_SECONDS, LOG_PAUSE = 15.0, 0.05
_WAIT = 7 * 86400.0  # seconds: a write that was taken is never given up for want of a writer


@dataclass(slots=True)
class Settled:
    """What became of an operation: its result, or the error to raise where it is awaited."""

    result: Any = None
    error: GatewayError | None = None


@dataclass(slots=True)
class Group:
    """What became of a group, or of those operations of it that there was time for: one at least, and none
    where the log is full. changed: whether feeds have something to read."""

    settled: list[Settled]
    changed: bool = False
    is_log_full: bool = False


class Writes:
    """The queue of writes of one file. Its methods are called on the event loop only.

    busy: whether a write is not settled; on_idle: called when none is any more. on_broken: called when
    the file should be let go. on_changed: called after a commit that feeds have something to read of;
    on_committed: the same before that, in the writer thread.
    on_log_full: called when the log has more than max_log bytes beside those of the file: whoever reads it
    for long should end. run_job: does a job on a large document (see Transaction.run_job). check: see States.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        writers: Writers,
        on_idle: Callable[[], None],
        on_broken: Callable[[], None],
        on_changed: Callable[[], None],
        on_committed: Callable[[], None],
        on_log_full: Callable[[], None],
        max_log: int,
        run_job: Callable[..., Any] | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._connection = connection
        self._states = States(connection, check)
        self._path = path
        self._writers = writers
        self._seat_task: asyncio.Task[None] | None = None
        self._on_idle = on_idle
        self._on_broken = on_broken
        self._on_changed = on_changed
        self._on_committed = on_committed
        self._on_log_full = on_log_full
        self._log = WriteAheadLog(path, max_log)
        self._run_job = run_job
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[Operation, asyncio.Future[Any]]] = deque()
        self.busy = False

    def submit(self, operation: Operation) -> asyncio.Future[Any]:
        """Queue a write. Cancelling the future does not take the write back.

        Raises StoreUnavailable when too many wait already; then the write will not happen.
        """
        future = self._loop.create_future()
        if operation.taken:
            self._waiting.appendleft((operation, future))
        elif len(self._waiting) < MAX_WAITING:
            self._waiting.append((operation, future))
        else:
            raise StoreUnavailable("Too many writes of this tenant are waiting.")
        if not self.busy:
            self.busy = True
            # In the loop's next turn, so that what arrives in this one is in the same group.
            self._loop.call_soon(self._begin_group)
        return future

    def _begin_group(self) -> None:
        seat = self._writers.seats.try_take(self._path.stem)
        if seat is None:
            self._seat_task = self._loop.create_task(self._wait_for_seat())
        else:
            self._run_group(seat)

    async def _wait_for_seat(self) -> None:
        self._run_group(await self._writers.seats.take(self._path.stem, wait=_WAIT))

    def _run_group(self, seat: Seat) -> None:
        taken = [self._waiting.popleft() for _ in range(min(MAX_GROUP, len(self._waiting)))]
        operations = [operation for operation, _ in taken]
        end = partial(self._end_group, taken, seat)
        work = self._writers.threads.submit(self._run_in_thread, operations)
        # Not by run_in_executor: its future takes two more turns of the loop.
        work.add_done_callback(partial(self._loop.call_soon_threadsafe, end))

    def _run_in_thread(self, operations: list[Operation]) -> Group:
        if not self._log.has_room(self._connection):
            return Group([], is_log_full=True)
        pacing = WriterPacing(self._writers.short_reads, self._writers.semaphore)
        group = run_group(self._connection, self._states, operations, self._run_job, pacing)
        if group.changed:
            self._on_committed()
        return group

    def _end_group(
        self, taken: list[tuple[Operation, asyncio.Future[Any]]], seat: Seat, work: Future[Group]
    ) -> None:
        seat.release()
        error = work.exception()
        if error is None:
            group = work.result()
        else:
            group = Group([Settled(error=self._group_error(error)) for _ in taken])
        done = len(group.settled)
        self._waiting.extendleft(reversed(taken[done:]))
        if group.changed:
            self._on_changed()
        if group.is_log_full:
            self._on_log_full()
        for (_, future), settled in zip(taken[:done], group.settled, strict=True):
            if not future.done():  # its caller may have gone; the write happened all the same
                if settled.error is None:
                    future.set_result(settled.result)
                else:
                    future.set_exception(settled.error)
        self.busy = bool(self._waiting)
        if not self.busy:
            self._on_idle()
        elif group.is_log_full:
            self._loop.call_later(LOG_PAUSE, self._begin_group)
        else:
            self._begin_group()

    def _group_error(self, error: BaseException) -> GatewayError:
        """The error of each write in a group of which nothing was committed."""
        if isinstance(error, sqlite3.Error):
            if errors.is_broken(error):
                self._on_broken()
            return errors.translate(error, self._path)
        if isinstance(error, Moved):
            self._on_broken()
            return error
        _log.error("documents: %s: a bug in a write; its group was not committed", self._path, exc_info=error)
        return InternalError()


class WriteAheadLog:
    """The log of a file, which grows as long as somebody reads what was before its newest pages. It can begin
    anew in a moment without such readers, and where reads overlap there never is one. So when it is full,
    writes wait until those end that began before; they end in seconds, as a query has a time limit."""

    def __init__(self, path: Path, most: int) -> None:
        self._file = path
        self._path = path.with_name(path.name + "-wal")
        self._most = most
        self._waits_until = 0.0

    def has_room(self, connection: sqlite3.Connection) -> bool:
        """Whether to write, in a writer thread. Where a reader does not end, another process's for example,
        writes go on after LOG_SECONDS. Raises sqlite3.Error."""
        try:
            if self._path.stat().st_size <= self._most + self._file.stat().st_size:
                self._waits_until = 0.0
                return True
        except OSError:
            return True  # the next statement on the file fails
        (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        now = monotonic()
        if not busy:
            self._waits_until = 0.0
            return True
        self._waits_until = self._waits_until or now + LOG_SECONDS
        return now > self._waits_until


def run_group(
    connection: sqlite3.Connection,
    states: States,
    operations: list[Operation],
    run_job: Callable[..., Any] | None = None,
    pacing: WriterPacing | None = None,
) -> Group:
    """Run operations in one transaction, in a writer thread, for GROUP_SECONDS. pacing: of a thread
    that is not the only writer. Raises when nothing was committed."""
    pacing = pacing or WriterPacing(ShortReads(), FifoSemaphore())
    _limit_file(connection, states, operations)
    begin_write(connection)
    with pacing.working():
        try:
            states.begin()
            transaction = Transaction(connection, states, run_job, pacing)
            settled = []
            for operation in operations:
                settled.append(_run(transaction, operation))
                pacing.step()
                if transaction.seconds >= GROUP_SECONDS:
                    break
            transaction.entries.flush()
            states.flush()
            with pacing.waiting():
                connection.execute("COMMIT")
        except BaseException:
            states.forget()
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    return Group(settled, transaction.changed)


def _limit_file(connection: sqlite3.Connection, states: States, operations: list[Operation]) -> None:
    """Hold the file to what the tenant's quota of bytes makes of it: indexes, changes and what else is no
    document take room too, and no more than so much."""
    quotas = [operation.quota.bytes for operation in operations if operation.quota.bytes is not None]
    quota = max(quotas, default=None)
    if quota != states.file_quota:
        most = None if quota is None else FILE_FACTOR * quota + FILE_BYTES
        limit_size(connection, states.max_pages, most)
        states.remember_file_quota(quota)


def _run(transaction: Transaction, operation: Operation) -> Settled:
    # What was counted is written outside of the savepoint, which may be rolled back.
    if operation.alone:
        transaction.entries.flush()
        transaction.states.flush()
    if operation.quota is not NO_QUOTA:
        transaction.states.totals()
    transaction.begin(operation.quota, operation.checks)
    try:
        return Settled(transaction.attempt(operation.run))
    except GatewayError as error:
        forget_traces(error)
        return Settled(error=error)
    finally:
        if operation.alone:
            transaction.states.recount()
