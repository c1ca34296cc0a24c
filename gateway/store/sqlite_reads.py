"""Reads of the tenants' files: small documents on the event loop, everything else in reader threads."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

from gateway.core.errors import StoreUnavailable
from gateway.store import sqlite_documents, sqlite_errors
from gateway.store.document import Document
from gateway.store.sqlite_files import Files, TenantFile

T = TypeVar("T")

_STEPS_BETWEEN_CHECKS = 10_000  # of SQLite's virtual machine: about a millisecond


class Reads:
    """query_seconds: after how long a query is given up."""

    def __init__(self, files: Files, threads: Executor, query_seconds: float) -> None:
        self._files = files
        self._threads = threads
        self._query_seconds = query_seconds

    def read_inline(self, name: str, collection: str, identifier: str) -> tuple[bool, Document | None]:
        """Whether that settles it, and the document. Never waits; blocks for microseconds.

        Not settled: the file is not open, the document is large, or a lock is held. Raises
        StoreUnavailable.
        """
        file = self._files.get(name)
        if file is None:
            return False, None
        try:
            return sqlite_documents.read_small(file.inline, collection, identifier, time.time())
        except sqlite3.Error as error:
            if sqlite_errors.primary_code(error) == sqlite3.SQLITE_BUSY:
                return False, None
            raise self._failure(error, file) from None

    async def query(self, name: str, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in a reader thread. Raises StoreUnavailable, and QueryTooSlow past the deadline."""
        file = await self._files.acquire(name)
        try:
            # Shielded: the thread goes on when the caller is gone, and uses the file until it ends.
            return await asyncio.shield(await self.begin(file, lambda: self._run(file, work)))
        except sqlite3.Error as error:
            raise self._failure(error, file) from None

    async def begin(self, file: TenantFile, work: Callable[[], T]) -> asyncio.Future[T]:
        """Begin work on a file in a reader thread, when the tenant's turn has come. The file, which has been
        acquired, is released when the work ends, whether or not anybody waits for it. Raises StoreUnavailable
        when the turn does not come in query_seconds."""
        try:
            async with asyncio.timeout(self._query_seconds):
                await file.queries.acquire()
        except TimeoutError:
            self._files.release(file)
            raise StoreUnavailable("Too many queries of this tenant are waiting.", retry_after=5) from None
        except BaseException:
            self._files.release(file)
            raise
        running = asyncio.get_running_loop().run_in_executor(self._threads, work)

        def end(_: object) -> None:
            file.queries.release()
            self._files.release(file)

        running.add_done_callback(end)
        return running

    def _run(self, file: TenantFile, work: Callable[[sqlite3.Connection], T]) -> T:
        connection = file.take_reader()
        try:
            with_deadline(connection, self._query_seconds)
            return work(connection)
        finally:
            connection.set_progress_handler(None, 0)
            file.give_reader(connection)

    def _failure(self, error: sqlite3.Error, file: TenantFile) -> Exception:
        if sqlite_errors.is_broken(error):
            self._files.detach(file)
        return sqlite_errors.translate(error, file.path)


def with_deadline(connection: sqlite3.Connection, seconds: float) -> None:
    """Interrupt what the connection does once so many seconds have passed."""
    deadline = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS_BETWEEN_CHECKS)
