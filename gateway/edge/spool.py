"""A whole request body in hand: in memory up to 64 KiB, then in a temporary file, up to the route's limit.

A threaded backend must never wait for a slow client, so its request is complete before a seat is taken. The
event loop never waits for the disk: files are made, written, read and closed in threads. What all of them
together may take of it is bounded, and shared by the tenants (core/policy/disk_budget.py).
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from typing import IO, TypeVar

from gateway.call import Call
from gateway.core.errors import InsufficientStorage, InternalError, SpoolSaturated, TenantLimit
from gateway.core.openmetrics import Counter, Gauge, Instrument
from gateway.core.policy.disk_budget import DiskBudget, DiskUse
from gateway.edge.client import body
from gateway.runtime import threads

L = logging.getLogger(__name__)
T = TypeVar("T")
PUBLIC = "(public)"  # stands for the tenant of calls that have none; no tenant can be called so
DEFAULT_SIZE = 1024 * 1024 * 1024  # bytes of all temporary files
MEMORY = 64 * 1024
OUTBOX_LIMIT = 64 * 1024 * 1024
_PIECE = 64 * 1024
_UNWRITTEN = 1024 * 1024  # bytes that wait for a slow disk; more, and the backend has to wait
_RING = OUTBOX_LIMIT + 4 * 1024 * 1024  # bytes of a response's file: the limit, and what was read beyond it


class _TemporaryFile:
    """A temporary file that is made at the first write. Its work is done in threads, and it is closed when
    the last of it has ended: a descriptor that was closed too early might be another file's by then."""

    __slots__ = ("_closed", "_file", "_working")

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._working = 0
        self._closed = False

    def write(self, prefix: str, at: int, data: bytes, size: int = sys.maxsize) -> asyncio.Future[None]:
        """size: of the file, at most; what is beyond goes to its beginning. Fails with OSError when the disk
        has no room. One at a time, for the first one makes the file."""
        return self._do(lambda: self._write(prefix, at, data, size))

    def read(self, at: int, there: int) -> asyncio.Future[bytes]:
        """A piece of the `there` bytes that are written there: behind them the file may hold something older,
        or grow meanwhile. Fails with OSError."""
        return self._do(lambda: self._read(at, min(there, _PIECE)))

    def close(self) -> None:
        self._closed = True
        self._close_when_idle()

    def _do(self, work: Callable[[], T]) -> asyncio.Future[T]:
        self._working += 1
        future = threads.run(threads.SPOOL, work)
        future.add_done_callback(self._done)
        return future

    def _done(self, future: asyncio.Future[T]) -> None:
        self._working -= 1
        if self._closed:
            if not future.cancelled():
                future.exception()  # it is not awaited any more
            self._close_when_idle()

    def _close_when_idle(self) -> None:
        if self._file is not None and not self._working:
            file, self._file = self._file, None
            threads.SPOOL.submit(file.close)  # the disk may take its time to free a large one

    # --- in a thread ---

    def _write(self, prefix: str, at: int, data: bytes, size: int) -> None:
        if self._file is None:
            self._file = _file(prefix)
        view = memoryview(data)
        while view:
            written = _write_at(self._file, at, view[: size - at])
            at = (at + written) % size
            view = view[written:]

    def _read(self, at: int, size: int) -> bytes:
        assert self._file is not None
        return _read_at(self._file, at, size)


def _file(prefix: str) -> IO[bytes]:
    """Without a buffer of its own, which would find out that the disk is full only when it is closed."""
    return tempfile.TemporaryFile(prefix=prefix, buffering=0)


def _write_at(file: IO[bytes], at: int, data: memoryview) -> int:
    return os.pwrite(file.fileno(), data, at)


def _read_at(file: IO[bytes], at: int, size: int) -> bytes:
    return os.pread(file.fileno(), size, at)


class Spools:
    """The room on disk for all bodies and responses. size: bytes."""

    def __init__(self, size: int = DEFAULT_SIZE) -> None:
        about = "Bodies and responses that found no room on disk: refused, or the backend had to wait."
        self.refused = Counter("gateway_spool_refused", about)
        self.refused.add(amount=0)
        self.budget = DiskBudget(size, self.refused.add)

    def use(self, call: Call) -> DiskUse:
        """What a file of this call will take of it."""
        return DiskUse(self.budget, call.tenant.id.value if call.tenant is not None else PUBLIC)

    def instruments(self) -> Iterable[Instrument]:
        """For /metrics."""
        used = "Bytes of temporary files that bodies and responses take."
        most = "Bytes of temporary files that bodies and responses may take."
        yield Gauge("gateway_spool_bytes", used, lambda: {(): self.budget.used})
        yield Gauge("gateway_spool_limit_bytes", most, lambda: {(): self.budget.total})
        yield self.refused


class Spool:
    """A body that was read whole. `small` holds it when it stayed in memory. use: what its file takes of the
    budget for all."""

    __slots__ = ("_file", "_use", "_written", "length", "small")

    def __init__(self, use: DiskUse) -> None:
        self._use = use
        self.length = 0
        self.small = b""
        self._file = _TemporaryFile()
        self._written = 0

    async def fill(self, call: Call) -> None:
        """Read the client's body to its end. Raises what `body.chunks` raises, and InsufficientStorage,
        TenantLimit, SpoolSaturated."""
        pieces: list[bytes] = []
        waiting = 0
        async for chunk in body.chunks(call):
            self.length += len(chunk)
            pieces.append(chunk)
            waiting += len(chunk)
            if waiting > MEMORY:
                await self._write(b"".join(pieces))
                pieces, waiting = [], 0
        if self._written and pieces:
            await self._write(b"".join(pieces))
        elif pieces:
            self.small = b"".join(pieces)

    async def _write(self, data: bytes) -> None:
        if not self._use.try_grow(self._written + len(data)):
            if self._use.is_own_doing and self._use.key != PUBLIC:
                text = (
                    "The tenant's bodies and responses under way take all the room that it may have for them."
                )
                raise TenantLimit(text, close=True)
            raise SpoolSaturated("Bodies and responses under way take all the room for them.", close=True)
        try:
            # Shielded: a future that is cancelled is done before its thread is.
            await asyncio.shield(self._file.write("gateway-body-", self._written, data))
        except OSError as error:
            L.error("A request body cannot be buffered in %s: %s", tempfile.gettempdir(), error)
            text = "There is no room to buffer the request body."
            raise InsufficientStorage(text, close=True) from None
        self._written += len(data)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body again, in pieces, as often as it is asked for. Raises InternalError when the disk does not
        give it back: its client is not at fault, and more room would not help."""
        if self.small:
            yield self.small
            return
        at = 0
        while at < self.length:
            try:
                piece = await asyncio.shield(self._file.read(at, self.length - at))
                if not piece:
                    raise OSError("it is shorter than it was")
            except OSError as error:
                L.error("A buffered request body cannot be read again: %s", error)
                raise InternalError() from None
            at += len(piece)
            yield piece

    def close(self) -> None:
        """Free the room that it takes, on disk too."""
        self._file.close()
        self._use.close()


class Outbox:
    """A response that waits for a slow client: first in, first out; in memory up to 64 KiB, then in a
    temporary file.

    What was put goes through three stages in this order: `_ready` (memory, to be taken), the file,
    `_unwritten` (memory, to be written). on_change: called when a thread has done something: there may be
    more to take, room again, or `failed`. full: the backend has to wait, at 64 MiB in the file, or when the
    disk is slow or has no room, so that the rest stays in memory. use: what the file takes of the budget for
    all; where that has no room, neither has the disk.

    The file is a ring: what was read makes room for what is written, so it does not grow with the response.
    """

    __slots__ = (
        "_closed",
        "_file",
        "_on_change",
        "_read_at",
        "_reading",
        "_ready",
        "_refused",
        "_size",
        "_unwritten",
        "_unwritten_size",
        "_use",
        "_writing",
        "_written",
        "failed",
    )

    def __init__(self, on_change: Callable[[], None], use: DiskUse) -> None:
        self._on_change = on_change
        self._use = use
        self._ready: deque[bytes] = deque()
        self._size = 0  # bytes of _ready
        self._unwritten: deque[bytes] = deque()
        self._unwritten_size = 0
        self._file = _TemporaryFile()
        self._read_at = 0
        self._written = 0
        self._reading = False
        self._writing = b""  # what a thread writes now
        self._refused = False  # the disk has no room
        self._closed = False
        self.failed: OSError | None = None  # what was buffered cannot be read again

    @property
    def empty(self) -> bool:
        """Nothing is left to be taken, now or later."""
        return not (self._ready or self._reading or self._writing or self._unwritten or self._in_file)

    @property
    def full(self) -> bool:
        """Whether the backend has to wait."""
        waits = self._unwritten_size + len(self._writing)
        return self._in_file + waits >= OUTBOX_LIMIT or waits >= _UNWRITTEN or self._refused

    @property
    def _in_file(self) -> int:
        return self._written - self._read_at

    def put(self, data: bytes) -> None:
        """Behind all that was put before."""
        behind = self._in_file or self._writing or self._unwritten or self._reading
        if not behind and self._size + len(data) <= MEMORY:
            self._ready.append(data)
            self._size += len(data)
            return
        self._unwritten.append(data)
        self._unwritten_size += len(data)
        self._write()

    def take(self) -> bytes:
        """The next piece; empty when there is none, or none yet."""
        if self._ready:
            data = self._ready.popleft()
            self._size -= len(data)
        elif self._in_file or self._reading or self._writing:
            self._read()
            return b""
        elif self._unwritten:  # it never has to touch the disk
            data = self._unwritten.popleft()
            self._unwritten_size -= len(data)
        else:
            return b""
        if not self._unwritten and not self._writing:
            self._refused = False
        return data

    def close(self) -> None:
        """Free the room that it takes, on disk too; nothing is called any more."""
        self._closed = True
        self._file.close()
        self._use.close()

    # --- the disk ---

    def _write(self) -> None:
        """Have all that waits written, when nothing is, and while the disk takes it."""
        if self._writing or self._refused or not self._unwritten:
            return
        if not self._in_file and not self._reading:
            self._read_at = self._written = 0  # the file is used anew
        size = self._unwritten_size
        if self._in_file + size > _RING:
            return  # when something was read
        if not self._use.try_grow(min(self._written + size, _RING)):
            self._refused = True
            return
        self._writing = b"".join(self._unwritten)
        self._unwritten.clear()
        self._unwritten_size = 0
        writing = self._file.write("gateway-response-", self._written % _RING, self._writing, _RING)
        writing.add_done_callback(self._wrote)

    def _wrote(self, writing: asyncio.Future[None]) -> None:
        data, self._writing = self._writing, b""
        if self._closed:
            return
        if writing.cancelled() or writing.exception() is not None:
            self._unwritten.appendleft(data)  # it stays in memory, and nothing more is asked for meanwhile
            self._unwritten_size += len(data)
            self._refused = True
        else:
            self._written += len(data)
            self._write()
        self._on_change()

    def _read(self) -> None:
        """Have the next piece read, when nothing is, and there is one."""
        if self._reading or not self._in_file or self.failed is not None:
            return
        self._reading = True
        at = self._read_at % _RING
        self._file.read(at, min(self._in_file, _RING - at)).add_done_callback(self._got)

    def _got(self, reading: asyncio.Future[bytes]) -> None:
        self._reading = False
        if self._closed:
            return
        error = None if reading.cancelled() else reading.exception()
        if isinstance(error, OSError):
            self.failed = error
        else:
            data = reading.result()
            if not data:
                self.failed = OSError("it is shorter than it was")
            self._read_at += len(data)
            self._ready.append(data)
            self._size += len(data)
            self._write()
        self._on_change()
