"""When a socket is read from: of a client's connection and a backend's alike, several may hold it; and of
backends' connections, how much in one turn of the event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

LARGE = 64 * 1024  # bytes of a read behind which there may be as many more at once
# What a read costs, small ones with all that it is to pass them on: some 30 µs.
SMALL_COST, LARGE_COST = 1, 4
REST_COST = 16  # to take the rest of tiny chunks apart
_TURN = 32  # of a turn of the loop: some two milliseconds, or 2 MiB


class HeldReading(asyncio.Protocol):
    """A protocol that reads nothing while anybody holds it. transport: None while there is none. Reasons are
    bits, which whoever builds on this names."""

    __slots__ = ("_held_by", "transport")

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._held_by = 0

    def hold(self, why: int) -> None:
        """Read nothing for now. It counts from the next read on: what was read is fed all the same."""
        self._held_by |= why
        if self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()

    def let_go(self, why: int) -> None:
        """Read on, unless there is another reason not to."""
        if self._held_by & why:
            self._held_by &= ~why
            if not self._held_by and self.transport is not None and not self.transport.is_closing():
                self.transport.resume_reading()


class Reads:
    """What is read of backends' answers in one turn of the event loop: what is more waits, one read of each
    connection after the other.

    A turn serves everybody who has something. Five hundred streams of tiny events that are never read took
    15 ms of each, and whoever else was to be served waited for that with every step.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[Callable[[], None], int]] = deque()
        self._coming = False  # the next turn is going to be noticed
        self._left = _TURN

    def has_room(self) -> bool:
        """Whether one small read more fits into this turn, as long as nobody waits. It is counted."""
        self._left -= SMALL_COST
        if not self._coming:
            self._come()
        return self._left >= 0 and not self._waiting

    def later(self, read_on: Callable[[], None], cost: int) -> None:
        """Have it read on in a turn that has room for it."""
        self._waiting.append((read_on, cost))
        if not self._coming:
            self._come()

    def _come(self) -> None:
        self._coming = True
        asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        self._coming = False
        self._left = left = _TURN
        try:
            while self._waiting and left > 0:
                read_on, cost = self._waiting.popleft()
                left -= cost
                read_on()
        finally:  # a bug in one of them keeps nobody from reading
            if self._waiting and not self._coming:
                self._come()
