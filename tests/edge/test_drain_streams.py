"""A drain ends what has no end of its own, in a way that its client understands, and logs what it ended."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.app import Gateway
from tests import harness
from tests.edge.client.test_order import config, get
from tests.edge.websocket.tunnels import config as websocket_config
from tests.edge.websocket.tunnels import cut_at_the_end, opened
from tests.eventually import eventually, takes
from tests.fakes import Backend, Heard, RawClient, Script, answer
from tests.support.sockets import Peer, websocket

__all__ = ["cut_at_the_end"]  # a fixture of every test here
EVENTS = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n{}\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def events(*pieces: bytes, more: str = "", then: float = 0.0, after: bytes = b"") -> Script:
    """An event stream that does not end: its pieces, and `after` some seconds later."""

    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(EVENTS.format(more).encode() + b"".join(map(chunk, pieces)))
        if after:
            await takes(then)
            writer.write(chunk(after))
        await asyncio.Event().wait()

    return script


def logged(gateway: Gateway) -> list[dict[str, Any]]:
    """After the drain."""
    return [json.loads(line) for line in Path(gateway.config.access_log).read_text().splitlines()]


DRAIN, SOON = 60.0, 30.0  # seconds: what a drain may take, and what none of these takes


async def drained(gateway: Gateway) -> float:
    began = time.monotonic()
    await gateway.drain()
    return time.monotonic() - began


@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_an_event_stream_that_never_ends_gets_its_clean_end(tmp_path: Path, version: str) -> None:
    async with Backend(events(b"data: 1\n\n")) as backend:
        async with harness.running(tmp_path, config(backend), drain=DRAIN) as gateway:
            client = await RawClient.connect(harness.address(gateway))
            client.send(get("/events").replace(b"HTTP/1.1", f"HTTP/{version}".encode()))
            await client.head()
            assert await drained(gateway) < SOON
            rest = await client.reader.read()  # a reset would raise
            assert rest == (chunk(b"data: 1\n\n") + b"0\r\n\r\n" if version == "1.1" else b"data: 1\n\n")
            client.close()
    assert [(line["status"], line["code"]) for line in logged(gateway)] == [(200, "draining")]


async def test_it_ends_behind_a_whole_event_and_drops_what_has_begun_of_the_next(tmp_path: Path) -> None:
    script = events(b"data: 1\n\ndata: 2", then=0.3, after=b"2\n\ndata: 3")
    async with Backend(script) as backend, harness.running(tmp_path, config(backend), drain=DRAIN) as gateway:
        client = await RawClient.connect(harness.address(gateway))
        client.send(get("/events"))
        await client.head()
        await drained(gateway)
        rest = await client.reader.read()
        assert rest == chunk(b"data: 1\n\ndata: 2") + chunk(b"2\n\n") + b"0\r\n\r\n"
        client.close()


async def test_an_event_whose_rest_does_not_come_is_cut_so_that_it_does_not_look_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.process.drain.ENDING", 0.2)
    async with Backend(events(b"data: 1\n\ndata: 2")) as backend:
        async with harness.running(tmp_path, config(backend), drain=DRAIN) as gateway:
            client = await RawClient.connect(harness.address(gateway))
            client.send(get("/events"))
            await client.head()
            assert await drained(gateway) < SOON
            assert not (await client.rest()).endswith(b"0\r\n\r\n")
            client.close()
    assert [(line["status"], line["code"]) for line in logged(gateway)] == [(200, "draining")]


async def test_a_compressed_stream_is_cut_for_nobody_sees_where_its_events_end(tmp_path: Path) -> None:
    async with Backend(events(b"data: 1\n\n", more="Content-Encoding: gzip\r\n")) as backend:
        async with harness.running(tmp_path, config(backend), drain=DRAIN) as gateway:
            client = await RawClient.connect(harness.address(gateway))
            client.send(get("/events"))
            await client.head()
            assert await drained(gateway) < SOON
            assert not (await client.rest()).endswith(b"0\r\n\r\n")
            client.close()


async def test_a_client_that_does_not_read_its_stream_holds_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.process.drain.ENDING", 0.2)
    big = b"data: " + b"x" * 60_000 + b"\n\n"
    async with Backend(events(*[big] * 400)) as backend:
        async with harness.running(tmp_path, config(backend), drain=DRAIN) as gateway:
            client = await RawClient.connect(harness.address(gateway))
            client.send(get("/events"))
            await client.head()
            (connection,) = gateway.listener.connections
            await eventually(lambda: connection.writing_paused)
            assert await drained(gateway) < SOON
            client.close()
    assert [line["code"] for line in logged(gateway)] == ["draining"]


async def test_a_stream_that_ends_within_its_grace_is_whole(tmp_path: Path) -> None:
    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(EVENTS.format("").encode() + chunk(b"data: 1\n\n"))
        await takes(0.3)
        writer.write(chunk(b"data: 2\n\n") + b"0\r\n\r\n")

    async with Backend(script) as backend:
        async with harness.running(tmp_path, config(backend), stream_grace=4.0, drain=DRAIN) as gateway:
            client = await RawClient.connect(harness.address(gateway))
            client.send(get("/events"))
            await client.head()
            assert await drained(gateway) < SOON
            assert (await client.reader.read()).endswith(chunk(b"data: 2\n\n") + b"0\r\n\r\n")
            client.close()
    assert [line["code"] for line in logged(gateway)] == [None]


async def test_a_stream_that_begins_in_the_drain_ends_too(tmp_path: Path) -> None:
    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await takes(0.3)
        writer.write(EVENTS.format("").encode() + chunk(b"data: 1\n\n"))
        await asyncio.Event().wait()

    async with Backend(script) as backend, harness.running(tmp_path, config(backend), drain=DRAIN) as gateway:
        client = await RawClient.connect(harness.address(gateway))
        client.send(get("/events"))
        await eventually(lambda: bool(backend.heard))
        assert await drained(gateway) < SOON
        assert (await client.rest()).endswith(chunk(b"data: 1\n\n") + b"0\r\n\r\n")
        client.close()


async def test_both_sides_of_a_websocket_are_told_1001(tmp_path: Path) -> None:
    told: list[int] = []

    async def play(peer: Peer) -> None:
        told.append((await peer.closed())[0])

    async with Backend(websocket(play)) as backend:
        async with harness.running(tmp_path, websocket_config(backend.address), drain=DRAIN) as gateway:
            peer = await opened(gateway)
            drain = asyncio.create_task(drained(gateway))
            assert (await peer.closed())[0] == 1001
            peer.close(1001)
            assert await drain < 3
    assert told == [1001]
    assert [(line["status"], line["code"]) for line in logged(gateway)] == [(101, "draining")]


async def test_a_websocket_whose_sides_do_not_answer_the_close_holds_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.process.drain.ENDING", 0.2)

    async def play(peer: Peer) -> None:
        await asyncio.Event().wait()

    async with Backend(websocket(play)) as backend:
        async with harness.running(tmp_path, websocket_config(backend.address), drain=DRAIN) as gateway:
            await opened(gateway)
            assert await drained(gateway) < SOON
    assert [(line["status"], line["code"]) for line in logged(gateway)] == [(101, "draining")]


async def test_a_download_gets_all_of_the_time(tmp_path: Path) -> None:
    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(20):
            writer.write(chunk(b"x"))
            await takes(0.1)
        writer.write(b"0\r\n\r\n")

    async with Backend(script) as backend, harness.running(tmp_path, config(backend), drain=DRAIN) as gateway:
        client = await RawClient.connect(harness.address(gateway))
        client.send(get("/download"))
        await client.head()
        await drained(gateway)
        assert (await client.reader.read()).endswith(chunk(b"x") + b"0\r\n\r\n")
        client.close()
    assert [(line["status"], line["code"]) for line in logged(gateway)] == [(200, None)]


@pytest.mark.parametrize("headers", ["", "Expect: 100-continue\r\n"])  # the direct way, and the other one
async def test_a_call_whose_backend_does_not_answer_gets_an_error_and_is_logged_as_cut_by_the_drain(
    tmp_path: Path, headers: str
) -> None:
    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if "warm" in heard.line:
            writer.write(answer())
        else:
            await asyncio.Event().wait()

    async with Backend(script) as backend, harness.running(tmp_path, config(backend), drain=0.3) as gateway:
        client = await RawClient.connect(harness.address(gateway))
        client.send(get("/warm"))
        await client.answer()
        client.send(get("/never", headers))
        await eventually(lambda: len(backend.heard) == 2)
        assert await drained(gateway) < SOON
        head, body = await client.answer()
        assert head.startswith("HTTP/1.1 504 ")
        assert json.loads(body)["code"] == "backend_timeout"
        client.close()
    assert [(line["status"], line["code"]) for line in logged(gateway)] == [(200, None), (504, "draining")]


async def test_a_call_that_waits_for_its_body_is_told_that_the_gateway_shuts_down(tmp_path: Path) -> None:
    async with Backend(events()) as backend:
        routing = config(backend)
        routing["backends"]["app"] |= {"kind": "gunicorn", "threads": 1}
        async with harness.running(tmp_path, routing, drain=0.3) as gateway:
            client = await RawClient.connect(harness.address(gateway))
            client.send(b"POST /svc/x HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\nabc")
            await eventually(lambda: len(gateway.life.inside) == 1)
            assert await drained(gateway) < SOON
            assert (await client.rest()).startswith(b"HTTP/1.1 503 ")
            client.close()
    assert [(line["status"], line["code"]) for line in logged(gateway)] == [(503, "draining")]


async def test_without_a_call_it_is_over_at_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with (
        Backend(events()) as backend,
        harness.running(tmp_path, config(backend), drain=DRAIN) as gateway,
    ):
        assert await drained(gateway) < SOON
    assert "waiting for" not in caplog.text
