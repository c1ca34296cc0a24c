"""What the console shows of the traffic, read from the metrics."""

from __future__ import annotations

import pytest

from gateway.telemetry.metrics import LATENCY_BOUNDS, Metrics
from gateway.telemetry.traffic import Traffic, quantile


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_look_tells_of_the_requests_since_the_last_one_by_route_and_tenant() -> None:
    metrics, clock = Metrics(), Clock()
    metrics.observe("old", 200, "acme", 0.01)
    traffic = Traffic(metrics, clock)
    for status in (200, 200, 404, 503):
        metrics.observe("shop", status, "acme", 0.004)
    metrics.observe("shop", 200, "globex", 2.0)
    metrics.observe("", 404, "", 0.0001)
    clock.now = 101.5
    seen = traffic.sample()
    assert seen["seconds"] == 1.5
    assert seen["total"]["requests"] == 6
    assert set(seen["routes"]) == {"shop", "none"}
    shop = seen["routes"]["shop"]
    assert (shop["requests"], shop["errors"], shop["refused"]) == (5, 1, 1)
    assert 2.5 < shop["p50"] <= 5 and 1000 < shop["p99"] <= 2500
    assert seen["tenants"]["acme"]["requests"] == 4
    assert traffic.sample()["routes"] == {}


def test_how_long_a_websocket_lived_is_no_latency() -> None:
    metrics = Metrics()
    traffic = Traffic(metrics)
    metrics.websocket_ended("chat", "acme")
    acme = traffic.sample()["tenants"]["acme"]
    assert (acme["requests"], acme["p50"]) == (1, None)


def test_a_route_that_went_and_came_again_is_counted_from_its_return() -> None:
    metrics = Metrics()
    traffic = Traffic(metrics)
    metrics.observe("shop", 200, "acme", 0.01)
    traffic.sample()
    metrics.keep_routes([])
    assert traffic.sample()["routes"] == {}
    metrics.observe("shop", 200, "acme", 0.01)
    assert traffic.sample()["routes"]["shop"]["requests"] == 1


def test_of_too_many_routes_the_busiest_are_shown() -> None:
    metrics = Metrics()
    traffic = Traffic(metrics)
    for number in range(1100):
        metrics.observe(f"r{number}", 200, f"t{number}", 0.01)
    for _ in range(3):
        metrics.observe("r7", 200, "t7", 0.01)
    seen = traffic.sample()
    assert len(seen["routes"]) <= 1001
    assert seen["routes"]["r7"]["requests"] == 4
    assert seen["total"]["requests"] == 1103


@pytest.mark.parametrize(
    ("counts", "part", "value"),
    [
        ([0, 0, 0, 0], 0.5, None),
        ([4, 0, 0, 0], 0.5, 0.5),
        ([0, 4, 0, 0], 0.5, 1.5),
        ([0, 4, 0, 0], 1.0, 2.0),
        ([1, 0, 1, 0], 0.5, 1.0),
        ([0, 0, 0, 3], 0.99, 4.0),
    ],
)
def test_a_quantile_is_linear_within_its_bucket(counts: list[int], part: float, value: float | None) -> None:
    assert quantile((1.0, 2.0, 4.0), counts, part) == value
    assert LATENCY_BOUNDS[0] > 0
