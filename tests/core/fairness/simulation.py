"""A backend with seats and tenants that send, on a simulated clock: who waits how long for
core/fairness/queue.py."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from gateway.core.fairness.queue import FairQueue, Flow

_TICK = 0.5


@dataclass
class Sender:
    """A tenant. arrivals: when its requests come, ascending. service: how long one holds its seat.
    patience: seconds after which one leaves the queue."""

    arrivals: Iterable[float]
    service: Callable[[], float]
    weight: float = 1.0
    patience: float = 5.0


def evenly(rate: float, start: float = 0.0) -> Iterator[float]:
    """Evenly spaced arrivals, for ever."""
    number = 0
    while True:
        yield start + number / rate
        number += 1


@dataclass(order=True)
class _Event:
    at: float
    number: int
    what: Callable[[], None] = field(compare=False)


class Simulation:
    """waits: by tenant, (arrival, wait) of each request that got a seat. seat_time: by tenant, (end, seconds)
    of each that is over. left: by tenant, how many lost patience. idle: the most seats that were ever free
    while somebody waited. Each event is checked: never more inside than seats."""

    def __init__(self, queue: FairQueue[int], senders: dict[str, Sender]) -> None:
        self.queue = queue
        self.senders = senders
        self.now = 0.0
        self.waits: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self.seat_time: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self.left: dict[str, int] = defaultdict(int)
        self.idle = 0.0
        self.heavy_taken_over_cap = 0
        self._events: list[_Event] = []
        self._number = 0
        self._places: dict[int, tuple[str, float, Flow[int]]] = {}
        for name, sender in senders.items():
            self._next_arrival(name, iter(sender.arrivals))
        self._at(_TICK, self._tick)

    def run(self, until: float) -> None:
        while self._events and self._events[0].at <= until:
            event = heapq.heappop(self._events)
            self.now = event.at
            event.what()
            self._dispatch()
            queue = self.queue
            assert 0 <= queue.inside <= queue.seats
            assert queue.waiting == sum(1 for _ in queue.items()) if queue.waiting < 50 else True
            if queue.waiting:
                self.idle = max(self.idle, queue.seats - queue.inside)

    def share(self, name: str, since: float) -> float:
        """Its part of the seat time."""
        used = {who: sum(s for at, s in ends if at >= since) for who, ends in self.seat_time.items()}
        return used.get(name, 0.0) / sum(used.values())

    def wait_percentile(self, name: str, part: float, since: float) -> float:
        waits = sorted(wait for at, wait in self.waits[name] if at >= since)
        return waits[int(part * (len(waits) - 1))]

    def _at(self, at: float, what: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, _Event(at, self._number, what))

    def _tick(self) -> None:
        self.queue.tick(self.now)
        self._at(self.now + _TICK, self._tick)

    def _next_arrival(self, name: str, arrivals: Iterator[float]) -> None:
        at = next(arrivals, None)
        if at is not None:
            self._at(at, lambda: self._arrive(name, arrivals))

    def _arrive(self, name: str, arrivals: Iterator[float]) -> None:
        sender, now = self.senders[name], self.now
        self._next_arrival(name, arrivals)
        flow = self.queue.try_take(name, sender.weight, now)
        if flow is not None:
            self._sit(name, flow, now)
            return
        self._number += 1
        item = self._number
        self._places[item] = (name, now, self.queue.wait(item, name, sender.weight, now))
        self._at(now + sender.patience, lambda: self._leave(item))

    def _leave(self, item: int) -> None:
        place = self._places.pop(item, None)
        if place is not None:
            assert self.queue.leave(place[2], item)
            self.left[place[0]] += 1

    def _dispatch(self) -> None:
        while (found := self.queue.next(self.now)) is not None:
            item, flow = found
            name, since, _ = self._places.pop(item)
            self._sit(name, flow, since)

    def _sit(self, name: str, flow: Flow[int], arrived: float) -> None:
        began, charged = self.now, flow.charged
        self.waits[name].append((arrived, began - arrived))

        def done() -> None:
            self.queue.end(flow, charged, began, self.now)
            self.seat_time[name].append((self.now, self.now - began))

        self._at(began + self.senders[name].service(), done)
