"""Feeds of one tenant are woken together, and those that stand at the same place read together."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core.errors import StoreUnavailable
from gateway.store.feeds import Wakes
from tests.eventually import eventually

pytestmark = pytest.mark.asyncio


class Log:
    """What was written: feeds read behind a number. readings: how often."""

    def __init__(self) -> None:
        self.last = 0
        self.readings = 0

    async def read(self) -> tuple[int]:
        self.readings += 1
        await asyncio.sleep(0)
        return (self.last,)


async def follow(wakes: Wakes[tuple[int]], log: Log, got: list[tuple[int]], until: int) -> None:
    """A feed, until it has seen a number."""
    event, seen = wakes.join("acme"), (0,)
    try:
        while seen[0] < until:
            event.clear()
            found = await wakes.read("acme", ("orders", seen[0]), log.read())
            if found != seen:
                got.append(found)
                seen = found
            if seen[0] < until:
                await event.wait()
    finally:
        wakes.leave("acme", event)


async def test_a_hundred_feeds_beside_a_writer_read_each_change_once_and_get_one_object() -> None:
    wakes: Wakes[tuple[int]] = Wakes()
    log, feeds, writes = Log(), 100, 2000
    got: list[list[tuple[int]]] = [[] for _ in range(feeds)]
    tasks = [asyncio.create_task(follow(wakes, log, one, writes)) for one in got]
    await asyncio.sleep(0)
    for number in range(1, writes + 1):
        log.last = number
        wakes.notify("acme")
        await asyncio.sleep(0)
    await asyncio.wait_for(asyncio.gather(*tasks), 60)
    assert len({id(found) for one in got for found in one}) <= log.readings
    assert all(one[-1] == (writes,) for one in got)
    assert log.readings < writes / 4, "the writes of one pause are read together"
    assert not wakes.tenants


async def test_a_single_feed_is_woken_at_once_by_each_write() -> None:
    wakes: Wakes[tuple[int]] = Wakes()
    event = wakes.join("acme")
    for _ in range(10):
        event.clear()
        wakes.notify("acme")
        assert event.is_set()
    assert wakes.leave("acme", event)


async def test_a_write_behind_a_wake_is_heard_of_soon_and_never_forgotten() -> None:
    wakes: Wakes[tuple[int]] = Wakes()
    events = [wakes.join("acme") for _ in range(20)]
    wakes.notify("acme")
    for event in events:
        assert event.is_set()
        event.clear()
    wakes.notify("acme")
    wakes.notify("acme")
    assert not any(event.is_set() for event in events)
    await eventually(lambda: all(event.is_set() for event in events))
    assert [wakes.leave("acme", event) for event in events] == [False] * 19 + [True]


async def test_who_was_woken_since_a_reading_began_reads_anew() -> None:
    wakes: Wakes[tuple[int]] = Wakes()
    log = Log()
    event = wakes.join("acme")
    first = asyncio.create_task(wakes.read("acme", (0,), log.read()))
    second = asyncio.create_task(wakes.read("acme", (0,), log.read()))
    await asyncio.sleep(0)
    wakes.notify("acme")
    third = asyncio.create_task(wakes.read("acme", (0,), log.read()))
    await asyncio.gather(first, second, third)
    assert first.result() is second.result()
    assert log.readings == 2
    wakes.leave("acme", event)


async def test_one_that_leaves_ends_no_reading_of_the_others_and_an_error_reaches_all() -> None:
    wakes: Wakes[tuple[int]] = Wakes()
    gate = asyncio.Event()

    async def broken() -> tuple[int]:
        await gate.wait()
        raise StoreUnavailable

    tasks = [asyncio.create_task(wakes.read("acme", (0,), broken())) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.sleep(0)
    gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one) for one in results] == [asyncio.CancelledError, StoreUnavailable, StoreUnavailable]
    await wakes.finish()
