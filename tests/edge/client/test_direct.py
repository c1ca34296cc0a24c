"""The short way for requests that came whole: order, keep-alive, drain, errors, loss.

Each test makes sure that the short way was taken, or that it was not.
"""

from __future__ import annotations

import asyncio
import gc
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gateway.app import Gateway
from gateway.call import Call
from gateway.edge.backend.exchange import Exchange
from gateway.edge.response import reply
from gateway.edge.response.relay import Relay
from gateway.life import Life
from gateway.proxy.proxied_call import ProxiedCall
from tests import harness
from tests.eventually import eventually, head_start, passes, takes
from tests.fakes import Backend, Heard, RawClient, always, answer
from tests.support.sockets import TEXT, connect, websocket
from tests.support.sockets import echo as echo_frames


def config(backend: Backend, **more: Any) -> dict[str, Any]:
    backends = {"app": {"kind": "http", "addresses": [backend.address]}}
    return harness.routing([harness.route("svc", "app", public=True, **more)], backends=backends)


async def echo(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    path = heard.line.split()[1]
    if "slow" in path:
        await takes(0.4)
    writer.write(answer(path.encode() + heard.body))


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which way each request took: `direct`, in a `task`, or in one that reads its body as it comes
    (`stream`)."""
    taken: list[str] = []
    serve = Life.serve

    def spy(self: Life, client: Any, request: Any, body: bytes, content: Any) -> None:
        serve(self, client, request, body, content)
        taken.append("stream" if content is not None else "direct" if client.serving is None else "task")

    monkeypatch.setattr(Life, "serve", spy)
    return taken


def get(path: str, headers: str = "", body: str = "", method: str = "GET") -> bytes:
    return f"{method} /svc{path} HTTP/1.1\r\nHost: a\r\n{headers}\r\n{body}".encode()


async def warm(gateway: Gateway) -> RawClient:
    """A client, and a warm connection to the backend."""
    client = await RawClient.connect(harness.address(gateway))
    client.send(get("/warm"))
    await client.answer()
    return client


async def test_a_warm_backend_is_reached_without_a_task(tmp_path: Path, ways: list[str]) -> None:
    async with Backend(echo) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await warm(gateway)
        assert ways == ["task"]
        tasks = len(asyncio.all_tasks())
        for method, body in (("GET", ""), ("POST", "body"), ("PUT", ""), ("DELETE", "")):
            length = f"Content-Length: {len(body)}\r\n" if body or method == "PUT" else ""
            client.send(get("/x", length, body, method))
            head, received = await client.answer()
            assert head.startswith("HTTP/1.1 200 OK\r\n")
            assert received == b"/x" + body.encode()
        assert ways[1:] == ["direct"] * 4
        assert len(asyncio.all_tasks()) == tasks
        assert [heard.line.split()[0] for heard in backend.heard[1:]] == ["GET", "POST", "PUT", "DELETE"]
        client.close()


async def test_a_request_that_came_whole_leaves_in_one_piece_also_where_it_had_to_wait(
    tmp_path: Path, ways: list[str]
) -> None:
    """A backend that answers by the head alone: had the body not left by then, neither connection could be
    used again, and the next request would have to wait for a new one too."""

    async def by_the_head(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(b"early"))
        await reader.readexactly(2)

    async with Backend(by_the_head, heads_only=True) as backend:
        async with harness.running(tmp_path, config(backend)) as gateway:
            client = await RawClient.connect(harness.address(gateway))
            for _ in range(3):
                client.send(get("/x", "Content-Length: 2\r\n", "hi", "POST"))
                head, body = await client.answer()
                assert body == b"early" and "close" not in head.lower()
            assert ways == ["task", "direct", "direct"]
            assert backend.connections == 1
            client.close()


async def test_a_client_that_leaves_while_its_request_waits_is_counted_and_logged(tmp_path: Path) -> None:
    """499, and the seat that it waited for goes to somebody else."""
    waiting = asyncio.Event()

    async def slow(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        waiting.set()
        await takes(0.3)
        writer.write(answer(heard.line.split()[1].encode()))

    async with Backend(slow) as backend:
        backends = {"app": {"kind": "gunicorn", "addresses": [backend.address], "threads": 1}}
        routing = harness.routing([harness.route("svc", "app", public=True)], backends=backends)
        log = tmp_path / "var" / "access.log"
        async with harness.running(tmp_path, routing) as gateway:
            clients = [await RawClient.connect(harness.address(gateway)) for _ in range(3)]
            clients[0].send(get("/0"))
            await waiting.wait()
            clients[1].send(get("/1"))
            await head_start(0.05)
            clients[1].close()
            clients[2].send(get("/2"))
            assert (await clients[0].answer())[1] == b"/0"
            assert (await clients[2].answer())[1] == b"/2"
            for client in clients:
                client.close()
        assert [heard.line.split()[1] for heard in backend.heard] == ["/0", "/2"]
        assert [json.loads(line)["status"] for line in log.read_text().splitlines()] == [499, 200, 200]


async def test_a_request_leaves_nothing_to_the_garbage_collector(tmp_path: Path, ways: list[str]) -> None:
    """What names each other in a circle stays until the collector finds it, which costs under load."""
    async with Backend(echo) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await warm(gateway)
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                client.send(get("/x"))
                await client.answer()
            ours = (Call, Exchange, ProxiedCall, Relay)
            # By type: a proxy of what is gone (weakref) answers isinstance with an error.
            left = Counter(type(o).__name__ for o in gc.get_objects() if issubclass(type(o), ours))
        finally:
            gc.enable()
        assert ways[1:] == ["direct"] * 20
        assert max(left.values(), default=0) <= 1
        client.close()


async def test_a_rate_counts_a_request_once_whichever_way_it_takes(tmp_path: Path, ways: list[str]) -> None:
    async with Backend(echo) as backend:
        routing = harness.routing(
            [harness.route("svc", "app")],
            backends={"app": {"kind": "http", "addresses": [backend.address]}},
            tenants={"acme": {"rate_limit": {"rate": "1/h", "burst": 3}}},
        )
        async with harness.running(tmp_path, routing) as gateway:
            client = await RawClient.connect(harness.address(gateway))
            statuses = []
            for _ in range(4):
                client.send(get("/x", f"Authorization: Bearer {harness.token(gateway)}\r\n"))
                statuses.append((await client.answer())[0].split()[1])
            assert statuses == ["200", "200", "200", "429"]
            client.close()
    assert ways == ["task", "direct", "direct", "direct"]


async def test_pipelined_requests_are_answered_in_order(tmp_path: Path, ways: list[str]) -> None:
    async with Backend(echo) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await warm(gateway)
        client.send(get("/slow") + get("/2") + get("/3", "Content-Length: 2\r\n", "hi", "POST"))
        await head_start(0.1)
        client.send(get("/4") + get("/5")[:20])
        await head_start(0.05)
        client.send(get("/5")[20:])
        received = [(await client.answer())[1] for _ in range(5)]
        assert received == [b"/slow", b"/2", b"/3hi", b"/4", b"/5"]
        assert ways[1] == "direct"
        client.close()


async def test_a_thousand_pipelined_requests_are_answered_in_order(tmp_path: Path) -> None:
    async with Backend(echo) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await warm(gateway)
        client.send(b"".join(get(f"/{n}") for n in range(1000)))
        for n in range(1000):
            assert (await client.answer())[1] == b"/%d" % n
        client.close()


async def test_a_request_that_comes_in_parts_takes_the_short_way(tmp_path: Path, ways: list[str]) -> None:
    """Many clients send head and body apart."""
    async with Backend(echo) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await warm(gateway)
        whole = get("/a", method="POST", headers="Content-Length: 4\r\n", body="body")
        for cut in (1, 20, len(whole) - 4, len(whole) - 1):
            client.send(whole[:cut])
            await head_start(0.005)
            client.send(whole[cut:])
            assert (await client.answer())[1] == b"/abody"
        assert ways[1:] == ["direct"] * 4
        client.close()


@pytest.mark.parametrize("cut", [1, 20, -4, -1])
async def test_a_request_whose_body_takes_its_time_takes_the_other_way(
    tmp_path: Path, ways: list[str], cut: int
) -> None:
    async with Backend(echo) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await warm(gateway)
        whole = get("/a", method="POST", headers="Content-Length: 4\r\n", body="body")
        client.send(whole[:cut])
        await passes(0.1)
        client.send(whole[cut:] + get("/b"))
        assert (await client.answer())[1] == b"/abody"
        assert (await client.answer())[1] == b"/b"
        assert ways[1:] == (["stream", "direct"] if cut < 0 else ["direct", "direct"])
        client.close()


async def test_a_client_that_sends_its_next_request_early_stays_on_the_short_way(
    tmp_path: Path, ways: list[str]
) -> None:
    """While the one before is served, and in the moment when it ends."""
    async with Backend(echo) as backend, harness.running(tmp_path, config(backend)) as gateway:
        clients = [await RawClient.connect(harness.address(gateway)) for _ in range(8)]
        for client in clients:
            client.send(get("/x"))  # at once; no connection is warm
        for client in clients:
            client.send(get("/y"))
            assert (await client.answer())[1] == b"/x"
            client.send(get("/z")[:12])
        for client in clients:
            client.send(get("/z")[12:])
            assert (await client.answer())[1] == b"/y"
            assert (await client.answer())[1] == b"/z"
        assert ways.count("task") == 8
        assert ways.count("direct") == 16
        for client in clients:
            client.close()


async def test_a_half_that_came_before_the_drain_is_served_whole(tmp_path: Path, ways: list[str]) -> None:
    async with Backend(echo) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await warm(gateway)
        whole = get("/a", method="POST", headers="Content-Length: 4\r\n", body="body")
        client.send(whole[:-2])
        await head_start(0.01)
        draining = asyncio.create_task(gateway.drain())
        await head_start(0.3)
        client.send(whole[-2:])
        head, body = await client.answer()
        assert body == b"/abody"
        assert "connection: close" in head.lower()
        await draining
        client.close()


@pytest.mark.parametrize(
    ("raw", "expected", "closes"),
    [
        (get("/x", "Transfer-Encoding: chunked\r\n", "2\r\nhi\r\n0\r\n\r\n", "POST"), b"/xhi", False),
        (get("/x", "Connection: close\r\n"), b"/x", True),
        (get("/x", "Connection: Upgrade\r\nUpgrade: h2c\r\n"), b"/x", False),
        (get("/x", "Expect: 100-continue\r\nContent-Length: 2\r\n", "hi", "POST"), b"/xhi", False),
        (get("/x", method="OPTIONS"), b"/x", False),
        (get("/x").replace(b"HTTP/1.1", b"HTTP/1.0"), b"/x", True),
        (get("/x").replace(b"GET /svc", b"GET http://a/svc"), b"/x", False),
    ],
)
async def test_whatever_came_whole_takes_the_short_way(
    tmp_path: Path, ways: list[str], raw: bytes, expected: bytes, closes: bool
) -> None:
    async with Backend(echo) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await warm(gateway)
        client.send(raw)
        head, body = await client.answer()
        assert body == expected
        assert ("connection: close" in head.lower()) is closes
        assert ways[1:] == ["direct"], raw
        client.close()


async def test_a_websocket_and_a_time_of_the_client_s_own_take_the_other_way(
    tmp_path: Path, ways: list[str]
) -> None:
    """Though a seat is free and a connection is warm."""

    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if "socket" in heard.line:
            await websocket(echo_frames)(heard, reader, writer)
        else:
            await echo(heard, reader, writer)

    async with Backend(script, heads_only=True) as backend:
        async with harness.running(tmp_path, config(backend, websocket=True)) as gateway:
            client = await warm(gateway)
            peer = await connect(harness.address(gateway), "/svc/socket", {})
            peer.send(TEXT, b"hello")
            assert await peer.message() == b"hello"
            peer.cut()
            for _ in range(2):
                client.send(get("/warm"))
                await client.answer()
            client.send(get("/slow", "X-Request-Timeout: 0.1\r\n"))
            assert (await client.answer())[0].startswith("HTTP/1.1 504 ")
            assert ways[1:] == ["task", "task", "direct", "task"], "the first one took the warm connection"
            client.close()


async def test_a_body_that_the_client_holds_back_takes_the_other_way(tmp_path: Path, ways: list[str]) -> None:
    async with Backend(echo) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await warm(gateway)
        client.send(get("/x", "Expect: 100-continue\r\nContent-Length: 2\r\n", method="POST"))
        assert (await client.head()).startswith("HTTP/1.1 100 ")
        client.send(b"hi")
        assert (await client.answer())[1] == b"/xhi"
        assert ways[1:] == ["stream"]
        client.close()


async def test_traffic_goes_on_past_the_keep_alive_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ways: list[str]
) -> None:
    monkeypatch.setattr("gateway.edge.client.listener.KEEP_ALIVE", 0.3)
    async with Backend(echo) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await warm(gateway)
        for _ in range(5):
            await passes(0.15)
            client.send(get("/x"))
            assert (await client.answer())[1] == b"/x"
        client.send(get("/slow"))  # longer than the keep-alive time
        assert (await client.answer())[1] == b"/slow"
        assert ways[1:] == ["direct"] * 6
        assert await client.rest() == b"", "an idle connection is closed after the keep-alive time"
        client.close()


async def test_drain_waits_for_a_direct_request(tmp_path: Path, ways: list[str]) -> None:
    async with Backend(echo) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await warm(gateway)
        client.send(get("/slow"))
        await head_start(0.1)
        draining = asyncio.create_task(gateway.drain())
        head, body = await client.answer()
        assert body == b"/slow"
        assert "connection: close" in head.lower()
        assert await client.rest() == b""
        await draining
        assert ways[1:] == ["direct"]
        client.close()


async def test_a_bug_where_the_answer_is_written_ends_the_connection_and_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reply, "finish", None)
    async with Backend(echo) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await RawClient.connect(harness.address(gateway))
        client.send(get("/x"))
        await client.rest()
        assert "left a request without a response" in caplog.text
        client.close()


async def test_a_bug_gives_500_and_the_connection_goes_on(
    tmp_path: Path, ways: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async with Backend(echo) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await warm(gateway)
        good, gateway.pools.of = gateway.pools.of, None  # type: ignore[method-assign, assignment]
        client.send(get("/x"))
        head, body = await client.answer()
        assert head.startswith("HTTP/1.1 500 ")
        assert json.loads(body)["code"] == "internal"
        gateway.pools.of = good  # type: ignore[method-assign]
        client.send(get("/x"))
        assert (await client.answer())[1] == b"/x"
        assert ways[1:] == ["direct", "direct"]
        assert "NoneType" in caplog.text
        client.close()


async def test_a_client_that_left_frees_all(tmp_path: Path, ways: list[str]) -> None:
    async with Backend(echo) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await warm(gateway)
        client.send(get("/slow") + get("/never"))
        await eventually(lambda: gateway.admission.in_use() == {"app": 1})
        client.close()
        await eventually(lambda: gateway.admission.in_use() == {"app": 0})
        again = await warm(gateway)
        again.close()
        assert "/never" not in [heard.line.split()[1] for heard in backend.heard]
        assert ways[1] == "direct"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_errors_of_the_short_way_look_like_all_others(
    tmp_path: Path, ways: list[str], method: str
) -> None:
    async with Backend(always(answer())) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await RawClient.connect(harness.address(gateway))
        client.send(f"{method} /nowhere HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        head = await client.head()
        assert head.startswith("HTTP/1.1 404 Not Found\r\n")
        assert "Content-Type: application/problem+json\r\n" in head
        assert "X-Request-ID: " in head
        assert "Date: " in head
        length = int(head.lower().partition("content-length: ")[2].split()[0])
        if method == "GET":
            assert json.loads(await client.reader.readexactly(length))["code"] == "no_route"
        client.send(b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await client.head()).startswith("HTTP/1.1 404 ")
        assert ways == ["direct", "direct"]
        client.close()


async def test_a_broken_backend_is_502_and_the_connection_goes_on(tmp_path: Path, ways: list[str]) -> None:
    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if "die" in heard.line:
            writer.close()
        else:
            writer.write(answer(b"fine"))

    async with Backend(script) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await warm(gateway)
        client.send(get("/die"))
        head, body = await client.answer()
        assert head.startswith("HTTP/1.1 502 ")
        assert json.loads(body)["code"] == "backend_reset"
        client.send(get("/x"))
        assert (await client.answer())[1] == b"fine"
        assert ways[1] == "direct"
        client.close()
