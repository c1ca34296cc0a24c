"""Seats, deadlines and connections over real sockets, where clients and backends part before the end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.app import Gateway
from gateway.core.http.request_reader import MAX_LINE
from tests import harness
from tests.eventually import AT_ONCE, END, at_rest, eventually, head_start, takes
from tests.fakes import Backend, Busy, Heard, RawClient, always, answer


def config(addresses: list[str], kind: str = "http", threads: int = 1, **more: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {"kind": kind, "addresses": addresses}
    if kind == "gunicorn":
        settings["threads"] = threads
    return harness.routing([harness.route("svc", "app", **more)], backends={"app": settings})


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


async def client_of(gateway: Gateway, head: str, body: bytes = b"") -> RawClient:
    client = await RawClient.connect(harness.address(gateway))
    bearer = f"Host: x\r\nAuthorization: Bearer {harness.token(gateway)}"
    client.send(head.replace("\r\n", f"\r\n{bearer}\r\n", 1).encode() + body)
    return client


SMUGGLED = b"GET /secret HTTP/1.1\r\nHost: x\r\nX-Tenant: globex\r\nX-Subject: eve\r\n\r\n"


@pytest.mark.parametrize("framing", ["Content-Length: 500", "Transfer-Encoding: chunked"])
async def test_a_body_that_never_came_whole_never_becomes_the_next_request(
    tmp_path: Path, session: aiohttp.ClientSession, framing: str
) -> None:
    """A backend that answers without reading the body, and a client that leaves in the middle of it: the
    bytes of the next call must not complete the first one's body, nor begin a request of their own."""
    answered = asyncio.Event()

    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if answered.is_set():
            assert await reader.readexactly(len(SMUGGLED)) == SMUGGLED  # of a request that came whole
        writer.write(answer(b"early"))
        await writer.drain()
        answered.set()
        await takes(0.2)

    async with Backend(script, heads_only=True) as backend:
        async with harness.running(tmp_path, config([backend.address])) as gateway:
            client = await client_of(gateway, f"POST /svc/ HTTP/1.1\r\n{framing}\r\n\r\n", b"5\r\nhello")
            await answered.wait()
            client.close()
            await head_start(0.1)
            async with session.post(
                harness.url(gateway, "/svc/"), data=SMUGGLED, headers=harness.bearer(gateway)
            ) as response:
                assert response.status == 200
            await head_start(0.1)
        assert backend.connections == 2, "the connection was used again in the middle of a request"
        assert not any("secret" in heard.line for heard in backend.heard)


async def test_a_client_cannot_shorten_the_time_that_a_thread_keeps_its_seat(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    busy = Busy(1.2)
    async with Backend(busy) as backend:
        async with harness.running(tmp_path, config([backend.address], "gunicorn")) as gateway:
            statuses = []
            for _ in range(3):
                headers = {**harness.bearer(gateway), "X-Request-Timeout": "0.3"}
                async with session.get(harness.url(gateway, "/svc/"), headers=headers) as response:
                    statuses.append(response.status)
            assert statuses == [504, 503, 503]
    assert busy.most == 1


@pytest.mark.parametrize(("kind", "method"), [("gunicorn", "GET"), ("http", "POST")])
async def test_a_stream_that_nobody_reads_any_more_gives_its_seat_back(
    tmp_path: Path, kind: str, method: str
) -> None:
    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        while not writer.is_closing():
            writer.write(b"9\r\ndata: 1\n\n\r\n")
            await writer.drain()
            await takes(0.02)

    async with Backend(script) as backend:
        async with harness.running(tmp_path, config([backend.address], kind, threads=2)) as gateway:
            client = await client_of(gateway, f"{method} /svc/ HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
            await client.head()
            assert gateway.admission.in_use() == {"app": 1}
            client.close()
            await eventually(lambda: gateway.admission.in_use() == {"app": 0})


async def test_the_total_time_counts_from_the_beginning(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    """Body, queue, connecting and first byte share it."""
    told: list[float] = []

    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        told.extend(float((heard.one(f"X-Request-{name}") or "")[2:]) for name in ("Start", "Deadline"))
        await takes(END)

    async def slow() -> AsyncIterator[bytes]:
        for _ in range(4):
            yield b"x"
            await takes(0.1)

    async with Backend(script) as backend:
        async with harness.running(tmp_path, config([backend.address], timeouts={"total": "2s"})) as gateway:
            async with session.post(
                harness.url(gateway, "/svc/"), data=slow(), headers=harness.bearer(gateway)
            ) as response:
                assert response.status == 504
    began, deadline = told
    assert round(deadline - began, 2) == 2.0


async def test_a_dead_address_never_doubles_the_load_of_a_live_one(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    busy = Busy(0.1)
    async with Backend(busy) as backend:
        routing = config(["http://127.0.0.1:1", backend.address], "gunicorn", threads=1)
        async with harness.running(tmp_path, routing) as gateway:

            async def call() -> int:
                async with session.get(
                    harness.url(gateway, "/svc/"), headers=harness.bearer(gateway)
                ) as response:
                    return response.status

            statuses = set(await asyncio.gather(*[call() for _ in range(6)]))
    assert busy.most == 1
    assert 200 in statuses <= {200, 503}


async def test_a_client_that_left_is_no_fault_of_the_backend(tmp_path: Path) -> None:
    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with Backend(script) as backend:
        async with harness.running(tmp_path, config([backend.address])) as gateway:
            client = await client_of(gateway, "GET /svc/ HTTP/1.1\r\n\r\n")
            await eventually(lambda: backend.heard)
            client.close()
            await eventually(lambda: gateway.admission.in_use() == {"app": 0})
            metrics = gateway.metrics.render()
    line = json.loads((tmp_path / "var" / "access.log").read_text().splitlines()[-1])
    assert (line["status"], line["code"]) == (499, None)
    assert 'gateway_backend_errors_total{backend="app"' not in metrics


async def test_who_left_the_line_is_not_executed(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await takes(0.3)
        writer.write(answer())

    async with Backend(script) as backend:
        async with harness.running(tmp_path, config([backend.address], "gunicorn")) as gateway:
            first = await client_of(gateway, "GET /svc/1 HTTP/1.1\r\n\r\n")
            await eventually(lambda: backend.heard)
            second = await client_of(gateway, "POST /svc/2 HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
            await eventually(lambda: gateway.admission.waiting() == {"app": 1})
            second.close()
            await eventually(lambda: gateway.admission.waiting() == {"app": 0})
            await first.head()
            await head_start(0.1)
            first.close()
        assert [heard.line for heard in backend.heard] == ["GET /1 HTTP/1.1"]


async def test_a_slow_reader_holds_no_thread(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    big = b"x" * 20_000_000

    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(big if "big" in heard.line else b"small"))

    async with Backend(script) as backend:
        async with harness.running(tmp_path, config([backend.address], "gunicorn")) as gateway:
            slow = await client_of(gateway, "GET /svc/big HTTP/1.1\r\n\r\n")
            head = await slow.head()
            await eventually(lambda: gateway.admission.in_use() == {"app": 0})
            async with session.get(
                harness.url(gateway, "/svc/small"), headers=harness.bearer(gateway)
            ) as response:
                assert await response.read() == b"small"
            assert "20000000" in head
            received = await asyncio.wait_for(slow.reader.readexactly(len(big)), 30)
            assert received == big
            slow.close()


async def test_an_asynchronous_backend_waits_for_a_slow_reader(tmp_path: Path) -> None:
    sent = 0

    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n")
        for _ in range(500):
            writer.write(b"x" * 100_000)
            await writer.drain()
            sent += 100_000

    async with Backend(script) as backend:
        async with harness.running(tmp_path, config([backend.address])) as gateway:
            slow = await client_of(gateway, "GET /svc/big HTTP/1.1\r\n\r\n")
            await slow.head()
            assert await at_rest(lambda: sent) < 30_000_000, "the backend's answer piled up in the gateway"
            assert len(await asyncio.wait_for(slow.reader.readexactly(50_000_000), 30)) == 50_000_000
            slow.close()


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"HTTP/1.1 200 OK\r\nX-A: caf\xe9\r\nContent-Length: 2\r\n\r\nok", 200),
        (b"HTTP/1.1 200 OK\r\nX-A: a\x01b\r\nContent-Length: 2\r\n\r\nok", 502),
        (b"HTTP/1.1 200 OK\r\nX-A: a\x00b\r\nContent-Length: 2\r\n\r\nok", 502),
        (b"HTTP/1.1 200 OK\r\nX-A: a\r\n b\r\nContent-Length: 2\r\n\r\nok", 502),
        (b"HTTP/1.1 200 OK\r\nX-A: a\nX-B: b\r\nContent-Length: 2\r\n\r\nok", 502),
        (b"HTTP/1.1 200 OK\r\nX-A : a\r\nContent-Length: 2\r\n\r\nok", 502),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 502),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: foo\r\n\r\n0\r\n\r\n", 502),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", 502),
        (b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok", 502),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more", 200),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200),
        (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", 200),
        (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", 502),
    ],
)
async def test_the_backends_bytes_are_checked_before_use_and_pass_as_they_are(
    tmp_path: Path, raw: bytes, status: int
) -> None:
    async with Backend(always(raw)) as backend:
        async with harness.running(
            tmp_path, config([backend.address], timeouts={"first_byte": "500ms"})
        ) as gateway:
            client = await client_of(gateway, "GET /svc/ HTTP/1.1\r\n\r\n")
            async with asyncio.timeout(30):
                head = await client.reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 %d " % status), head
            if b"caf" in raw:
                assert b"X-A: caf\xe9\r\n" in head
            client.close()


async def test_what_the_parser_refuses_is_logged_and_counted(tmp_path: Path) -> None:
    async with Backend(always(answer())) as backend:
        async with harness.running(tmp_path, config([backend.address])) as gateway:
            for raw, expected in (
                (b"nonsense\r\n\r\n", 400),
                (b"GET /" + b"a" * (MAX_LINE + 1) + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
                (b"GET / HTTP/1.1\r\nHost: x\r\nX-Big: " + b"a" * (MAX_LINE + 1) + b"\r\n\r\n", 431),
                (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431),
                (b"POST /svc/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
            ):
                client = await RawClient.connect(harness.address(gateway))
                client.send(raw)
                assert (await client.head()).startswith(f"HTTP/1.1 {expected} "), raw[:20]
                client.close()
            metrics = gateway.metrics.render()
    lines = (tmp_path / "var" / "access.log").read_text().splitlines()
    assert [json.loads(line)["status"] for line in lines] == [400, 414, 431, 431, 400]
    assert 'gateway_request_seconds_count{route="none",status="4xx"} 5' in metrics


async def test_a_head_that_drips_is_refused_at_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.edge.client.connection.HEAD_TIME", 0.3)
    async with harness.running(tmp_path, harness.routing([])) as gateway:
        client = await RawClient.connect(harness.address(gateway))
        client.send(b"GET / HTTP/1.1\r\n")

        def told() -> bool:
            client.send(b"X")
            return bool(client.reader._buffer)  # type: ignore[attr-defined]

        await eventually(told, end=AT_ONCE)
        received = await client.rest()
        assert received.startswith(b"HTTP/1.1 408 ")
        client.close()


async def test_what_is_discarded_ends_with_the_gateway(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await takes(30)

    async with Backend(script) as backend:
        routing = config([backend.address], "gunicorn", timeouts={"first_byte": "100ms"})
        async with harness.running(tmp_path, routing) as gateway:
            async with session.get(
                harness.url(gateway, "/svc/"), headers=harness.bearer(gateway)
            ) as response:
                assert response.status == 504
            assert gateway.pools.under_way == 1
            assert gateway.admission.in_use() == {"app": 1}
        assert gateway.pools.under_way == 0
        assert gateway.admission.in_use() == {"app": 0}


async def test_a_body_in_pieces_leaves_both_connections_usable(tmp_path: Path) -> None:
    async with Backend(always(answer())) as backend:
        async with harness.running(tmp_path, config([backend.address])) as gateway:
            client = await client_of(gateway, "POST /svc/ HTTP/1.1\r\nContent-Length: 4\r\n\r\n", b"bo")
            await head_start(0.05)
            client.send(b"dy")
            head, _ = await client.answer()
            assert "connection: close" not in head.lower()
            bearer = harness.token(gateway)
            client.send(f"GET /svc/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {bearer}\r\n\r\n".encode())
            assert (await client.head()).startswith("HTTP/1.1 200 ")
            client.close()
        assert backend.heard[0].body == b"body"
        assert backend.connections == 1
