"""Group commit: the writes of one tenant that arrive together share one transaction and one fsync.

Each operation has a savepoint of its own, so one that fails leaves the others as they are. Nobody is told
of a write before COMMIT has returned.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gateway.core.errors import GatewayError, InternalError, StoreUnavailable
from gateway.store import sqlite_errors
from gateway.store.sqlite_operations import Operation

_log = logging.getLogger(__name__)

MAX_GROUP = 128
MAX_WAITING = 4096


@dataclass(slots=True)
class Outcome:
    """What became of an operation: its result, or the error to raise where it is awaited."""

    result: Any = None
    error: GatewayError | None = None


class Writes:
    """The queue of writes of one file. Its methods are called on the event loop only.

    on_settled: called once for each submitted write, after its outcome is known. on_broken: called when
    the file should be let go.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        threads: Executor,
        on_settled: Callable[[], None],
        on_broken: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._path = path
        self._threads = threads
        self._on_settled = on_settled
        self._on_broken = on_broken
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[Operation, asyncio.Future[Any]]] = deque()
        self._busy = False

    def submit(self, operation: Operation) -> asyncio.Future[Any]:
        """Queue a write. Cancelling the future does not take the write back.

        Raises StoreUnavailable when too many wait already; then the write will not happen.
        """
        if len(self._waiting) >= MAX_WAITING:
            raise StoreUnavailable("Too many writes of this tenant are waiting.")
        future = self._loop.create_future()
        self._waiting.append((operation, future))
        if not self._busy:
            self._busy = True
            # In the loop's next turn, so that what arrives in this one is in the same group.
            self._loop.call_soon(self._begin_group)
        return future

    def _begin_group(self) -> None:
        group = [self._waiting.popleft() for _ in range(min(MAX_GROUP, len(self._waiting)))]
        operations = [operation for operation, _ in group]
        work = self._loop.run_in_executor(self._threads, run_group, self._connection, operations)
        work.add_done_callback(partial(self._end_group, [future for _, future in group]))

    def _end_group(
        self, futures: list[asyncio.Future[Any]], work: asyncio.Future[list[Outcome]]
    ) -> None:
        error = None if work.cancelled() else work.exception()
        if error is None and not work.cancelled():
            outcomes = work.result()
        else:
            outcomes = [Outcome(error=self._group_error(error)) for _ in futures]
        for future, outcome in zip(futures, outcomes, strict=True):
            if not future.done():  # its caller may have gone; the write happened all the same
                if outcome.error is None:
                    future.set_result(outcome.result)
                else:
                    future.set_exception(outcome.error)
            self._on_settled()
        self._busy = bool(self._waiting)
        if self._busy:
            self._begin_group()

    def _group_error(self, error: BaseException | None) -> GatewayError:
        """The error of each write in a group of which nothing was committed."""
        if isinstance(error, sqlite3.Error):
            if sqlite_errors.is_broken(error):
                self._on_broken()
            return sqlite_errors.translate(error, self._path)
        _log.error("documents: %s: a bug in a write; its group was not committed", self._path, exc_info=error)
        return InternalError()


def run_group(connection: sqlite3.Connection, operations: list[Operation]) -> list[Outcome]:
    """Run operations in one transaction, in a writer thread. Raises when nothing was committed."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        outcomes = [_run(connection, operation) for operation in operations]
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    return outcomes


def _run(connection: sqlite3.Connection, operation: Operation) -> Outcome:
    connection.execute("SAVEPOINT operation")
    try:
        outcome = Outcome(operation(connection))
    except GatewayError as error:
        connection.execute("ROLLBACK TO operation")
        outcome = Outcome(error=error)
    connection.execute("RELEASE operation")
    return outcome
