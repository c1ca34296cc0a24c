"""The seats of one backend: how many there are, who is inside at which address, and who waits."""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from collections.abc import Callable

from gateway.admission.streams import Streams
from gateway.core.counts import decrement
from gateway.core.errors import BackendSaturated, GatewayError, TenantLimit, TenantQueueFull
from gateway.core.fairness.balance import two_choices
from gateway.core.fairness.flow import Flow
from gateway.core.fairness.queue import FairQueue
from gateway.core.model import Address, Backend, Timeouts
from gateway.core.openmetrics import Series

WAIT_BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_REMEMBERED = 1000  # waits, for the percentiles
# A queue that was never empty for as long as a call may wait is no burst any more: it makes all calls late
# and serves none more. Then a call may only wait for this part of its time (CoDel's idea, RFC 8289). Measured
# with three times too much to do: 0.5 s instead of 4.7 s, and 1 s instead of 10 s until that is over.
_STANDING = 0.1
# Who waits for less than this part of it does not stand in such a queue, though it may never be empty.
_CALM = 0.05

Place = asyncio.Future["Seat"]


class Seat:
    """The right to have one request inside a backend, at one address. Release it exactly once."""

    __slots__ = ("_charged", "_flow", "_key", "_line", "_since", "address", "on_release", "stream")

    def __init__(
        self, line: Line, address: Address, key: str, flow: Flow[Place] | None, since: float, charged: float
    ) -> None:
        self._line = line
        self.address = address
        self._key = key
        self._flow = flow
        self._since = since
        self._charged = charged
        self.stream = flow is None
        self.on_release: Callable[[], None] | None = None

    @property
    def wanted(self) -> bool:
        """Whether other tenants wait for a seat here."""
        own = self._flow.queue if self._flow is not None else None
        return self._line.fair.waiting > len(own or ())

    def release(self) -> None:
        try:
            self._line.give_back(self, used=True)
        finally:
            if self.on_release is not None:
                self.on_release()

    def decline(self) -> None:
        """Give it back before any use: its time does not say how long requests take."""
        self._line.turn -= 1  # else the short way, which only takes warm connections, would use turns up
        try:
            self._line.give_back(self, used=False)
        finally:
            if self.on_release is not None:
                self.on_release()

    def move(self, address: Address) -> bool:
        """Sit at another address of the backend, if it is usable and there is room."""
        return self._line.move(self, address)

    def become_stream(self) -> None:
        """Take a seat for streams at the same address instead: what is inside goes on without an end in
        sight. Raises BackendSaturated, TenantLimit."""
        if not self.stream:
            self._line.become_stream(self)


class Line:
    """One backend's seats. on_idle(line): nobody is inside or waits any more.

    turn: counts up, so that addresses with as much to do take turns.
    short: requests inside by the text of the address (its hash is made once), but for streams. waits: of
    those that had to wait, in seconds. refused: by code.
    """

    def __init__(
        self,
        backend: Backend,
        share: float,
        usable: Callable[[Address], bool],
        unavailable: Callable[[Backend], GatewayError],
        now: Callable[[], float],
        random: Callable[[], float],
        on_idle: Callable[[Line], None],
    ) -> None:
        self._share = share
        self.usable = usable
        self._unavailable = unavailable
        self._now = now
        self._random = random
        self._on_idle = on_idle
        self.fair: FairQueue[Place] = FairQueue()
        self.turn = 0
        self.short: dict[str, int] = {}
        self.streams = Streams()
        self.waits = Series(WAIT_BOUNDS)
        self.recent_waits: deque[float] = deque(maxlen=_REMEMBERED)
        self.refused: Counter[str] = Counter()
        self.backend = backend
        self.configure(backend)

    def configure(self, backend: Backend) -> None:
        """Take over what a new snapshot says; more seats are handed out at once."""
        if not {a.text for a in self.backend.addresses} & {a.text for a in backend.addresses}:
            self.fair.forget_times()  # other servers: how long the old ones took says nothing of them
        self.backend = backend
        self.fair.calm = _CALM * (backend.queue_timeout or Timeouts().queue)
        self._each = self._of(backend.threads or backend.concurrency)
        streams = backend.streams
        self.streams.each = math.inf if streams is None else self._of(streams) if streams else 0.0
        self._alone = backend.addresses[0] if len(backend.addresses) == 1 else None
        self.wake()

    def _of(self, number: int) -> float:
        """This process's share of it; 0 is no limit."""
        return max(1.0, math.floor(number * self._share + 1e-9)) if number else math.inf

    # --- taking and giving back ---

    def try_take(self, key: str, weight: float) -> Seat | None:
        """A seat that is free now. Raises BackendUnavailable."""
        address = self._pick()
        if address is None:
            return None
        now = self._now()
        flow = self.fair.try_take(key, weight, now)
        return self._seat(address, flow, now) if flow is not None else None

    def take_at(self, address: Address, key: str) -> Seat | None:
        """A seat at this very address, usable or not, if one is free there."""
        if not self._has_room(address):
            return None
        self.turn += 1
        now = self._now()
        return self._seat(address, self.fair.enter(key, 1.0, now), now)

    def try_stream(self, key: str) -> Seat:
        """A seat for a stream; it is not worth waiting for. Raises BackendSaturated, TenantLimit, and
        BackendUnavailable."""
        usable = self._usable_ones()
        free = [a for a in usable if self._has_stream_room(a)]
        self._check_stream(key, usable, there=bool(free))
        self.turn += 1
        held = self.streams.held
        address = two_choices(free, lambda a: held.get(a.text, 0), self._random, self.turn)
        self.streams.begin(address.text, key)
        self.wake()
        return Seat(self, address, key, None, 0.0, 0.0)

    def _check_stream(self, key: str, usable: list[Address], *, there: bool) -> None:
        """there: whether there is a seat for a stream at all."""
        if not there:
            raise self.refuse(BackendSaturated("All seats for streams of the backend are taken."))
        if not self.streams.may_begin(key, [a.text for a in usable], self.backend.reserve):
            text = "The tenant has streams; the free seats for more are kept for other tenants."
            raise self.refuse(TenantLimit(text, retry_after=self.later(1.0)))

    def _seat(self, address: Address, flow: Flow[Place], now: float) -> Seat:
        text = address.text
        self.short[text] = self.short.get(text, 0) + 1
        return Seat(self, address, flow.key, flow, now, flow.charged)

    def give_back(self, seat: Seat, *, used: bool) -> None:
        flow = seat._flow
        if flow is None:
            self.streams.end(seat.address.text, seat._key)
            if self.backend.threaded:
                self.wake()
        else:
            self.fair.end(flow, seat._charged, seat._since, self._now(), learn=used)
            decrement(self.short, seat.address.text)
            if self.fair.waiting:
                self.wake()
        if not self.fair.inside:
            self.settle()

    def move(self, seat: Seat, address: Address) -> bool:
        has_room = self._has_stream_room if seat.stream else self._has_room
        if not self.usable(address) or not has_room(address):
            return False
        if seat.stream:
            self.streams.move(seat.address.text, address.text)
        else:
            self.short[address.text] = self.short.get(address.text, 0) + 1
            decrement(self.short, seat.address.text)
        seat.address = address
        self.wake()
        return True

    def become_stream(self, seat: Seat) -> None:
        text = seat.address.text
        self._check_stream(seat._key, self._usable_addresses(), there=self.streams.has_room(text))
        assert seat._flow is not None
        self.fair.end(seat._flow, seat._charged, seat._since, self._now(), learn=False)
        decrement(self.short, text)
        self.streams.begin(text, seat._key)
        seat._flow, seat.stream = None, True
        self.wake()

    # --- addresses ---

    def _pick(self) -> Address | None:
        """Where the next request goes, None when all is full. Raises BackendUnavailable."""
        alone = self._alone
        if alone is not None:
            if not self.usable(alone):
                raise self.unavailable()
            return alone if self._has_room(alone) else None
        free = [address for address in self._usable_ones() if self._has_room(address)]
        if not free:
            return None
        self.turn += 1
        return two_choices(free, lambda a: self.short.get(a.text, 0), self._random, self.turn)

    def _has_room(self, address: Address) -> bool:
        inside = self.short.get(address.text, 0)
        if self.streams.held and self.backend.threaded:  # a stream holds a thread
            inside += self.streams.held.get(address.text, 0)
        return inside < self._each

    def _has_stream_room(self, address: Address) -> bool:
        free = self.streams.has_room(address.text)
        return free and (not self.backend.threaded or self._has_room(address))

    def _usable_addresses(self) -> list[Address]:
        return [address for address in self.backend.addresses if self.usable(address)]

    def _usable_ones(self) -> list[Address]:
        """At least one. Raises BackendUnavailable."""
        usable = self._usable_addresses()
        if not usable:
            raise self.unavailable()
        return usable

    def unavailable(self) -> GatewayError:
        return self.refuse(self._unavailable(self.backend))

    def seats(self) -> float:
        """Those for short requests: of the usable addresses, without the threads that streams hold. What is
        still inside an address that is not usable any more holds a seat of its own there."""
        if self._each == math.inf:
            return math.inf
        total = 0.0
        listed = {address.text for address in self._usable_addresses()}
        for text in listed:
            total += self._each - (self.streams.held.get(text, 0) if self.backend.threaded else 0)
        return total + sum(inside for text, inside in self.short.items() if text not in listed)

    # --- those who wait ---

    def wake(self) -> None:
        """Count the seats anew and hand the free ones to those who wait. Call it when an address is usable
        again, too, or usable no more."""
        seats = self.seats()
        reserve = self.backend.reserve
        if reserve is None:
            reserve = 0 if seats < 4 or seats == math.inf else int(seats // 8)
        self.fair.resize(seats, reserve)
        if self.fair.waiting and not any(map(self.usable, self.backend.addresses)):
            self._send_home()
        while self.fair.waiting:
            address = self._pick()
            now = self._now()
            found = self.fair.next(now) if address is not None else None
            if found is None or address is None:
                return
            place, flow = found
            if place.done():  # its caller left, and has not run since
                self.fair.end(flow, flow.charged, now, now, learn=False)
            else:
                place.set_result(self._seat(address, flow, now))

    def _send_home(self) -> None:
        for flow, place in list(self.fair.items()):
            self.fair.leave(flow, place)
            if not place.done():
                place.set_exception(self.unavailable())

    def tick(self) -> None:
        """About twice a second: what time alone changes."""
        self.fair.tick(self._now())
        self.wake()

    def settle(self) -> None:
        """Say so when it is idle now."""
        if not self.short and not self.streams.held and not self.fair.waiting:
            self._on_idle(self)

    # --- refusing ---

    def check(self, key: str, weight: float, timeout: float) -> None:
        """Refuse a call of this tenant that need not begin to wait: its queue is full, or by the service time
        now and the queue before it, it would not have a seat within `timeout` seconds.

        Raises TenantQueueFull where that is the tenant's own doing, else BackendSaturated; and
        BackendUnavailable.
        """
        self._usable_ones()
        now, length = self._now(), self.backend.queue_length
        if not self.fair.must_wait(key, weight, now):
            return
        flow = self.fair.flows[key]
        queue = flow.queue
        stands = queue and now - flow.began > timeout
        patience = timeout * _STANDING if stands else timeout
        wait, alone = self.fair.forecast(key, weight, now)
        if queue and len(queue) >= length:
            text = "The tenant's queue is full."
            raise self.refuse(TenantQueueFull(text, retry_after=self.later(wait)))
        if not length:
            raise self.came_to_nothing(key, weight, wait)
        if wait <= patience:
            return
        if alone > timeout:
            raise self.refuse(self._saturated(wait - patience))
        text = "What the tenant has asked for already takes longer than a call may wait."
        raise self.refuse(TenantQueueFull(text, retry_after=self.later(wait - patience)))

    def came_to_nothing(self, key: str, weight: float, wait: float) -> GatewayError:
        """The answer for who has waited in vain: its own doing if it holds more than its share of seats."""
        flow = self.fair.flows.get(key)
        if flow is not None and flow.inside > self.fair.fair_seats(weight):
            text = "The tenant's own requests hold the seats of the backend."
            return self.refuse(TenantQueueFull(text, retry_after=self.later(wait)))
        return self.refuse(self._saturated(wait))

    def _saturated(self, wait: float) -> GatewayError:
        return BackendSaturated("All seats of the backend are taken.", retry_after=self.later(wait))

    def refuse(self, error: GatewayError) -> GatewayError:
        self.refused[error.code] += 1
        return error

    def later(self, seconds: float) -> float:
        """When to come back: not all at the same time."""
        return max(1.0, seconds) * (0.5 + self._random())

    def waited(self, seconds: float) -> None:
        self.waits.observe(seconds)
        self.recent_waits.append(seconds)
