"""Seats inside this process, shared fairly by the tenants: readers of the store, workers, whatever is scarce.

The order is that of the backends' seats (core/fairness/queue.py): the smallest seat time by weight goes next,
and heavy tenants together leave a reserve free. What takes long holds its seat in slices: after SLICE it
gives the seat to who is next and waits behind the others again (`Seat.turn`), so that what is short waits for
a slice and never for all of it. All methods are called on the event loop; threads may read `Seat.due`.
"""

from __future__ import annotations

import asyncio
import random as lots
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic

from gateway.core.counts import decrement
from gateway.core.errors import GatewayError, StoreSaturated, TenantQueueFull
from gateway.core.fairness.flow import WINDOW, Flow
from gateway.core.fairness.queue import FairQueue

SLICE = 0.005  # seconds that a seat is held while others wait for one
_TICK = 0.5  # seconds, as FairQueue.tick wants it
_CROWD = 16  # full queues: so many may wait in all

Waiter = Callable[["Flow[Waiter]"], bool]  # told of its seat; False: it has gone and takes none


class Seat:
    """The right to work now. Release it; a second release does nothing. held: whether it has its seat just
    now, which it lacks while it is parked."""

    __slots__ = ("_charged", "_flow", "_seats", "_since", "_waiting", "key", "weight")

    def __init__(
        self, seats: FairSeats, key: str, weight: float, flow: Flow[Waiter] | None, now: float
    ) -> None:
        self._seats = seats
        self._waiting: tuple[Flow[Waiter], Waiter] | None = None
        self._flow: Flow[Waiter] | None = None
        self.key = key
        self.weight = weight
        if flow is not None:
            self._sit(flow, now)

    def _sit(self, flow: Flow[Waiter], now: float) -> None:
        self._flow = flow
        self._since = now
        self._charged = flow.charged

    @property
    def held(self) -> bool:
        return self._flow is not None

    @property
    def due(self) -> bool:
        """Whether its slice is over and others wait: time for `turn` or `park`. Any thread may ask."""
        return self._seats.waiting > 0 and self.is_over

    @property
    def is_over(self) -> bool:
        """Whether its slice is over. Any thread may ask."""
        return self._seats.now() - self._since >= SLICE

    def release(self, used: float | None = None) -> None:
        """Give it back, or stop waiting for the next slice. used: seconds of work to be charged for, where
        that is known better than by the clock."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._seats.fair.leave(*waiting)
        self._give_back(used)

    def _give_back(self, used: float | None) -> None:
        flow, self._flow = self._flow, None
        if flow is not None:
            self._seats.end(flow, self._charged, self._since if used is None else self._seats.now() - used)

    def park(self, resume: Callable[[], None], used: float | None = None) -> None:
        """Let others work; `resume` is called when it is this one's turn again, before this returns if that
        is at once. Not called any more after a release. used: as in release."""
        self._give_back(used)

        def take(flow: Flow[Waiter]) -> bool:
            self._waiting = None
            self._sit(flow, self._seats.now())
            resume()
            return True

        self._waiting = self._seats.line_up(take, self.key, self.weight), take
        self._seats.wake()

    async def turn(self) -> None:
        """Between two steps of what takes long: if it is due, let the others have theirs. Without others the
        event loop is let go on all the same."""
        if not self.due:
            await asyncio.sleep(0)
            return
        await self.again()

    async def again(self) -> None:
        """Let the others have their turn, and wait for the next one; after a release, too."""
        came: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.park(lambda: None if came.done() else came.set_result(None))
        try:
            await came
        except BaseException:
            self.release()
            raise


class FairSeats:
    """what: who the seats are, in the plural, for the errors ("readers of the store"). seats: how many.
    reserve: of these, left free by heavy tenants; a quarter of them, at least one, unless said otherwise.
    queue: how many of one tenant may wait. wait: seconds for which one waits at most. now: a monotonic clock.
    random: gives a number in [0, 1)."""

    def __init__(
        self,
        what: str,
        seats: int,
        *,
        reserve: int | None = None,
        queue: int = 64,
        wait: float = 5.0,
        now: Callable[[], float] = monotonic,
        random: Callable[[], float] = lots.random,
    ) -> None:
        self.what = what
        self.fair: FairQueue[Waiter] = FairQueue(seats, max(1, seats // 4) if reserve is None else reserve)
        self.now = now
        self.refused: Counter[str] = Counter()  # by code
        self._queue = queue
        self._wait = wait
        self._random = random
        self._new: dict[str, int] = {}  # by tenant, who waits and has not begun
        self._ticked = now()

    @property
    def waiting(self) -> int:
        """How many wait, those between two slices too."""
        return self.fair.waiting

    # --- taking ---

    def try_take(self, key: str, weight: float = 1.0) -> Seat | None:
        """A seat that is free now, without overtaking anybody."""
        now = self._tick()
        flow = self.fair.try_take(key, weight, now)
        return Seat(self, key, weight, flow, now) if flow is not None else None

    def absent(self, key: str, weight: float) -> Seat:
        """One that nobody has yet: for what had a first slice elsewhere, or comes back later, by `park` or
        `again`."""
        return Seat(self, key, weight, None, 0.0)

    async def take(self, key: str, weight: float = 1.0, wait: float | None = None) -> Seat:
        """A seat, after at most `wait` seconds (else the seats' own).

        Raises TenantQueueFull (429) where the tenant's own work is in the way, else StoreSaturated (503).
        """
        seat = self.try_take(key, weight)
        if seat is not None:
            return seat
        self._check(key)
        came: asyncio.Future[Flow[Waiter]] = asyncio.get_running_loop().create_future()

        def told(flow: Flow[Waiter]) -> bool:
            if came.done():
                return False
            came.set_result(flow)
            return True

        self._new[key] = self._new.get(key, 0) + 1
        flow = self.line_up(told, key, weight)
        try:
            self.wake()
            async with asyncio.timeout(self._wait if wait is None else wait):
                sat = await came
        except BaseException as error:
            if not self.fair.leave(flow, told) and came.done() and not came.cancelled():
                now = self.now()  # it came in the moment that we left
                self.fair.end(flow, came.result().charged, now, now, learn=False)
            came.cancel()
            self.wake()
            if isinstance(error, TimeoutError):
                raise self._in_vain(key, weight) from None
            raise
        finally:
            decrement(self._new, key)
        return Seat(self, key, weight, sat, self.now())

    @asynccontextmanager
    async def seat(self, key: str, weight: float = 1.0, wait: float | None = None) -> AsyncIterator[Seat]:
        """`async with seats.seat(tenant) as seat:`, as take, and released at the end."""
        seat = await self.take(key, weight, wait)
        try:
            yield seat
        finally:
            seat.release()

    # --- for the seats themselves ---

    def line_up(self, waiter: Waiter, key: str, weight: float) -> Flow[Waiter]:
        """Wait behind the tenant's own; `wake` afterwards."""
        return self.fair.wait(waiter, key, weight, self._tick())

    def end(self, flow: Flow[Waiter], charged: float, since: float) -> None:
        """A seat is given back after its use."""
        self.fair.end(flow, charged, since, self._tick())
        self.wake()

    def wake(self) -> None:
        """Hand the free seats to those who wait."""
        while self.fair.waiting:
            now = self.now()
            found = self.fair.next(now)
            if found is None:
                return
            waiter, flow = found
            if not waiter(flow):
                self.fair.end(flow, flow.charged, now, now, learn=False)

    def _tick(self) -> float:
        """The time. What it alone changes needs no task of its own: nothing depends on it before the next
        one takes a seat or gives one back."""
        now = self.now()
        if now - self._ticked >= _TICK:
            self._ticked = now
            self.fair.tick(now)
        return now

    # --- refusing ---

    def _check(self, key: str) -> None:
        """Beyond what may wait in all, only those are let in who have nothing in line: they are no crowd."""
        own = self._new.get(key, 0)
        if own >= self._queue:
            raise self._refuse(TenantQueueFull, f"{own} of the tenant's requests wait already")
        if own and sum(self._new.values()) >= self._queue * _CROWD:
            raise self._refuse(StoreSaturated, "Too many requests wait already")

    def _in_vain(self, key: str, weight: float) -> GatewayError:
        """For who has waited for nothing: its own doing if the tenant is inside, or has had its share."""
        flow, now = self.fair.flows.get(key), self.now()
        share = self.fair.fair_seats(weight) * WINDOW
        if flow is not None and (flow.inside or self._new.get(key, 0) > 1 or flow.recent(now) > share / 2):
            return self._refuse(TenantQueueFull, "The tenant's own requests are in the way")
        return self._refuse(StoreSaturated, "Other requests are in the way")

    def _refuse(self, kind: type[TenantQueueFull | StoreSaturated], why: str) -> GatewayError:
        """When to come back is told so that not all come at the same time."""
        self.refused[kind.code] += 1
        return kind(f"{why}: the {self.what} are all taken.", retry_after=1.0 + 2.0 * self._random())
