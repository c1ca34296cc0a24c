"""What admission shows: the state of each backend as JSON for people, and instruments for /metrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from heapq import nlargest
from operator import itemgetter
from typing import Any

from gateway.admission.backend_queue import BackendQueue, Waiter
from gateway.core.fairness.queue import Flow
from gateway.core.openmetrics import OTHER, Family, Gauge, Instrument, Samples, labels

_SHOWN = 100  # tenants by backend, of those that wait or are inside
_STEP = 1000  # tenants that are counted in one step
Queues = Mapping[str, BackendQueue]
Values = Mapping[tuple[str, ...], float]


def named_state(name: str, queue: BackendQueue) -> Iterator[tuple[str, dict[str, Any]] | None]:
    """Yields None after each step of work, and then the name and the state of a backend."""
    waiting = yield from waiting_by_tenant(queue)
    inside = yield from _by_tenant(queue, lambda flow: flow.inside)
    yield name, queue.state(waiting, inside)


def waiting_by_tenant(queue: BackendQueue) -> Generator[None, None, dict[str, int]]:
    """How many calls wait, by tenant, of those with the longest queues; all other tenants as `(other)`.
    Yields None between two steps, because there may be many tenants."""
    if not queue.fair.waiting:
        return {}
    return (yield from _by_tenant(queue, lambda flow: len(flow.queue or ())))


def _by_tenant(
    queue: BackendQueue, number: Callable[[Flow[Waiter]], int]
) -> Generator[None, None, dict[str, int]]:
    flows = list(queue.fair.flows.values())
    most: list[tuple[int, str]] = []
    total = 0
    for begin in range(0, len(flows), _STEP):
        if begin:
            yield None
        numbers = [(count, flow.key) for flow in flows[begin : begin + _STEP] if (count := number(flow))]
        total += sum(count for count, _ in numbers)
        most = nlargest(_SHOWN, most + numbers, key=itemgetter(0))
    shown = {key: count for count, key in most}
    rest = total - sum(shown.values())
    return shown | {f"({OTHER})": rest} if rest else shown


def instruments(queues: Queues) -> Iterable[Instrument]:
    """For /metrics. A tenant has a series of its own only while it waits, and only the first hundred of a
    backend."""

    def each(read: Callable[[BackendQueue], float]) -> Callable[[], Values]:
        return lambda: {(name,): read(queue) for name, queue in queues.items() if queue.fair.seats < math.inf}

    def waiting() -> Iterator[tuple[tuple[str, ...], float] | None]:
        for name, queue in list(queues.items()):
            by_tenant = yield from waiting_by_tenant(queue)
            for tenant, count in by_tenant.items():
                yield (name, tenant), count

    return (
        Gauge(
            "gateway_seats",
            "Seats for short requests.",
            each(lambda queue: queue.size),
            ("backend",),
            merge="max",
        ),
        Gauge("gateway_seats_in_use", "Seats taken.", each(lambda queue: queue.fair.inside), ("backend",)),
        Gauge(
            "gateway_streams_in_use",
            "Event streams and WebSockets inside the backend.",
            lambda: {(name,): queue.streams.inside for name, queue in queues.items()},
            ("backend",),
        ),
        Gauge(
            "gateway_tenant_waiting",
            "Requests that wait for a seat.",
            waiting,
            ("backend", "tenant"),
            limit=10_000,
        ),
        Gauge(
            "gateway_virtual_time",
            "Seat time by weight that a tenant has been served which always waited.",
            each(lambda queue: queue.fair.virtual),
            ("backend",),
            merge="max",
        ),
        Gauge(
            "gateway_service_time_seconds",
            "How long a request holds its seat, a moving average.",
            each(lambda queue: queue.fair.service.mean),
            ("backend",),
            unit="seconds",
            merge="max",
        ),
        _Waits(queues),
        _Refused(queues),
    )


class _Waits(Instrument):
    def __init__(self, queues: Queues) -> None:
        about = "Time in the queue, of the requests that had to wait."
        super().__init__(Family("gateway_queue_seconds", "histogram", about, "seconds"))
        self._queues = queues

    def samples(self) -> Samples:
        for backend, queue in list(self._queues.items()):
            yield labels(("backend",), (backend,)), queue.waits


class _Refused(Instrument):
    def __init__(self, queues: Queues) -> None:
        super().__init__(Family("gateway_admission_refused", "counter", "Requests that got no seat."))
        self._queues = queues

    def samples(self) -> Samples:
        for backend, queue in list(self._queues.items()):
            for code, count in list(queue.refused.items()):
                yield labels(("backend", "code"), (backend, code)), count
