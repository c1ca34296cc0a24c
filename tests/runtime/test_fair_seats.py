"""Seats inside the process: who goes next, who is refused and why, and that none is ever lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from gateway.core.errors import StoreSaturated, TenantQueueFull
from gateway.runtime.fair_seats import SLICE, FairSeats, Seat


class Clock:
    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


def seats_of(clock: Callable[[], float], number: int = 2, **options: object) -> FairSeats:
    return FairSeats("readers", number, now=clock, random=lambda: 0.5, **options)  # type: ignore[arg-type]


def holds(seat: Seat | None) -> Seat:
    assert seat is not None
    return seat


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def is_empty(seats: FairSeats) -> bool:
    return not seats.fair.inside and not seats.waiting and not seats._new


async def test_heavy_tenants_together_leave_the_reserve_to_a_third(clock: Clock) -> None:
    seats = seats_of(clock, 4, reserve=1)

    def taken() -> list[Seat]:
        tries = [seats.try_take(tenant) for _ in range(4) for tenant in ("a", "b")]
        return [seat for seat in tries if seat is not None]

    for _ in range(100):  # two tenants work all the time for five seconds
        held = taken()
        clock.time += 0.05
        for seat in held:
            seat.release()
    noisy = taken()
    assert len(noisy) == 3
    third = holds(seats.try_take("c"))
    for seat in [*noisy, third]:
        seat.release()
    assert is_empty(seats)


async def test_what_is_short_waits_for_one_slice_of_what_is_long_and_not_for_its_end(clock: Clock) -> None:
    seats = seats_of(clock, 1, reserve=0)
    long = holds(seats.try_take("noisy"))
    clock.time += 10 * SLICE
    assert not long.due  # nobody waits
    short = asyncio.ensure_future(seats.take("quiet"))
    await turns()
    assert long.due
    resumed: list[str] = []
    long.park(lambda: resumed.append("long"))
    await turns()
    assert short.done() and not resumed and not long.held
    clock.time += 0.001
    short.result().release()
    assert resumed == ["long"] and long.held
    long.release()
    assert is_empty(seats)


async def test_slices_of_one_seat_go_round_by_weight(clock: Clock) -> None:
    seats = seats_of(clock, 1, reserve=0)
    had = {"a": 0, "b": 0}

    async def scan(tenant: str, weight: float) -> None:
        async with seats.seat(tenant, weight) as seat:
            while sum(had.values()) < 3000:
                had[tenant] += 1
                clock.time += SLICE
                await seat.turn()

    await asyncio.gather(scan("a", 1.0), scan("b", 2.0), scan("a", 1.0), scan("b", 2.0))
    assert 1.8 < had["b"] / had["a"] < 2.2
    assert is_empty(seats)


async def test_a_tenant_with_many_scans_gives_another_half_of_the_time(clock: Clock) -> None:
    seats = seats_of(clock, 1, reserve=0)
    had = {"noisy": 0, "quiet": 0}

    async def scan(tenant: str) -> None:
        async with seats.seat(tenant) as seat:
            while sum(had.values()) < 2000:
                had[tenant] += 1
                clock.time += SLICE
                await seat.turn()

    await asyncio.gather(*(scan("noisy") for _ in range(20)), scan("quiet"))
    assert had["quiet"] > 900


async def test_who_waits_in_vain_is_told_whose_doing_it_is(clock: Clock) -> None:
    seats = seats_of(clock, 2, reserve=0, wait=0.0)
    first, second = holds(seats.try_take("noisy")), holds(seats.try_take("noisy"))
    clock.time += 1.0
    with pytest.raises(TenantQueueFull) as own:
        await seats.take("noisy")
    assert own.value.status == 429 and own.value.headers["Retry-After"] == "2"
    with pytest.raises(StoreSaturated) as others:
        await seats.take("quiet")
    assert others.value.status == 503 and "readers" in others.value.detail
    assert seats.refused == {"tenant_queue_full": 1, "store_saturated": 1}
    first.release()
    second.release()
    assert is_empty(seats)


async def test_a_full_queue_refuses_its_tenant_at_once_and_nobody_else(clock: Clock) -> None:
    seats = seats_of(clock, 1, reserve=0, queue=3)
    held = holds(seats.try_take("noisy"))
    waiting = [asyncio.ensure_future(seats.take("noisy")) for _ in range(3)]
    await turns()
    with pytest.raises(TenantQueueFull):
        await seats.take("noisy")
    quiet = asyncio.ensure_future(seats.take("quiet"))
    await turns()
    held.release()
    await turns()
    assert quiet.done()
    quiet.result().release()
    for place in waiting:
        (await place).release()
    assert is_empty(seats)


async def test_a_crowd_of_full_queues_refuses_none_that_has_nothing_in_line(clock: Clock) -> None:
    seats = seats_of(clock, 1, reserve=0, queue=2)
    held = holds(seats.try_take("a"))
    waiting = [asyncio.ensure_future(seats.take(f"t{number}")) for number in range(16) for _ in range(2)]
    waiting.append(asyncio.ensure_future(seats.take("quiet")))
    await turns()
    assert not waiting[-1].done()
    with pytest.raises(StoreSaturated):
        await seats.take("quiet")
    held.release()
    for place in waiting:
        (await place).release()
    assert is_empty(seats)


async def test_a_seat_is_given_back_once_however_often_it_is_released(clock: Clock) -> None:
    seats = seats_of(clock, 1)
    seat = holds(seats.try_take("a"))
    seat.release()
    seat.release()
    assert is_empty(seats)
    holds(seats.try_take("a"))
    assert seats.try_take("a") is None


async def test_charged_is_what_was_used_where_that_is_known(clock: Clock) -> None:
    """One that waited for the processor most of its time is not kept from its next turn for that."""
    seats = seats_of(clock, 1, reserve=0)
    had = {"a": 0, "b": 0}

    async def work(tenant: str, part: float) -> None:
        while sum(had.values()) < 600:
            seat = await seats.take(tenant)
            await asyncio.sleep(0)
            had[tenant] += 1
            clock.time += 0.004
            seat.release(0.004 * part)

    await asyncio.gather(*(work("a", 1.0) for _ in range(3)), *(work("b", 0.25) for _ in range(3)))
    assert had["b"] > 3 * had["a"]
    assert is_empty(seats)


async def test_who_is_released_while_it_is_parked_leaves_the_queue_and_is_not_called(clock: Clock) -> None:
    seats = seats_of(clock, 1, reserve=0)
    long = holds(seats.try_take("a"))
    short = asyncio.ensure_future(seats.take("b"))
    await turns()
    called: list[bool] = []
    long.park(lambda: called.append(True))
    await turns()
    long.release()
    short.result().release()
    assert not called and is_empty(seats)


async def test_no_seat_is_lost_whenever_waiters_are_cancelled(clock: Clock) -> None:
    lots = random.Random(7)
    seats = seats_of(clock, 3, wait=1000.0)

    async def work(tenant: str) -> None:
        async with seats.seat(tenant) as seat:
            for _ in range(lots.randrange(4)):
                clock.time += lots.random() * 2 * SLICE
                await seat.turn()

    for _ in range(200):
        tasks = [asyncio.ensure_future(work(lots.choice("abcd"))) for _ in range(12)]
        for _ in range(lots.randrange(20)):
            lots.choice(tasks).cancel()
            await asyncio.sleep(0)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert is_empty(seats)
