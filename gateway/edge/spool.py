"""A whole request body in hand: in memory up to 64 KiB, then in a temporary file, up to the route's limit.

A threaded backend must never wait for a slow client, so its request is complete before a seat is taken.
"""

from __future__ import annotations

import logging
import tempfile
from collections import deque
from collections.abc import AsyncIterator
from typing import IO

from gateway.call import Call
from gateway.core.errors import InsufficientStorage, InternalError
from gateway.edge import body

L = logging.getLogger(__name__)
MEMORY = 64 * 1024
OUTBOX_LIMIT = 64 * 1024 * 1024
_PIECE = 64 * 1024


class Spool:
    """A body that was read whole. `small` holds it when it stayed in memory."""

    __slots__ = ("_file", "length", "small")

    def __init__(self) -> None:
        self.length = 0
        self.small = b""
        self._file: IO[bytes] | None = None

    async def fill(self, call: Call) -> None:
        """Read the client's body to its end. Raises what `body.chunks` raises, and InsufficientStorage."""
        pieces: list[bytes] = []
        async for chunk in body.chunks(call):
            self.length += len(chunk)
            pieces.append(chunk)
            if self._file is None and self.length <= MEMORY:
                continue
            try:
                if self._file is None:
                    self._file = _file("gateway-body-")
                _write(self._file, b"".join(pieces))
            except OSError as error:
                L.error("A request body cannot be buffered in %s: %s", tempfile.gettempdir(), error)
                raise InsufficientStorage(
                    "There is no room to buffer the request body.", close=True
                ) from None
            pieces = []
        self.small = b"".join(pieces)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body again, in pieces, as often as it is asked for. Raises InternalError when the disk does not
        give it back: whoever sent it is not at fault, and more room would not help."""
        if self._file is None:
            if self.small:
                yield self.small
            return
        at = 0
        while at < self.length:
            try:
                self._file.seek(at)
                piece = self._file.read(_PIECE)
                if not piece:
                    raise OSError("it is shorter than it was")
            except OSError as error:
                L.error("A buffered request body cannot be read again: %s", error)
                raise InternalError() from None
            at += len(piece)
            yield piece

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class Outbox:
    """An answer that waits for a slow client: first in, first out; in memory up to 64 KiB, then in a
    temporary file. `full` at 64 MiB: then the backend has to wait."""

    __slots__ = ("_file", "_memory", "_read_at", "_size", "_written")

    def __init__(self) -> None:
        self._memory: deque[bytes] = deque()
        self._size = 0  # bytes in memory
        self._file: IO[bytes] | None = None
        self._read_at = 0
        self._written = 0

    @property
    def full(self) -> bool:
        return self._written - self._read_at >= OUTBOX_LIMIT

    def put(self, data: bytes) -> None:
        """Raises OSError when the disk has no room; then nothing of it was kept."""
        if self._file is None and self._size + len(data) <= MEMORY:
            self.keep(data)
            return
        if self._file is None:
            self._file = _file("gateway-answer-")
        self._file.seek(self._written)
        _write(self._file, data)
        self._written += len(data)

    def keep(self, data: bytes) -> None:
        """Keep it in memory, whatever its size. Only while nothing is in the file."""
        self._memory.append(data)
        self._size += len(data)

    def take(self) -> bytes:
        """The next piece, empty when there is none."""
        if self._memory:
            data = self._memory.popleft()
            self._size -= len(data)
            return data
        if self._file is None or self._read_at == self._written:
            return b""
        self._file.seek(self._read_at)
        data = self._file.read(_PIECE)
        self._read_at += len(data)
        return data

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _file(prefix: str) -> IO[bytes]:
    """Without a buffer of its own, which would find out that the disk is full only when it is closed."""
    return tempfile.TemporaryFile(prefix=prefix, buffering=0)


def _write(file: IO[bytes], data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
