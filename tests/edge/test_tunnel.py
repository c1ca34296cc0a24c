"""WebSockets through a gateway, over real sockets."""

from __future__ import annotations

import asyncio
import json
import resource
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web

from gateway.app import Gateway
from gateway.core.frames import close_payload
from gateway.edge.tunnel import CLOSE_TIME
from tests import harness
from tests.fakes import Backend, RawClient, Script, always, answer
from tests.sockets import (
    BINARY,
    CLOSE,
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

pytestmark = pytest.mark.asyncio


def config(address: str, **rule: Any) -> dict[str, Any]:
    """/ws opts in with this rule, /plain does not, /open is public, /scoped needs a scope."""
    rules = rule or True
    return harness.routing(
        [
            harness.route("ws", "app", websocket=rules),
            harness.route("plain", "app"),
            harness.route("open", "app", public=True, websocket=rules),
            harness.route(
                "scoped", "app", websocket=rules, scopes={"read": ["app:read"], "write": ["app:write"]}
            ),
        ],
        backends={"app": {"kind": "http", "addresses": [address]}},
    )


@asynccontextmanager
async def through(folder: Path, script: Script, **rule: Any) -> AsyncIterator[tuple[Gateway, Backend]]:
    async with Backend(script) as backend:
        async with harness.running(folder, config(backend.address, **rule)) as gateway:
            yield gateway, backend


_opened: list[Peer] = []


@pytest.fixture(autouse=True)
async def cut_at_the_end() -> AsyncIterator[None]:
    yield
    while _opened:
        _opened.pop().cut()


async def opened(gateway: Gateway, path: str = "/ws/chat", **claims: Any) -> Peer:
    peer = await connect(harness.address(gateway), path, harness.bearer(gateway, **claims))
    _opened.append(peer)
    return peer


async def refused(gateway: Gateway, path: str, *lines: str) -> tuple[int, dict[str, Any], str]:
    """The status, the problem and the head of a handshake that fails."""
    client = await RawClient.connect(harness.address(gateway))
    client.send(request(path, "gateway.example", *lines))
    head, body = await client.answer()
    client.close()
    return int(head.split()[1]), json.loads(body or b"{}"), head


async def nobody_inside(gateway: Gateway) -> None:
    """Within a second no seat is taken and no tunnel is open."""
    end = time.monotonic() + 1.0
    while any(gateway.admission.in_use().values()) or len(gateway.tunnels):
        assert time.monotonic() < end, (gateway.admission.in_use(), len(gateway.tunnels))
        await asyncio.sleep(0.01)


def logged(gateway: Gateway) -> list[dict[str, Any]]:
    text = Path(gateway.config.access_log).read_text()
    return [json.loads(line) for line in text.splitlines()]


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
            assert await socket.receive_str(timeout=5) == "žluťoučký"
            for size in (0, 1, 125, 126, 65535, 65536, 1024 * 1024):
                await socket.send_bytes(bytes(size))
                assert await socket.receive_bytes(timeout=5) == bytes(size)
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
            assert await socket.receive_str(timeout=5) == "a" * 1000


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
        await asyncio.sleep(0.05)
        early = raw_frame(TEXT, b"early", masked=False)
        writer.write(switching(heard.one("Sec-WebSocket-Key") or "") + early)
        await echo(Peer(reader, writer, masks=False))

    async with through(tmp_path, script) as (gateway, _):
        client = await RawClient.connect(harness.address(gateway))
        lines = [f"{name}: {value}" for name, value in harness.bearer(gateway).items()]
        client.send(request("/ws/", "a", *lines) + raw_frame(TEXT, b"one", masked=True))
        await asyncio.sleep(0.02)
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
        assert (heard.one("X-Tenant"), heard.one("X-Subject"), heard.one("X-Scopes")) == (
            "acme",
            "alice",
            "a b",
        )
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


# --- how it ends ---


@pytest.mark.parametrize("code", [1000, 1001, 1011, 3000, 4000, 4999])
async def test_a_close_of_the_client_reaches_the_backend_and_its_answer_the_client(
    tmp_path: Path, code: int
) -> None:
    async with through(tmp_path, websocket(echo)) as (gateway, _):
        peer = await opened(gateway)
        peer.close(code, "good bye")
        assert await peer.closed() == (code, "good bye")
        assert await peer.ended()
        await nobody_inside(gateway)


@pytest.mark.parametrize("code", [1000, 1012, 3000, 4999])
async def test_a_close_of_the_backend_reaches_the_client_and_its_answer_the_backend(
    tmp_path: Path, code: int
) -> None:
    answered: list[tuple[int, str]] = []

    async def play(backend: Peer) -> None:
        backend.send(TEXT, b"last")
        backend.close(code, "enough")
        answered.append(await backend.closed())

    async with through(tmp_path, websocket(play)) as (gateway, _):
        peer = await opened(gateway)
        assert await peer.message() == b"last"
        assert await peer.closed() == (code, "enough")
        peer.close(code, "agreed")
        assert await peer.ended()
        await nobody_inside(gateway)
    assert answered == [(code, "agreed")]


async def test_a_close_without_a_code_passes_as_one(tmp_path: Path) -> None:
    async with through(tmp_path, websocket(echo)) as (gateway, _):
        peer = await opened(gateway)
        peer.send(CLOSE)
        assert await peer.frame() == (CLOSE, True, b"")
        assert await peer.ended()


async def test_when_the_backend_dies_the_client_is_closed_with_1014(tmp_path: Path) -> None:
    async def play(backend: Peer) -> None:
        backend.send(TEXT, b"still here")
        await backend.frame()
        backend.cut()

    async with through(tmp_path, websocket(play)) as (gateway, _):
        peer = await opened(gateway)
        assert await peer.message() == b"still here"
        peer.send(TEXT, b"die")
        assert await peer.closed() == (1014, "The backend is gone.")
        peer.close(1000)
        assert await peer.ended()
        await nobody_inside(gateway)


async def test_when_the_backend_dies_in_a_frame_the_client_is_cut_off(tmp_path: Path) -> None:
    """A close frame in the middle of another frame would be read as its payload."""

    async def play(backend: Peer) -> None:
        backend.writer.write(raw_frame(BINARY, bytes(1000), masked=False)[:500])
        await backend.writer.drain()
        await backend.frame()
        backend.cut()

    async with through(tmp_path, websocket(play)) as (gateway, _):
        peer = await opened(gateway)
        peer.send(TEXT, b"die")
        received = b""
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            async with asyncio.timeout(1.0):
                received = await peer.reader.readexactly(501)
        assert received == b""
        await nobody_inside(gateway)


async def test_when_the_client_vanishes_the_backend_is_closed_with_1001_within_a_second(
    tmp_path: Path,
) -> None:
    seen: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()

    async def play(backend: Peer) -> None:
        backend.send(TEXT, b"hello")
        seen.set_result(await backend.closed())
        backend.close(1001)

    async with through(tmp_path, websocket(play)) as (gateway, _):
        peer = await opened(gateway)
        await peer.message()
        peer.cut()
        assert await asyncio.wait_for(seen, 1.0) == (1001, "The client is gone.")
        await nobody_inside(gateway)


@pytest.mark.parametrize("fragmented", [False, True])
async def test_a_message_above_the_limit_closes_the_client_with_1009(
    tmp_path: Path, fragmented: bool
) -> None:
    seen: list[tuple[int, bytes]] = []

    async def play(backend: Peer) -> None:
        opcode = TEXT
        while opcode != CLOSE:
            opcode, _, payload = await backend.frame()
            seen.append((opcode, payload[:2] if opcode == CLOSE else payload))
        backend.close(1001)

    async with through(tmp_path, websocket(play), max_message=1000) as (gateway, _):
        peer = await opened(gateway)
        peer.send(BINARY, bytes(1000))
        if fragmented:
            peer.send(BINARY, bytes(600), final=False)
            peer.send(CONTINUATION, bytes(401))
        else:
            peer.send(BINARY, bytes(1001))
        code, reason = await peer.closed()
        assert code == 1009 and "1000 bytes" in reason
        peer.cut()
        await nobody_inside(gateway)
    assert seen[0] == (BINARY, bytes(1000))
    assert seen[1:] == [(BINARY, bytes(600))] * fragmented + [(CLOSE, (1001).to_bytes(2, "big"))]


async def test_a_message_of_the_backend_above_the_limit_closes_it_with_1009_and_the_client_with_1014(
    tmp_path: Path,
) -> None:
    seen: list[int] = []

    async def play(backend: Peer) -> None:
        backend.send(BINARY, bytes(1001))
        seen.append((await backend.closed())[0])

    async with through(tmp_path, websocket(play), max_message=1000) as (gateway, _):
        peer = await opened(gateway)
        assert (await peer.closed())[0] == 1014
        peer.close(1014)
        assert await peer.ended()
        await nobody_inside(gateway)
    assert seen == [1009]


BROKEN = {
    "a frame that is not masked": raw_frame(TEXT, b"x", masked=False),
    "a reserved bit": raw_frame(TEXT, b"x", masked=True, bits=0x40),
    "an unknown opcode": raw_frame(0x3, b"x", masked=True),
    "a fragment of nothing": raw_frame(CONTINUATION, b"x", masked=True),
    "a message within a message": raw_frame(TEXT, b"x", masked=True, final=False) * 2,
    "a fragmented ping": raw_frame(PING, b"x", masked=True, final=False),
    "a long ping": raw_frame(PING, bytes(126), masked=True),
    "a length that is not the shortest": b"\x82\xfe\x00\x05" + bytes(9),
    "close code 1005": raw_frame(CLOSE, (1005).to_bytes(2, "big"), masked=True),
    "close code 1006": raw_frame(CLOSE, (1006).to_bytes(2, "big"), masked=True),
    "close code 999": raw_frame(CLOSE, (999).to_bytes(2, "big"), masked=True),
    "close code 5000": raw_frame(CLOSE, (5000).to_bytes(2, "big"), masked=True),
    "half a close code": raw_frame(CLOSE, b"\x03", masked=True),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_breach_of_the_protocol_closes_the_client_with_1002_and_never_passes(
    tmp_path: Path, name: str
) -> None:
    seen: list[tuple[int, bytes]] = []

    async def play(backend: Peer) -> None:
        while not seen or seen[-1][0] != CLOSE:
            opcode, _, payload = await backend.frame()
            seen.append((opcode, payload))
        backend.close(1001)

    async with through(tmp_path, websocket(play)) as (gateway, _):
        peer = await opened(gateway)
        peer.writer.write(BROKEN[name])
        assert (await peer.closed())[0] == 1002
        peer.cut()
        await nobody_inside(gateway)
    passed = [(TEXT, b"x")] if name == "a message within a message" else []
    assert seen[:-1] == passed
    assert seen[-1][1][:2] == (1001).to_bytes(2, "big")


async def test_a_reason_that_is_not_utf8_closes_with_1007(tmp_path: Path) -> None:
    async with through(tmp_path, websocket(echo)) as (gateway, _):
        peer = await opened(gateway)
        peer.send(CLOSE, (1000).to_bytes(2, "big") + b"\xff")
        assert (await peer.closed())[0] == 1007
        peer.cut()


async def test_a_masked_frame_of_the_backend_closes_it_with_1002_and_the_client_with_1014(
    tmp_path: Path,
) -> None:
    seen: list[int] = []

    async def play(backend: Peer) -> None:
        backend.writer.write(raw_frame(TEXT, b"x", masked=True))
        seen.append((await backend.closed())[0])

    async with through(tmp_path, websocket(play)) as (gateway, _):
        peer = await opened(gateway)
        assert (await peer.closed())[0] == 1014
        peer.cut()
        await nobody_inside(gateway)
    assert seen == [1002]


async def test_it_is_closed_with_1008_when_the_token_expires(tmp_path: Path) -> None:
    seen: list[tuple[int, str]] = []

    async def play(backend: Peer) -> None:
        seen.append(await backend.closed())
        backend.close(1008)

    async with through(tmp_path, websocket(play)) as (gateway, _):
        begun = time.time()
        peer = await opened(gateway, exp=begun + 0.5)
        assert await peer.closed() == (1008, "The token has expired.")
        assert 0.4 < time.time() - begun < 1.5
        peer.close(1008)
        assert await peer.ended()
        await nobody_inside(gateway)
    assert seen == [(1008, "The token has expired.")]


async def test_a_frame_that_is_on_its_way_is_completed_before_a_close_of_ours(tmp_path: Path) -> None:
    raw = raw_frame(BINARY, bytes(range(200)), masked=False)

    async def play(backend: Peer) -> None:
        backend.writer.write(raw[:100])
        assert await backend.closed() == (1008, "The token has expired.")
        backend.writer.write(raw[100:] + raw_frame(TEXT, b"too late", masked=False))
        backend.close(1008)

    async with through(tmp_path, websocket(play)) as (gateway, _):
        peer = await opened(gateway, exp=time.time() + 0.3)
        assert await peer.message() == bytes(range(200))
        assert await peer.frame() == (CLOSE, True, close_payload(1008, "The token has expired."))
        peer.close(1008)
        assert await peer.ended(1)
        await nobody_inside(gateway)


async def test_it_is_closed_with_1008_within_a_second_of_its_tenant_being_disabled(tmp_path: Path) -> None:
    async with through(tmp_path, websocket(echo)) as (gateway, backend):
        acme, globex = await opened(gateway), await opened(gateway, tenant="globex")
        changed = {**config(backend.address), "tenants": {"acme": {"disabled": True}, "globex": {}}}
        (tmp_path / "routing.yaml").write_text(yaml.safe_dump(changed))
        await gateway.reload()
        assert await acme.closed(1.0) == (1008, "The tenant is disabled.")
        globex.send(TEXT, b"still served")
        assert await globex.message() == b"still served"
        acme.cut()
        globex.cut()


async def test_it_is_closed_with_1001_when_the_gateway_drains(tmp_path: Path) -> None:
    async with through(tmp_path, websocket(echo)) as (gateway, _):
        peer = await opened(gateway)
        begun = time.monotonic()
        drained = asyncio.create_task(gateway.drain())
        assert await peer.closed() == (1001, "The gateway is shutting down.")
        peer.close(1001)
        await drained
        assert time.monotonic() - begun < 2.0
        assert await peer.ended()


async def test_who_does_not_answer_a_close_of_ours_is_cut_off_and_nothing_follows_the_close(
    tmp_path: Path,
) -> None:
    seen: list[int] = []

    async def play(backend: Peer) -> None:
        try:
            while True:
                seen.append((await backend.frame(20))[0])
        except (asyncio.IncompleteReadError, ConnectionError):
            seen.append(-1)

    async with through(tmp_path, websocket(play)) as (gateway, _):
        peer = await opened(gateway, exp=time.time() + 0.3)
        peer.send(TEXT, b"before")
        assert await peer.closed() == (1008, "The token has expired.")
        begun = time.monotonic()
        peer.send(TEXT, b"after")
        assert await peer.ended(10)
        assert CLOSE_TIME - 1 < time.monotonic() - begun < CLOSE_TIME + 1
        await nobody_inside(gateway)
    assert seen == [TEXT, CLOSE, -1]


async def test_a_backend_that_hangs_up_on_a_close_leaves_the_client_with_1000(tmp_path: Path) -> None:
    async def play(backend: Peer) -> None:
        assert (await backend.frame())[0] == CLOSE

    async with through(tmp_path, websocket(play)) as (gateway, _):
        peer = await opened(gateway)
        peer.close(4321, "going")
        assert await peer.closed() == (1000, "")
        assert await peer.ended(1)
        await nobody_inside(gateway)


# --- idle ---


async def test_a_client_without_a_sign_of_life_is_pinged_and_then_closed(tmp_path: Path) -> None:
    seen: list[int] = []

    async def play(backend: Peer) -> None:
        while True:
            opcode, _, payload = await backend.frame()
            if opcode == PING:
                backend.send(PONG, payload)
            elif opcode == CLOSE:
                seen.append(int.from_bytes(payload[:2], "big"))
                return

    async with through(tmp_path, websocket(play), idle=0.4) as (gateway, _):
        peer = await opened(gateway)
        begun = time.monotonic()
        assert (await peer.frame())[0] == PING
        assert (await peer.closed())[0] == 1001
        assert 0.3 < time.monotonic() - begun < 1.0
        peer.cut()
        await nobody_inside(gateway)
    assert seen == [1001]


async def test_a_silent_websocket_whose_ends_answer_pings_lives_on(tmp_path: Path) -> None:
    """And the pongs to our pings go no further."""
    heard: list[int] = []

    async def answering(peer: Peer) -> bytes:
        while True:
            opcode, _, payload = await peer.frame()
            heard.append(opcode)
            if opcode == PING:
                peer.send(PONG, payload)
            if opcode == TEXT:
                return payload

    async def play(backend: Peer) -> None:
        backend.send(TEXT, await answering(backend))

    async with through(tmp_path, websocket(play), idle=0.4) as (gateway, _):
        peer = await opened(gateway)
        waiting = asyncio.create_task(answering(peer))
        await asyncio.sleep(1.2)
        peer.send(TEXT, b"alive")
        assert await waiting == b"alive"
        assert PING in heard and PONG not in heard
        peer.cut()


async def test_a_silent_backend_is_closed_and_the_client_with_1014(tmp_path: Path) -> None:
    async def play(backend: Peer) -> None:
        assert (await backend.frame())[0] == PING  # and no pong
        assert await backend.closed() == (1001, "No sign of life for 0.4 s.")

    async with through(tmp_path, websocket(play), idle=0.4) as (gateway, _):
        peer = await opened(gateway)
        end = time.monotonic() + 2
        while (found := await peer.frame())[0] != CLOSE:
            assert time.monotonic() < end
            peer.send(PONG, found[2])
        assert int.from_bytes(found[2][:2], "big") == 1014
        peer.cut()


# --- back-pressure ---


async def test_a_slow_reader_holds_the_backend_back_and_loses_nothing(tmp_path: Path) -> None:
    sent = 0
    piece, count = bytes(64 * 1024), 640  # 40 MiB in all

    async def play(backend: Peer) -> None:
        nonlocal sent
        for _ in range(count):
            backend.send(BINARY, piece)
            await backend.writer.drain()
            sent += len(piece)
        backend.close(1000)
        await backend.closed(60)

    async with through(tmp_path, websocket(play)) as (gateway, _):
        peer = await opened(gateway)
        await asyncio.sleep(0.5)
        before, memory = sent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        await asyncio.sleep(0.3)
        assert sent == before < 20 * 1024 * 1024  # what the sockets of the system hold, and no more
        received = 0
        while received < count * len(piece):
            received += len(await peer.message())
        assert (await peer.closed())[0] == 1000
        peer.close(1000)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 10 * 1024  # KiB


async def test_who_reads_a_long_frame_slowly_is_not_taken_for_silent(tmp_path: Path) -> None:
    """It cannot answer a ping that stands behind the frame."""
    size = 40 * 1024 * 1024

    async def play(backend: Peer) -> None:
        backend.send(BINARY, bytes(size))
        await backend.closed(30)

    async with through(tmp_path, websocket(play), max_message=size, idle=1.0) as (gateway, _):
        peer = await opened(gateway)
        await peer.reader.readexactly(10)
        for _ in range(20):
            await asyncio.sleep(0.12)
            await peer.reader.readexactly(size // 20)
        peer.close(1000)
        begun = time.monotonic()
        await nobody_inside(gateway)
        assert time.monotonic() - begun < 1.0


async def test_a_slow_backend_holds_the_client_back(tmp_path: Path) -> None:
    go = asyncio.Event()
    got = 0

    async def play(backend: Peer) -> None:
        nonlocal got
        await go.wait()
        while True:
            opcode, _, payload = await backend.frame()
            if opcode == CLOSE:
                backend.close(1000)
                return
            got += len(payload)

    async with through(tmp_path, websocket(play)) as (gateway, _):
        peer = await opened(gateway)
        piece, count = bytes(64 * 1024), 480  # 30 MiB
        pushed = 0

        async def push() -> None:
            nonlocal pushed
            for _ in range(count):
                peer.send(BINARY, piece)
                await peer.writer.drain()
                pushed += 1

        pushing = asyncio.create_task(push())
        await asyncio.sleep(0.5)
        before = pushed
        await asyncio.sleep(0.3)
        assert pushed == before < count
        go.set()
        await pushing
        peer.close(1000)
        assert (await peer.closed(10))[0] == 1000
    assert got == count * len(piece)


# --- who may open one ---


async def test_what_is_not_authorised_never_reaches_the_backend(tmp_path: Path) -> None:
    async with through(tmp_path, websocket(echo)) as (gateway, backend):
        bearer = harness.bearer(gateway)["Authorization"]
        stranger = harness.bearer(gateway, tenant="initech")["Authorization"]
        late = harness.bearer(gateway, exp=time.time() - 5)["Authorization"]  # within the leeway
        cases = [
            ("/ws/", (), 401, "unauthenticated"),
            ("/ws/", ("Authorization: Bearer x",), 401, "unauthenticated"),
            ("/ws/", (f"Authorization: {late}",), 401, "unauthenticated"),
            ("/ws/", (f"Authorization: {stranger}",), 403, "forbidden"),
            ("/ws/", (f"Authorization: {bearer}", "X-Tenant: globex"), 403, "forbidden"),
            ("/scoped/", (f"Authorization: {bearer}",), 403, "forbidden"),
            ("/nowhere/", (f"Authorization: {bearer}",), 404, "no_route"),
        ]
        for path, lines, status, code in cases:
            found, problem, _ = await refused(gateway, path, *lines)
            assert (found, problem["code"]) == (status, code), lines
        assert backend.connections == 0


@pytest.mark.parametrize(
    ("origin", "opens"),
    [
        ("http://gateway.example", True),
        ("https://gateway.example", True),
        ("http://friend.example", True),
        ("http://gateway.example:81", False),
        ("http://gateway.example.evil.example", False),
        ("http://evil.example", False),
        ("null", False),
        ("http://friend.example, http://gateway.example", False),
    ],
)
async def test_a_page_of_another_origin_opens_none(tmp_path: Path, origin: str, opens: bool) -> None:
    rule = {"origins": ["http://friend.example"]}
    async with through(tmp_path, websocket(echo), **rule) as (gateway, backend):
        client = await RawClient.connect(harness.address(gateway))
        client.send(request("/open/", "gateway.example", f"Origin: {origin}"))
        assert (await client.head()).split()[1] == ("101" if opens else "403")
        assert backend.connections == opens
        client.close()


async def test_the_origins_of_the_cors_rule_may_open_one(tmp_path: Path) -> None:
    async with Backend(websocket(echo)) as backend:
        routing = config(backend.address)
        routing["routes"][2]["cors"] = {"origins": ["http://friend.example"]}
        async with harness.running(tmp_path, routing) as gateway:
            for origin, status in (("http://friend.example", "101"), ("http://evil.example", "403")):
                client = await RawClient.connect(harness.address(gateway))
                client.send(request("/open/", "gateway.example", f"Origin: {origin}"))
                assert (await client.head()).split()[1] == status
                client.close()


async def test_a_handshake_that_is_not_one_is_refused(tmp_path: Path) -> None:
    async with through(tmp_path, websocket(echo)) as (gateway, backend):
        whole = request("/open/", "a")
        key, version = f"Sec-WebSocket-Key: {KEY}\r\n".encode(), b"Sec-WebSocket-Version: 13\r\n"
        cases = [
            (whole.replace(key, b""), "400"),
            (whole.replace(key, b"Sec-WebSocket-Key: c2hvcnQ=\r\n"), "400"),
            (whole.replace(key, key * 2), "400"),
            (whole.replace(version, b"Sec-WebSocket-Version: 8\r\n"), "426"),
            (whole.replace(version, b""), "426"),
            (whole.replace(version, version + b"Content-Length: 1\r\n") + b"x", "400"),
        ]
        for raw, status in cases:
            client = await RawClient.connect(harness.address(gateway))
            client.send(raw)
            head, _ = await client.answer()
            assert head.split()[1] == status, raw
            assert status != "426" or "Sec-WebSocket-Version: 13\r\n" in head
            client.close()
        assert backend.connections == 0


# --- what is no WebSocket ---


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("/plain/", b"", b""),
        ("/ws/", b"Upgrade: websocket", b"Upgrade: h2c"),
        ("/ws/", b"Upgrade: websocket", b"Upgrade: websocket, h2c"),
        ("/ws/", b"keep-alive, Upgrade", b"keep-alive"),
        ("/ws/", b"GET ", b"DELETE "),
    ],
)
async def test_any_other_upgrade_is_ignored_and_the_connection_goes_on(
    tmp_path: Path, path: str, old: bytes, new: bytes
) -> None:
    async with through(tmp_path, always(answer(b"plain"))) as (gateway, backend):
        client = await RawClient.connect(harness.address(gateway))
        lines = [f"{name}: {value}" for name, value in harness.bearer(gateway).items()]
        for _ in range(2):
            client.send(request(path, "a", *lines).replace(old, new))
            head, body = await client.answer()
            assert head.startswith("HTTP/1.1 200 ") and body == b"plain"
        for heard in backend.heard:
            assert heard.one("Upgrade") is heard.one("Sec-WebSocket-Key") is None
        assert len(backend.heard) == 2
        client.close()


async def test_a_request_with_a_body_and_an_upgrade_that_is_ignored_passes_whole(tmp_path: Path) -> None:
    async with through(tmp_path, always(answer(b"plain"))) as (gateway, backend):
        client = await RawClient.connect(harness.address(gateway))
        lines = [f"{name}: {value}" for name, value in harness.bearer(gateway).items()]
        raw = request("/plain/", "a", *lines, "Content-Length: 4").replace(b"GET", b"POST") + b"body"
        client.send(raw + raw)
        for _ in range(2):
            assert (await client.answer())[1] == b"plain"
        assert [heard.body for heard in backend.heard] == [b"body", b"body"]
        client.close()


# --- what a backend may answer ---


async def test_a_backend_that_refuses_the_upgrade_is_heard_and_the_connection_goes_on(tmp_path: Path) -> None:
    refusal = answer(b"not you", "418 I'm a teapot", "X-Why: tea\r\n")
    async with through(tmp_path, always(refusal)) as (gateway, backend):
        client = await RawClient.connect(harness.address(gateway))
        lines = [f"{name}: {value}" for name, value in harness.bearer(gateway).items()]
        for _ in range(2):
            client.send(request("/ws/", "a", *lines))
            head, body = await client.answer()
            assert head.startswith("HTTP/1.1 418 ") and "X-Why: tea\r\n" in head and body == b"not you"
        assert backend.connections == 1
        client.close()
        await nobody_inside(gateway)


BAD = "Upgrade: websocket\r\nConnection: Upgrade\r\n"
BAD_ANSWERS = {
    "a wrong accept": f"{BAD}Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n",
    "no accept": BAD,
    "another protocol": "Upgrade: h2c\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n",
    "no Connection": "Upgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n",
    "an extension": BAD
    + "Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Extensions: permessage-deflate\r\n",
    "a subprotocol that nobody offered": BAD
    + "Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: three\r\n",
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
async def test_a_101_that_does_not_answer_the_handshake_is_502(tmp_path: Path, name: str) -> None:
    async def script(heard: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        right = switching(heard.one("Sec-WebSocket-Key") or "").decode().split("Accept: ")[1].split("\r\n")[0]
        lines = BAD_ANSWERS[name].replace("{accept}", right)
        writer.write(f"HTTP/1.1 101 Switching Protocols\r\n{lines}\r\n".encode())

    async with through(tmp_path, script) as (gateway, _):
        bearer = harness.bearer(gateway)["Authorization"]
        lines = (f"Authorization: {bearer}", "Sec-WebSocket-Protocol: one, two")
        status, problem, _ = await refused(gateway, "/ws/", *lines)
        assert (status, problem["code"]) == (502, "backend_malformed")
        await nobody_inside(gateway)


async def test_a_backend_that_is_not_there_is_503_and_one_that_hangs_504(tmp_path: Path) -> None:
    async def hang(heard: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with Backend(hang) as backend:
        routing = config(backend.address)
        routing["routes"][2]["timeouts"] = {"first_byte": 0.2}
        routing["backends"]["gone"] = {"kind": "http", "addresses": ["http://127.0.0.1:1"]}
        routing["routes"].append(harness.route("gone", "gone", public=True, websocket=True))
        async with harness.running(tmp_path, routing) as gateway:
            assert (await refused(gateway, "/open/"))[0] == 504
            assert (await refused(gateway, "/gone/"))[0] == 503
            await nobody_inside(gateway)


# --- what is seen of it ---


async def test_it_holds_a_seat_while_it_lives_and_is_logged_and_counted_at_its_end(tmp_path: Path) -> None:
    async with through(tmp_path, websocket(echo)) as (gateway, _):
        peer = await opened(gateway)
        peer.send(TEXT, b"12345")
        await peer.message()
        assert gateway.admission.in_use() == {"app": 1}
        assert "gateway_websockets 1" in gateway.metrics.render()
        await asyncio.sleep(0.1)
        peer.close(1000)
        await peer.closed()
        await nobody_inside(gateway)
        await asyncio.sleep(0.05)
        assert "gateway_websockets 0" in gateway.metrics.render()
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
        await asyncio.sleep(0.05)
        assert len(asyncio.all_tasks()) <= tasks
