"""What admission costs in this process: a seat taken and given back, a decision, an idle tenant."""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from types import SimpleNamespace
from typing import Any, cast

from gateway.admission.admission import Admission
from gateway.admission.backend_queue import BackendQueue, Seat, Waiter
from gateway.call import Call
from gateway.core.model import Address, Backend, Route, Tenant, TenantId
from tests.bench.reports.bars import bar

TAKE, DECISION = 4.0, 20.0  # microseconds
TENANTS = 10_000
_BACKEND = Backend("b", "gunicorn", (Address("127.0.0.1:8000", "127.0.0.1", 8000),), 8)


class _Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def run(quick: bool) -> dict[str, Any]:
    """Gives what goes into the JSON result; times in microseconds."""
    times, repeats = (20_000, 3) if quick else (100_000, 5)
    return {
        "times": times,
        "repeats": repeats,
        "tenants": TENANTS,
        "take_us": min(_take(times, 1) for _ in range(repeats)),
        "take_many_us": min(_take(times, 100) for _ in range(repeats)),
        "decision_us": min(asyncio.run(_decide(TENANTS)) for _ in range(repeats)),
        # What twice as many leave, less what so many do: not what Python keeps for its next dict.
        "idle_bytes": max(0, asyncio.run(_idle(2 * TENANTS)) - asyncio.run(_idle(TENANTS))) / TENANTS,
    }


def bars(found: dict[str, Any]) -> list[dict[str, Any]]:
    tenants = f"{found['tenants']:,}"
    return [
        bar("a seat taken and given back", found["take_us"], TAKE, unit="µs"),
        bar("the same, 100 tenants by turns", found["take_many_us"], TAKE, unit="µs"),
        bar(f"a decision with {tenants} tenants waiting", found["decision_us"], DECISION, unit="µs"),
        bar(f"memory of an idle tenant, of {tenants}", round(found["idle_bytes"], 2), 0, unit="bytes"),
    ]


def _take(times: int, tenants: int) -> float:
    """Process CPU of one try_admit and release, on the real clock."""
    admission = Admission()
    admission.reconcile({"b": _BACKEND})
    calls = [_call(f"tenant-{number}") for number in range(tenants)] * (times // tenants)
    admit = admission.try_admit
    began = time.process_time()
    for call in calls:
        seat = admit(call, _BACKEND)
        assert seat is not None
        seat.release()
    return 1e6 * (time.process_time() - began) / len(calls)


def _call(tenant: str) -> Call:
    who = Tenant(TenantId(tenant), tenant)
    return cast(Call, SimpleNamespace(tenant=who, route=Route("r", "/", "b", None)))


async def _decide(tenants: int) -> float:
    """A seat given back, and who is next found and told; one of each tenant waits all the time."""
    clock = _Clock()
    queue = _queue(clock)
    held = [queue.try_take(f"first-{number}", 1.0) for number in range(8)]
    seats = [seat for seat in held if seat is not None]
    loop = asyncio.get_running_loop()
    waiters: list[Waiter] = [loop.create_future() for _ in range(2 * tenants)]
    for number, waiter in enumerate(waiters):
        queue.fair.wait(waiter, f"tenant-{number % tenants}", 1.0, clock.now)
    spent = 0.0
    waiting = iter(waiters)
    for _ in range(tenants):
        seat = seats.pop(0)
        clock.now += 0.15  # nobody is known to be so quick that newcomers would leave the reserve
        began = time.process_time()
        seat.release()
        spent += time.process_time() - began
        waiter = next(waiting)
        assert waiter.done(), "the first of each tenant go in the order in which they came"
        seats.append(waiter.result())
    return 1e6 * spent / tenants


def _queue(clock: _Clock) -> BackendQueue:
    """The queue of the backend, as Admission makes it."""
    admission = Admission(now=clock, random=lambda: 0.5)
    admission.reconcile({"b": _BACKEND})
    return admission._queues["b"]


async def _idle(tenants: int) -> int:
    """Bytes that are left of tenants which waited, were served, and then were idle for a while."""
    clock = _Clock()
    queue = _queue(clock)
    await _crowd(queue, clock, 1_000)  # Python's own free lists fill once
    _pass(queue, clock)
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    await _crowd(queue, clock, tenants)
    _pass(queue, clock)
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return after - before


async def _crowd(queue: BackendQueue, clock: _Clock, tenants: int) -> None:
    loop = asyncio.get_running_loop()
    inside: list[Seat] = []
    waiters: list[Waiter] = []
    for number in range(tenants):
        seat = queue.try_take(f"tenant-{number}", 1.0)
        if seat is not None:
            inside.append(seat)
            continue
        waiter: Waiter = loop.create_future()
        queue.fair.wait(waiter, f"tenant-{number}", 1.0, clock.now)
        waiters.append(waiter)
    while inside:
        clock.now += 0.05 / 8
        inside.pop(0).release()
        served = [waiter for waiter in waiters[:16] if waiter.done()]
        inside += [waiter.result() for waiter in served]
        waiters = [waiter for waiter in waiters[:16] if not waiter.done()] + waiters[16:]
    assert not waiters


def _pass(queue: BackendQueue, clock: _Clock) -> None:
    """Two minutes in which nobody comes."""
    for _ in range(240):
        clock.now += 0.5
        queue.tick()
