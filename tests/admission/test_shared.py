"""Seats that several processes share: never more in all than there are, and fair. Each is an object here."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Mapping
from types import SimpleNamespace

import pytest

from gateway.admission.admission import Seat
from gateway.admission.leases import Leases
from gateway.admission.shared import SharedAdmission
from gateway.core.errors import BackendSaturated, GatewayError, TenantLimit
from gateway.core.model import Address, Backend
from gateway.core.shared.ports import Body
from gateway.shared.exchange import Exchange
from gateway.shared.host_seats import HostSeats
from gateway.shared.master import Books
from tests.admission.test_admission import backend, call_of
from tests.eventually import eventually, eventually_await, head_start, takes


class Host:
    """A master, and workers that ask it by a call in place of a channel."""

    def __init__(self, *backends: Backend) -> None:
        self.backends = {one.name: one for one in backends}
        self.seats = HostSeats(self._call, lambda: self.backends)
        self.books = Books({"seats": self.seats})
        self.workers: dict[str, Worker] = {}

    def _call(self, member: str, parts: Mapping[str, int]) -> None:
        if member in self.workers:
            asyncio.get_running_loop().call_soon(self.workers[member].leases.called, dict(parts))

    def worker(self, name: str) -> Worker:
        worker = self.workers[name] = Worker(self, name)
        worker.admission.reconcile(self.backends)
        return worker

    def kill(self, name: str) -> None:
        self.workers.pop(name).die()
        self.books.gone(name)

    def reload(self, *backends: Backend) -> None:
        self.backends = {one.name: one for one in backends}
        for worker in self.workers.values():
            worker.admission.reconcile(self.backends)

    def in_use(self) -> int:
        return sum(sum(worker.admission.in_use().values()) for worker in self.workers.values())


class Worker:
    def __init__(self, host: Host, name: str) -> None:
        self.host, self.name, self.dead = host, name, False
        self.exchange_ = Exchange(self)
        table = host.seats.join(name)
        self.leases = Leases(self.exchange_.wait, self.exchange_.kick, table, 2)
        self.exchange_.add(self.leases)
        self.admission = SharedAdmission(
            self.leases,
            share=1.0,
            usable=lambda address: True,
            age=lambda address: 1000.0,
            unavailable=lambda backend: GatewayError(),
        )
        self.exchange_.start()

    async def exchange(self, reports: dict[str, Body]) -> dict[str, Body]:
        await asyncio.sleep(0)
        if self.dead:
            await asyncio.Event().wait()
        return self.host.books.settle(self.name, reports)

    def die(self) -> None:
        self.dead = True

    async def fill(self, where: Backend, tenant: str, number: int) -> list[Seat]:
        """Seats for so many calls, all at once."""
        calls = [self.admission.admit(call_of(tenant), where, 2.0) for _ in range(number)]
        return list(await asyncio.gather(*calls))


@pytest.fixture
async def hosts() -> AsyncIterator[list[Host]]:
    made: list[Host] = []
    yield made
    for host in made:
        for worker in host.workers.values():
            await worker.exchange_.stop()


async def test_all_seats_can_be_had_by_one_process_and_no_more_by_both(hosts: list[Host]) -> None:
    where = backend(8)
    hosts.append(host := Host(where))
    one, other = host.worker("one"), host.worker("other")
    seats = await one.fill(where, "acme", 8)
    with pytest.raises(BackendSaturated):
        await other.admission.admit(call_of("blue"), where, 0.1)
    seats.pop().release()
    (seat,) = await other.fill(where, "blue", 1)
    for each in (seat, *seats):
        each.release()


async def test_never_more_inside_than_seats_whatever_happens(hosts: list[Host]) -> None:
    where, rng = backend(3, "ab"), random.Random(5)
    hosts.append(host := Host(where))
    for name in ("one", "other", "third"):
        host.worker(name)
    inside = {"a": 0, "b": 0}
    highest = served = 0

    async def one(worker: Worker, tenant: str) -> None:
        nonlocal highest, served
        try:
            seat = await worker.admission.admit(call_of(tenant), where, rng.choice([0.002, 0.05, 1.0]))
        except GatewayError:
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

    tasks = []
    for _ in range(400):
        worker = rng.choice(list(host.workers.values()))
        tasks.append(asyncio.create_task(one(worker, rng.choice(["acme", "blue"]))))
        if rng.random() < 0.2:
            rng.choice(tasks).cancel()
            await head_start(rng.random() * 0.001)
    for done in await asyncio.gather(*tasks, return_exceptions=True):
        assert done is None or isinstance(done, asyncio.CancelledError)
    assert highest == 6
    assert served > 50
    assert host.in_use() == 0


async def test_a_quiet_tenant_of_one_process_is_not_kept_out_by_a_noisy_one_of_another(
    hosts: list[Host],
) -> None:
    where = backend(8)
    hosts.append(host := Host(where))
    one, other = host.worker("one"), host.worker("other")
    stop, served = asyncio.Event(), 0

    async def noisy() -> None:
        nonlocal served
        while not stop.is_set():
            with contextlib.suppress(GatewayError):
                seat = await one.admission.admit(call_of("noisy"), where, 1.0)
                await takes(0.01)
                seat.release()
                served += 1

    tasks = [asyncio.create_task(noisy()) for _ in range(60)]
    before = []
    for _ in range(20):
        began = served
        seat = await other.admission.admit(call_of("quiet"), where, 2.0)
        before.append(served - began)
        await takes(0.01)
        seat.release()
        await takes(0.01)
    stop.set()
    await asyncio.gather(*tasks)
    assert sorted(before)[10] <= 8  # of the 52 that waited when it came


async def test_a_process_whose_queue_never_ends_gives_back_what_another_one_needs(hosts: list[Host]) -> None:
    where = backend(4, reserve=0)
    hosts.append(host := Host(where))
    one, other = host.worker("one"), host.worker("other")
    stop = asyncio.Event()

    async def noisy() -> None:
        while not stop.is_set():
            with contextlib.suppress(GatewayError):
                seat = await one.admission.admit(call_of("noisy"), where, 30.0)
                await takes(0.005)
                seat.release()

    tasks = [asyncio.create_task(noisy()) for _ in range(12)]
    await eventually(lambda: one.admission.waiting()["b"] > 4)
    seat = await other.admission.admit(call_of("quiet"), where, 30.0)
    stop.set()
    seat.release()
    await asyncio.gather(*tasks)


async def test_seats_of_a_killed_process_are_free_but_for_those_in_use(hosts: list[Host]) -> None:
    where = backend(8)
    hosts.append(host := Host(where))
    one, other = host.worker("one"), host.worker("other")
    seats = await one.fill(where, "acme", 6)
    seats.pop().release()
    host.kill("one")
    got = await other.fill(where, "blue", 3)
    with pytest.raises(BackendSaturated):
        await other.admission.admit(call_of("blue"), where, 0.2)
    assert len(got) == 3


async def test_seats_in_use_of_a_killed_process_are_free_at_the_deadline(hosts: list[Host]) -> None:
    where = backend(2)
    hosts.append(host := Host(where))
    one, other = host.worker("one"), host.worker("other")
    call = call_of("acme")
    call.route = SimpleNamespace(timeouts=SimpleNamespace(queue=5.0, total=0.05))  # type: ignore[assignment]
    await one.admission.admit(call, where, 1.0)
    host.kill("one")
    table = host.seats.book.pools["seats:b"].orphans
    assert [orphans.count for orphans in table] == [1]
    assert len(await other.fill(where, "blue", 1)) == 1
    waits = asyncio.create_task(other.admission.admit(call_of("blue"), where, 5.0))

    def freed() -> bool:
        host.seats.tick()
        return waits.done()

    await eventually(freed)
    await waits


async def test_streams_are_shared_too(hosts: list[Host]) -> None:
    where = backend(0, streams=4, reserve=0)
    hosts.append(host := Host(where))
    one, other = host.worker("one"), host.worker("other")
    held: list[Seat] = []

    async def stream(worker: Worker) -> bool:
        await worker.admission.reach_stream(where)
        with contextlib.suppress(BackendSaturated):
            held.append(worker.admission.admit_stream(call_of("acme"), where))
            return True
        return False

    for worker in (one, one, one, other):
        await eventually_await(lambda worker=worker: stream(worker))  # type: ignore[misc]
    assert not await stream(one)
    assert not await stream(other)
    held.pop().release()
    await eventually_await(lambda: stream(one))
    assert not await stream(other)


async def test_the_concurrency_of_a_tenant_counts_in_all_processes(hosts: list[Host]) -> None:
    where = backend(100)
    hosts.append(host := Host(where))
    one, other = host.worker("one"), host.worker("other")
    call = call_of("acme", concurrency=4)
    seats = []
    for _ in range(4):
        await one.exchange_.wait()
        seats.append(await one.admission.admit(call, where, 1.0))
    await one.exchange_.wait()
    with pytest.raises(TenantLimit):
        await one.admission.admit(call, where, 1.0)
    for seat in seats[1:]:
        seat.release()
    await one.exchange_.wait()
    await one.exchange_.wait()
    again = [await other.admission.admit(call, where, 1.0) for _ in range(2)]
    for seat in (seats[0], *again):
        seat.release()
    for worker in (one, other):
        await worker.exchange_.wait()
        await worker.exchange_.wait()
    assert "tenant:acme" not in host.seats.book.pools


async def test_one_seat_is_one_for_all_processes_and_had_by_turns(hosts: list[Host]) -> None:
    where = backend(1)
    hosts.append(host := Host(where))
    inside = most = 0

    async def ask(worker: Worker) -> None:
        nonlocal inside, most
        seat = await worker.admission.admit(call_of("acme"), where, 30.0)
        inside += 1
        most = max(most, inside)
        await takes(0.002)
        inside -= 1
        seat.release()

    workers = [host.worker(name) for name in ("one", "other", "third")]
    await asyncio.gather(*(ask(worker) for worker in workers for _ in range(10)))
    assert most == 1


async def test_calls_of_a_killed_process_count_no_more_for_their_tenant(hosts: list[Host]) -> None:
    where = backend(100)
    hosts.append(host := Host(where))
    one, other = host.worker("one"), host.worker("other")
    call = call_of("acme", concurrency=2)
    for _ in range(2):
        await one.admission.admit(call, where, 1.0)
        await one.exchange_.wait()
    host.kill("one")
    for _ in range(2):
        await other.admission.admit(call, where, 1.0)
        await other.exchange_.wait()
    assert [orphans.count for orphans in host.seats.book.pools["seats:b"].orphans] == [2]


async def test_seats_follow_a_reload_in_all_processes(hosts: list[Host]) -> None:
    hosts.append(host := Host(backend(2)))
    one, other = host.worker("one"), host.worker("other")
    seats = await one.fill(backend(2), "acme", 2)
    host.reload(backend(4))
    seats += await other.fill(backend(4), "acme", 2)
    host.reload(backend(1))
    for seat in seats[:3]:
        seat.release()
    with pytest.raises(BackendSaturated):
        await other.admission.admit(call_of("blue"), backend(1), 0.1)
    seats[3].release()
    await other.admission.admit(call_of("blue"), backend(1), 1.0)


async def test_a_limit_that_a_reload_brings_counts_what_is_inside_by_then(hosts: list[Host]) -> None:
    hosts.append(host := Host(backend(0)))
    one, other = host.worker("one"), host.worker("other")
    seats = await one.fill(backend(0), "acme", 3)
    limited = backend(0, concurrency=3)
    host.reload(limited)
    await one.exchange_.wait()
    host.kill("one")
    assert [orphans.count for orphans in host.seats.book.pools["seats:b"].orphans] == [3]
    with pytest.raises(BackendSaturated):
        await other.admission.admit(call_of("blue"), limited, 0.1)
    assert len(seats) == 3


async def test_a_backend_that_is_gone_is_forgotten_by_all(hosts: list[Host]) -> None:
    hosts.append(host := Host(backend(2)))
    one = host.worker("one")
    (seat,) = await one.fill(backend(2), "acme", 1)
    host.reload()
    seat.release()
    await eventually(lambda: not host.seats.book.pools)


async def test_an_idle_process_asks_nobody(hosts: list[Host]) -> None:
    hosts.append(host := Host(backend(2)))
    one = host.worker("one")
    await one.exchange_.wait()
    assert one.leases.due(0.0) is None
    assert Address("a").text in one.host.seats.book.pools["seats:b"].seats
