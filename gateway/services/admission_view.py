"""What admission shows: a state for people, and instruments for whoever scrapes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from gateway.core.openmetrics import OTHER, Gauge, Instrument, escape, head, labels
from gateway.services.seats import Line

_SHOWN = 100  # tenants by backend, of those that wait
Lines = Mapping[str, Line]
Values = Mapping[tuple[str, ...], float]


def state(line: Line) -> dict[str, Any]:
    """One backend's seats, for people. Times in seconds; None is no limit, or nothing to say yet."""
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
        "waiting_by_tenant": waiting_by_tenant(line),
        "waits": {"p50": _percentile(waits, 0.5), "p99": _percentile(waits, 0.99)},
        "refused": dict(line.refused),
        "virtual_time": round(fair.virtual, 6),
        "service_time": round(fair.service.mean, 6) or None,
        "active_tenants": len(fair.flows),
    }


def waiting_by_tenant(line: Line) -> dict[str, int]:
    """How many wait of the tenants with the longest queues; all the others as one, `other ones`."""
    queues = Counter({flow.key: len(flow.queue) for flow in line.fair.flows.values() if flow.queue})
    shown = dict(queues.most_common(_SHOWN))
    rest = line.fair.waiting - sum(shown.values())
    return shown | {f"({OTHER})": rest} if rest else shown


def instruments(lines: Lines) -> Iterable[Instrument]:
    """For /metrics. Tenants are told apart only while they wait, and only the first hundred of a backend."""

    def each(read: Callable[[Line], float]) -> Callable[[], Values]:
        return lambda: {(name,): read(line) for name, line in lines.items() if line.fair.seats < math.inf}

    def waiting() -> Values:
        return {
            (name, tenant): count
            for name, line in lines.items()
            for tenant, count in waiting_by_tenant(line).items()
        }

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
            for code, count in line.refused.items():
                yield f"{self.name}_total{labels(('backend', 'code'), (backend, code))} {count}\n"


def _finite(number: float) -> int | None:
    return None if number == math.inf else int(number)


def _percentile(ordered: list[float], part: float) -> float | None:
    """By the nearest rank; None of nothing."""
    return round(ordered[max(0, math.ceil(part * len(ordered)) - 1)], 6) if ordered else None
