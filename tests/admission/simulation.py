"""The seats of one backend on a simulated clock, and what would have become of who was refused.

All that a run depends on is in its requests, so it can be repeated without any refusal: then it is known who
would have had a seat in time.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, cast

from gateway.admission.backend_queue import BackendQueue, Seat, Waiter
from gateway.core.errors import GatewayError
from gateway.core.fairness.queue import Flow
from gateway.core.model import Address, Backend

PATIENCE = 5.0  # seconds that a call may wait
_TICK = 0.5


@dataclass(frozen=True)
class Request:
    """at: seconds. service: how long it holds its seat."""

    at: float
    service: float
    tenant: str = "acme"
    weight: float = 1.0


@dataclass
class Outcome:
    """By the numbers of the requests. waits: of those that got a seat, in seconds. refused: at once, with the
    error. late: those that waited the whole time in vain."""

    waits: dict[int, float] = field(default_factory=dict)
    refused: dict[int, GatewayError] = field(default_factory=dict)
    late: set[int] = field(default_factory=set)


class _Waiter:
    """Stands for the future of a call that waits."""

    def __init__(self, sit: Callable[[Seat], None]) -> None:
        self._sit = sit
        self._done = False

    def done(self) -> bool:
        return self._done

    def set_result(self, seat: Seat) -> None:
        self._done = True
        self._sit(seat)


class Simulation:
    """refuses: whether anybody is refused at once. at(): what else happens."""

    def __init__(self, requests: Iterable[Request], backend: Backend, *, refuses: bool = True) -> None:
        self.now = 0.0
        self.outcome = Outcome()
        self._requests = list(requests)
        self._refuses = refuses
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self.queue = BackendQueue(
            *(backend, 1.0, lambda a: True, lambda a: math.inf, _unavailable),
            *(lambda: self.now, lambda: 0.5, lambda queue: None),
        )
        for number, request in enumerate(self._requests):
            self.at(request.at, lambda number=number: self._arrive(number))

    def at(self, when: float, what: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, (when, self._number, what))

    def run(self) -> Outcome:
        """All that comes, to its end."""
        ticked = 0.0
        while self._events:
            when, _, what = heapq.heappop(self._events)
            while ticked + _TICK <= when:
                ticked = max(ticked + _TICK, when - 20 * _TICK)  # of a long pause its end is enough
                self.now = ticked
                self.queue.tick()
            self.now = when
            what()
        return self.outcome

    def _arrive(self, number: int) -> None:
        request, queue = self._requests[number], self.queue
        seat = queue.try_take(request.tenant, request.weight)
        if seat is not None:
            self._sit(number, seat)
            return
        if self._refuses:
            try:
                queue.check(request.tenant, request.weight, PATIENCE)
            except GatewayError as error:
                self.outcome.refused[number] = error
                return
        waiter = cast(Waiter, _Waiter(lambda seat: self._sit(number, seat)))
        flow = queue.fair.wait(waiter, request.tenant, request.weight, self.now)
        self.at(self.now + PATIENCE, lambda: self._give_up(number, flow, waiter))
        queue.wake()

    def _give_up(self, number: int, flow: Flow[Any], waiter: Waiter) -> None:
        if not waiter.done():
            self.queue.fair.leave(flow, waiter)
            self.outcome.late.add(number)

    def _sit(self, number: int, seat: Seat) -> None:
        request = self._requests[number]
        self.outcome.waits[number] = self.now - request.at
        self.at(self.now + request.service, seat.release)


def _unavailable(backend: Backend) -> GatewayError:
    raise AssertionError("every address is usable")


def threaded(threads: int, **more: Any) -> Backend:
    return Backend("app", "gunicorn", (Address("a"),), threads, **more)


def wrong(requests: list[Request], backend: Backend, since: float = 0.0) -> tuple[int, int, int]:
    """Of the requests since then: how many were refused though they would have had a seat in time had nobody
    been refused, how many waited in vain, and how many there were."""
    outcome = Simulation(requests, backend).run()
    unrefused = Simulation(requests, backend, refuses=False).run()
    numbers = [number for number, request in enumerate(requests) if request.at >= since]
    served, could = (
        Counter(requests[number].tenant for number in numbers if number in found.waits)
        for found in (outcome, unrefused)
    )
    return (could - served).total(), len(outcome.late & set(numbers)), len(numbers)
