"""Seats of several machines, of which Redis keeps the book: together never more than there are, whatever is
late, lost or ended; and fair, as the pure book is."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from gateway.core.model import Address, Backend
from gateway.core.process.shared_state import SharedSettings
from gateway.core.shared.kept import Kept
from gateway.core.shared.seats import Grant, Pool, Report
from gateway.limits.quotas import Quotas
from gateway.planes.ground import Ground
from gateway.planes.shared.services import Services
from gateway.planes.steps import end
from gateway.runtime.processes.in_use import ROWS
from tests.eventually import eventually, eventually_await
from tests.harness import process_config
from tests.support.redis_server import NEEDS_REDIS, RedisServer, redis_server

pytest.importorskip("redis", reason="the client of Redis is not installed: pip install 'gateway[redis]'")
from gateway.shared.redis.engine import RedisEngine

pytestmark = NEEDS_REDIS
KEY = "seats:b"
POOL = f"{{gateway}}:seats::{KEY}"


def wants(
    count: int, seats: int = 8, tenant: str = "acme", reserve: int = 0, lasts: float = 30.0, **held: int
) -> Report:
    demand = [(tenant, 1.0, count)] if count else []
    return {"seats": {"a": seats}, "reserve": reserve, "held": held, "demand": demand, "lasts": lasts}


def leaves(lasts: float = 0.0, **held: int) -> Report:
    return {"seats": {}, "reserve": 0, "held": held, "demand": [], "lasts": lasts}


async def ask(engine: RedisEngine, report: Report, holder: str = "") -> Grant:
    grants = await engine.exchange({"seats": {"pools": {KEY: report}}}, holder)
    grant: Grant = grants["seats"]["pools"][KEY]
    return grant


async def has(engine: RedisEngine, report: Report, holder: str = "") -> int:
    return sum((await ask(engine, report, holder))["lease"].values())


@asynccontextmanager
async def server_of(folder: Path) -> AsyncIterator[RedisServer]:
    """One that has kept seats for long."""
    async with redis_server(folder) as server:
        await server.say("HSET", "{gateway}:meta", "epoch", "1.0")
        yield server


@asynccontextmanager
async def engines(server: RedisServer, *names: str, **more: Any) -> AsyncIterator[list[RedisEngine]]:
    made = [RedisEngine(SharedSettings(server.uri), name, share=0.5, silent=100.0, **more) for name in names]
    try:
        for engine in made:
            await engine.beat()
        yield made
    finally:
        for engine in made:
            await engine.close()


async def test_the_script_leases_as_the_pure_book_does(tmp_path: Path) -> None:
    chance, pool = Random(5), Pool()
    async with server_of(tmp_path) as server, engines(server, "n1", "n2", "n3") as nodes:
        leases: dict[int, dict[str, int]] = {0: {}, 1: {}, 2: {}}
        clock = 0.0
        same = 0
        for _ in range(300):
            number = chance.randrange(3)
            seats = {"a": 5, "b": 4}
            held = {address: chance.randint(0, count) for address, count in leases[number].items()}
            demand = [
                (tenant, chance.choice([1.0, 3.0]), chance.choice([0, 1, 2, 40]))
                for tenant in chance.sample(["t1", "t2", "t3"], chance.randrange(4))
            ]
            report: Report = {"seats": seats, "reserve": 1, "held": held, "demand": demand, "lasts": 30.0}
            clock += 0.001
            granted = await ask(nodes[number], report)
            expected = pool.exchange(f"n{number + 1}", report, clock)
            lease = leases[number] = granted["lease"]
            assert all(sum(one.get(a, 0) for one in leases.values()) <= count for a, count in seats.items())
            assert all(lease.get(address, 0) >= count for address, count in held.items())
            # Turns are by the clock, which is the server's: whose turn it is may differ by one seat.
            assert abs(granted["part"] - expected["part"]) <= 1
            assert granted["even"] == expected["even"]
            same += (granted["part"], granted["reserve"]) == (expected["part"], expected["reserve"])
            pool.holders[f"n{number + 1}"].lease = dict(lease)
        assert same > 200


async def test_a_noisy_tenant_leaves_a_quiet_one_on_another_machine_its_seats(tmp_path: Path) -> None:
    async with server_of(tmp_path) as server, engines(server, "n1", "n2") as (one, other):
        assert await has(one, wants(400, reserve=1)) == 8  # alone it has all
        assert await has(other, wants(3, tenant="quiet", reserve=1)) == 0
        grant = await ask(one, wants(400, reserve=1, a=8))
        assert (grant["part"], grant["scarce"]) == (5, True)
        await ask(one, wants(400, reserve=1, a=5))
        assert await has(other, wants(3, tenant="quiet", reserve=1)) == 3
        assert await has(one, wants(0, reserve=1)) <= 5


async def test_a_report_that_comes_late_changes_nothing(tmp_path: Path) -> None:
    async with server_of(tmp_path) as server, engines(server, "n1", "n2") as (one, other):
        assert await has(one, wants(6)) == 7  # and a float
        name = await holder(server, "n1")
        told = json.loads((await values(server, "HMGET", POOL, name))[0])
        told["number"] += 10  # the next one was heard before this one
        await server.say("HSET", POOL, name, json.dumps(told))
        with suppress(KeyError):  # nobody reads what is said to it
            await ask(one, wants(0))
        assert await has(other, wants(8, tenant="blue")) == 1


async def holder(server: RedisServer, name: str) -> str:
    found = await values(server, "HKEYS", POOL)
    return next(one for one in found if one.startswith(f"{name}|"))


async def values(server: RedisServer, *words: str) -> list[str]:
    reader, writer = await asyncio.open_unix_connection(str(server.socket))
    writer.write(b"*%d\r\n" % len(words))
    for word in words:
        writer.write(b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()))
    count = int((await reader.readline())[1:])
    found = []
    for _ in range(count):
        await reader.readline()
        found.append((await reader.readline()).decode().strip())
    writer.close()
    return found


async def test_a_machine_that_is_silent_keeps_its_leases_and_one_that_left_does_not(tmp_path: Path) -> None:
    async with server_of(tmp_path) as server, engines(server, "n1") as (one,):
        async with engines(server, "n2") as (other,):
            assert await has(other, wants(6)) == 7
            assert await has(one, wants(8, tenant="blue")) == 1
            await server.say("ZADD", "{gateway}:members", str(10**9 * 2), "n2")  # it is silent
            assert await has(one, wants(8, tenant="blue", a=1)) == 1
        assert await has(one, wants(8, tenant="blue", a=1)) == 8


async def test_what_is_left_inside_counts_until_it_is_over(tmp_path: Path) -> None:
    async with server_of(tmp_path) as server, engines(server, "n1", "n2") as (one, other):
        assert await has(one, wants(6)) == 7  # and a float
        await ask(one, leaves(0.5, a=4))
        assert await has(other, wants(8, tenant="blue")) == 4
        await eventually_await(lambda: has_all(other))


async def has_all(engine: RedisEngine) -> bool:
    return await has(engine, wants(8, tenant="blue", a=4)) == 8


async def test_what_a_killed_process_held_is_kept_while_its_requests_may_be_inside(tmp_path: Path) -> None:
    async with server_of(tmp_path) as server, engines(server, "n1", "n2") as (one, other):
        assert await has(one, wants(6, lasts=0.5)) == 7
        async with engines(server, "n1") as (again,):  # the same node, another process
            assert await has(other, wants(8, tenant="blue")) == 1
            assert await has(again, wants(6)) == 0
            await eventually_await(lambda: has_all_but(other, 4))


async def has_all_but(engine: RedisEngine, most: int) -> bool:
    return await has(engine, wants(8, tenant="blue", a=1)) >= most


async def test_after_a_loss_nobody_gets_a_seat_before_all_have_told_what_they_hold(tmp_path: Path) -> None:
    async with server_of(tmp_path) as server, engines(server, "n1", "n2") as (one, other):
        assert await has(one, wants(6)) == 7  # and a float
        await server.say("FLUSHALL")
        assert await has(other, wants(8, tenant="blue")) == 0
        assert await has(one, wants(6, a=6)) == 6
        await eventually_await(lambda: has_some(other))
        assert await has(other, wants(8, tenant="blue", a=2)) == 2


async def has_some(engine: RedisEngine) -> bool:
    return await has(engine, wants(8, tenant="blue")) > 0


async def test_a_replica_that_was_behind_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with server_of(tmp_path) as server, engines(server, "n1") as (one,):
        for _ in range(5):
            await ask(one, wants(1))
        await server.say("HSET", "{gateway}:meta", "count", "2")
        assert await has(one, wants(3)) == 0
        assert "has lost what it kept" in caplog.text


async def test_while_it_is_away_a_machine_has_its_last_lease_and_before_its_end_one_seat(
    tmp_path: Path,
) -> None:
    now = [1000.0]
    async with server_of(tmp_path) as server:
        async with engines(server, "n1", "n2", now=lambda: now[0]) as (one, other):
            await one.beat()
            assert await has(one, wants(6)) == 7  # and a float
            assert await has(other, wants(1, tenant="blue")) == 1
            server.pause()
            try:
                assert await has(one, wants(3, a=3)) == 3  # it has told that it gave back; maybe it was heard
                assert await has(one, wants(8, a=2)) == 3
                assert await has(other, wants(8, tenant="blue", a=1)) == 1
                new = {"seats": {"pools": {"seats:new": wants(9)}}}
                grants = (await other.exchange(new))["seats"]["pools"]
                assert sum(grants["seats:new"]["lease"].values()) == 4  # one of two machines
                now[0] += 0.95 * 300.0
                grant = await ask(one, wants(8, a=3))
                assert (grant["lease"], grant["part"], grant["scarce"]) == ({"a": 3}, 1, True)
                assert await has(one, wants(8, a=1)) == 1
            finally:
                server.resume()
            await eventually_await(lambda: is_back(one))


async def is_back(engine: RedisEngine) -> bool:
    await engine.beat()
    return not engine.away


async def test_what_listens_on_one_host_only_is_not_shared_with_others(tmp_path: Path) -> None:
    async with server_of(tmp_path) as server, engines(server, "n1") as (one,):
        report = wants(8)
        report["seats"] = {"unix:/run/app.sock": 8}
        assert await has(one, report) == 8
        assert (await server.say("EXISTS", POOL)) == b":0\r\n"
        report["seats"] = {"http://10.0.0.1:80": 8}
        await ask(one, report)
        assert (await server.say("EXISTS", POOL)) == b":1\r\n"


def test_a_pool_that_was_left_and_nobody_heard_it_is_told_again() -> None:
    kept = Kept()
    kept.granted("w", {KEY: {"lease": {"a": 3}, "part": 3, "reserve": 0, "scarce": False, "even": 1}})
    assert kept.alone("w", {KEY: leaves(a=1)}, 1.0, late=False)[KEY]["lease"] == {}
    told = kept.to_tell("w", {})
    assert told == {KEY: leaves(a=1)}
    kept.lost("w", told)
    assert kept.to_tell("w", {KEY: wants(1)}) == {KEY: wants(1)}  # it is used again
    assert kept.to_tell("w", {}) == {}


class Worker:
    """As a master knows it."""

    def __init__(self, name: str) -> None:
        self.id = name

    def tell(self, name: str, body: Any = None) -> None:
        """It hears nothing."""


@asynccontextmanager
async def two_hosts(server: RedisServer, folder: Path) -> AsyncIterator[list[Services]]:
    """What the masters of two hosts have for their workers, each with one, w1."""
    hosts = []
    try:
        for name in ("h1", "h2"):
            (folder / name).mkdir()
            config = process_config(folder / name, shared=SharedSettings(server.uri))
            ground = Ground(config, folder / name, name.encode() * 16, str(folder / name))
            hosts.append(host := Services(ground, Quotas(folder / name / "quotas.sqlite")))
            await host.start()
            host.begins(Worker("w1"))
        yield hosts
    finally:
        for host in hosts:
            await end(host.steps())


async def lease(host: Services, report: Report, address: str = "a") -> int:
    """How many seats the host's worker has after its report, which is of this address in place of a."""
    named = json.loads(json.dumps(report).replace('"a":', f'"{address}":'))
    body = {"seats": {"pools": {KEY: named}, "rows": {KEY: {address: 0}}}}
    grants = await host.of("w1")["exchange"](body)
    return sum(grants["seats"]["pools"][KEY]["lease"].values())


async def test_workers_of_two_hosts_share_seats_and_what_a_killed_one_had_inside_is_kept(
    tmp_path: Path,
) -> None:
    async with server_of(tmp_path) as server, two_hosts(server, tmp_path) as (one, other):
        table = one._seats._tables["w1"]
        table.own()
        assert await lease(one, wants(6)) == 7
        table.counts[0], table.until[0] = 3, one._now() + 1000.0
        assert await lease(other, wants(8, tenant="blue")) == 1
        one.gone("w1")
        await eventually_await(lambda: has_leased(other, 5))
        late = await one.of("w1")["exchange"]({"seats": {"pools": {KEY: wants(3)}, "rows": {}}})
        assert not late.get("seats", {}).get("pools")  # it has ended


async def has_leased(host: Services, count: int, address: str = "a") -> bool:
    return await lease(host, wants(8, tenant="blue", a=1), address) == count


async def test_a_thread_that_a_killed_worker_left_is_free_once_it_closes_the_connection(
    tmp_path: Path,
) -> None:
    path = str(tmp_path / "b.sock")
    unix = f"unix:{path}"
    async with server_of(tmp_path) as server, two_hosts(server, tmp_path) as (one, other):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen(5)
            one.names.reconcile({"b": Backend("b", "gunicorn", (Address(unix, path=path),), 8)})
            assert await lease(one, wants(6), unix) == 7
            assert await lease(other, wants(8, tenant="blue"), unix) == 1
            threads = []
            for _ in range(3):
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(path)
                    threads.append(listener.accept()[0])
            table = one._seats._tables["w1"]
            table.counts[0], table.until[0] = 3, one._now() + 1000.0
            table.counts[ROWS] = ended_process()
            one.gone("w1")
            await eventually_await(lambda: has_leased(other, 5, unix))
            for free in (6, 7, 8):
                threads.pop().close()
                await eventually_await(partial(has_leased, other, free, unix))
            await eventually(lambda: not one._seats.left)


def ended_process() -> int:
    with subprocess.Popen(["true"]) as process:
        pass
    return process.pid
