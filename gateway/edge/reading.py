"""When a socket is read from: there may be several reasons not to, and how much is read in one turn of the
event loop is bounded."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

LARGE = 64 * 1024  # bytes of a read behind which there may be as many more at once
# What a read costs, small ones with all that it is to pass them on: some 30 µs.
SMALL_COST, LARGE_COST = 1, 4
REST_COST = 16  # to take the rest of tiny chunks apart
BACKENDS_TURN = 32  # units of a turn of the loop for reads from backends: some two milliseconds, or 2 MiB
CLIENTS_TURN = 64  # and for those from clients, which are only copied: 4 MiB, about a millisecond


class PausableReader(asyncio.Protocol):
    """A protocol that reads nothing while there is a reason not to.

    transport: None while there is none. paused_for: the reasons, as bits that subclasses name; 0 while it
    reads.
    """

    __slots__ = ("paused_for", "transport")

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.paused_for = 0

    def pause_reading(self, reason: int) -> None:
        """Read nothing for now. It counts from the next read on: what was read is fed all the same."""
        self.paused_for |= reason
        if self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()

    def resume_reading(self, reasons: int) -> None:
        """These reasons are over: read on, unless there is another one."""
        if self.paused_for & reasons:
            self.paused_for &= ~reasons
            if not self.paused_for and self.transport is not None and not self.transport.is_closing():
                self.transport.resume_reading()


class ReadTurns:
    """What is read in one turn of the event loop: what is more waits, one read of each connection after the
    other.

    A turn serves everybody who has something. Five hundred streams of tiny events that are never read took
    15 ms of each, and whoever else was to be served waited for that with every step.
    turn: units of cost that one turn of the loop has.
    """

    def __init__(self, turn: int = BACKENDS_TURN) -> None:
        self._turn = turn
        self._waiting: deque[tuple[Callable[[], None], int]] = deque()
        self._is_scheduled = False  # the next turn is going to be noticed
        self._left = turn

    def has_room(self) -> bool:
        """Whether one small read more fits into this turn, as long as nobody waits. It is counted."""
        self._left -= SMALL_COST
        if not self._is_scheduled:
            self._schedule()
        return self._left >= 0 and not self._waiting

    def later(self, read_on: Callable[[], None], cost: int) -> None:
        """Call read_on in a later turn that has room for its cost."""
        self._waiting.append((read_on, cost))
        if not self._is_scheduled:
            self._schedule()

    def _schedule(self) -> None:
        self._is_scheduled = True
        asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        self._is_scheduled = False
        self._left = left = self._turn
        try:
            while self._waiting and left > 0:
                read_on, cost = self._waiting.popleft()
                left -= cost
                read_on()
        finally:  # a bug in one of them keeps nobody from reading
            if self._waiting and not self._is_scheduled:
                self._schedule()
