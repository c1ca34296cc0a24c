"""How long a call would have to wait for a seat: what goes before it by the order of core/fairness/queue.py,
at the rate at which seats are given back.

It decides whether a call that would wait for seconds is refused at once. So it counts what is really there (a
tenant with two requests in its queue delays nobody by more than these), and what those who are there will go
on asking for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple

from gateway.core.fairness.flow import Flow
from gateway.core.fairness.usage import WINDOW

_SAMPLE = 32  # tenants looked at, in each lane
_FRESH = 0.02  # seconds for which a look is good enough, unless the queues change much
_ROUNDS = 3
_SILENCE = 4.0  # of one seat, in times that a request takes
_BUSY_LOOP = 1.0  # seconds


class Rival(NamedTuple):
    """A tenant that waits, or some of them, where there are too many to look at all. tag: of its next
    request. service: seat time of one request of each. backlog: what waits. rate: seats used of late."""

    flow: Flow[Any]
    tag: float
    weight: float
    service: float
    backlog: float
    rate: float


class Outlook:
    """A look at all tenants that wait, for the forecasts of the next moment.

    lanes: heaps of (tag, number, flow). active: those that hold or held a seat of late, in any order.
    service: of who was not measured yet.
    """

    __slots__ = ("_at", "_waiting", "active", "rivals")

    def __init__(
        self,
        lanes: Iterable[Sequence[Any]],
        active: Iterable[Flow[Any]],
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
        self.active = [(flow, _recent(flow, now)) for flow in islice(active, _SAMPLE)]

    def holds(self, waiting: int, now: float) -> bool:
        """Whether it still tells how things are."""
        return now - self._at < _FRESH and abs(waiting - self._waiting) <= 1 + self._waiting // 16

    def rate(self, own: Flow[Any] | None) -> float:
        """Seats that the others that wait used of late."""
        return sum(rival.rate for rival in self.rivals if rival.flow is not own)

    def light_part(self, own: Flow[Any] | None) -> float:
        """Of the seat time that the others used of late, the part of those that may use the reserve."""
        light = total = 0.0
        for flow, recent in self.active:
            if flow is not own:
                total += recent
                light += 0.0 if flow.heavy else recent
        return light / total if total else 0.0


def _rival(flow: Flow[Any], stands_for: int, service: float, now: float) -> Rival:
    service = stands_for * (flow.service.mean or service)
    rate = stands_for * flow.recent(now) / WINDOW
    return Rival(flow, flow.tag, stands_for * flow.weight, service, len(flow.queue or ()) * service, rate)


def _recent(flow: Flow[Any], now: float) -> float:
    idle_since = flow.at
    recent = flow.recent(now)
    if not flow.inside:
        flow.at = idle_since  # looking at it does not keep it from being forgotten
    return recent


def first_free(service: float, seats: float, age: float, silence: float) -> tuple[float, float]:
    """How many seconds a request takes, and how many until the first seat is free, all being taken.

    age: for how long those inside have been there, on average. silence: for how long none began or ended.
    When that is much longer than one takes, they are stuck, and what was measured before does not count: of
    times that vary exponentially, so long a silence is a chance of 1 in 50. A short one may be our own.
    """
    if silence > _BUSY_LOOP + service * (1.0 + _SILENCE / seats):
        return silence, silence
    # Taken one by one, the first of many seats is free soon; taken all at once, after the whole time.
    left = max(service - age, service / 2.0)
    return service, left - service / 2.0 * (1.0 - 1.0 / seats)


def until_served(
    first: float, own: float, tag: float, rivals: Iterable[Rival], flow: Flow[Any] | None, free: float
) -> float:
    """Seconds until a seat is free for a call with this tag.

    first: until any is free. own: seat time that waits of its own tenant, whose flow it is. free: seats that
    are left to those who wait. Before it goes what rivals have with a smaller tag, if it is there or will
    come meanwhile.
    """
    bounds: list[tuple[float, float, float]] = []
    all_work = own
    for other, its_tag, weight, service, backlog, rate in rivals:
        if its_tag <= tag and other is not flow:
            most = (tag - its_tag) * weight + service
            all_work += most
            bounds.append((most, backlog, rate))
    wait = first + all_work / free
    for _ in range(_ROUNDS):  # who has less than its share until then is known only by how long that is
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
