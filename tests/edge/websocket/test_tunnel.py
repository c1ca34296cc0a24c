"""WebSockets through a gateway: what passes, and what is seen of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests import harness
from tests.edge.websocket.tunnels import (
    config,
    cut_at_the_end,
    logged,
    nobody_inside,
    opened,
    through,
)
from tests.eventually import eventually, head_start, takes
from tests.fakes import RawClient
from tests.support import identity
from tests.support.sockets import (
    BINARY,
    CONTINUATION,
    KEY,
    PING,
    PONG,
    TEXT,
    Peer,
    connect,
    echo,
    raw_frame,
    request,
    switching,
    websocket,
)

__all__ = ["cut_at_the_end"]  # a fixture of every test here
pytestmark = pytest.mark.asyncio


# --- what passes ---


@pytest.fixture
async def aiohttp_echo() -> AsyncIterator[str]:
    """The address of an aiohttp server that echoes and chooses the subprotocol `two`."""

    async def handler(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=("two",), max_msg_size=0)
        await socket.prepare(request)
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                if message.data == "leave":
                    await socket.close(code=4001, message=b"as you wish")
                await socket.send_str(message.data)
            elif message.type is aiohttp.WSMsgType.BINARY:
                await socket.send_bytes(message.data)
        return socket

    app = web.Application()
    app.router.add_get("/{any:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    yield f"http://127.0.0.1:{port}"
    await runner.cleanup()


async def test_text_binary_and_large_messages_pass_both_ways(tmp_path: Path, aiohttp_echo: str) -> None:
    async with harness.running(tmp_path, config(aiohttp_echo)) as gateway, aiohttp.ClientSession() as session:
        url = harness.url(gateway, "/ws/any?x=1")
        async with session.ws_connect(url, headers=harness.bearer(gateway), max_msg_size=0) as socket:
            await socket.send_str("žluťoučký")
            assert await socket.receive_str(timeout=30) == "žluťoučký"
            for size in (0, 1, 125, 126, 65535, 65536, 1024 * 1024):
                await socket.send_bytes(bytes(size))
                assert await socket.receive_bytes(timeout=30) == bytes(size)
        await nobody_inside(gateway)


async def test_the_backend_chooses_among_the_offered_subprotocols(tmp_path: Path, aiohttp_echo: str) -> None:
    async with harness.running(tmp_path, config(aiohttp_echo)) as gateway, aiohttp.ClientSession() as session:
        url, headers = harness.url(gateway, "/ws/any"), harness.bearer(gateway)
        async with session.ws_connect(url, headers=headers, protocols=("one", "two")) as socket:
            assert socket.protocol == "two"


async def test_compression_is_never_negotiated(tmp_path: Path, aiohttp_echo: str) -> None:
    async with harness.running(tmp_path, config(aiohttp_echo)) as gateway, aiohttp.ClientSession() as session:
        url, headers = harness.url(gateway, "/ws/any"), harness.bearer(gateway)
        async with session.ws_connect(url, headers=headers, compress=15) as socket:
            assert not socket.compress
            await socket.send_str("a" * 1000)
            assert await socket.receive_str(timeout=30) == "a" * 1000


async def test_fragments_pass_as_they_are_with_control_frames_between_them(tmp_path: Path) -> None:
    async with through(tmp_path, websocket(echo)) as (gateway, _):
        peer = await opened(gateway)
        peer.send(TEXT, b"Hel", final=False)
        peer.send(PING, b"now")
        peer.send(CONTINUATION, b"lo")
        assert await peer.frame() == (TEXT, False, b"Hel")
        assert await peer.frame() == (PING, True, b"now")
        assert await peer.frame() == (CONTINUATION, True, b"lo")
        peer.cut()


async def test_frames_that_come_byte_by_byte_pass(tmp_path: Path) -> None:
    async with through(tmp_path, websocket(echo)) as (gateway, _):
        peer = await opened(gateway)
        for byte in raw_frame(BINARY, bytes(range(200)), masked=True) + raw_frame(PING, b"p", masked=True):
            peer.writer.write(bytes((byte,)))
            await asyncio.sleep(0)
        assert await peer.message() == bytes(range(200))
        assert await peer.frame() == (PING, True, b"p")
        peer.cut()


async def test_ping_and_pong_pass_both_ways(tmp_path: Path) -> None:
    async def play(backend: Peer) -> None:
        assert await backend.frame() == (PING, True, b"from the client")
        backend.send(PONG, b"from the client")
        backend.send(PING, b"from the backend")
        assert await backend.frame() == (PONG, True, b"from the backend")
        backend.send(TEXT, b"both")

    async with through(tmp_path, websocket(play)) as (gateway, _):
        peer = await opened(gateway)
        peer.send(PING, b"from the client")
        assert await peer.frame() == (PONG, True, b"from the client")
        assert await peer.frame() == (PING, True, b"from the backend")
        peer.send(PONG, b"from the backend")
        assert await peer.message() == b"both"
        peer.cut()


async def test_frames_sent_right_after_the_handshakes_are_not_lost(tmp_path: Path) -> None:
    """With the backend's 101 in one segment, and by a client that did not wait for it."""

    async def script(heard: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await takes(0.05)
        early = raw_frame(TEXT, b"early", masked=False)
        writer.write(switching(heard.one("Sec-WebSocket-Key") or "") + early)
        await echo(Peer(reader, writer, masks=False))

    async with through(tmp_path, script) as (gateway, _):
        client = await RawClient.connect(harness.address(gateway))
        lines = [f"{name}: {value}" for name, value in harness.bearer(gateway).items()]
        client.send(request("/ws/", "a", *lines) + raw_frame(TEXT, b"one", masked=True))
        await head_start(0.02)
        client.send(raw_frame(TEXT, b"two", masked=True))
        await client.head()
        peer = Peer(client.reader, client.writer, masks=True)
        assert [await peer.message() for _ in range(3)] == [b"early", b"one", b"two"]
        peer.cut()


async def test_the_backend_is_told_who_calls_as_for_any_request(tmp_path: Path) -> None:
    async with through(tmp_path, websocket(echo, "X-From: backend\r\nSet-Cookie: a=1\r\n")) as (
        gateway,
        backend,
    ):
        headers = {**harness.bearer(gateway, scope="a b"), "X-Subject": "root", "X-Forwarded-For": "6.6.6.6"}
        peer = await connect(harness.address(gateway), "/ws/a/b?c=d", headers, "Sec-WebSocket-Extensions: x")
        heard, (host, port) = backend.heard[0], harness.address(gateway)
        assert heard.line == "GET /a/b?c=d HTTP/1.1"
        told = identity.claims(gateway, heard.one("X-Gateway-Identity"), "app")
        assert told == {"tenant": "acme", "sub": "alice", "scope": "a b"}
        assert heard.one("X-Forwarded-For") == "127.0.0.1"
        assert heard.one("X-Forwarded-Prefix") == "/ws"
        assert heard.one("X-Forwarded-Host") == f"{host}:{port}"
        assert heard.one("Connection") == "Upgrade"
        assert heard.one("Sec-WebSocket-Version") == "13"
        assert heard.one("Sec-WebSocket-Key") not in (None, KEY)  # each hop has its own
        assert heard.one("Authorization") is heard.one("Sec-WebSocket-Extensions") is None
        assert "X-From: backend\r\n" in peer.head and "Set-Cookie: a=1\r\n" in peer.head
        assert f"X-Request-ID: {heard.one('X-Request-ID')}\r\n" in peer.head
        peer.cut()


# --- what is seen of it ---


async def test_it_holds_a_seat_while_it_lives_and_is_logged_and_counted_at_its_end(tmp_path: Path) -> None:
    async with through(tmp_path, websocket(echo)) as (gateway, _):
        peer = await opened(gateway)
        peer.send(TEXT, b"12345")
        await peer.message()
        assert gateway.admission.in_use() == {"app": 1}
        assert "gateway_websockets 1" in gateway.metrics.render()
        await head_start(0.1)
        peer.close(1000)
        await peer.closed()
        await nobody_inside(gateway)
        await eventually(lambda: "gateway_websockets 0" in gateway.metrics.render())
        metrics = gateway.metrics.render()
        assert 'gateway_websockets_ended_total{route="ws"} 1' in metrics
        assert 'gateway_tenant_requests_total{tenant="acme",status="1xx"} 1' in metrics
        latencies = [line for line in metrics.splitlines() if line.startswith("gateway_request_seconds")]
        assert latencies == [], "the life of a WebSocket is no latency of a request"
    line = logged(gateway)[-1]
    assert (line["status"], line["tenant"], line["route"]) == (101, "acme", "ws")
    frames_in, frames_out = 5 + 6 + 2 + 6, 5 + 2 + 2 + 2  # masked in, plain out; a text and a close
    assert line["bytes_in"] == frames_in
    assert line["bytes_out"] == frames_out + len(peer.head)


async def test_a_hundred_at_once_each_hear_their_own_echo_and_leave_nothing(tmp_path: Path) -> None:
    async with through(tmp_path, websocket(echo)) as (gateway, _):
        (await opened(gateway)).cut()  # with the first connection to a backend its sweep begins
        await nobody_inside(gateway)
        tasks = len(asyncio.all_tasks())

        async def one(number: int) -> None:
            peer = await opened(gateway)
            for turn in range(5):
                text = f"{number}-{turn}".encode()
                peer.send(TEXT, text)
                assert await peer.message() == text
            if number % 2:
                peer.close(1000)
                assert (await peer.closed())[0] == 1000
                peer.writer.close()
            else:
                peer.cut()

        await asyncio.gather(*(one(number) for number in range(100)))
        await nobody_inside(gateway)
        await eventually(lambda: len(asyncio.all_tasks()) <= tasks)
