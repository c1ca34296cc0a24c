"""The tenants' open files: at most so many at a time, the least recently used closed first.

A file in use is never closed: by users, whom `acquire` counts and `release` takes back, or by writes, until
they are settled. When all are in use, the next tenant waits.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections import OrderedDict, deque
from collections.abc import Callable
from functools import partial
from pathlib import Path

from gateway.core.errors import StoreUnavailable, TenantQueueFull
from gateway.store.json.large import Jobs
from gateway.store.port import Moved
from gateway.store.sqlite import documents, errors
from gateway.store.sqlite.files import moves
from gateway.store.sqlite.files.connections import open_reader, open_writer
from gateway.store.sqlite.write.group_commit import Writes
from gateway.store.sqlite.write.writers import Writers

MAX_LOG_BYTES = 64 * 1024 * 1024  # of a file's log, beside as many bytes as the file has
MAX_IDLE_READERS = 2
MAX_QUERIES = 4  # of one tenant have begun at a time: each holds a thread, a snapshot and some memory
MAX_WAITING = 64  # more wait for their turn
_READER_PAGES_KIB = 1024  # that a reader keeps in memory; the system's own cache has the others


class TenantFile:
    """One open file: the connection that writes, one for reads on the event loop, some for reader threads.
    writes: its queue, once it has started."""

    writes: Writes

    def __init__(self, path: Path, writer: sqlite3.Connection, inline: sqlite3.Connection) -> None:
        self.path = path
        self.inline = inline
        self.users = 0
        self.queries = asyncio.Semaphore(MAX_QUERIES)
        self._waiting_queries = 0
        self.inline_from = 0.0  # see sqlite/read/inline.py
        self.inline_given_up = 0  # how many, one after the other
        self._writer = writer
        self._readers: deque[sqlite3.Connection] = deque()  # appended to and popped from by threads

    @classmethod
    def open(cls, path: Path, max_bytes: int | None, *, moved_too: bool = False) -> TenantFile:
        """Blocks. Raises StoreUnavailable; what is wrong with the file is logged. moved_too: also one whose
        documents are in another store now, which else raises Moved."""
        try:
            if not moved_too and not os.path.lexists(path):
                moves.check_new(path.parent, path.stem)
            writer = open_writer(path, max_bytes)
            try:
                # The event loop never waits for a lock: sqlite/engine.py takes a thread when it would.
                inline = open_reader(path, busy_seconds=0)
                try:
                    _read_schema(inline)
                    if not moved_too:
                        moves.check(inline, path.stem)
                except (sqlite3.Error, Moved):
                    inline.close()
                    raise
                return cls(path, writer, inline)
            except (sqlite3.Error, Moved):
                writer.close()
                raise
        except sqlite3.Error as error:
            raise errors.translate(error, path) from None
        except OSError as error:
            raise errors.translate_os(error, path) from None

    def start(self, files: Files) -> None:
        """Begin to take writes, on the event loop."""
        name = self.path.stem
        self.writes = Writes(
            self._writer,
            self.path,
            files.writers,
            on_idle=partial(files.let_go, self),
            on_broken=partial(files.detach, self),
            on_changed=partial(files.changed, name),
            on_committed=partial(files.committed, name),
            on_log_full=partial(files.log_full, name),
            max_log=files.max_log,
            run_job=partial(files.jobs.wait, name),
            check=partial(files.check_moved, self._writer, name),
        )

    @property
    def in_use(self) -> bool:
        """Whether it has a user, or a write that is not settled."""
        return self.users > 0 or self.writes.busy

    async def begin_query(self, timeout: float) -> None:
        """Wait, for so many seconds at most, until few of the tenant's queries have begun; `end_query` ends
        it. Raises TenantQueueFull."""
        if self._waiting_queries >= MAX_WAITING:
            raise TenantQueueFull(f"{MAX_WAITING} queries of the tenant wait already.", retry_after=2)
        self._waiting_queries += 1
        try:
            async with asyncio.timeout(timeout):
                await self.queries.acquire()
        except TimeoutError:
            detail = "The tenant's own queries, which have not ended, were in the way all the time."
            raise TenantQueueFull(detail, retry_after=5) from None
        finally:
            self._waiting_queries -= 1

    def end_query(self) -> None:
        """Another query of the tenant may begin."""
        self.queries.release()

    def pause_inline(self, until: float, given_up: int) -> None:
        """No query is tried on the event loop until then (monotonic clock). given_up: of those that were
        tried, the last ones that took too long."""
        self.inline_from, self.inline_given_up = until, given_up

    def take_reader(self) -> sqlite3.Connection:
        """A read-only connection for this thread alone. Raises sqlite3.Error."""
        try:
            return self._readers.pop()
        except IndexError:
            connection = open_reader(self.path)
            connection.execute(f"PRAGMA cache_size = -{_READER_PAGES_KIB}")
            return connection

    def give_reader(self, connection: sqlite3.Connection) -> None:
        """Nothing may hold it up any more."""
        if connection.in_transaction:  # its end was held up too
            connection.rollback()
        if len(self._readers) < MAX_IDLE_READERS:
            self._readers.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Blocks: the last connection to a file moves the log into it."""
        for connection in (*self._readers, self.inline, self._writer):
            connection.close()


def _read_schema(inline: sqlite3.Connection) -> None:
    """The first statement of a connection opens the log and reads the schema: better here than on the event
    loop. A lock that is held just now is none of our business."""
    try:
        documents.read_small(inline, "", "", 0.0)
    except sqlite3.OperationalError as error:
        if errors.primary_code(error) != sqlite3.SQLITE_BUSY:
            raise


class _Opening:
    """A file that is being opened: how many wait for it, and the file once it is there."""

    def __init__(self) -> None:
        self.task: asyncio.Task[TenantFile] | None = None
        self.waiting = 0
        self.file: TenantFile | None = None


class Files:
    """All open files of a store. Its methods are called on the event loop only."""

    def __init__(
        self,
        folder: Path,
        writers: Writers,
        max_open: int,
        max_bytes: int | None,
        jobs: Jobs | None = None,
        max_log: int = MAX_LOG_BYTES,
        *,
        moved_too: bool = False,
    ) -> None:
        self.jobs = jobs or Jobs()
        self._moved_too = moved_too
        self.max_log = max_log
        self._folder = folder
        self.writers = writers
        self._max_open = max_open
        self._max_bytes = max_bytes
        self._loop = asyncio.get_running_loop()
        self._open: OrderedDict[str, TenantFile] = OrderedDict()
        self._detached: set[TenantFile] = set()  # broken, and closed after their last user
        self._opening: dict[str, _Opening] = {}
        self._closing: set[asyncio.Future[None]] = set()
        self._freed = asyncio.Event()
        self._closed = False
        self.changed: Callable[[str], None] = lambda name: None
        self.committed: Callable[[str], None] = lambda name: None
        self.log_full: Callable[[str], None] = lambda name: None

    def report(
        self,
        *,
        changed: Callable[[str], None],
        committed: Callable[[str], None],
        log_full: Callable[[str], None],
    ) -> None:
        """To be called of all files that are opened from now on, with the tenant's name: after a commit of
        changes for feeds, on the event loop and in the writer thread, and when the log is full."""
        self.changed, self.committed, self.log_full = changed, committed, log_full

    def check_moved(self, connection: sqlite3.Connection, name: str) -> None:
        """Raises Moved for a tenant whose documents are in another store now, unless these are served too."""
        if not self._moved_too:
            moves.check(connection, name)

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self._closed

    def get(self, name: str) -> TenantFile | None:
        """A file that is open already, for use before the next await."""
        file = self._open.get(name)
        if file is not None:
            self._open.move_to_end(name)
        return file

    def open_files(self) -> list[TenantFile]:
        """Those that are open now."""
        return list(self._open.values())

    def is_open(self, name: str, file: TenantFile | None = None) -> bool:
        """Whether the tenant's file is open, and (if one is given) is this one."""
        found = self._open.get(name)
        return found is not None and file in (None, found)

    def data_version(self, name: str) -> int | None:
        """A number that changes whenever the file is written; None: it is not open, or cannot be read."""
        file = self._open.get(name)
        if file is None:
            return None
        try:
            (version,) = file.inline.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error:
            return None
        return int(version)

    async def acquire(self, name: str) -> TenantFile:
        """A file with one more user; `release` it. Raises StoreUnavailable."""
        while not self._closed:
            file = self.get(name)
            if file is not None:
                file.users += 1
                return file
            if name in self._opening or self._has_room():
                return await self._join(name)
            self._freed.clear()
            await self._freed.wait()
        raise StoreUnavailable("The document store is closed.")

    def retain(self, file: TenantFile) -> None:
        """One more user of a file that has one; `release` it."""
        file.users += 1

    def release(self, file: TenantFile) -> None:
        """One user less of a file; see acquire."""
        file.users -= 1
        self.let_go(file)

    def let_go(self, file: TenantFile) -> None:
        """Unless a file is in use, it may be closed from now on; one that is broken is."""
        if file.in_use:
            return
        self._freed.set()
        if file in self._detached:
            self._detached.discard(file)
            self._close(file)

    def detach(self, file: TenantFile) -> None:
        """Let a broken file go: the next acquire opens it anew, its last user closes it."""
        if self._open.get(file.path.stem) is not file:
            return
        del self._open[file.path.stem]
        if file.in_use:
            self._detached.add(file)
        else:
            self._close(file)

    async def close(self) -> None:
        """Wait until none is in use, then close every file."""
        self._closed = True
        while self._opening:
            await asyncio.wait([opening.task for opening in self._opening.values() if opening.task])
        while self._detached or any(file.in_use for file in self._open.values()):
            self._freed.clear()
            await self._freed.wait()
        while self._open:
            self._close(self._open.popitem()[1])
        if self._closing:
            await asyncio.wait(self._closing)

    async def _join(self, name: str) -> TenantFile:
        """Open a file, or wait for it with others. It comes with this user counted."""
        opening = self._opening.get(name)
        if opening is None:
            opening = self._opening[name] = _Opening()
            opening.task = self._loop.create_task(self._open_file(name, opening))
        opening.waiting += 1
        assert opening.task is not None
        try:
            return await asyncio.shield(opening.task)
        except asyncio.CancelledError:
            opening.waiting -= 1
            if opening.file is not None:  # it was counted for us, and nobody else gives it back
                self.release(opening.file)
            raise

    async def _open_file(self, name: str, opening: _Opening) -> TenantFile:
        path = self._folder / f"{name}.db"
        try:
            opened = partial(TenantFile.open, path, self._max_bytes, moved_too=self._moved_too)
            file = await self._loop.run_in_executor(self.writers.opening, opened)
            file.start(self)
            # Counted here and not by the waiters: until they run, the file might be closed again.
            file.users = opening.waiting
            opening.file = self._open[name] = file
            return file
        finally:
            del self._opening[name]
            self._freed.set()  # when it failed, or its callers have gone, there is room

    def _has_room(self) -> bool:
        """Room for one more file. Without it, the file not used for the longest time begins to close."""
        count = len(self._open) + len(self._opening) + len(self._detached) + len(self._closing)
        if count < self._max_open:
            return True
        if not self._closing:
            for name, file in self._open.items():
                if not file.in_use:
                    del self._open[name]
                    self._close(file)
                    break
        return False

    def _close(self, file: TenantFile) -> None:
        closing = self._loop.run_in_executor(self.writers.opening, file.close)
        self._closing.add(closing)
        closing.add_done_callback(self._end_close)

    def _end_close(self, closing: asyncio.Future[None]) -> None:
        self._closing.discard(closing)
        self._freed.set()
