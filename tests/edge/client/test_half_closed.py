"""A client that sends its request and shuts down its sending side still reads: it gets its answer.

From the outside it looks like one that has closed its connection, whose work is cancelled.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from gateway.app import Gateway
from tests import harness
from tests.eventually import AT_ONCE, END, eventually, head_start, takes
from tests.fakes import Backend, Heard, RawClient, Script, answer
from tests.support.sockets import PONG, TEXT, connect, echo, websocket

pytestmark = pytest.mark.asyncio

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
KINDS = pytest.mark.parametrize("kind", ["http", "gunicorn"])
CHUNKED = b"POST /svc/slow HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
REQUESTS = {
    "direct": b"GET /svc/slow HTTP/1.1\r\nHost: a\r\n\r\n",
    "task": b"GET /svc/slow HTTP/1.1\r\nHost: a\r\nX-Request-Timeout: 5\r\n\r\n",
    "length": b"POST /svc/slow HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody",
    "chunked": CHUNKED + b"4\r\nbody\r\n0\r\n\r\n",
    "old": b"GET /svc/slow HTTP/1.0\r\nHost: a\r\n\r\n",
}


def config(backend: Backend, kind: str = "http", **more: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {"kind": kind, "addresses": [backend.address]}
    more = {"timeouts": {"connect": "30s"}} | more  # a busy machine accepts late
    if kind == "gunicorn":
        settings["threads"] = 1
    return harness.routing([harness.route("svc", "app", public=True, **more)], backends={"app": settings})


async def slow(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    path = heard.line.split()[1]
    if "slow" in path:
        await takes(0.2)
    writer.write(answer(path.encode() + heard.body))


async def warm(gateway: Gateway) -> RawClient:
    client = await RawClient.connect(harness.address(gateway))
    client.send(b"GET /svc/warm HTTP/1.1\r\nHost: a\r\n\r\n")
    await client.answer()
    return client


def half_close(client: RawClient) -> None:
    client.writer.write_eof()


async def nothing_left(gateway: Gateway, seconds: float = AT_ONCE) -> None:
    async with asyncio.timeout(seconds):
        await eventually(lambda: not gateway.listener.connections)
        await eventually(lambda: not any(gateway.admission.in_use().values()))
    assert gateway.pools.under_way == 0


@KINDS
@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("pause", [0.0, 0.05])
async def test_it_gets_its_answer_and_then_the_connection_ends(
    tmp_path: Path, kind: str, name: str, pause: float
) -> None:
    async with (
        Backend(slow) as backend,
        harness.running(tmp_path, config(backend, kind)) as gateway,
    ):
        client = await warm(gateway)
        client.send(REQUESTS[name])
        await head_start(pause)
        half_close(client)
        received = await client.rest()
        interim, final, rest = received.rpartition(b"HTTP/1.")
        assert interim in (b"", CONTINUE), "it may be asked whether it is still there"
        assert name != "old" or not interim
        assert (final + rest).startswith((b"HTTP/1.1 200 ", b"HTTP/1.0 200 "))
        assert rest.endswith(b"\r\n\r\n/slow" + (b"body" if name in ("length", "chunked") else b""))
        await nothing_left(gateway)
        client.close()
    lines = [json.loads(line) for line in (tmp_path / "var" / "access.log").read_text().splitlines()]
    assert [line["status"] for line in lines] == [200, 200]


@KINDS
async def test_what_it_sent_ahead_is_answered_too_and_what_is_not_whole_is_dropped(
    tmp_path: Path, kind: str
) -> None:
    async with Backend(slow) as backend, harness.running(tmp_path, config(backend, kind)) as gateway:
        client = await warm(gateway)
        one, two = REQUESTS["direct"], REQUESTS["direct"].replace(b"slow", b"2")
        three = REQUESTS["chunked"].replace(b"slow", b"3")
        client.send(one + two + three + two.replace(b"2", b"4") + b"GET /svc/5 HTTP/1.1\r\nHost")
        half_close(client)
        received = await client.rest()
        assert received.removeprefix(CONTINUE).count(b"HTTP/1.1 200 ") == 4
        assert [heard.line.split()[1] for heard in backend.heard[1:]] == ["/slow", "/2", "/3", "/4"]
        await nothing_left(gateway)
        client.close()


async def test_it_gets_an_answer_of_ours_too(tmp_path: Path) -> None:
    async with Backend(slow) as backend, harness.running(tmp_path, config(backend)) as gateway:
        for raw, status in (
            (b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n", b"404"),
            (b"GET /nowhere HTTP/1.0\r\nHost: a\r\n\r\n", b"404"),
            (b"nonsense\r\n\r\n", b"400"),
        ):
            client = await RawClient.connect(harness.address(gateway))
            client.send(raw)
            half_close(client)
            assert (await client.rest()).split()[1] == status
            await nothing_left(gateway)
            client.close()


async def test_a_long_answer_reaches_it_whole(tmp_path: Path) -> None:
    big = bytes(range(256)) * 20_000

    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(big))

    async with Backend(script) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await RawClient.connect(harness.address(gateway))
        client.send(b"GET /svc/ HTTP/1.1\r\nHost: a\r\n\r\n")
        await head_start(0.1)
        half_close(client)
        await head_start(0.5)
        assert (await client.rest()).endswith(big)
        await nothing_left(gateway)
        client.close()


@pytest.mark.parametrize("sent", [b"", b"GET /svc/x HT", b"GET /svc/x HTTP/1.1\r\nHost: a\r\n"])
@pytest.mark.parametrize("ready", ["new", "warm"])
async def test_on_a_connection_without_a_request_it_is_gone_at_once(
    tmp_path: Path, sent: bytes, ready: str
) -> None:
    async with Backend(slow) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await warm(gateway) if ready == "warm" else await RawClient.connect(harness.address(gateway))
        client.send(sent)
        await head_start(0.02)
        half_close(client)
        assert await client.rest(AT_ONCE) == b""
        await nothing_left(gateway)
        client.close()


@KINDS
@pytest.mark.parametrize("framing", ["Content-Length: 10", "Transfer-Encoding: chunked"])
async def test_in_the_middle_of_a_body_it_is_gone_at_once(tmp_path: Path, kind: str, framing: str) -> None:
    async with (
        Backend(slow, heads_only=True) as backend,
        harness.running(tmp_path, config(backend, kind)) as gateway,
    ):
        client = await RawClient.connect(harness.address(gateway))
        client.send(f"POST /svc/slow HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n3\r\nabc".encode())
        if kind == "http":
            await eventually(lambda: backend.heard)
        await head_start(0.1)
        half_close(client)
        await nothing_left(gateway)
        client.close()
        assert len(backend.heard) == (0 if kind == "gunicorn" else 1)


@KINDS
@pytest.mark.parametrize("first", ["direct", "task", "chunked"])
async def test_a_body_that_lacks_a_part_does_not_hold_it_up_once_the_rest_is_answered(
    tmp_path: Path, kind: str, first: str
) -> None:
    """What came whole before it is answered all the same."""
    async with (
        Backend(slow) as backend,
        harness.running(tmp_path, config(backend, kind)) as gateway,
    ):
        client = await warm(gateway)
        client.send(REQUESTS[first] + CHUNKED.replace(b"slow", b"lacking") + b"9\r\npart")
        await head_start(0.02)
        half_close(client)
        received = await client.rest()
        assert received.removeprefix(CONTINUE).count(b"HTTP/1.1 200 ") == 1
        await nothing_left(gateway)
        client.close()


@pytest.mark.parametrize("name", ["direct", "task"])
@pytest.mark.parametrize("pause", [0.0, 0.05])
async def test_one_that_closed_is_told_from_it_within_a_second(
    tmp_path: Path, name: str, pause: float
) -> None:
    gone = asyncio.Event()

    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if "slow" not in heard.line:
            writer.write(answer())
            return
        assert await reader.read() == b""
        gone.set()

    async with Backend(script) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await warm(gateway)
        client.send(REQUESTS[name])
        await head_start(pause)
        client.close()
        async with asyncio.timeout(30):
            await gone.wait()
        await nothing_left(gateway)


def stream(pause: float) -> Script:
    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        await takes(pause)

    return script


async def test_a_stream_of_events_ends_with_the_sending_of_who_reads_it(tmp_path: Path) -> None:
    """It has no end to wait for, and nothing may come for long that would show that nobody reads."""
    async with Backend(stream(30)) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await RawClient.connect(harness.address(gateway))
        client.send(b"GET /svc/ HTTP/1.1\r\nHost: a\r\n\r\n")
        await client.reader.readuntil(b"data: 1\n\n")
        half_close(client)
        await nothing_left(gateway)
        client.close()


async def test_a_websocket_that_is_not_open_yet_ends_with_it_too(tmp_path: Path) -> None:
    """Who sends no more cannot speak in one, and would hold it until it has been silent for too long."""

    async def late(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await takes(0.2)
        await websocket(echo)(heard, reader, writer)

    async with Backend(late, heads_only=True) as backend:
        async with harness.running(tmp_path, config(backend, websocket=True)) as gateway:
            client = await RawClient.connect(harness.address(gateway))
            client.send(
                b"GET /svc/ HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            await head_start(0.05)
            half_close(client)
            await nothing_left(gateway)
            client.close()


async def test_a_websocket_ends_with_its_client_s_sending(tmp_path: Path) -> None:
    async with Backend(websocket(echo), heads_only=True) as backend:
        async with harness.running(tmp_path, config(backend, websocket=True)) as gateway:
            peer = await connect(harness.address(gateway), "/svc/", {})
            peer.send(TEXT, b"hello")
            assert await peer.message() == b"hello"
            peer.send(PONG, b"")
            peer.writer.write_eof()
            assert await peer.ended()
            peer.cut()
            await nothing_left(gateway)


async def test_a_thousand_of_them_leave_nothing(tmp_path: Path) -> None:
    async with Backend(slow) as backend, harness.running(tmp_path, config(backend)) as gateway:
        (await warm(gateway)).close()  # with the first connection to a backend its sweep begins
        before = asyncio.all_tasks()

        async def one(number: int) -> None:
            client = await RawClient.connect(harness.address(gateway))
            client.send(REQUESTS["direct" if number % 2 else "task"])
            half_close(client)
            if number % 3:
                assert b" 200 " in (await client.rest()).removeprefix(CONTINUE)
            client.close()

        for _ in range(5):
            await asyncio.gather(*[one(number) for number in range(100)])
        await nothing_left(gateway, END)
        await eventually(lambda: not asyncio.all_tasks() - before - backend._tasks)
