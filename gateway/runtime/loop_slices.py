"""The event loop's time for what takes long on it: the lines of a bulk or an import, and their outcomes.

A piece of a millisecond that then yields is not enough: a hundred requests that each do one in every turn of
the loop make all others wait for a tenth of a second. So here a turn of the loop has one such slice, whoever
has it, and the holders (tenants) take turns: many requests of one tenant share what one has. Work that finds
nobody waiting begins at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic

SLICE = 0.0005  # seconds of one turn of the loop

CallSoon = Callable[[Callable[[], None]], object]


class LoopSlices:
    """The slices of one event loop. is_busy: whether threads need the interpreter's lock for something short;
    while they do, the loop is let alone for as long between two slices. now: a monotonic clock, in seconds.
    call_soon: has a function called in the loop's next turn; the running loop's unless said otherwise."""

    def __init__(
        self,
        is_busy: Callable[[], bool] = lambda: False,
        now: Callable[[], float] = monotonic,
        call_soon: CallSoon | None = None,
    ) -> None:
        self._is_busy = is_busy
        self.now = now
        self._call_soon = call_soon
        self._taken = False  # whether this turn's slice is taken, or those that wait have the next ones
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    def of(self, holder: str) -> LoopSlice:
        """For one request of a holder."""
        return LoopSlice(self, holder)

    async def take(self, holder: str) -> None:
        """Wait for a slice."""
        if not self._taken:
            self._taken = True
            self._soon()
            return
        came: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(holder, deque()).append(came)
        await came

    def _soon(self) -> None:
        if self._waiting and self._is_busy():
            asyncio.get_running_loop().call_later(SLICE, self._next_turn)
            return
        (self._call_soon or asyncio.get_running_loop().call_soon)(self._next_turn)

    def _next_turn(self) -> None:
        while self._waiting:
            # The first holder of the dict is the one whose last slice is the longest ago.
            holder = next(iter(self._waiting))
            waiting = self._waiting.pop(holder)
            came = waiting.popleft()
            if waiting:
                self._waiting[holder] = waiting
            if not came.done():  # else its request was cancelled
                came.set_result(None)
                self._soon()
                return
        self._taken = False


class LoopSlice:
    """One request's use of them."""

    __slots__ = ("_end", "_holder", "_slices")

    def __init__(self, slices: LoopSlices, holder: str) -> None:
        self._slices = slices
        self._holder = holder
        self._end = 0.0

    async def step(self) -> None:
        """Before each small piece of the work: goes on at once within a slice, else waits for the next."""
        if self._slices.now() >= self._end:
            await self._slices.take(self._holder)
            self._end = self._slices.now() + SLICE
