"""What the requests were like of late: how many, how they ended and how long they took, by route and tenant.

It is read from the histograms of the metrics, so a request costs nothing more for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from operator import add, sub
from time import monotonic
from typing import Any

from gateway.core.openmetrics import Series
from gateway.telemetry.metrics import LATENCY_BOUNDS, Metrics

Keyed = Mapping[tuple[str, int], Series]
_SERVER_ERRORS, _CLIENT_ERRORS = 5, 4
_SWITCHED = 1  # the status class of what became a WebSocket: how long that lived is no latency
_MOST = 1000  # names that are shown


class Traffic:
    """The traffic between two looks. metrics: where requests are counted. now: a clock in seconds."""

    def __init__(self, metrics: Metrics, now: Callable[[], float] = monotonic) -> None:
        self._metrics = metrics
        self._now = now
        self._routes, self._tenants = _Counts(), _Counts()
        self._at = now()
        self.sample()

    def counts(self) -> dict[str, Any]:
        """The requests since the last look: `seconds` since then, and of `routes` and `tenants`, by name and
        status class, how many fell in each bucket of the metrics."""
        before, self._at = self._at, self._now()
        return {
            "seconds": self._at - before,
            "routes": self._routes.since_last(self._metrics.route_series()),
            "tenants": self._tenants.since_last(self._metrics.tenant_series()),
        }

    def sample(self) -> dict[str, Any]:
        """The requests since the last look; see `sample`."""
        return sample([self.counts()])


def sample(looks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the `counts` of each process say together, as JSON: `seconds` since the look before, `total`, and
    by name `routes` and `tenants` that had any requests. Each has `requests`, `errors` (5xx), `refused`
    (4xx), and `p50` and `p99` in milliseconds, which are interpolated within the buckets of the metrics."""
    routes, tenants = (_summed(look[kind] for look in looks) for kind in ("routes", "tenants"))
    total = _summed({"": classes} for classes in routes.values()).get("", {})
    return {
        "seconds": round(max((look["seconds"] for look in looks), default=0.0), 3),
        "total": _view(total),
        "routes": {name: _view(classes) for name, classes in _first(routes)},
        "tenants": {name: _view(classes) for name, classes in _first(tenants)},
    }


_Classes = dict[int, list[int]]  # by status class: how many requests fell in each bucket


def _summed(found: Iterable[Mapping[str, Mapping[Any, list[int]]]]) -> dict[str, _Classes]:
    """Together, by name. The status classes may have become texts on their way, as JSON has them."""
    together: dict[str, _Classes] = {}
    for named in found:
        for name, classes in named.items():
            own = together.setdefault(name, {})
            for status_class, counts in classes.items():
                known = own.get(int(status_class))
                own[int(status_class)] = counts if known is None else list(map(add, known, counts))
    return together


class _Counts:
    """Remembers what was counted at the last look."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], list[int]] = {}

    def since_last(self, series: Keyed) -> dict[str, _Classes]:
        """What was counted since, by name."""
        found: dict[str, _Classes] = {}
        now = {key: one.counts[:] for key, one in series.items()}
        for (name, status_class), counts in now.items():
            known = self._known.get((name, status_class))
            if counts != known:
                new = counts if known is None else list(map(sub, counts, known))
                if any(new):
                    found.setdefault(name, {})[status_class] = new
        self._known = now
        return found


def _first(named: Mapping[str, _Classes]) -> Iterator[tuple[str, _Classes]]:
    """Those with the most requests, where there are too many."""
    if len(named) <= _MOST:
        return iter(named.items())
    busiest = sorted(named.items(), key=lambda item: -sum(map(sum, item[1].values())))
    return iter(busiest[:_MOST])


def _view(classes: _Classes) -> dict[str, Any]:
    timed = [0] * (len(LATENCY_BOUNDS) + 1)
    for status_class, counts in classes.items():
        if status_class != _SWITCHED:
            timed = list(map(add, timed, counts))
    return {
        "requests": sum(map(sum, classes.values())),
        "errors": sum(classes.get(_SERVER_ERRORS, ())),
        "refused": sum(classes.get(_CLIENT_ERRORS, ())),
        "p50": _milliseconds(quantile(LATENCY_BOUNDS, timed, 0.5)),
        "p99": _milliseconds(quantile(LATENCY_BOUNDS, timed, 0.99)),
    }


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(1000 * seconds, 3)


def quantile(bounds: Sequence[float], counts: Sequence[int], part: float) -> float | None:
    """The value below which this part of all is, linear within its bucket as by Prometheus;
    in the last bucket, which has no end, its lower bound. None when nothing was counted. counts: of each
    bucket, not cumulative, one more than bounds."""
    totals = list(accumulate(counts))
    if not totals[-1]:
        return None
    rank = part * totals[-1]
    bucket = next(index for index, total in enumerate(totals) if total >= rank and total)
    if bucket == len(bounds):
        return bounds[-1]
    lower = bounds[bucket - 1] if bucket else 0.0
    inside = rank - (totals[bucket] - counts[bucket])
    return lower + (bounds[bucket] - lower) * max(0.0, inside) / counts[bucket]
