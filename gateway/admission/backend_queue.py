"""The queue of one backend: how many seats there are, who is inside at which address, and what waits."""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Any

from gateway.admission.streams import StreamSeats
from gateway.core.counts import decrement
from gateway.core.errors import BackendSaturated, GatewayError, TenantLimit, TenantQueueFull
from gateway.core.fairness.balance import ramped, two_choices, weighted_choice
from gateway.core.fairness.queue import FairQueue, Flow
from gateway.core.model import Address, Backend, Timeouts
from gateway.core.openmetrics import Series

WAIT_BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_REMEMBERED = 1000  # waits, for the percentiles
# A queue that was not drained for as long as a call may wait is a standing queue, and no burst: it makes all
# calls late and serves no more of them. Then a call may wait for this part of its time only (CoDel's idea,
# RFC 8289). Measured at three times the capacity: 0.5 s instead of 4.7 s, and 1 s instead of 10 s until the
# overload is over.
_STANDING_PART = 0.1
# A queue whose first call waited for less than this part of its time counts as drained.
_SHORT_PART = 0.05

Waiter = asyncio.Future["Seat"]


class Seat:
    """The right to have one request inside a backend. Give it back exactly once, by `release`.

    address: where the request goes. stream: whether it is a seat for streams.
    """

    __slots__ = ("_charged", "_flow", "_key", "_on_release", "_queue", "_since", "address", "stream")

    def __init__(
        self,
        queue: BackendQueue,
        address: Address,
        key: str,
        flow: Flow[Waiter] | None,
        since: float,
        charged: float,
    ) -> None:
        self._queue = queue
        self.address = address
        self._key = key
        self._flow = flow
        self._since = since
        self._charged = charged
        self.stream = flow is None
        self._on_release: Callable[[], None] | None = None

    @property
    def wanted(self) -> bool:
        """Whether other tenants wait for a seat of this backend."""
        return self._queue.others_wait(self._flow)

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Those of its backend, as they are now."""
        return self._queue.backend.addresses

    def when_released(self, callback: Callable[[], None]) -> None:
        """Call this when the seat is given back, in place of what was set before."""
        self._on_release = callback

    def release(self, *, used: bool = True) -> None:
        """Give it back. used: whether its time measures how long requests take."""
        try:
            self._queue.give_back(self._flow, self.address, self._key, self._charged, self._since, used=used)
        finally:
            if self._on_release is not None:
                self._on_release()

    def move(self, address: Address) -> bool:
        """Move to another address of the backend. False when that is not usable or has no free seat."""
        if not self._queue.move(self.address, address, stream=self.stream):
            return False
        self.address = address
        self._queue.wake()
        return True

    def become_stream(self) -> None:
        """Exchange it for a seat for streams at the same address: the request has no end in sight.

        Raises BackendSaturated, TenantLimit; then it keeps the seat that it has.
        """
        if self._flow is None:
            return
        self._queue.exchange_for_stream(self._flow, self.address, self._charged, self._since)
        self._flow, self.stream = None, True
        self._queue.wake()


class BackendQueue:
    """The seats of one backend, and the calls that wait for one.

    share: this process's part of the seats. usable(address): whether requests may be sent there.
    age(address): for how many seconds it has been healthy. unavailable(backend): the error when no address is
    usable. now: a monotonic clock, in seconds. random: gives a number in [0, 1). on_idle(queue): nothing is
    inside or waits any more. streams: other seats for streams than its own.

    requests: those inside but for streams, by the text of the address (whose hash is computed once). waits:
    of the calls that had to wait, in seconds. refused: calls by the code of their error.
    """

    def __init__(
        self,
        backend: Backend,
        share: float,
        usable: Callable[[Address], bool],
        age: Callable[[Address], float],
        unavailable: Callable[[Backend], GatewayError],
        now: Callable[[], float],
        random: Callable[[], float],
        on_idle: Callable[[BackendQueue], None],
        streams: StreamSeats | None = None,
    ) -> None:
        self._share = share
        self.usable = usable
        self._age = age
        self._unavailable = unavailable
        self._now = now
        self._random = random
        self._on_idle = on_idle
        self.fair: FairQueue[Waiter] = FairQueue()
        self._turn = 0  # counts up, so that equally busy addresses take turns
        self.requests: dict[str, int] = {}
        self.streams = streams or StreamSeats()
        self.waits = Series(WAIT_BOUNDS)
        self.recent_waits: deque[float] = deque(maxlen=_REMEMBERED)
        self.refused: Counter[str] = Counter()
        self.backend = backend
        self.configure(backend)

    def configure(self, backend: Backend) -> None:
        """Apply what a new snapshot says of the backend; seats that it adds are handed out at once."""
        if not {a.text for a in self.backend.addresses} & {a.text for a in backend.addresses}:
            self.fair.forget_times()  # other servers: the times of the old ones do not apply to them
        self.backend = backend
        self.fair.set_short_wait(_SHORT_PART * (backend.queue_timeout or Timeouts().queue))
        self._seats_each = self._own_share(backend.threads or backend.concurrency)
        streams = backend.streams
        self.streams.resize(math.inf if streams is None else self._own_share(streams) if streams else 0.0)
        self._only_address = backend.addresses[0] if len(backend.addresses) == 1 else None
        self._weighs = backend.slow_start > 0 or len({a.weight for a in backend.addresses}) > 1
        self.wake()

    def _own_share(self, number: int) -> float:
        """This process's share of a number of seats; 0 means no limit."""
        return max(1.0, math.floor(number * self._share + 1e-9)) if number else math.inf

    @property
    def inside(self) -> int:
        """Requests inside, streams included."""
        return self.fair.inside + self.streams.inside

    @property
    def size(self) -> float:
        """The seats that there are, for people."""
        return self.fair.seats

    @property
    def reserve(self) -> int:
        """Those that heavy tenants leave to others, for people."""
        return self.fair.reserve

    # --- taking and giving back ---

    def try_take(self, key: str, weight: float) -> Seat | None:
        """A seat that is free now; None when there is none. Raises BackendUnavailable."""
        address = self._pick()
        if address is None:
            return None
        now = self._now()
        flow = self.fair.try_take(key, weight, now)
        return self._seat(address, flow, now) if flow is not None else None

    def take_at(self, address: Address, key: str) -> Seat | None:
        """A seat at this very address, usable or not; None when none is free there."""
        if not self._has_room(address):
            return None
        self._turn += 1
        now = self._now()
        return self._seat(address, self.fair.enter(key, 1.0, now), now)

    async def wait(self, key: str, weight: float, timeout: float) -> Seat:
        """A seat, after at most `timeout` seconds.

        Raises TenantQueueFull, BackendSaturated (after the timeout), BackendUnavailable (no address is usable
        any more).
        """
        waiter: Waiter = asyncio.get_running_loop().create_future()
        began = self._now()
        flow = self.fair.wait(waiter, key, weight, began)
        try:
            self.wake()
            async with asyncio.timeout(timeout):
                seat = await waiter
        except BaseException as error:
            self.fair.leave(flow, waiter)
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                waiter.result().release(used=False)  # it got its seat in the moment that it left
            waiter.cancel()
            self.settle()
            if isinstance(error, TimeoutError):
                raise self.no_seat(key, weight, timeout) from None
            raise
        waited = self._now() - began
        self.waits.observe(waited)
        self.recent_waits.append(waited)
        return seat

    def try_stream(self, key: str) -> Seat:
        """A seat for a stream; there is no queue for these.

        Raises BackendSaturated, TenantLimit, BackendUnavailable.
        """
        usable = self._usable_or_raise()
        free = [a for a in usable if self._has_stream_room(a)]
        self._check_stream(key, usable, has_seat=bool(free))
        self._turn += 1
        address = self._choose(free, self.streams.held)
        self.streams.begin(address.text, key)
        self.wake()
        return Seat(self, address, key, None, 0.0, 0.0)

    def _check_stream(self, key: str, usable: list[Address], *, has_seat: bool) -> None:
        """has_seat: whether a seat for a stream is free at all."""
        if not has_seat:
            raise self.refuse(BackendSaturated("All seats for streams of the backend are taken."))
        if not self.streams.may_begin(key, [a.text for a in usable], self.backend.reserve):
            text = "The tenant has streams; the free seats for more are kept for other tenants."
            raise self.refuse(TenantLimit(text, retry_after=self.retry_after(1.0)))

    def _seat(self, address: Address, flow: Flow[Waiter], now: float) -> Seat:
        text = address.text
        self.requests[text] = self.requests.get(text, 0) + 1
        return Seat(self, address, flow.key, flow, now, flow.charged)

    def give_back(
        self,
        flow: Flow[Waiter] | None,
        address: Address,
        key: str,
        charged: float,
        since: float,
        *,
        used: bool,
    ) -> None:
        """Take a seat back (see Seat). flow: None of a stream. used: whether its time is a measurement."""
        if not used:  # else the fast path, which takes warm connections only, would use turns up
            self._turn -= 1
        if flow is None:
            self.streams.end(address.text, key)
            if self.backend.threaded:
                self.wake()
        else:
            self.fair.end(flow, charged, since, self._now(), learn=used)
            decrement(self.requests, address.text)
            if self.fair.waiting:
                self.wake()
        if not self.fair.inside:
            self.settle()

    def move(self, old: Address, new: Address, *, stream: bool) -> bool:
        """Count a request at another address. False when that is not usable or full. `wake` afterwards."""
        has_room = self._has_stream_room if stream else self._has_room
        if not self.usable(new) or not has_room(new):
            return False
        if stream:
            self.streams.move(old.text, new.text)
        else:
            self.requests[new.text] = self.requests.get(new.text, 0) + 1
            decrement(self.requests, old.text)
        return True

    def exchange_for_stream(self, flow: Flow[Waiter], address: Address, charged: float, since: float) -> None:
        """Count a request as a stream from now on. Raises BackendSaturated, TenantLimit. `wake`
        afterwards."""
        text = address.text
        self._check_stream(flow.key, self._usable_addresses(), has_seat=self.streams.has_room(text))
        self.fair.end(flow, charged, since, self._now(), learn=False)
        decrement(self.requests, text)
        self.streams.begin(text, flow.key)

    # --- addresses ---

    def _pick(self) -> Address | None:
        """The address for the next request, None when all are full. Raises BackendUnavailable."""
        only = self._only_address
        if only is not None:
            if not self.usable(only):
                raise self.unavailable()
            return only if self._has_room(only) else None
        free = [address for address in self._usable_or_raise() if self._has_room(address)]
        if not free:
            return None
        self._turn += 1
        return self._choose(free, self.requests)

    def _choose(self, free: list[Address], inside: Mapping[str, int]) -> Address:
        """One of these for the next request, by the numbers inside."""
        if not self._weighs:
            return two_choices(free, lambda a: inside.get(a.text, 0), self._random, self._turn)
        slow_start = self.backend.slow_start

        def weight(address: Address) -> float:
            return ramped(address.weight, self._age(address), slow_start) if slow_start else address.weight

        return weighted_choice(free, lambda a: inside.get(a.text, 0), weight, self._random)

    def _has_room(self, address: Address) -> bool:
        inside = self.requests.get(address.text, 0)
        if self.streams.held and self.backend.threaded:  # a stream holds a thread
            inside += self.streams.held.get(address.text, 0)
        return inside < self._seats_each

    def _has_stream_room(self, address: Address) -> bool:
        free = self.streams.has_room(address.text)
        return free and (not self.backend.threaded or self._has_room(address))

    def _usable_addresses(self) -> list[Address]:
        return [address for address in self.backend.addresses if self.usable(address)]

    def _usable_or_raise(self) -> list[Address]:
        """At least one. Raises BackendUnavailable."""
        usable = self._usable_addresses()
        if not usable:
            raise self.unavailable()
        return usable

    def unavailable(self) -> GatewayError:
        """The error for a call while no address is usable."""
        return self.refuse(self._unavailable(self.backend))

    def seats(self) -> float:
        """The seats of the usable addresses, less the threads that streams hold. A request that is still
        inside an address that is not usable any more counts as a seat of its own there."""
        if self._seats_each == math.inf:
            return math.inf
        total = 0.0
        listed = {address.text for address in self._usable_addresses()}
        for text in listed:
            total += self._seats_each - (self.streams.held.get(text, 0) if self.backend.threaded else 0)
        return total + sum(inside for text, inside in self.requests.items() if text not in listed)

    # --- calls that wait ---

    def others_wait(self, flow: Flow[Waiter] | None) -> bool:
        """Whether calls of other tenants than the one of the flow wait."""
        own = flow.queue if flow is not None else None
        return self.fair.waiting > len(own or ())

    def wake(self) -> None:
        """Count the seats again and hand the free ones to the calls that wait. To be called after any change,
        also of what `usable` says."""
        seats = self.seats()
        self.fair.resize(seats, self._reserve(seats))
        if self.fair.waiting and not any(map(self.usable, self.backend.addresses)):
            self._fail_waiters()
        while self.fair.waiting:
            address = self._pick()
            now = self._now()
            found = self.fair.next(now) if address is not None else None
            if found is None or address is None:
                return
            waiter, flow = found
            if waiter.done():  # cancelled, and its task has not run since
                self.fair.end(flow, flow.charged, now, now, learn=False)
            else:
                waiter.set_result(self._seat(address, flow, now))

    def _reserve(self, seats: float) -> int:
        """How many of the seats heavy tenants leave to others."""
        return self._reserve_of(seats)

    def _reserve_of(self, seats: float) -> int:
        if self.backend.reserve is not None:
            return self.backend.reserve
        return 0 if seats < 4 or seats == math.inf else int(seats // 8)

    def _fail_waiters(self) -> None:
        for flow, waiter in list(self.fair.items()):
            self.fair.leave(flow, waiter)
            if not waiter.done():
                waiter.set_exception(self.unavailable())

    def tick(self) -> None:
        """Apply what time alone changes. To be called about twice a second."""
        self.fair.tick(self._now())
        self.wake()

    def settle(self) -> None:
        """Call on_idle if nothing is inside or waits."""
        if not self.requests and not self.streams.held and not self.fair.waiting:
            self._on_idle(self)

    # --- what is shown ---

    def state(self, waiting: Mapping[str, int], inside: Mapping[str, int]) -> dict[str, Any]:
        """What people see of it, as JSON. Times in seconds; None: no limit, or not measured yet. waiting,
        inside: how many calls wait, and have a seat, by tenant."""
        fair, waits = self.fair, sorted(self.recent_waits)
        return {
            "seats": _finite(self.size),
            "in_use": fair.inside,
            "reserve": self.reserve,
            "streams": {"seats": _finite(self.streams.each), "in_use": self.streams.inside},
            "addresses": {
                address.text: {
                    "in_use": self.requests.get(address.text, 0),
                    "streams": self.streams.held.get(address.text, 0),
                    "usable": self.usable(address),
                }
                for address in self.backend.addresses
            },
            "waiting": fair.waiting,
            "waiting_by_tenant": waiting,
            "in_use_by_tenant": inside,
            "waits": {"p50": _percentile(waits, 0.5), "p99": _percentile(waits, 0.99)},
            "refused": dict(self.refused),
            "virtual_time": round(fair.virtual, 6),
            "service_time": round(fair.service.mean, 6) or None,
            "active_tenants": len(fair.flows),
        }

    # --- refusing ---

    def check(self, key: str, weight: float, timeout: float) -> None:
        """Refuse a call of this tenant that need not begin to wait: its queue is full, or by the service time
        and the queue before it, it would not have a seat within `timeout` seconds.

        Raises TenantQueueFull where that is the tenant's own doing, else BackendSaturated; and
        BackendUnavailable.
        """
        self._usable_or_raise()
        now, length = self._now(), self.backend.queue_length
        if not self.fair.must_wait(key, weight, now):
            return
        flow = self.fair.flows[key]
        queue = flow.queue
        standing = queue and now - flow.standing_since > timeout
        patience = timeout * _STANDING_PART if standing else timeout
        wait, alone = self.fair.forecast(key, weight, now)
        if queue and len(queue) >= length:
            text = "The tenant's queue is full."
            raise self.refuse(TenantQueueFull(text, retry_after=self.retry_after(wait)))
        if not length:
            raise self.no_seat(key, weight, wait)
        if wait <= patience:
            return
        if alone > timeout:
            raise self.refuse(self._saturated(wait - patience))
        text = "What the tenant has asked for already takes longer than a call may wait."
        raise self.refuse(TenantQueueFull(text, retry_after=self.retry_after(wait - patience)))

    def no_seat(self, key: str, weight: float, wait: float) -> GatewayError:
        """The error for a call that gets no seat: TenantQueueFull if its tenant holds more than its share of
        the seats, else BackendSaturated. wait: seconds, for Retry-After."""
        flow = self.fair.flows.get(key)
        if flow is not None and flow.inside > self.fair.fair_seats(weight):
            text = "The tenant's own requests hold the seats of the backend."
            return self.refuse(TenantQueueFull(text, retry_after=self.retry_after(wait)))
        return self.refuse(self._saturated(wait))

    def _saturated(self, wait: float) -> GatewayError:
        return BackendSaturated("All seats of the backend are taken.", retry_after=self.retry_after(wait))

    def refuse(self, error: GatewayError) -> GatewayError:
        """Count a refusal. Returns the error, to be raised."""
        self.refused[error.code] += 1
        return error

    def retry_after(self, seconds: float) -> float:
        """Seconds for Retry-After, at random around `seconds`, so that clients do not all return at once."""
        return max(1.0, seconds) * (0.5 + self._random())


def _finite(number: float) -> int | None:
    return None if number == math.inf else int(number)


def _percentile(ordered: list[float], part: float) -> float | None:
    """By the nearest rank; None of an empty list."""
    return round(ordered[max(0, math.ceil(part * len(ordered)) - 1)], 6) if ordered else None
