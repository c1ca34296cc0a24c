"""A whole request body in hand: in memory up to 64 KiB, then in a temporary file, up to the route's limit.

A threaded backend must never wait for a slow client, so its request is complete before a seat is taken.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import AsyncIterator
from typing import IO

from gateway.call import Call
from gateway.core.errors import InsufficientStorage
from gateway.edge import body

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
            if self._file is None and self.length <= MEMORY:
                pieces.append(chunk)
                continue
            try:
                if self._file is None:
                    self._file = tempfile.TemporaryFile(prefix="gateway-body-")  # noqa: SIM115 - closed in close()
                    self._file.writelines(pieces)
                    pieces = []
                self._file.write(chunk)
            except OSError:
                raise InsufficientStorage(
                    "There is no room to buffer the request body.", close=True
                ) from None
        self.small = b"".join(pieces)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body again, in pieces."""
        if self._file is None:
            if self.small:
                yield self.small
            return
        self._file.seek(0)
        while piece := self._file.read(_PIECE):
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
            self._file = tempfile.TemporaryFile(prefix="gateway-answer-", buffering=0)  # noqa: SIM115
        self._file.seek(self._written)
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
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
