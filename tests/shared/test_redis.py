"""Redis keeps the books of several machines: what it says is what the pure book says, and whatever becomes of
the server is said once, in words, while each node goes on with its part."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from gateway.core.process.shared_state import SharedSettings
from gateway.core.shared.rates import Asked, Granted, granted_of, settle
from gateway.limits.quotas import Quotas
from gateway.planes.ground import Ground
from gateway.planes.shared.services import Services
from gateway.planes.steps import end
from gateway.runtime.channel import AskFailed
from tests.eventually import eventually, eventually_await
from tests.harness import process_config
from tests.support.certificates import Authority
from tests.support.ports import free_port
from tests.support.redis_server import NEEDS_REDIS, RedisServer, redis_server

pytest.importorskip("redis", reason="the client of Redis is not installed: pip install 'gateway[redis]'")
from gateway.shared.redis import server
from gateway.shared.redis.engine import RedisEngine

pytestmark = NEEDS_REDIS
BUSY = 100.0  # seconds that a busy machine may keep a member silent


@pytest.fixture(autouse=True)
def patient(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may take longer for a response than a server may."""
    if not any(word in request.node.name for word in ("hangs", "busy")):
        monkeypatch.setattr(server, "TIMEOUT", 20.0)


@asynccontextmanager
async def engines(uri: str, *names: str, **settings: Any) -> AsyncIterator[list[RedisEngine]]:
    made = [RedisEngine(SharedSettings(uri, **settings), name, share=0.5, silent=BUSY) for name in names]
    try:
        for engine in made:
            await engine.start()
        yield made
    finally:
        for engine in made:
            await engine.close()


async def ask(engine: RedisEngine, asked: Asked, key: str = "tenant acme") -> Granted:
    grants = await engine.exchange({"rates": {key: asked}})
    return granted_of(grants["rates"]["keys"][key])


async def stored(server: RedisServer, key: str = "tenant acme") -> float:
    reader, writer = await asyncio.open_unix_connection(str(server.socket))
    name = f"{{gateway}}:rate:{key}".encode()
    writer.write(b"*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n" % (len(name), name))
    length = await reader.readline()
    value = (await reader.readline()).strip() if length.strip() != b"$-1" else b"0"
    writer.close()
    return float(value)


async def test_the_script_settles_as_the_pure_book_does(tmp_path: Path) -> None:
    chance = Random(7)
    async with redis_server(tmp_path) as server, engines(server.uri, "a") as (engine,):
        compared = 0
        for number in range(300):
            key = f"k{number // 30}"
            rate, burst = [(0.5, 3), (20.0, 1), (1000.0, 50), (100.0, 300), (20_000.0, 20_000)][
                number // 30 % 5
            ]
            owed = chance.choice([0.0, 0.0, 0.0, 1.0])
            asked = Asked(rate, burst, chance.randrange(3), chance.randrange(2), chance.randrange(40), owed)
            before = await stored(server, key)
            granted = await ask(engine, asked, key)
            after = await stored(server, key)
            if not after:
                continue
            _, expected = settle(before, after - granted.owed, asked)
            assert granted.tokens == pytest.approx(expected.tokens, abs=1)  # at a token's very edge
            if granted.tokens == expected.tokens:
                compared += 1
                assert granted.owed == pytest.approx(expected.owed, abs=1e-5)
                assert granted.wait == pytest.approx(expected.wait, abs=1e-5)
        assert compared > 150


async def test_nodes_together_get_one_burst(tmp_path: Path) -> None:
    async with redis_server(tmp_path) as server, engines(server.uri, "a", "b") as nodes:
        wants = Asked(0.01, 10, want=7)
        assert [(await ask(node, wants)).tokens for node in nodes] == [7, 3]
        assert [node.members for node in nodes] == [2, 2]


async def test_quotas_are_counted_together_and_outlive_the_loss_of_the_server(tmp_path: Path) -> None:
    async with redis_server(tmp_path) as server, engines(server.uri, "a", "b") as (one, other):
        today = int(await clock(server) // 86400)
        assert (await one.exchange({"quotas": {"acme": (today, 5, 0, 0, 0)}}))["quotas"] == {"acme": (5, 0)}
        assert (await other.exchange({"quotas": {"acme": (today, 3, 0, 2, 9)}}))["quotas"] == {"acme": (9, 1)}
        await server.say("FLUSHALL")
        assert (await other.exchange({"quotas": {"acme": (today, 1, 8, 0, 0)}}))["quotas"] == {"acme": (9, 0)}
        yesterdays = {"acme": (today - 1, 1, 100, 0, 0)}
        assert (await other.exchange({"quotas": yesterdays}))["quotas"] == {"acme": (10, 0)}


async def test_what_is_kept_has_an_end_and_lies_in_one_slot(tmp_path: Path) -> None:
    async with redis_server(tmp_path) as server, engines(server.uri, "a", prefix="shop") as (engine,):
        rated, counted = {"tenant acme": Asked(1, 5, want=1)}, {"acme": (1, 1, 0, 0, 0)}
        await engine.exchange({"rates": rated, "quotas": counted})
        for key in ("members", "rate:tenant acme", "quota:acme"):
            assert (await server.say("EXISTS", f"{{shop}}:{key}")) == b":1\r\n"
            assert int((await server.say("TTL", f"{{shop}}:{key}"))[1:]) > 0
        assert int((await server.say("PTTL", "{shop}:rate:tenant acme"))[1:]) <= 2000


async def test_the_script_is_sent_again_to_a_server_that_has_forgotten_it(tmp_path: Path) -> None:
    async with redis_server(tmp_path) as server, engines(server.uri, "a") as (engine,):
        await server.say("SCRIPT", "FLUSH")
        assert (await ask(engine, Asked(1, 5, want=5))).tokens == 5
        assert not engine.away


async def test_while_it_is_away_each_node_has_its_part_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gateway")
    async with redis_server(tmp_path) as server, engines(server.uri, "a", "b") as (one, other):
        await one.beat()
        await ask(one, Asked(0.01, 10, want=2))
        server.kill()
        granted = [await ask(node, Asked(0.01, 10, owed=200.0, want=100)) for node in (one, other)]
        assert [grant.tokens for grant in granted] == [0, 0]  # what is not known begins empty, just after
        for _ in range(5):
            await one.exchange({"rates": {"tenant acme": Asked(0.01, 10, want=1)}, "quotas": {}})
        said = [record.getMessage() for record in caplog.records if "is away" in record.getMessage()]
        assert len(said) == 2
        assert "cannot be reached" in said[0]
        assert "0.5 of it" in said[0]
        assert one.away
        await server.start()
        await eventually(lambda: not one.away and not other.away)
        assert (await ask(one, Asked(0.01, 10, want=100, owed=200.0))).tokens <= 8


async def test_a_node_starts_with_its_share_while_the_server_is_away(tmp_path: Path) -> None:
    async with engines(f"unix://{tmp_path}/nobody.sock", "a") as (engine,):
        assert "cannot be reached" in engine.away
        await ask(engine, Asked(1000, 10, want=1))
        grants = [await ask(engine, Asked(1000, 1000, want=1000), f"k{n}") for n in range(3)]
        assert all(grant.tokens <= 1000 * 0.5 for grant in grants)


async def test_the_part_of_a_silent_node_is_kept_for_it_and_that_of_one_that_left_is_not(
    tmp_path: Path,
) -> None:
    async with redis_server(tmp_path) as server, engines(server.uri, "a") as (one,):
        wants = Asked(0.001, 100, want=1000)
        await server.say("ZADD", "{gateway}:members", "1", "long-gone")
        assert (await ask(one, wants, "k1")).tokens == 100  # beyond the lease time
        now = await clock(server)
        await server.say("ZADD", "{gateway}:members", str(now - 2 * BUSY), "silent")
        assert (await ask(one, wants, "k2")).tokens == 50
        async with engines(server.uri, "left"):
            pass
        assert (await ask(one, wants, "k3")).tokens == 50


async def clock(server: RedisServer) -> float:
    reader, writer = await asyncio.open_unix_connection(str(server.socket))
    writer.write(b"TIME\r\n")
    lines = [await reader.readline() for _ in range(3)]
    writer.close()
    return float(lines[2])


async def test_an_empty_server_in_its_place_is_said_and_gives_no_burst_that_was_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with redis_server(tmp_path) as server, engines(server.uri, "a", "b") as (one, other):
        assert (await ask(one, Asked(0.01, 10, want=10))).tokens == 10
        await server.say("FLUSHALL")
        assert (await ask(other, Asked(0.01, 10, want=10))).tokens == 0
        assert "has lost what it kept" in caplog.text


@pytest.mark.parametrize(
    ("options", "uri", "words"),
    [
        (["--requirepass", "secret-word"], "", "asks for a password"),
        (["--requirepass", "secret-word"], "?wrong", "refuses the user or the password"),
        (["--replicaof", "127.0.0.1 1", "--replica-serve-stale-data", "yes"], "", "read-only replica"),
        (["--replicaof", "127.0.0.1 1", "--replica-serve-stale-data", "no"], "", "without its primary"),
        (["--maxmemory", "1", "--maxmemory-policy", "noeviction"], "", "memory is full"),
        (["--cluster-enabled", "yes"], "", "cluster"),
    ],
    ids=["no password", "wrong password", "replica", "stale replica", "memory", "cluster"],
)
async def test_what_is_wrong_with_a_server_is_said_in_words(
    tmp_path: Path, options: list[str], uri: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    port = str(free_port())
    async with redis_server(tmp_path, "--port", port, "--bind", "127.0.0.1", *options):
        user = ":wrong-word@" if uri else ""
        async with engines(f"redis://{user}127.0.0.1:{port}/0", "a") as (engine,):
            assert words in engine.away
            assert "word@" not in caplog.text + engine.away + repr(engine)
            await ask(engine, Asked(1, 1, want=1))


async def test_a_password_and_a_user_are_used(tmp_path: Path) -> None:
    port = str(free_port())
    async with redis_server(tmp_path, "--port", port, "--bind", "127.0.0.1") as server:
        rules = "on", ">s3cret", "~{gateway}:*", "+@all", "-@admin"
        assert await server.say("ACL", "SETUSER", "shop", *rules) == b"+OK\r\n"
        uri = f"redis://shop:s3cret@127.0.0.1:{port}/0"
        async with engines(uri, "a") as (engine,):
            assert not engine.away
        async with engines(uri, "a", prefix="other") as (engine,):
            assert "give it ~{other}:*" in engine.away
        assert await server.say("ACL", "SETUSER", "open", "on", "nopass", *rules[2:]) == b"+OK\r\n"
        async with engines(f"redis://open:@127.0.0.1:{port}/3", "a") as (engine,):
            assert not engine.away


async def test_the_certificate_of_a_server_is_checked(tmp_path: Path) -> None:
    port, authority = str(free_port()), Authority(tmp_path / "ca")
    pair = authority.pair("redis", "dns:localhost")
    options = ["--tls-port", port, "--bind", "127.0.0.1", "--tls-auth-clients", "no"]
    files = [
        "--tls-cert-file",
        pair.certificate,
        "--tls-key-file",
        pair.key,
        "--tls-ca-cert-file",
        str(authority.path),
    ]
    async with redis_server(tmp_path, *options, *files):
        trusted = f"?ssl_ca_certs={authority.path}"
        async with engines(f"rediss://localhost:{port}/0{trusted}", "a") as (engine,):
            assert not engine.away
        async with engines(f"rediss://localhost:{port}/0", "a") as (engine,):
            assert "certificate" in engine.away
        async with engines(f"rediss://127.0.0.1:{port}/0{trusted}", "a") as (engine,):
            assert "certificate" in engine.away
        async with engines(f"redis://localhost:{port}/0", "a") as (engine,):
            assert engine.away


async def test_a_server_that_hangs_is_away_within_its_time_out_and_is_not_waited_for_again(
    tmp_path: Path,
) -> None:
    async with redis_server(tmp_path) as server, engines(server.uri, "a") as (engine,):
        server.pause()
        await ask(engine, Asked(1, 5, want=1))
        assert "does not respond in time" in engine.away
        with pytest.raises(StopIteration):  # it has its grant without a turn of the loop
            ask(engine, Asked(1, 5, want=1)).send(None)
        server.resume()
        await eventually(lambda: not engine.away)


async def test_a_script_of_somebody_that_keeps_it_busy_is_waited_out(tmp_path: Path) -> None:
    async with redis_server(tmp_path, "--busy-reply-threshold", "50") as server:
        async with engines(server.uri, "a") as (engine,):
            endless = asyncio.create_task(server.say("EVAL", "while true do end", "0"))
            await eventually(lambda: engine.away)
            await eventually_await(lambda: killed(server))
            await endless
            await eventually(lambda: not engine.away)


async def killed(server: RedisServer) -> bool:
    return (await server.say("SCRIPT", "KILL")).startswith(b"+OK")


async def test_a_cluster_is_asked_as_one(tmp_path: Path) -> None:
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--cluster-enabled", "yes"]
    async with redis_server(tmp_path, *options, "--cluster-port", str(free_port())) as server:
        await server.say("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        await eventually_await(lambda: ok(server))
        async with engines(f"redis://127.0.0.1:{port}", "a", cluster=True) as (engine,):
            assert engine.away == ""
            assert (await ask(engine, Asked(1, 5, want=9))).tokens == 5


async def ok(server: RedisServer) -> bool:
    return (await server.say("SET", "a", "b")).startswith(b"+OK")


async def test_what_is_left_of_a_partition_is_at_most_a_slice_for_each_node(tmp_path: Path) -> None:
    """A minute of it, with each node's clock in the test."""
    now = [1000.0]
    async with redis_server(tmp_path) as server:
        settings = SharedSettings(server.uri)
        nodes = [RedisEngine(settings, name, now=lambda: now[0], silent=BUSY) for name in "ab"]
        for node in (*nodes, nodes[0]):
            await node.beat() if node.members else await node.exchange({"rates": {}})
        assert [node.members for node in nodes] == [1, 2]
        await nodes[0].exchange({"rates": {}})
        taken = [(await ask(node, Asked(10, 20, want=10))).tokens for node in nodes]
        assert sum(taken) == 20
        server.kill()
        away = 0
        for _ in range(600):
            now[0] += 0.1
            away += sum([(await ask(node, Asked(10, 20, want=5))).tokens for node in nodes])
        assert away <= 10 * 60 + 2 * max(1, math.ceil(10 * 0.1))
        assert away >= 10 * 60 * 0.95 - 20
        for node in nodes:
            await node.close()


async def test_workers_of_two_hosts_share_by_their_masters(tmp_path: Path) -> None:
    async with redis_server(tmp_path) as server:
        hosts = []
        for name in ("a", "b"):
            folder = tmp_path / name
            folder.mkdir()
            config = process_config(folder, shared=SharedSettings(server.uri))
            ground = Ground(config, folder, name.encode() * 32, str(folder))
            hosts.append(Services(ground, Quotas(folder / "quotas.sqlite")))
        await asyncio.gather(*(host.start() for host in hosts))
        try:
            report = {"rates": {"tenant acme": list(Asked(0.01, 10, want=4))}, "quotas": {}}
            tokens = [
                (await host.of(worker)["exchange"](report))["rates"]["keys"]["tenant acme"][0]
                for worker in ("w1", "w2")
                for host in hosts
            ]
            assert tokens[0] == 4
            assert sum(tokens) <= 10  # fewer where a host was busy, and so silent
            put, take = hosts[0].of("w1")["once put"], hosts[1].of("w1")["once take"]
            assert await put(["key", "sealed", 30.0])
            assert not await put(["key", "again", 30.0])
            assert [await take("key"), await take("key")] == ["sealed", None]
            server.kill()
            with pytest.raises(AskFailed):
                await take("key")
        finally:
            for host in hosts:
                await end(host.steps())
