"""Tenants, streams and addresses: who gets a seat, who waits, and who is told at once to come back later."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest

from gateway.admission.admission import PUBLIC, Admission, Seat
from gateway.core.errors import (
    BackendSaturated,
    BackendUnavailable,
    TenantLimit,
    TenantQueueFull,
)
from gateway.core.model import Address
from gateway.core.openmetrics import Instrument
from tests.admission.test_admission import backend, call_of, waiting
from tests.eventually import eventually


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def learnt(clock: Clock, where: Any, seconds: float, **more: Any) -> Admission:
    """An admission that has seen each request hold its seat for so long."""
    admission = Admission(now=clock, random=lambda: 0.5, **more)
    seat = admission.try_admit(call_of("teacher"), where)
    assert seat is not None
    clock.now += seconds
    seat.release()
    return admission


def take(admission: Admission, tenant: str, where: Any, count: int) -> list[Seat]:
    seats = [admission.try_admit(call_of(tenant), where) for _ in range(count)]
    return [seat for seat in seats if seat is not None]


async def queued(
    admission: Admission, tenant: str, where: Any, count: int = 1, timeout: float = 60
) -> list[Any]:
    before = waiting(admission)
    tasks = [asyncio.create_task(admission.admit(call_of(tenant), where, timeout)) for _ in range(count)]
    await eventually(lambda: waiting(admission) == before + count)
    return tasks


async def end(tasks: list[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


# --- the order -------------------------------------------------------------------------------------


async def test_the_next_seat_goes_to_the_tenant_that_has_used_the_least() -> None:
    clock, where, order = Clock(), backend(2, reserve=0), []
    admission = learnt(clock, where, 0.05)
    seats = take(admission, "noisy", where, 2)

    async def one(tenant: str) -> None:
        seat = await admission.admit(call_of(tenant), where, 60)
        order.append(tenant)
        clock.now += 0.05
        seat.release()

    tasks = []
    for tenant in ["noisy"] * 6 + ["quiet"] * 2:
        tasks.append(asyncio.create_task(one(tenant)))
        await eventually(lambda: waiting(admission) == len(tasks))
    clock.now += 0.05
    for seat in seats:
        seat.release()
    await asyncio.gather(*tasks)
    assert order.index("quiet") == 0
    assert order[:4].count("quiet") == 2, "the quiet one does not wait for the noisy one's queue"


async def test_calls_without_a_tenant_share_one_queue_that_no_tenant_can_have() -> None:
    clock, where = Clock(), backend(1)
    admission = learnt(clock, where, 0.01)
    seats = take(admission, "acme", where, 1)
    tasks = await queued(admission, "", where, 2)
    assert admission.state()["b"]["waiting_by_tenant"] == {PUBLIC: 2}
    with pytest.raises(ValueError, match="name"):
        call_of(PUBLIC)
    await end(tasks)
    seats[0].release()


async def test_a_light_tenant_takes_the_reserve_without_waiting() -> None:
    clock, where = Clock(), backend(8)
    admission = Admission(now=clock)
    noisy = take(admission, "noisy", where, 9)
    assert len(noisy) == 8, "alone, it has them all"
    waiters = await queued(admission, "quiet", where)
    clock.now += 5
    admission.tick()
    state = admission.state()["b"]
    assert (state["seats"], state["reserve"], state["in_use"]) == (8, 1, 8)
    heavy = await queued(admission, "noisy", where)
    noisy[0].release()
    (await waiters[0]).release()
    assert waiting(admission) == 1, "the heavy one may not have the seat that is free now"
    assert admission.try_admit(call_of("quiet"), where) is not None
    await end(heavy)


# --- refused at once -------------------------------------------------------------------------------


async def test_a_full_queue_is_the_tenants_own_doing() -> None:
    clock, where = Clock(), backend(1, queue_length=2)
    admission = Admission(now=clock)
    seats = take(admission, "acme", where, 1)
    tasks = await queued(admission, "acme", where, 2)
    for refused in (admission.try_admit, lambda call, b: admission.check(call, b, 60)):
        with pytest.raises(TenantQueueFull) as caught:
            refused(call_of("acme"), where)
        assert caught.value.status == 429
        assert int(caught.value.headers["Retry-After"]) >= 1
    others = await queued(admission, "globex", where)  # has a queue of its own
    assert admission.state()["b"]["refused"] == {"tenant_queue_full": 2}
    await end(tasks + others)
    seats[0].release()


async def test_a_queue_of_length_none_is_no_queue() -> None:
    admission, where = Admission(), backend(1, queue_length=0)
    seats = take(admission, "acme", where, 1)
    with pytest.raises(BackendSaturated):
        admission.try_admit(call_of("globex"), where)
    with pytest.raises(TenantQueueFull):
        admission.try_admit(call_of("acme"), where)
    seats[0].release()


async def test_who_cannot_make_it_in_time_because_of_its_own_backlog_is_told_so_at_once() -> None:
    clock, where = Clock(), backend(2)
    admission = learnt(clock, where, 1.0)
    seats = take(admission, "acme", where, 2)
    tasks = await queued(admission, "acme", where, 10)  # five seconds of work for two seats
    with pytest.raises(TenantQueueFull):
        await admission.admit(call_of("acme"), where, 5.0)
    later = await queued(admission, "acme", where, 1, timeout=8.0)  # who has more time may wait
    other = await queued(admission, "globex", where, 1, timeout=5.0)
    await end(tasks + later + other)
    for seat in seats:
        seat.release()


async def test_a_queue_that_stands_for_long_is_kept_short() -> None:
    """A burst may fill it; who comes when it has not been empty for five seconds does not wait for five."""
    clock, where = Clock(), backend(2, queue_length=1000)
    admission = learnt(clock, where, 0.05)
    seats = take(admission, "acme", where, 2)
    tasks = await queued(admission, "acme", where, 100, timeout=60)  # 2.5 seconds of work
    admission.check(call_of("acme"), where, 5.0)
    clock.now += 5.1
    for seat in seats:
        seat.release()
    with pytest.raises(TenantQueueFull):
        admission.check(call_of("acme"), where, 5.0)
    admission.check(call_of("globex"), where, 5.0)
    await end(tasks)


async def test_who_cannot_make_it_because_of_everybody_is_told_so_at_once() -> None:
    clock, where = Clock(), backend(1)
    admission = learnt(clock, where, 1.0)
    seats = take(admission, "t0", where, 1)
    tasks = [task for i in range(1, 12) for task in await queued(admission, f"t{i}", where)]
    with pytest.raises(BackendSaturated) as caught:
        await admission.admit(call_of("late"), where, 5.0)
    assert int(caught.value.headers["Retry-After"]) >= 1
    assert waiting(admission) == 11
    await end(tasks)
    seats[0].release()


async def test_seats_that_are_stuck_do_not_promise_what_they_did_before() -> None:
    """Requests took 10 ms; now none has ended for ten seconds."""
    clock, where = Clock(), backend(1)
    admission = learnt(clock, where, 0.01)
    seats = take(admission, "a", where, 1)
    clock.now += 30
    with pytest.raises(BackendSaturated):
        await admission.admit(call_of("b"), where, 5.0)
    seats[0].release()


async def test_who_waited_in_vain_while_it_holds_more_than_its_share_did_it_itself() -> None:
    where = backend(4)
    admission = Admission()
    seats = take(admission, "hog", where, 3) + take(admission, "other", where, 1)
    for tenant, error in (("hog", TenantQueueFull), ("other", BackendSaturated)):
        with pytest.raises(error):
            await admission.admit(call_of(tenant), where, 0.01)
    for seat in seats:
        seat.release()


async def test_those_who_are_sent_away_are_told_different_times() -> None:
    admission, where = Admission(random=random.Random(1).random), backend(1, queue_length=0)
    queue = admission._queues["b"] if take(admission, "a", where, 1) else None
    assert queue is not None
    assert len({queue.retry_after(20.0) for _ in range(20)}) == 20
    assert all(queue.retry_after(1.0) >= 0.5 for _ in range(20))
    assert all(10 <= queue.retry_after(20.0) <= 30 for _ in range(20))


async def test_who_leaves_frees_its_place_in_the_queue() -> None:
    admission, where = Admission(), backend(1, queue_length=1)
    seats = take(admission, "acme", where, 1)
    gone = await queued(admission, "acme", where)
    await end(gone)
    stays = await queued(admission, "acme", where)
    seats[0].release()
    (await stays[0]).release()
    assert admission.in_use() == {"b": 0}


async def test_a_seat_that_was_not_used_says_nothing_of_how_long_requests_take() -> None:
    """It is given back where there is no warm connection, and where connecting fails."""
    clock, where = Clock(), backend(1)
    admission = learnt(clock, where, 1.0)
    for _ in range(50):
        for seat in take(admission, "acme", where, 1):
            seat.release(used=False)
    assert admission.state()["b"]["service_time"] == 1.0


# --- the tenant's own limit ------------------------------------------------------------------------


async def test_a_tenant_has_no_more_calls_under_way_than_it_may_at_all_backends_together() -> None:
    admission, here, there = Admission(), backend(1, name="here"), backend(0, name="there")
    limited = call_of("acme", concurrency=3)
    seats = [admission.try_admit(limited, here), admission.try_admit(limited, there)]
    waiter = asyncio.create_task(admission.admit(limited, here, 5))
    await eventually(lambda: admission.waiting()["here"] == 1)
    for refused in (admission.try_admit, admission.admit_stream):
        with pytest.raises(TenantLimit) as caught:
            refused(limited, there)
        assert caught.value.status == 429
    assert admission.try_admit(call_of("globex"), there) is not None
    await end([waiter])  # one that waits counts, until it leaves
    stream = admission.admit_stream(limited, there)
    with pytest.raises(TenantLimit):
        admission.check(limited, there, 5)
    for seat in (*seats, stream):
        assert seat is not None
        seat.release()
    assert not admission._calls


# --- streams ---------------------------------------------------------------------------------------


def test_streams_hold_some_of_the_threads_and_never_all() -> None:
    admission, where = Admission(), backend(4, streams=2)
    seats = take(admission, "acme", where, 4)
    for seat in seats[:2]:
        seat.become_stream()
    for seat in seats[2:]:
        with pytest.raises(BackendSaturated):
            seat.become_stream()
    assert admission.state()["b"]["seats"] == 2
    assert admission.in_use() == {"b": 4}
    assert admission.try_admit(call_of("globex"), where) is None, "no thread is free"
    seats[2].release()
    short = admission.try_admit(call_of("globex"), where)
    assert short is not None
    seats[0].release()
    assert admission.state()["b"]["seats"] == 3
    assert len(take(admission, "acme", where, 2)) == 1


async def test_a_thread_that_a_stream_gives_back_goes_to_who_waits() -> None:
    admission, where = Admission(), backend(2, streams=1)
    one, other = take(admission, "acme", where, 2)
    one.become_stream()
    waiters = await queued(admission, "globex", where)
    one.release()
    (await waiters[0]).release()
    other.release()
    assert admission.in_use() == {"b": 0}


def test_a_stream_of_an_asynchronous_backend_has_a_seat_of_its_own() -> None:
    admission, where = Admission(), backend(0, concurrency=1, streams=1)
    (seat,) = take(admission, "acme", where, 2)
    seat.become_stream()
    seat.become_stream()  # it is one already
    assert len(take(admission, "acme", where, 2)) == 1
    with pytest.raises(BackendSaturated):
        admission.admit_stream(call_of("acme"), where)
    seat.release()
    admission.admit_stream(call_of("acme"), where).release()
    assert admission.state()["b"]["streams"] == {"seats": 1, "in_use": 0}


def test_without_a_number_an_asynchronous_backend_takes_any_number_of_streams() -> None:
    admission, where = Admission(), backend(0)
    streams = [admission.admit_stream(call_of("acme"), where) for _ in range(500)]
    assert admission.state()["b"]["streams"] == {"seats": None, "in_use": 500}
    for seat in streams:
        seat.release()


@pytest.mark.parametrize(
    ("reserve", "most"), [pytest.param(None, 7, id="an eighth"), pytest.param(3, 5, id="as it says"), (0, 8)]
)
def test_a_tenant_that_has_streams_leaves_seats_for_those_of_others(reserve: int | None, most: int) -> None:
    admission, where = Admission(), backend(0, "ab", streams=4, reserve=reserve)
    noisy = [admission.admit_stream(call_of("noisy"), where) for _ in range(most)]
    with pytest.raises(TenantLimit if most < 8 else BackendSaturated) as caught:
        admission.admit_stream(call_of("noisy"), where)
    assert int(caught.value.headers["Retry-After"]) >= 1
    if most < 8:
        quiet = admission.admit_stream(call_of("quiet"), where)
        with pytest.raises(TenantLimit if most < 7 else BackendSaturated):
            admission.admit_stream(call_of("noisy"), where)
        quiet.release()
    for seat in noisy:
        seat.release()
    admission.admit_stream(call_of("noisy"), where).release()
    assert admission.state()["b"]["streams"]["in_use"] == 0


def test_an_answer_that_turns_out_to_be_a_stream_leaves_those_seats_too() -> None:
    admission, where = Admission(), backend(0, streams=8)
    for seat in (seats := take(admission, "noisy", where, 8))[:7]:
        seat.become_stream()
    with pytest.raises(TenantLimit):
        seats[7].become_stream()
    (quiet,) = take(admission, "quiet", where, 1)
    quiet.become_stream()
    for seat in (*seats, quiet):
        seat.release()
    assert admission.in_use() == {"b": 0}


# --- addresses -------------------------------------------------------------------------------------


def test_only_usable_addresses_get_requests_and_without_one_the_answer_comes_at_once() -> None:
    dead: set[str] = {"a"}
    admission, where = Admission(usable=lambda a: a.text not in dead), backend(2, "abc")
    seats = take(admission, "acme", where, 6)
    assert sorted(seat.address.text for seat in seats) == ["b", "b", "c", "c"]
    assert admission.state()["b"]["seats"] in (4, 6)
    dead.update("bc")
    for refused in (admission.try_admit, admission.admit_stream):
        with pytest.raises(BackendUnavailable):
            refused(call_of("acme"), where)
    dead.clear()
    admission.tick()
    assert {seat.address.text for seat in take(admission, "acme", where, 2)} == {"a"}


async def test_an_address_that_recovers_lets_those_in_who_wait() -> None:
    dead: set[str] = {"a"}
    admission, where = Admission(usable=lambda a: a.text not in dead), backend(1, "ab")
    seats = take(admission, "acme", where, 2)
    waiters = await queued(admission, "acme", where)
    dead.clear()
    admission.wake("b")
    admission.wake("nothing")
    assert (await waiters[0]).address.text == "a"
    seats[0].release()


async def test_those_who_wait_are_sent_home_when_no_address_is_usable_any_more() -> None:
    dead: set[str] = set()
    admission, where = Admission(usable=lambda a: a.text not in dead), backend(1)
    seats = take(admission, "acme", where, 1)
    waiters = await queued(admission, "acme", where, 3)
    dead.add("a")
    admission.wake("b")
    for waiter in waiters:
        with pytest.raises(BackendUnavailable):
            await waiter
    assert admission.state()["b"]["refused"] == {"backend_unavailable": 3}
    with pytest.raises(BackendUnavailable):
        admission.check(call_of("acme"), where, 5)
    seats[0].release()
    assert (admission.in_use(), admission.waiting()) == ({"b": 0}, {"b": 0})


async def test_what_hangs_at_a_dead_address_takes_no_seat_from_a_live_one() -> None:
    dead: set[str] = {"b"}
    admission, where = Admission(usable=lambda a: a.text not in dead), backend(4, "ab")
    seats = take(admission, "acme", where, 4)
    dead.clear()
    dead.add("a")
    admission.wake("b")
    more = take(admission, "acme", where, 5)
    assert [seat.address.text for seat in more] == ["b"] * 4
    for seat in (*seats, *more):
        seat.release()


def test_a_seat_moves_only_where_there_is_room_and_health() -> None:
    dead: set[str] = {"c"}
    admission, where = Admission(usable=lambda a: a.text not in dead), backend(1, "abc")
    one, other = take(admission, "acme", where, 2)
    assert not one.move(other.address)
    assert not one.move(Address("c"))
    other.release()
    target = other.address
    assert one.move(target)
    assert one.address is target
    one.release()
    assert admission.in_use() == {"b": 0}


@pytest.mark.parametrize(("share", "seats"), [(1.0, 8), (1 / 2, 4), (1 / 3, 2), (1 / 100, 1)])
def test_each_of_several_processes_has_its_share_of_the_seats(share: float, seats: int) -> None:
    admission = Admission(share=share)
    assert len(take(admission, "acme", backend(8), 20)) == seats


# --- what is shown, and what it costs --------------------------------------------------------------


def _lines(instrument: Instrument) -> str:
    return "".join(instrument.lines())


async def test_the_state_and_the_metrics_say_who_waits_and_who_was_refused() -> None:
    clock, where = Clock(), backend(2, streams=1, queue_length=3)
    admission = learnt(clock, where, 0.2)
    seats = take(admission, "acme", where, 2)
    tasks = await queued(admission, "acme", where, 3)
    with pytest.raises(TenantQueueFull):
        admission.try_admit(call_of("acme"), where)
    clock.now += 0.2
    seats[0].release()
    (await tasks[0]).release()
    state = json.loads(json.dumps(admission.state()))["b"]
    assert state["addresses"] == {"a": {"in_use": 2, "streams": 0, "usable": True}}
    assert state["waiting_by_tenant"] == {"acme": 1}
    assert state["waits"] == {"p50": 0.2, "p99": 0.2}
    assert state["refused"] == {"tenant_queue_full": 1}
    assert state["virtual_time"] > 0
    assert 0.1 < state["service_time"] <= 0.2
    text = "".join(_lines(instrument) for instrument in admission.instruments())
    for line in (
        'gateway_seats{backend="b"} 2',
        'gateway_seats_in_use{backend="b"} 2',
        'gateway_tenant_waiting{backend="b",tenant="acme"} 1',
        'gateway_queue_seconds_count{backend="b"} 1',
        'gateway_admission_refused_total{backend="b",code="tenant_queue_full"} 1',
    ):
        assert line in text, line
    await end(tasks)


def test_the_metrics_name_no_more_than_a_hundred_tenants_of_a_backend() -> None:
    async def fill() -> tuple[dict[str, int], list[Any]]:
        admission, where = Admission(), backend(1)
        take(admission, "acme", where, 1)
        tasks = [task for i in range(150) for task in await queued(admission, f"t{i}", where)]
        shown = admission.state()["b"]["waiting_by_tenant"]
        await end(tasks)
        return shown, tasks

    shown, _ = asyncio.run(fill())
    assert len(shown) == 101
    assert shown["(other)"] == 50


def test_of_each_tenant_it_is_known_where_it_waits_however_many_there_are() -> None:
    async def fill() -> list[dict[str, dict[str, int]]]:
        admission, where = Admission(), backend(1)
        take(admission, "acme", where, 1)
        tasks = [task for i in range(150) for task in await queued(admission, f"t{i}", where)]
        names = ("acme", "t0", "t149", "nobody")
        found = [admission.of_tenant(name) for name in names]
        await end(tasks)
        return found

    waits = {"b": {"in_use": 0, "waiting": 1}}
    assert asyncio.run(fill()) == [{"b": {"in_use": 1, "waiting": 0}}, waits, waits, {}]


def test_idle_tenants_are_forgotten() -> None:
    clock, where = Clock(), backend(8)
    admission = Admission(now=clock)
    for number in range(500):
        for seat in take(admission, f"t{number}", where, 1):
            clock.now += 0.001
            seat.release()
    assert admission.state()["b"]["active_tenants"] == 500
    for _ in range(30):
        clock.now += 0.5
        admission.tick()
    assert admission.state()["b"]["active_tenants"] == 0
