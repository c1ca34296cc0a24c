"""Seats inside this process, shared fairly among the tenants: readers of the store, workers, other scarce
things.

The order is that of the backends' seats (core/fairness/queue.py): the tenant with the least seat time by
weight goes next, and heavy tenants together leave a reserve free. Long work holds its seat in slices: after
SLICE it gives the seat to the next one and waits behind the others again (`Seat.turn`), so that short work
waits for a slice, and never for all of the long work. All methods are called on the event loop; threads may
read `Seat.due`.
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
from gateway.core.fairness.queue import FairQueue, Flow
from gateway.core.fairness.usage import WINDOW

SLICE = 0.005  # seconds for which a seat is held while others wait
_TICK = 0.5  # seconds between two calls of FairQueue.tick
_MANY = 16  # full queues: so many may wait in all

Waiter = Callable[["Flow[Waiter]"], bool]  # called with its seat; False: it has left and takes none


class Seat:
    """The right to work now. Release it at the end; a second release does nothing. key, weight: of its
    tenant."""

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
        """Whether it is held now; not while it is parked."""
        return self._flow is not None

    @property
    def due(self) -> bool:
        """Whether its slice is over and others wait, so that `turn` or `park` is due. May be read in any
        thread."""
        return self._seats.waiting > 0 and self.is_over

    @property
    def is_over(self) -> bool:
        """Whether its slice is over. May be read in any thread."""
        return self._seats.now() - self._since >= SLICE

    def release(self, used: float | None = None) -> None:
        """Give it back, or stop waiting for the next slice. used: seconds of work to be charged, if known
        better than by the clock."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._seats.fair.leave(*waiting)
        self._give_back(used)

    def _give_back(self, used: float | None) -> None:
        flow, self._flow = self._flow, None
        if flow is not None:
            self._seats.end(flow, self._charged, self._since if used is None else self._seats.now() - used)

    def park(self, resume: Callable[[], None], used: float | None = None) -> None:
        """Give the seat to others; `resume` is called at its next turn, before this returns if that is at
        once. Not called after a release. used: as in release."""
        self._give_back(used)

        def take(flow: Flow[Waiter]) -> bool:
            self._waiting = None
            self._sit(flow, self._seats.now())
            resume()
            return True

        self._waiting = self._seats.enqueue(take, self.key, self.weight), take
        self._seats.wake()

    async def turn(self) -> None:
        """To be awaited between two steps of long work: if it is due, others have their turn. Yields to the
        event loop in any case."""
        if not self.due:
            await asyncio.sleep(0)
            return
        await self.reacquire()

    async def reacquire(self) -> None:
        """Give the seat to others and wait for the next turn; also after a release."""
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.park(lambda: None if granted.done() else granted.set_result(None))
        try:
            await granted
        except BaseException:
            self.release()
            raise


class FairSeats:
    """A number of seats inside this process.

    what: the seats in the plural, for error messages ("readers of the store"). seats: how many. reserve: of
    these, left free by heavy tenants; a quarter of them, at least one, by default. queue: how many requests
    of one tenant may wait. wait: seconds for which one waits at most. now: a monotonic clock, in seconds.
    random: gives a number in [0, 1). refused: requests by the code of their error.
    """

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
        self.refused: Counter[str] = Counter()
        self._queue = queue
        self._wait = wait
        self._random = random
        self._new: dict[str, int] = {}  # by tenant: requests that wait for their first slice
        self._ticked = now()

    @property
    def waiting(self) -> int:
        """How many wait, those between two slices included."""
        return self.fair.waiting

    # --- taking ---

    def try_take(self, key: str, weight: float = 1.0) -> Seat | None:
        """A seat that is free now; None when there is none, or others wait."""
        now = self._tick()
        flow = self.fair.try_take(key, weight, now)
        return Seat(self, key, weight, flow, now) if flow is not None else None

    def unheld(self, key: str, weight: float) -> Seat:
        """A seat that is not held yet, to be acquired by `park` or `reacquire`: for work that had its first
        slice elsewhere."""
        return Seat(self, key, weight, None, 0.0)

    async def take(self, key: str, weight: float = 1.0, wait: float | None = None) -> Seat:
        """A seat, after at most `wait` seconds (by default those of the constructor).

        Raises TenantQueueFull (429) where the tenant's own work is in the way, else StoreSaturated (503).
        """
        seat = self.try_take(key, weight)
        if seat is not None:
            return seat
        self._check(key)
        granted: asyncio.Future[Flow[Waiter]] = asyncio.get_running_loop().create_future()

        def grant(flow: Flow[Waiter]) -> bool:
            if granted.done():
                return False
            granted.set_result(flow)
            return True

        self._new[key] = self._new.get(key, 0) + 1
        flow = self.enqueue(grant, key, weight)
        try:
            self.wake()
            async with asyncio.timeout(self._wait if wait is None else wait):
                held = await granted
        except BaseException as error:
            if not self.fair.leave(flow, grant) and granted.done() and not granted.cancelled():
                now = self.now()  # it was granted in the moment that the caller left
                self.fair.end(flow, granted.result().charged, now, now, learn=False)
            granted.cancel()
            self.wake()
            if isinstance(error, TimeoutError):
                raise self._timed_out(key, weight) from None
            raise
        finally:
            decrement(self._new, key)
        return Seat(self, key, weight, held, self.now())

    @asynccontextmanager
    async def seat(self, key: str, weight: float = 1.0, wait: float | None = None) -> AsyncIterator[Seat]:
        """`async with seats.seat(tenant) as seat:` is `take`, with the release at the end."""
        seat = await self.take(key, weight, wait)
        try:
            yield seat
        finally:
            seat.release()

    # --- called by the seats ---

    def enqueue(self, waiter: Waiter, key: str, weight: float) -> Flow[Waiter]:
        """Append to the tenant's queue. To be followed by `wake`."""
        return self.fair.wait(waiter, key, weight, self._tick())

    def end(self, flow: Flow[Waiter], charged: float, since: float) -> None:
        """A seat is given back after use. charged, since: as in FairQueue.end."""
        self.fair.end(flow, charged, since, self._tick())
        self.wake()

    def wake(self) -> None:
        """Hand the free seats to waiters."""
        while self.fair.waiting:
            now = self.now()
            found = self.fair.next(now)
            if found is None:
                return
            waiter, flow = found
            if not waiter(flow):
                self.fair.end(flow, flow.charged, now, now, learn=False)

    def _tick(self) -> float:
        """The time. The tick needs no task of its own: nothing depends on it before the next seat is taken or
        given back."""
        now = self.now()
        if now - self._ticked >= _TICK:
            self._ticked = now
            self.fair.tick(now)
        return now

    # --- refusing ---

    def _check(self, key: str) -> None:
        """Raise when no more may wait: of the tenant, or of all, but for a tenant of which none waits."""
        own = self._new.get(key, 0)
        if own >= self._queue:
            raise self._refuse(TenantQueueFull, f"{own} of the tenant's requests wait already")
        if own and sum(self._new.values()) >= self._queue * _MANY:
            raise self._refuse(StoreSaturated, "Too many requests wait already")

    def _timed_out(self, key: str, weight: float) -> GatewayError:
        """The error after a wait in vain: the tenant's own doing if it holds a seat, or has had its share."""
        flow, now = self.fair.flows.get(key), self.now()
        share = self.fair.fair_seats(weight) * WINDOW
        if flow is not None and (flow.inside or self._new.get(key, 0) > 1 or flow.recent(now) > share / 2):
            return self._refuse(TenantQueueFull, "The tenant's own requests are in the way")
        return self._refuse(StoreSaturated, "Other requests are in the way")

    def _refuse(self, kind: type[TenantQueueFull | StoreSaturated], why: str) -> GatewayError:
        """Count a refusal and return its error, with a random Retry-After, so that clients do not all return
        at once."""
        self.refused[kind.code] += 1
        return kind(f"{why}: the {self.what} are all taken.", retry_after=1.0 + 2.0 * self._random())
