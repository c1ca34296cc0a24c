"""What admission shows: a state for people, and instruments for whoever scrapes."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from heapq import nlargest
from operator import itemgetter
from typing import Any

from gateway.admission.seats import Line
from gateway.core.openmetrics import OTHER, Gauge, Instrument, escape, head, labels

_SHOWN = 100  # tenants by backend, of those that wait
_AT_ONCE = 1000  # tenants that are looked at in one step
Lines = Mapping[str, Line]
Values = Mapping[tuple[str, ...], float]


def named_state(name: str, line: Line) -> Iterator[tuple[str, dict[str, Any]] | None]:
    """Steps of work (None), and then the name and the state of a backend."""
    waiting = yield from waiting_by_tenant(line)
    yield name, state(line, waiting)


def state(line: Line, waiting: Mapping[str, int]) -> dict[str, Any]:
    """One backend's seats, for people. Times in seconds; None is no limit, or nothing to say yet. waiting:
    how many wait of which tenants."""
    fair, waits = line.fair, sorted(line.recent_waits)
    return {
        "seats": _finite(fair.seats),
        "in_use": fair.inside,
        "reserve": fair.reserve,
        "streams": {"seats": _finite(line.streams.each), "in_use": sum(line.streams.held.values())},
        "addresses": {
            address.text: {
                "in_use": line.short.get(address.text, 0),
                "streams": line.streams.held.get(address.text, 0),
                "usable": line.usable(address),
            }
            for address in line.backend.addresses
        },
        "waiting": fair.waiting,
        "waiting_by_tenant": waiting,
        "waits": {"p50": _percentile(waits, 0.5), "p99": _percentile(waits, 0.99)},
        "refused": dict(line.refused),
        "virtual_time": round(fair.virtual, 6),
        "service_time": round(fair.service.mean, 6) or None,
        "active_tenants": len(fair.flows),
    }


def waiting_by_tenant(line: Line) -> Generator[None, None, dict[str, int]]:
    """How many wait of the tenants with the longest queues; all the others as one, `(other)`. In steps, for
    there may be many tenants."""
    if not line.fair.waiting:
        return {}
    flows = list(line.fair.flows.values())
    longest: list[tuple[int, str]] = []
    total = 0
    for begin in range(0, len(flows), _AT_ONCE):
        if begin:
            yield None
        queues = [(len(f.queue), f.key) for f in flows[begin : begin + _AT_ONCE] if f.queue]
        total += sum(length for length, _ in queues)
        longest = nlargest(_SHOWN, longest + queues, key=itemgetter(0))
    shown = {key: length for length, key in longest}
    rest = total - sum(shown.values())
    return shown | {f"({OTHER})": rest} if rest else shown


def instruments(lines: Lines) -> Iterable[Instrument]:
    """For /metrics. Tenants are told apart only while they wait, and only the first hundred of a backend."""

    def each(read: Callable[[Line], float]) -> Callable[[], Values]:
        return lambda: {(name,): read(line) for name, line in lines.items() if line.fair.seats < math.inf}

    def waiting() -> Iterator[tuple[tuple[str, ...], float] | None]:
        for name, line in list(lines.items()):
            by_tenant = yield from waiting_by_tenant(line)
            for tenant, count in by_tenant.items():
                yield (name, tenant), count

    return (
        Gauge("gateway_seats", "Seats for short requests.", each(lambda line: line.fair.seats), ("backend",)),
        Gauge("gateway_seats_in_use", "Seats taken.", each(lambda line: line.fair.inside), ("backend",)),
        Gauge(
            "gateway_streams_in_use",
            "Event streams and WebSockets inside the backend.",
            lambda: {(name,): sum(line.streams.held.values()) for name, line in lines.items()},
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
            each(lambda line: line.fair.virtual),
            ("backend",),
        ),
        Gauge(
            "gateway_service_time_seconds",
            "How long a request holds its seat, a moving average.",
            each(lambda line: line.fair.service.mean),
            ("backend",),
            unit="seconds",
        ),
        _Waits(lines),
        _Refused(lines),
    )


class _Waits:
    name = "gateway_queue_seconds"

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    def lines(self) -> Iterator[str]:
        yield head(self.name, "histogram", "Time in line, of those that had to wait.", "seconds")
        for backend, line in list(self._lines.items()):
            yield line.waits.text(self.name, f'backend="{escape(backend)}"')


class _Refused:
    name = "gateway_admission_refused"

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    def lines(self) -> Iterator[str]:
        yield head(self.name, "counter", "Requests that got no seat.")
        for backend, line in list(self._lines.items()):
            for code, count in list(line.refused.items()):
                yield f"{self.name}_total{labels(('backend', 'code'), (backend, code))} {count}\n"


def _finite(number: float) -> int | None:
    return None if number == math.inf else int(number)


def _percentile(ordered: list[float], part: float) -> float | None:
    """By the nearest rank; None of nothing."""
    return round(ordered[max(0, math.ceil(part * len(ordered)) - 1)], 6) if ordered else None
