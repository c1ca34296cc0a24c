"""Lists on MongoDB match on the event loop: by turns, so that it is never theirs for long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.runtime.fair_seats import FairSeats
from gateway.store.filter import parse as filters
from gateway.store.filter.nodes import Node
from gateway.store.model.sort import SortKey
from gateway.store.mongo.read import query as mongo_query
from gateway.store.mongo.read.query import STEP, Listed, Turn

ROWS = 2000
EACH = STEP / 10  # what one row takes, by the clock of these tests
NONE = filters.parse('{"n":-1}')


class Server:
    """Has all rows at hand: nothing that is asked of it lets the event loop go on. A limit reads on."""

    def __init__(self) -> None:
        self._at = 0

    async def find(self, name: str, query: Any, **options: Any) -> AsyncGenerator[dict[str, Any], None]:
        begin = self._at
        self._at += options.get("limit") or 0
        for number in range(begin, min(ROWS, self._at or ROWS)):
            yield {"id": f"{number:05}", "v": 1, "i": "", "cr": 0.0, "mo": 0.0, "s": 9, "d": {"n": number}}


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        self.time += EACH
        return self.time


def listed(clock: Clock, node: Node, sort: tuple[SortKey, ...] = (), seat: Any = None) -> Listed:
    state: Any = SimpleNamespace(name="orders", usable={}, batch=500)
    return Listed("acme", state, node, sort, 1.0, time.monotonic() + 3600, Turn(seat, clock))


async def page(driver: Any, of: Listed) -> None:
    await mongo_query.read_page(driver, of, 10, None)


async def sorted_page(driver: Any, of: Listed) -> None:
    await mongo_query._sorted_here(driver, of, 10, None)


async def count(driver: Any, of: Listed) -> None:
    await mongo_query.count(driver, of)


async def export(driver: Any, of: Listed) -> None:
    async for _ in mongo_query.scan(driver, of):
        pass


@pytest.mark.parametrize("work", [page, sorted_page, count, export])
async def test_the_loop_goes_on_after_every_step_of_a_list(work: Any) -> None:
    clock, turns = Clock(), 0
    sort = (SortKey(("n",)),) if work is sorted_page else ()
    running = asyncio.ensure_future(work(Server(), listed(clock, NONE, sort)))
    while not running.done():
        turns += 1
        await asyncio.sleep(0)
    await running
    assert turns >= ROWS * EACH / STEP / 2


async def test_a_page_is_served_between_two_steps_of_others_lists() -> None:
    seats_clock = Clock()
    seats = FairSeats("lists", 1, reserve=0, now=seats_clock)
    done: list[str] = []

    async def one(tenant: str, rows: int) -> None:
        async with seats.seat(tenant) as seat:
            of = listed(Clock(), NONE, seat=seat)
            for _ in range(rows):
                await mongo_query.count(Server(), of)  # type: ignore[arg-type]
        done.append(tenant)

    noisy = [asyncio.ensure_future(one(f"noisy-{number}", 20)) for number in range(4)]
    await asyncio.sleep(0)
    await one("quiet", 1)
    assert done == ["quiet"]
    await asyncio.gather(*noisy)
    assert not seats.fair.inside and not seats.waiting


async def test_a_list_that_waits_for_a_worker_process_leaves_its_seat_to_others() -> None:
    seats = FairSeats("lists", 1, reserve=0)
    worked: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def large() -> int:
        async with seats.seat("noisy") as seat:
            found = await Turn(seat).in_worker(worked)
            assert seat.held
        return found

    waiting = asyncio.ensure_future(large())
    await asyncio.sleep(0)
    async with seats.seat("quiet"):  # with one seat only, this is it
        worked.set_result(7)
        await asyncio.sleep(0)
        assert not waiting.done()
    assert await waiting == 7
    assert not seats.fair.inside and not seats.waiting
