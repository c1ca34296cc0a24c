"""A small body that is about to come: many clients send head and body apart.

What is whole a moment later is served as what came in one piece: without a stream, and to the backend in one
write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.core.http.request_reader import Request

_MOST = 64 * 1024  # bytes of a body
_TIME = 0.05  # seconds that its parts may take to come


class Gathering:
    """One request whose body is waited for. size: bytes of it that are here. on_late(request, pieces): called
    when its time is over."""

    __slots__ = ("_on_late", "_pieces", "_timer", "request", "size")

    def __init__(self, request: Request, on_late: Callable[[Request, list[bytes]], None]) -> None:
        self.request = request
        self._on_late = on_late
        self._pieces: list[bytes] = []
        self.size = 0
        self._timer = asyncio.get_running_loop().call_later(_TIME, self.give_up)

    def add(self, piece: bytes) -> None:
        """A part of the body. It is not waited for when it is a large one, or the client waits for our word
        (Expect)."""
        self._pieces.append(piece)
        self.size += len(piece)
        head = self.request.head
        if head.expect or max(head.length, self.size) > _MOST:
            self.give_up()

    def whole(self, piece: bytes) -> bytes:
        """The body, with its last part."""
        self._timer.cancel()
        return b"".join([*self._pieces, piece])

    def give_up(self) -> None:
        """The rest takes its time."""
        self._timer.cancel()
        self._on_late(self.request, self._pieces)

    def forget(self) -> None:
        """The connection ends."""
        self._timer.cancel()
