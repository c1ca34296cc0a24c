"""How long a call would have to wait for a seat: what goes before it by the order of core/fair.py, at the
rate at which seats are given back.

It decides whether a call that would wait for seconds is refused at once. So it counts what is really there (a
tenant with two requests in its queue delays nobody by more than these), and what those who are there will go
on asking for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from gateway.core.flow import Flow
from gateway.core.usage import WINDOW

_ROUNDS = 3
_SILENCE = 4.0  # of one seat, in times that a request takes
_BUSY_LOOP = 1.0  # seconds


@dataclass(frozen=True, slots=True)
class Rival:
    """Another tenant that waits. stands_for: so many tenants, when there are too many to look at all. tag: of
    its next request. service: seconds that each takes. backlog: seat time that waits. rate: seats used."""

    stands_for: int
    tag: float
    weight: float
    service: float
    backlog: float
    rate: float


def rival(flow: Flow[Any], stands_for: int, service: float, now: float) -> Rival:
    """One of those that wait. service: for who has not been measured yet."""
    service = flow.service.mean or service
    backlog = len(flow.queue or ()) * service
    return Rival(stands_for, flow.tag, flow.weight, service, backlog, flow.recent(now) / WINDOW)


def light_part(flows: Iterable[Flow[Any]], own: Flow[Any] | None, now: float) -> float:
    """Of the seat time that the others used of late, the part of those that may use the reserve."""
    light = total = 0.0
    for flow in flows:
        if flow is not own:
            idle_since = flow.at
            recent = flow.recent(now)
            if not flow.inside:
                flow.at = idle_since  # looking at it does not keep it from being forgotten
            total += recent
            light += 0.0 if flow.heavy else recent
    return light / total if total else 0.0


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


def until_served(first: float, own: float, tag: float, rivals: list[Rival], free: float) -> float:
    """Seconds until a seat is free for a call with this tag.

    first: until any is free. own: seat time that waits of its own tenant. free: seats that are left to those
    who wait. Before it goes what rivals have with a smaller tag, if it is there or will come meanwhile.
    """
    bounds = [
        (
            rival.stands_for * ((tag - rival.tag) * rival.weight + rival.service),
            rival.stands_for * rival.backlog,
            rival.stands_for * rival.rate,
        )
        for rival in rivals
        if rival.tag <= tag
    ]
    wait = first + (own + sum(most for most, _, _ in bounds)) / free
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
        wait = min(wait, first + (work + rates * first) / (free - rates))
    return wait
