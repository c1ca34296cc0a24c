"""The heads of the last requests take a bounded memory, whatever clients send."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

from gateway.call import Call, Snapshot
from gateway.core.http import head
from gateway.telemetry.recent import KEPT, LONGEST, RecentRequests

SNAPSHOT = cast(Snapshot, SimpleNamespace(trusted=None))


def call(path: str, *lines: str) -> Call:
    raw = "".join(f"\r\n{line}" for line in ("Host: shop.example", *lines))
    made = Call("GET", path, head.read(raw.encode()), "127.0.0.1", SNAPSHOT)
    made.path, made.status = path, 200
    return made


def test_the_memory_of_the_worst_requests_is_bounded_and_normal_ones_take_little() -> None:
    def worst(number: int) -> Call:
        path = f"/{number}".ljust(LONGEST, "a")
        names = [f"N{number}-{one}{'n' * 50}: {'v' * 400}" for one in range(12)]
        tenants = [f"X-Tenant: {number:06}{'t' * 200}" for _ in range(2)]
        return call(path, *names, *tenants, f"Authorization: Bearer {number}")

    assert _taken(worst(number) for number in range(KEPT + 5000)) < 32 * 1024 * 1024
    assert _taken(call(f"/orders/{number}") for number in range(KEPT + 5000)) < 5 * 1024 * 1024


def _taken(calls: Iterator[Call]) -> int:
    """Bytes that are kept when all of them have ended."""
    recent = RecentRequests()
    tracemalloc.start()
    try:
        for one in calls:
            recent.call_ended(one)
        del one
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
        assert len(recent) == KEPT


def test_what_is_too_long_is_dropped_and_counted() -> None:
    recent = RecentRequests()
    recent.call_ended(call("/" + "a" * LONGEST))
    recent.call_ended(call("/a", *(f"X-Tenant: {'t' * 100}" for _ in range(9))))
    assert (len(recent), recent.dropped) == (0, 2)


def test_neither_calls_nor_heads_nor_snapshots_are_kept_alive() -> None:
    recent = RecentRequests()
    one = call("/a", "X-Large: " + "x" * 8000)
    recent.call_ended(one)
    held: list[Any] = [one.head, one]
    before = [sys.getrefcount(each) for each in held]
    recent.call_ended(one)
    assert [sys.getrefcount(each) for each in held] == before
