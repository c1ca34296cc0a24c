"""Time slices of the event loop for long work on it: the lines of a bulk or an import, and their outcomes.

It is not enough that each request works for a millisecond and then yields: a hundred requests that do so in
every turn of the loop make all others wait for a tenth of a second. So there is one slice in each turn of the
loop, for all requests together, and the holders (tenants) take turns: the requests of one tenant share its
slices. Work that finds no other waiting begins at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic

SLICE = 0.0005  # seconds of one turn of the loop

CallSoon = Callable[[Callable[[], None]], object]


class LoopSlices:
    """The time slices of one event loop.

    is_busy: whether threads need the interpreter lock for short work; while they do, the loop rests for as
    long as a slice between two of them. now: a monotonic clock, in seconds. call_soon: schedules a function
    for the next turn of the loop; that of the running loop by default.
    """

    def __init__(
        self,
        is_busy: Callable[[], bool] = lambda: False,
        now: Callable[[], float] = monotonic,
        call_soon: CallSoon | None = None,
    ) -> None:
        self._is_busy = is_busy
        self.now = now
        self._call_soon = call_soon
        self._taken = False  # whether the slice of this turn is taken, or waiters have the next ones
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    def of(self, holder: str) -> LoopSlice:
        """The slices for one request of a holder (a tenant)."""
        return LoopSlice(self, holder)

    async def take(self, holder: str) -> None:
        """Wait for a slice of a holder."""
        if not self._taken:
            self._taken = True
            self._schedule()
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(holder, deque()).append(waiter)
        await waiter

    def _schedule(self) -> None:
        if self._waiting and self._is_busy():
            asyncio.get_running_loop().call_later(SLICE, self._next_turn)
            return
        (self._call_soon or asyncio.get_running_loop().call_soon)(self._next_turn)

    def _next_turn(self) -> None:
        while self._waiting:
            # The first holder in the dict is the one whose last slice is the longest ago.
            holder = next(iter(self._waiting))
            waiting = self._waiting.pop(holder)
            waiter = waiting.popleft()
            if waiting:
                self._waiting[holder] = waiting
            if not waiter.done():  # else its request was cancelled
                waiter.set_result(None)
                self._schedule()
                return
        self._taken = False


class LoopSlice:
    """The time slices of one request."""

    __slots__ = ("_end", "_holder", "_slices")

    def __init__(self, slices: LoopSlices, holder: str) -> None:
        self._slices = slices
        self._holder = holder
        self._end = 0.0

    async def step(self) -> None:
        """To be awaited before each small piece of work: returns at once within a slice, else waits for the
        next."""
        if self._slices.now() >= self._end:
            await self._slices.take(self._holder)
            self._end = self._slices.now() + SLICE
