"""The forecast of a fair queue: how long a request would wait for a seat, from the tenants that go before it
in the order of core/fairness/queue.py and the rate at which seats are given back.

It decides whether a request that would wait for seconds is refused at once. So it counts what really waits (a
tenant with two requests in its queue delays nobody by more than these), and what the active tenants will go
on asking for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Sized
from itertools import islice
from typing import Any, NamedTuple, Protocol

from gateway.core.fairness.usage import WINDOW, Estimate

_SAMPLE = 32  # tenants that are sampled in each lane
_FRESH = 0.02  # seconds for which a sample is used, unless the queues change much
_ITERATIONS = 3
_SILENCE = 4.0  # of one seat, in service times
_BUSY_LOOP = 1.0  # seconds that our own event loop may be late


class Flow(Protocol):
    """A tenant as the forecast reads it: what core/fairness/queue.py, which makes forecasts, calls a flow."""

    @property
    def tag(self) -> float: ...
    @property
    def weight(self) -> float: ...
    @property
    def heavy(self) -> bool: ...
    @property
    def service(self) -> Estimate: ...
    @property
    def queue(self) -> Sized | None: ...

    def recent(self, now: float) -> float:
        """Seat time of the last `WINDOW` seconds."""
        ...

    def peek(self, now: float) -> float:
        """The same; reading it does not keep the tenant from being forgotten."""
        ...


class Rival(NamedTuple):
    """A tenant that waits, or several, of which one was sampled. tag: of its next request. service: seat time
    of one request of each. backlog: seat time that waits. rate: seats used of late, on average."""

    flow: Flow
    tag: float
    weight: float
    service: float
    backlog: float
    rate: float


class WaitingTenants:
    """A sample of the tenants that wait and of those that are active, for the forecasts of some milliseconds.

    lanes: heaps of (tag, number, flow). active: tenants that hold or held a seat of late, in any order.
    service: service time of tenants not measured yet. waiting: requests that wait now.
    """

    __slots__ = ("_at", "_waiting", "active", "rivals")

    def __init__(
        self,
        lanes: Iterable[Sequence[Any]],
        active: Iterable[Flow],
        service: float,
        waiting: int,
        now: float,
    ) -> None:
        self._waiting = waiting
        self._at = now
        self.rivals: list[Rival] = []
        for lane in lanes:
            step = len(lane) // _SAMPLE + 1
            for entry in islice(lane, 0, None, step):
                if entry[2].entry is entry:
                    self.rivals.append(_rival(entry[2], step, service, now))
        self.active = [(flow, flow.peek(now)) for flow in islice(active, _SAMPLE)]

    def is_current(self, waiting: int, now: float) -> bool:
        """Whether the sample still describes the queues."""
        return now - self._at < _FRESH and abs(waiting - self._waiting) <= 1 + self._waiting // 16

    def seats_used(self, own: Flow | None) -> float:
        """Seats that the waiting tenants other than `own` used of late, on average."""
        return sum(rival.rate for rival in self.rivals if rival.flow is not own)

    def light_share(self, own: Flow | None) -> float:
        """The part of the other tenants' recent seat time that light ones used, which may use the reserve."""
        light = total = 0.0
        for flow, recent in self.active:
            if flow is not own:
                total += recent
                light += 0.0 if flow.heavy else recent
        return light / total if total else 0.0


def _rival(flow: Flow, number: int, service: float, now: float) -> Rival:
    service = number * (flow.service.mean or service)
    rate = number * flow.recent(now) / WINDOW
    return Rival(flow, flow.tag, number * flow.weight, service, len(flow.queue or ()) * service, rate)


def first_free(service: float, seats: float, age: float, silence: float) -> tuple[float, float]:
    """Returns how many seconds a request takes, and how many pass until the first seat is free, all being
    taken.

    age: mean time that the requests inside have been there. silence: time since one began or ended. When that
    is much longer than a request takes, they are stuck and the measured times do not apply: with
    exponentially distributed times so long a silence has a probability of 1 in 50. A short one may be our own
    event loop's.
    """
    if silence > _BUSY_LOOP + service * (1.0 + _SILENCE / seats):
        return silence, silence
    # Seats that were taken one by one are free one by one; those taken at once, after the whole time.
    left = max(service - age, service / 2.0)
    return service, left - service / 2.0 * (1.0 - 1.0 / seats)


def until_served(
    first: float, own: float, tag: float, rivals: Iterable[Rival], flow: Flow | None, free: float
) -> float:
    """Seconds until a seat is free for a request with this tag.

    first: until any seat is free. own: seat time that waits of the request's own tenant, whose flow it is.
    free: seats that serve those who wait. What rivals have with a smaller tag goes first, if it waits already
    or will arrive meanwhile.
    """
    bounds: list[tuple[float, float, float]] = []
    all_work = own
    for other, its_tag, weight, service, backlog, rate in rivals:
        if its_tag <= tag and other is not flow:
            most = (tag - its_tag) * weight + service
            all_work += most
            bounds.append((most, backlog, rate))
    wait = first + all_work / free
    for _ in range(_ITERATIONS):  # which rivals use less than their share depends on the wait itself
        work, rates = own, 0.0
        for most, backlog, rate in bounds:
            if backlog + rate * wait < most:
                work += backlog
                rates += rate
            else:
                work += most
        if rates >= free:
            break
        before, wait = wait, min(wait, first + (work + rates * first) / (free - rates))
        if wait == before:
            break
    return wait
