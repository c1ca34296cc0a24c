"""Seats: never more inside than there are, first come first served, nothing leaks."""

from __future__ import annotations

import asyncio
import random
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.admission.admission import Admission, Seat
from gateway.call import Call
from gateway.core.errors import BackendSaturated
from gateway.core.model import Address, Backend, Tenant, TenantId, Timeouts
from tests.eventually import eventually, head_start

ROUTE = SimpleNamespace(timeouts=Timeouts())


def call_of(tenant: str = "", **more: Any) -> Call:
    """A call of this tenant; of a public route without one."""
    who = Tenant(TenantId(tenant), tenant, **more) if tenant else None
    return cast(Call, SimpleNamespace(tenant=who, route=ROUTE))


CALL = call_of()


def backend(threads: int = 1, addresses: str = "a", name: str = "b", **more: Any) -> Backend:
    return Backend(name, "gunicorn", tuple(Address(text) for text in addresses), threads, **more)


def waiting(admission: Admission, name: str = "b") -> int:
    return admission.waiting().get(name, 0)


async def test_never_more_inside_than_seats_times_addresses_whatever_happens() -> None:
    admission, rng = Admission(), random.Random(7)
    where = backend(3, "ab")
    inside: dict[str, int] = {"a": 0, "b": 0}
    served = gone = 0
    highest = 0

    async def one() -> None:
        nonlocal served, gone, highest
        try:
            seat = await admission.admit(CALL, where, rng.choice([0.0, 0.002, 0.05]))
        except BackendSaturated:
            gone += 1
            return
        inside[seat.address.text] += 1
        highest = max(highest, sum(inside.values()))
        assert inside[seat.address.text] <= 3
        try:
            await head_start(rng.random() * 0.004)
        finally:
            inside[seat.address.text] -= 1
            seat.release()
        served += 1

    tasks = [asyncio.create_task(one()) for _ in range(400)]
    for task in rng.sample(tasks, 80):
        await head_start(rng.random() * 0.001)
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert highest == 6
    assert served
    assert gone
    assert admission.in_use() == {"b": 0}
    assert waiting(admission) == 0
    assert not list(admission._queues["b"].fair.items())


async def test_first_come_first_served() -> None:
    admission, order = Admission(), []
    seat = await admission.admit(CALL, backend(), 1)

    async def one(number: int) -> None:
        mine = await admission.admit(CALL, backend(), 1)
        order.append(number)
        mine.release()

    tasks = []
    for number in range(5):
        tasks.append(asyncio.create_task(one(number)))
        await eventually(lambda: waiting(admission) == len(tasks))
    seat.release()
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3, 4]


async def test_who_comes_later_does_not_overtake_who_waits() -> None:
    admission = Admission()
    seat = await admission.admit(CALL, backend(), 1)
    first = asyncio.create_task(admission.admit(CALL, backend(), 1))
    await eventually(lambda: waiting(admission) == 1)
    seat.release()
    with pytest.raises(BackendSaturated):
        await admission.admit(CALL, backend(), 0)
    (await first).release()


async def test_waiting_ends_with_503_and_when_to_come_back() -> None:
    admission = Admission()
    await admission.admit(CALL, backend(), 1)
    began = asyncio.get_running_loop().time()
    with pytest.raises(BackendSaturated) as caught:
        await admission.admit(CALL, backend(), 0.05)
    assert asyncio.get_running_loop().time() - began >= 0.049
    assert caught.value.status == 503
    assert caught.value.headers["Retry-After"] in ("1", "2")
    assert waiting(admission) == 0


async def test_those_who_leave_take_no_place_and_no_memory() -> None:
    admission = Admission()
    seat = await admission.admit(CALL, backend(), 1)
    tasks = [asyncio.create_task(admission.admit(CALL, backend(), 5)) for _ in range(50)]
    await eventually(lambda: waiting(admission) == 50)
    last = asyncio.create_task(admission.admit(CALL, backend(), 5))
    await eventually(lambda: waiting(admission) == 51)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert len(list(admission._queues["b"].fair.items())) == 1
    seat.release()
    (await last).release()
    assert admission.in_use() == {"b": 0}


async def test_a_seat_that_arrives_in_the_moment_of_leaving_goes_to_the_next() -> None:
    admission = Admission()
    seat = await admission.admit(CALL, backend(), 1)
    leaves = asyncio.create_task(admission.admit(CALL, backend(), 5))
    await eventually(lambda: waiting(admission) == 1)
    stays = asyncio.create_task(admission.admit(CALL, backend(), 5))
    await eventually(lambda: waiting(admission) == 2)
    seat.release()  # hands the seat over, and before the task sees it
    leaves.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaves
    (await stays).release()
    assert admission.in_use() == {"b": 0}


async def test_a_backend_without_threads_has_room_for_all() -> None:
    admission = Admission()
    seats = [await admission.admit(CALL, backend(0, "ab"), 0) for _ in range(100)]
    assert admission.in_use() == {"b": 100}
    assert [sum(seat.address.text == text for seat in seats) for text in "ab"] == [50, 50]


async def test_backends_do_not_wait_for_each_other() -> None:
    admission = Admission()
    await admission.admit(CALL, backend(), 0)
    (await admission.admit(CALL, backend(name="other"), 0)).release()


# --- reload ----------------------------------------------------------------------------------------


async def test_more_threads_let_those_in_who_wait() -> None:
    admission = Admission()
    admission.reconcile({"b": backend(1)})
    seats = [await admission.admit(CALL, backend(1), 1)]
    tasks = [asyncio.create_task(admission.admit(CALL, backend(1), 1)) for _ in range(3)]
    await eventually(lambda: waiting(admission) == 3)
    admission.reconcile({"b": backend(3)})
    await eventually(lambda: sum(task.done() for task in tasks) == 2)
    assert waiting(admission) == 1
    seats[0].release()
    for seat in await asyncio.gather(*tasks):
        seat.release()
    assert admission.in_use() == {"b": 0}


async def test_fewer_threads_count_as_seats_are_given_back() -> None:
    admission = Admission()
    admission.reconcile({"b": backend(3)})
    seats: list[Seat] = [await admission.admit(CALL, backend(3), 1) for _ in range(3)]
    admission.reconcile({"b": backend(1)})
    for seat in seats[:2]:
        seat.release()
        with pytest.raises(BackendSaturated):
            await admission.admit(CALL, backend(3), 0)
    seats[2].release()
    (await admission.admit(CALL, backend(3), 0)).release()


async def test_a_call_of_an_older_snapshot_cannot_bring_its_seats_back() -> None:
    admission = Admission()
    admission.reconcile({"b": backend(1)})
    await admission.admit(CALL, backend(8), 0)
    with pytest.raises(BackendSaturated):
        await admission.admit(CALL, backend(8), 0)


async def test_a_removed_backend_is_forgotten_after_its_last_use() -> None:
    admission = Admission()
    admission.reconcile({"b": backend()})
    seat = await admission.admit(CALL, backend(), 0)
    admission.reconcile({})
    assert admission.in_use() == {"b": 1}
    seat.release()
    assert (admission.in_use(), admission.waiting()) == ({}, {})


async def test_a_removed_backend_is_forgotten_after_the_last_who_waits() -> None:
    admission = Admission()
    admission.reconcile({"b": backend()})
    seat = await admission.admit(CALL, backend(), 0)
    served = asyncio.create_task(admission.admit(CALL, backend(), 1))
    gone = asyncio.create_task(admission.admit(CALL, backend(), 1))
    await eventually(lambda: waiting(admission) == 2)
    admission.reconcile({})
    seat.release()
    (await served).release()
    assert admission.in_use() == {"b": 1}  # the one who is last holds the seat now
    (await gone).release()
    assert admission.in_use() == {}


async def test_a_removed_backend_is_forgotten_when_the_last_gives_up() -> None:
    admission = Admission()
    admission.reconcile({"b": backend()})
    seat = await admission.admit(CALL, backend(), 0)
    waiter = asyncio.create_task(admission.admit(CALL, backend(), 1))
    await eventually(lambda: waiting(admission) == 1)
    admission.reconcile({})
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    assert admission.in_use() == {"b": 1}
    seat.release()
    assert admission.in_use() == {}


async def test_a_call_of_an_older_snapshot_leaves_nothing_of_a_removed_backend() -> None:
    admission = Admission()
    admission.reconcile({})
    (await admission.admit(CALL, backend(), 0)).release()
    assert admission.in_use() == {}


async def test_a_backend_that_comes_back_keeps_its_line() -> None:
    admission = Admission()
    admission.reconcile({"b": backend()})
    seat = await admission.admit(CALL, backend(), 0)
    admission.reconcile({})
    admission.reconcile({"b": backend()})
    seat.release()
    assert admission.in_use() == {"b": 0}


async def test_new_addresses_are_used_at_once() -> None:
    admission = Admission()
    admission.reconcile({"b": backend(1, "a")})
    seat = await admission.admit(CALL, backend(1, "a"), 0)
    waiter = asyncio.create_task(admission.admit(CALL, backend(1, "a"), 1))
    await eventually(lambda: waiting(admission) == 1)
    admission.reconcile({"b": backend(1, "ac")})
    assert (await waiter).address.text == "c"
    seat.release()
