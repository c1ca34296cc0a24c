"""What the gateway counts, rendered as OpenMetrics when it is scraped.

Counted on the loop's thread only. No label ever holds a raw path, a subject or a client's address.
"""

from __future__ import annotations

import platform
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from importlib.metadata import version
from time import perf_counter
from typing import Literal

from gateway.call import Call
from gateway.core.openmetrics import (
    CONTENT_TYPE,
    END,
    OTHER,
    Counter,
    Family,
    Gauge,
    Info,
    Instrument,
    Samples,
    Series,
    labels,
)

__all__ = ["CONTENT_TYPE", "Metrics"]

# Seconds. Fine below 10 ms, where the gateway itself shows; up to the default wait for a first byte above.
LATENCY_BOUNDS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1),
    *(0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
ROUTE_LIMIT = 1000
TENANT_LIMIT = 1000
NONE = "none"
_BACKEND_CODES = ("backend_", "store_unavailable")


class _NamedSeries(Instrument):
    """Latencies by a name and a status class: of the first `most` names, then of all the others as one.
    `observe` of Metrics looks into `series` itself."""

    def __init__(self, family: Family, most: int) -> None:
        super().__init__(family)
        self.series: dict[tuple[str, int], Series] = {}
        self._names: set[str] = set()
        self._most = most

    def add_series(self, name: str, status_class: int) -> Series:
        if name not in self._names:
            if len(self._names) < self._most:
                self._names.add(name)
            else:
                name = OTHER
        series = self.series.get((name, status_class))
        if series is None:
            series = self.series[name, status_class] = Series(LATENCY_BOUNDS)
        return series

    def keep(self, names: Collection[str]) -> None:
        kept = {*names, NONE, OTHER}
        self._names &= kept
        self.series = {key: series for key, series in self.series.items() if key[0] in kept}


class _RequestSeconds(_NamedSeries):
    """The latency histogram by route and status class."""

    def __init__(self) -> None:
        about = "Time from the request's head to the response's end."
        super().__init__(Family("gateway_request_seconds", "histogram", about, "seconds"), ROUTE_LIMIT)

    def samples(self) -> Samples:
        for (route, status_class), series in list(self.series.items()):
            yield labels(("route", "status"), (route, _class_name(status_class))), series


class _TenantRequests(_NamedSeries):
    """Requests by tenant and status class. How long they took is kept too, for `gateway.telemetry.traffic`;
    /metrics has the counts alone."""

    def __init__(self) -> None:
        about = "Requests that were given a response."
        super().__init__(Family("gateway_tenant_requests", "counter", about), TENANT_LIMIT)

    def samples(self) -> Samples:
        for (tenant, status_class), series in list(self.series.items()):
            yield labels(("tenant", "status"), (tenant, _class_name(status_class))), sum(series.counts)


def _class_name(status_class: int) -> str:
    """As `2xx`; a request that ended before there was a status (0) is `none`."""
    return f"{status_class}xx" if status_class else NONE


class Metrics:
    """All counters of the gateway, and what others add with `add` and `add_source`."""

    def __init__(self) -> None:
        self.revision = 0
        self.loaded_at = 0.0
        self.draining = False
        self._requests = _RequestSeconds()
        self._tenants = _TenantRequests()
        self._reloads = Counter("gateway_config_reloads", "Routing configs read.", ("result",))
        self._backend_errors = Counter(
            "gateway_backend_errors", "Exchanges with a backend that failed.", ("backend", "code")
        )
        self._websockets = Counter("gateway_websockets_ended", "WebSockets that were open.", ("route",))
        self._restarts = Counter("gateway_child_restarts", "Supervised backends started again.", ("backend",))
        for result in ("applied", "refused"):
            self._reloads.add(result, amount=0)
        self._instruments: list[Instrument] = [
            *(self._requests, self._tenants, self._reloads),
            *(self._backend_errors, self._websockets, self._restarts, *self._own_instruments()),
        ]
        self._sources: list[Callable[[], Iterable[Instrument]]] = []

    def config_loaded(self, revision: int, loaded_at: float) -> None:
        """Another revision of the config is in use. loaded_at: seconds since the epoch."""
        self.revision, self.loaded_at = revision, loaded_at

    def drain_begins(self) -> None:
        """The gateway shuts down."""
        self.draining = True

    def call_ended(self, call: Call) -> None:
        """Count a request that ended, and what failed of it."""
        route = call.route
        name = route.name if route is not None else ""
        tenant = call.tenant.id.value if call.tenant is not None else ""
        if call.status == 101:
            self.websocket_ended(name, tenant)
        else:
            self.observe(name, call.status, tenant, perf_counter() - call.started)
        if call.code and route is not None and call.code.startswith(_BACKEND_CODES):
            self.backend_error(route.target_name, call.code)

    def observe(self, route: str, status: int, tenant: str, seconds: float) -> None:
        """Count a request that ended. route and tenant: names, "" for none. status: 0 when none was sent."""
        status_class = status // 100
        try:
            series = self._requests.series[route or NONE, status_class]
        except KeyError:
            series = self._requests.add_series(route or NONE, status_class)
        bucket = bisect_left(LATENCY_BOUNDS, seconds)
        series.counts[bucket] += 1  # Series.observe, without the call
        series.sum += seconds
        try:
            series = self._tenants.series[tenant or NONE, status_class]
        except KeyError:
            series = self._tenants.add_series(tenant or NONE, status_class)
        series.counts[bucket] += 1

    def websocket_ended(self, route: str, tenant: str) -> None:
        """Count one that was open. How long it lived is no latency of a request."""
        self._websockets.add(route or NONE)
        self._tenants.add_series(tenant or NONE, 1).counts[-1] += 1

    def keep_routes(self, routes: Collection[str]) -> None:
        """After a reload: drop the series of routes that are gone, so that renaming never fills the bound."""
        self._requests.keep(routes)

    def config_reload(self, result: Literal["applied", "refused"]) -> None:
        """Count a change of the routing config."""
        self._reloads.add(result)

    def backend_error(self, backend: str, code: str) -> None:
        """code: that of the GatewayError that the client got."""
        self._backend_errors.add(backend, code)

    def child_restarted(self, backend: str) -> None:
        """Count a restart of a supervised backend."""
        self._restarts.add(backend)

    def backend_gauges(
        self, in_use: Callable[[], Mapping[str, float]], waiting: Callable[[], Mapping[str, float]]
    ) -> None:
        """At each scrape, read by backend: the seats in use, and the requests that wait for one."""
        for name, help_text, read in (
            ("gateway_backend_in_use", "Requests inside the backend.", in_use),
            ("gateway_backend_waiting", "Requests that wait for a seat.", waiting),
        ):
            self.add(Gauge(name, help_text, _by_name(read), ("backend",)))

    def add(self, instrument: Instrument) -> None:
        """Render this too. Raises ValueError when its name is taken: a scraper would refuse it all."""
        if any(instrument.name == other.name for other in self._instruments):
            raise ValueError(f"two metrics have the name {instrument.name}")
        self._instruments.append(instrument)

    def add_source(self, read: Callable[[], Iterable[Instrument]]) -> None:
        """Render what this gives too, at each scrape: instruments whose names nobody else uses."""
        self._sources.append(read)

    def route_series(self) -> Mapping[tuple[str, int], Series]:
        """Latencies by route and status class (2 for 2xx, 0 without a status)."""
        return self._requests.series

    def tenant_series(self) -> Mapping[tuple[str, int], Series]:
        """The same by tenant. Class 1 is WebSockets that ended, counted, whatever they took."""
        return self._tenants.series

    def render(self) -> str:
        """Everything as OpenMetrics text; its media type is CONTENT_TYPE."""
        return "".join(self.parts())

    def parts(self) -> Iterator[str]:
        """The same in small pieces: whoever sends it may let others run between two of them."""
        for instrument in self.instruments():
            yield from instrument.lines()
        yield END

    def instruments(self) -> Iterator[Instrument]:
        """All there are now."""
        yield from self._instruments
        for read in self._sources:
            yield from read()

    def _own_instruments(self) -> Iterator[Instrument]:
        yield Gauge(
            "gateway_config_revision",
            "Revision of the routing config in use.",
            lambda: {(): self.revision},
            merge="min",
        )
        yield Gauge(
            "gateway_config_loaded_timestamp_seconds",
            "When the routing config in use was applied.",
            lambda: {(): self.loaded_at},
            unit="seconds",
            merge="min",
        )
        yield Gauge(
            "gateway_draining",
            "1 while the gateway shuts down.",
            lambda: {(): int(self.draining)},
            merge="max",
        )
        facts = {"version": version("gateway"), "python": platform.python_version()}
        yield Info("gateway_build", "What runs.", facts)


def _by_name(read: Callable[[], Mapping[str, float]]) -> Callable[[], Mapping[tuple[str, ...], float]]:
    return lambda: {(name,): number for name, number in read().items()}
