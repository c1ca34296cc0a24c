"""A request's body as it comes, between the connection that feeds it and the one task that reads it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

MOST = 128 * 1024  # bytes that wait for who reads; beyond it the client has to wait


class RequestStream:
    """What was fed waits until it is read. on_full: called when the client has to wait; on_room: when it was
    read, and the client may go on. fed: bytes so far. waiting: those of them that nobody has read."""

    __slots__ = ("_ended", "_error", "_full", "_on_full", "_on_room", "_pieces", "_reading", "fed", "waiting")

    def __init__(self, on_full: Callable[[], None], on_room: Callable[[], None]) -> None:
        self._on_full = on_full
        self._on_room = on_room
        self._pieces: list[bytes] = []
        self._error: Exception | None = None
        self._ended = self._full = False
        self._reading: asyncio.Future[None] | None = None
        self.fed = self.waiting = 0

    # --- for the connection ---

    def feed(self, piece: bytes) -> None:
        if not piece:
            return
        self._pieces.append(piece)
        self.fed += len(piece)
        self.waiting += len(piece)
        self._wake()
        if self.waiting > MOST and not self._full:
            self._full = True
            self._on_full()

    def end(self) -> None:
        """All of the body was fed."""
        self._ended = True
        self._wake()

    def fail(self, error: Exception) -> None:
        """It ends here, without having been whole; nothing of it is read any more."""
        self._error = error
        self._pieces.clear()
        self.waiting = 0
        self._wake()

    def _wake(self) -> None:
        if self._reading is not None and not self._reading.done():
            self._reading.set_result(None)

    # --- for who reads ---

    @property
    def has_ended(self) -> bool:
        """Whether all of the body has come, read or not."""
        return self._ended

    async def read(self) -> bytes:
        """What has come since the last time, at least a byte; empty at the end. Raises what `fail` was told,
        once, and ConnectionResetError after that."""
        while not (self._pieces or self._ended or self._error is not None):
            self._reading = asyncio.get_running_loop().create_future()
            try:
                await self._reading
            finally:
                self._reading = None
        if self._error is not None:
            error, self._error = self._error, ConnectionResetError("The body has ended before its end.")
            try:
                raise error
            finally:
                del error  # it names this frame
        pieces, self._pieces = self._pieces, []
        self.waiting = 0
        self._full = False
        self._on_room()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
