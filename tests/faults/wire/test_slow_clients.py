"""Clients that are slow, or odd, on the wire: what they get, and that nobody waits with them."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.core.http.request_reader import MAX_LINE
from tests import harness
from tests.eventually import AT_ONCE, head_start, takes
from tests.fakes import Backend, Heard, RawClient, always, answer

pytestmark = pytest.mark.asyncio


def config(backend: Backend, kind: str = "http", **more: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {"kind": kind, "addresses": [backend.address]}
    if kind == "gunicorn":
        settings["threads"] = 1
    return harness.routing([harness.route("svc", "app", public=True, **more)], backends={"app": settings})


@pytest.mark.parametrize("kind", ["http", "gunicorn"])
@pytest.mark.parametrize("framing", ["Content-Length: 100", "Transfer-Encoding: chunked"])
async def test_a_body_that_stops_coming_is_408_and_frees_all(tmp_path: Path, kind: str, framing: str) -> None:
    async with (
        Backend(always(answer())) as backend,
        harness.running(tmp_path, config(backend, kind, timeouts={"body": "200ms"})) as gateway,
    ):
        client = await RawClient.connect(harness.address(gateway))
        client.send(f"POST /svc/ HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n5\r\nhello\r\n".encode())
        head, body = await client.answer()
        assert head.startswith("HTTP/1.1 408 ")
        assert "connection: close" in head.lower()
        assert json.loads(body)["code"] == "request_timeout"
        assert gateway.admission.in_use() == {"app": 0}
        assert gateway.pools.under_way == 0
        client.close()
        if kind == "gunicorn":
            assert not backend.connections, "it never took a thread"


@pytest.mark.parametrize("target", ["http", "gunicorn", "documents"])
@pytest.mark.parametrize("framing", ["Content-Length: 100000", "Transfer-Encoding: chunked"])
async def test_a_body_that_drips_is_408_by_its_rate(tmp_path: Path, target: str, framing: str) -> None:
    """Never silent for long, and so slow that it would be held for hours."""
    async with Backend(always(answer())) as backend:
        kind = "http" if target == "documents" else target
        routing = config(backend, kind, timeouts={"body": "500ms"})
        routing["routes"].append(harness.route("own", "documents", timeouts={"body": "500ms"}))
        async with harness.running(tmp_path, routing) as gateway:
            path = "/own/c/x" if target == "documents" else "/svc/"
            token = harness.bearer(gateway, "acme")["Authorization"]
            client = await RawClient.connect(harness.address(gateway))
            lines = [f"PUT {path} HTTP/1.1", "Host: a", "Content-Type: application/json", framing]
            client.send("\r\n".join([*lines, f"Authorization: {token}", "", ""]).encode())
            reading = asyncio.create_task(client.answer())
            while not reading.done():
                client.send(b"1\r\n \r\n" if "chunked" in framing else b" ")
                await takes(0.05)
            head, body = await reading
            client.close()
            assert head.startswith("HTTP/1.1 408 ")
            assert "connection: close" in head.lower()
            assert json.loads(body)["code"] == "request_timeout"
            assert "1024 bytes a second" in json.loads(body)["detail"]
            assert gateway.documents.memory.used == 0
            if kind == "gunicorn":
                assert not backend.connections, "it never took a thread"


async def test_a_backend_that_takes_nothing_is_not_the_clients_slowness(tmp_path: Path) -> None:
    size, taken, begun = 16 * 1024 * 1024, asyncio.Event(), asyncio.Event()

    async def hold(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun.set()
        await taken.wait()
        await reader.readexactly(size)
        writer.write(answer())

    async with Backend(hold, heads_only=True) as backend:
        routing = config(backend, timeouts={"body": "300ms"}, body_limit=size)
        async with harness.running(tmp_path, routing) as gateway:
            client = await RawClient.connect(harness.address(gateway))
            client.send(f"POST /svc/ HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode())
            client.send(b"x" * size)
            await begun.wait()
            await takes(1.0)  # much longer than a body may stand still
            taken.set()
            assert (await client.head()).startswith("HTTP/1.1 200 ")
            client.close()


async def test_a_body_that_drips_is_408_at_the_total_time(tmp_path: Path) -> None:
    async with (
        Backend(always(answer())) as backend,
        harness.running(tmp_path, config(backend, "gunicorn", timeouts={"total": "400ms"})) as gateway,
    ):
        client = await RawClient.connect(harness.address(gateway))
        client.send(b"POST /svc/ HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n")
        begun = time.monotonic()
        for _ in range(8):
            client.send(b"x")
            await takes(0.1)
        head = await client.head()
        assert head.startswith("HTTP/1.1 408 ")
        assert time.monotonic() - begun < AT_ONCE
        assert not backend.heard
        client.close()


async def test_a_body_that_drips_to_an_asynchronous_backend_is_the_clients_fault(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The address is not held to account: else a slow client could have it shut for all."""
    timeouts = {"total": "300ms", "first_byte": "100ms"}
    async with (
        Backend(always(answer())) as backend,
        harness.running(tmp_path, config(backend, timeouts=timeouts)) as gateway,
    ):
        client = await RawClient.connect(harness.address(gateway))
        client.send(b"POST /svc/ HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n")
        for _ in range(6):
            client.send(b"x")
            await takes(0.1)
        head, body = await client.answer()
        assert head.startswith("HTTP/1.1 408 ")
        assert json.loads(body)["code"] == "request_timeout"
        (app,) = gateway.health.states()
        assert [address["failures"] for address in app["addresses"]] == [0]
        client.close()
    assert "A bug in the gateway" not in caplog.text


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET /svc/" + b"a" * (MAX_LINE + 1) + b" HTTP/1.1\r\nHost: a\r\n\r\n", "414"),
        (b"GET /svc/ HTTP/1.1\r\nHost: a\r\nX-Long: " + b"a" * (MAX_LINE + 1) + b"\r\n\r\n", "431"),
        (b"GET /svc/ HTTP/1.1\r\nHost: a\r\n" + b"X-Many: 1\r\n" * 129 + b"\r\n", "431"),
    ],
)
async def test_too_long_a_head_is_refused_also_byte_by_byte(tmp_path: Path, raw: bytes, status: str) -> None:
    async with Backend(always(answer())) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await RawClient.connect(harness.address(gateway))
        for at in range(len(raw)):
            client.send(raw[at : at + 1])
            if at % 16 == 0:
                await asyncio.sleep(0)
        head = await client.head()
        assert head.split()[1] == status
        assert "connection: close" in head.lower()
        await client.rest()
        assert not backend.heard
        client.close()


async def test_ten_thousand_pipelined_requests_are_each_answered_once_and_in_order(tmp_path: Path) -> None:
    async with Backend(always(answer())) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await RawClient.connect(harness.address(gateway))
        for number in range(10_000):
            client.send(b"GET /%d HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, x\r\n\r\n" % number)
        for _ in range(10_000):
            head, _ = await client.answer(30)
            assert head.startswith("HTTP/1.1 404 ")
        client.send(b"GET /svc/ HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await client.answer())[1] == b"ok"
        client.close()


async def test_a_clock_that_jumps_changes_no_timer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    for jump in (10_000_000.0, -10_000_000.0):
        asked, go_on = asyncio.Event(), asyncio.Event()

        async def script(
            heard: Any, reader: Any, writer: asyncio.StreamWriter, asked=asked, go_on=go_on
        ) -> None:
            asked.set()
            await go_on.wait()
            writer.write(answer())

        async with Backend(script) as backend, harness.running(tmp_path, config(backend)) as gateway:
            client = await RawClient.connect(harness.address(gateway))
            for _ in range(2):
                client.send(b"GET /svc/ HTTP/1.1\r\nHost: a\r\n\r\n")
                await asked.wait()
                monkeypatch.setattr(time, "time", lambda jump=jump: real() + jump)
                await head_start(0.15)
                go_on.set()
                assert (await client.answer())[1] == b"ok"
            monkeypatch.setattr(time, "time", real)
            assert backend.connections == 1
            client.close()
