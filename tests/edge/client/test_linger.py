"""A client that goes on sending after it was refused gets the refusal: its connection ends on our side first.

Bytes for a closed socket are answered with a reset; the next write of the client then fails, and most clients
read no answer after that.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from gateway.app import Gateway
from gateway.core.http.request_reader import MAX_LINE
from tests import harness
from tests.edge.client.test_order import connection_of
from tests.eventually import AT_ONCE, eventually, eventually_await, head_start, nothing_for
from tests.fakes import Backend, Heard, always, answer
from tests.support.wire import Answer, read_answers

HOST = b"HTTP/1.1\r\nHost: a\r\n"
GOOD = b"GET /svc/good " + HOST + b"\r\n"
BODY = b"POST /svc/ " + HOST + b"Content-Length: 100000000\r\n\r\n"
REFUSED = {
    "the short way": (b"GET /svc/a//b " + HOST + b"\r\n", 400, GOOD),
    "the short way, by its size": (b"POST /svc/ " + HOST + b"Content-Length: 9\r\n\r\n123456789", 413, GOOD),
    "parsed, more than the limit": (BODY, 413, b"x" * 1000),
    "parsed, chunked": (
        b"POST /svc/ " + HOST + b"Transfer-Encoding: chunked\r\n\r\n9\r\n123456789\r\n",
        413,
        b"3e8\r\n" + b"x" * 1000 + b"\r\n",
    ),
    "parsed, a body that stopped": (b"POST /svc/ " + HOST + b"Content-Length: 5\r\n\r\n1", 408, b"2"),
    "parsed, a broken body": (
        b"POST /svc/ " + HOST + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n???\r\n",
        400,
        b"x" * 1000,
    ),
    "parsed, an expectation": (BODY[:-2] + b"Expect: 100-continue\r\n\r\n", 413, b"x" * 1000),
    "parsed, a bad path": (b"GET /svc/a//b " + HOST + b"X_Y: 1\r\n\r\n", 400, GOOD),
    "parsed, HTTP/1.0": (BODY.replace(b"HTTP/1.1", b"HTTP/1.0"), 413, b"x" * 1000),
    "no request": (b"nonsense\r\n\r\n", 400, GOOD),
    "a target too long": (b"GET /svc/" + b"a" * (MAX_LINE + 1) + b" " + HOST + b"\r\n", 414, GOOD),
    "a header too long": (b"GET /svc/ " + HOST + b"X-A: " + b"a" * (MAX_LINE + 1) + b"\r\n\r\n", 431, GOOD),
    "a late head": (b"GET /svc/ HTTP/1.1\r\nHo", 408, b"st: a\r\n\r\n"),
}


class Sender:
    """A client that sends, and reads nothing before it is told to."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)

    async def send(self, raw: bytes) -> None:
        """Raises ConnectionError once the other side has reset the connection."""
        await asyncio.get_running_loop().sock_sendall(self.socket, raw)

    async def _when_ready(self, read: Callable[[], bytes]) -> bytes:
        def ready() -> list[bytes]:
            try:
                return [read()]
            except BlockingIOError:
                return []

        return (await eventually(ready))[0]

    async def answered(self) -> None:
        """Until there is something to read, which stays there."""
        await self._when_ready(lambda: self.socket.recv(1, socket.MSG_PEEK))
        await head_start(0.02)  # the gateway does after an answer what it does

    async def read(self) -> bytes:
        return await self._when_ready(lambda: self.socket.recv(1 << 16))

    async def rest(self) -> bytes:
        received = b""
        while data := await self.read():
            received += data
        return received

    async def one_answer(self) -> Answer:
        """The only one, and then the end of the gateway's side."""
        (found,) = read_answers(await self.rest(), ["GET"], ended=True)
        assert found.whole
        return found


@asynccontextmanager
async def refusing(
    folder: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch, **more: Any
) -> AsyncIterator[tuple[Gateway, Sender]]:
    """A gateway that takes 8 bytes of a body and is quick to lose patience, and a client."""
    monkeypatch.setattr("gateway.edge.client.connection.HEAD_TIME", 0.05)
    backends = {"app": {"kind": "http", "addresses": [backend.address]}}
    limits = {"body_limit": "8B", "timeouts": {"body": "100ms"}, **more}
    routes = [harness.route("svc", "app", public=True, **limits)]
    async with harness.running(folder, harness.routing(routes, backends=backends)) as gateway:
        client = Sender(harness.address(gateway))
        await head_start(0.02)  # aiohttp waits for the first request
        try:
            yield gateway, client
        finally:
            client.socket.close()


async def ended(gateway: Gateway) -> None:
    """Well before a silence would end it."""
    await eventually(lambda: not gateway.listener.connections, end=AT_ONCE)


def is_whole(refusal: Answer, status: int) -> bool:
    assert refusal.closes
    return refusal.status == json.loads(refusal.body)["status"] == status


@pytest.mark.parametrize("way", REFUSED)
async def test_a_client_that_goes_on_sending_gets_its_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """And nothing that it sends meanwhile becomes a request."""
    raw, status, more = REFUSED[way]
    async with Backend(always(answer())) as backend:
        async with refusing(tmp_path, backend, monkeypatch) as (gateway, client):
            await client.send(raw)
            await client.answered()
            for piece in (more, GOOD, GOOD * 1000):
                await client.send(piece)
                await head_start(0.01)
            assert is_whole(await client.one_answer(), status)
            assert not any(gateway.admission.in_use().values())
            client.socket.close()
            await ended(gateway)
        assert not [heard for heard in backend.heard if "good" in heard.line]


async def test_an_answer_that_came_before_the_request_was_whole_is_read_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where reading had stopped, because the backend took no more of the body."""
    enough = asyncio.Event()

    async def early(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await enough.wait()
        writer.write(answer(b"enough"))
        with suppress(ConnectionError):
            while await reader.read(1 << 16):
                pass

    async with Backend(early, heads_only=True) as backend:
        async with refusing(tmp_path, backend, monkeypatch, body_limit="1GiB") as (gateway, client):
            await client.send(BODY)
            sending = asyncio.create_task(client.send(b"x" * 40_000_000))
            transport = connection_of(gateway).transport
            assert transport is not None
            async with asyncio.timeout(30):
                await eventually(lambda: not transport.is_reading())
                enough.set()
                await sending
            found = await client.one_answer()
            assert (found.status, found.body) == (200, b"enough")


async def test_a_body_that_nobody_reads_does_not_cost_its_client_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection could have gone on after it, had the body come in time."""
    monkeypatch.setattr("gateway.edge.client.connection.REST_TIME", 0.05)
    async with Backend(always(answer())) as backend:
        async with refusing(tmp_path, backend, monkeypatch) as (_, client):
            await client.send(BODY.replace(b"/svc", b"/nowhere"))
            await client.answered()
            for _ in range(5):
                await head_start(0.02)
                await client.send(b"x" * 1000)
            found = await client.one_answer()
            assert found.status == 404 and not found.closes


@pytest.mark.parametrize("way", ["the short way", "parsed, more than the limit", "no request", "a late head"])
async def test_it_ends_when_the_client_closes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    raw, status, _ = REFUSED[way]
    async with Backend(always(answer())) as backend:
        async with refusing(tmp_path, backend, monkeypatch) as (gateway, client):
            await client.send(raw)
            assert is_whole(await client.one_answer(), status)
            (connection,) = gateway.listener.connections
            await eventually(lambda: connection.lingering is not None and not connection.busy)
            client.socket.shutdown(socket.SHUT_WR)
            await ended(gateway)


@pytest.mark.parametrize("limit", ["TIME", "SILENCE"])
@pytest.mark.parametrize("way", ["the short way", "parsed, more than the limit"])
async def test_it_ends_after_a_time_and_after_a_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, way: str
) -> None:
    monkeypatch.setattr(f"gateway.edge.client.linger.{limit}", 0.3)
    raw, _, _ = REFUSED[way]
    async with Backend(always(answer())) as backend:
        async with refusing(tmp_path, backend, monkeypatch) as (gateway, client):
            await client.send(raw)
            await client.answered()

            async def ended() -> bool:
                if limit == "TIME" and gateway.listener.connections:
                    with suppress(ConnectionError):
                        await client.send(b"x")
                return not gateway.listener.connections

            await eventually_await(ended, end=AT_ONCE)


async def test_who_sends_now_and_then_is_not_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.edge.client.linger.SILENCE", 0.5)
    async with Backend(always(answer())) as backend:
        async with refusing(tmp_path, backend, monkeypatch) as (gateway, client):
            await client.send(BODY)
            await client.answered()
            for _ in range(32):
                await client.send(b"x")
                await head_start(0.05)
            assert gateway.listener.connections
            assert is_whole(await client.one_answer(), 413)


async def test_it_ends_when_too_much_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.edge.client.linger.MOST", 1_000_000)
    async with Backend(always(answer())) as backend:
        async with refusing(tmp_path, backend, monkeypatch) as (gateway, client):
            await client.send(BODY)
            await client.answered()
            await client.send(b"x" * 900_000)
            await nothing_for(0.05)
            assert gateway.listener.connections
            with pytest.raises(ConnectionError):
                await client.send(b"x" * 50_000_000)
            await ended(gateway)


async def test_bytes_that_were_held_back_are_thrown_away_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading had stopped: what was sent ahead of the answer was too much to hold."""
    go_on = asyncio.Event()

    async def slow(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await go_on.wait()
        writer.write(answer())

    async with Backend(slow) as backend:
        async with refusing(tmp_path, backend, monkeypatch) as (gateway, client):
            await client.send(GOOD + REFUSED["the short way"][0] + b"x" * 1_000_000)
            connection = connection_of(gateway)
            assert connection.transport is not None
            await eventually(lambda: not connection.transport.is_reading())
            go_on.set()
            await client.answered()
            await client.send(b"x" * 5_000_000)
            good, refusal = read_answers(await client.rest(), ["GET", "GET"], ended=True)
            assert good.status == 200 and is_whole(refusal, 400)


@pytest.mark.parametrize("way", ["the short way", "parsed, a bad path"])
async def test_requests_that_were_sent_ahead_of_a_refusal_are_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    raw, status, _ = REFUSED[way]
    async with Backend(always(answer())) as backend:
        async with refusing(tmp_path, backend, monkeypatch) as (gateway, client):
            await client.send(raw + GOOD * 10)
            assert is_whole(await client.one_answer(), status)
            connection = connection_of(gateway)
            await eventually(lambda: connection.lingering is not None and not connection._reader.held)
        assert not backend.heard


@pytest.mark.parametrize("way", ["the short way", "parsed, more than the limit", "no request", "unread"])
async def test_a_drain_gives_it_a_moment_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    unread = (BODY.replace(b"/svc", b"/nowhere"), 404, b"")
    raw, status, _ = unread if way == "unread" else REFUSED[way]
    async with Backend(always(answer())) as backend:
        async with refusing(tmp_path, backend, monkeypatch) as (gateway, client):
            await client.send(raw)
            await client.answered()
            draining = asyncio.create_task(gateway.drain())
            await head_start(0.1)
            await client.send(b"x")
            assert (await client.one_answer()).status == status
            began = monotonic()
            await draining
            assert monotonic() - began < AT_ONCE, "the drain time is 5 s, and a body may take 10 s"


@pytest.mark.parametrize(
    "raw",
    [
        GOOD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
        GOOD.replace(b"HTTP/1.1", b"HTTP/1.0"),
        GOOD.replace(b"good ", b"a//b ").replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
    ],
)
async def test_an_end_that_the_client_expects_comes_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw: bytes
) -> None:
    async with Backend(always(answer())) as backend:
        async with refusing(tmp_path, backend, monkeypatch) as (gateway, client):
            await client.send(raw)
            assert (await client.one_answer()).closes
            await ended(gateway)


@pytest.mark.parametrize("more", [b"", b"X-Request-Timeout: 5\r\n", b"Transfer-Encoding: chunked\r\n"])
@pytest.mark.parametrize("path", [b"good", b"a//b"])
async def test_an_end_by_a_drain_comes_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: bytes, more: bytes
) -> None:
    """Before the listener closes, too: every answer then says that the connection ends."""
    body = b"0\r\n\r\n" if b"chunked" in more else b""
    async with Backend(always(answer())) as backend:
        async with refusing(tmp_path, backend, monkeypatch) as (gateway, client):
            gateway.life.drain_begins()
            await client.send(GOOD.replace(b"good", path)[:-2] + more + b"\r\n" + body)
            assert (await client.one_answer()).closes
            await ended(gateway)


async def test_a_client_that_had_ended_its_side_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Backend(always(answer())) as backend:
        async with refusing(tmp_path, backend, monkeypatch) as (gateway, client):
            await client.send(REFUSED["no request"][0])
            client.socket.shutdown(socket.SHUT_WR)
            assert is_whole(await client.one_answer(), 400)
            await ended(gateway)
