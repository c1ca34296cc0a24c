"""What has no end of its own ends as its protocol provides when the worker that serves it is replaced."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from tests import harness
from tests.edge.test_drain_streams import EVENTS, chunk
from tests.fakes import Backend, Heard, RawClient
from tests.process.test_serve import Serving
from tests.support.sockets import TEXT, connect, echo, websocket


async def streams(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An echo on a WebSocket; else an event, and never an end."""
    if heard.one("Upgrade"):
        await websocket(echo)(heard, reader, writer)
        return
    writer.write(EVENTS.format("").encode() + chunk(b"data: 1\n\n"))
    await asyncio.Event().wait()


@pytest.mark.whole
async def test_streams_of_a_worker_that_is_replaced_end_cleanly_and_begin_again_on_the_next(
    tmp_path: Path,
) -> None:
    async with Backend(streams) as backend:
        route = harness.route("app", "app", public=True, websocket=True)
        backends = {"app": {"kind": "http", "addresses": [backend.address]}}
        routing = yaml.safe_dump(harness.routing([route], backends=backends))
        serving = Serving(tmp_path, routing, "workers = 2\nstream_grace = 0.2")
        at = urlsplit(serving.public)
        assert at.hostname and at.port
        address = at.hostname, at.port
        with serving.started() as process:
            await asyncio.to_thread(serving.until_ready, process)
            sockets = [await connect(address, "/app/chat", {}) for _ in range(4)]
            events = await RawClient.connect(address)
            events.send(b"GET /app/events HTTP/1.1\r\nHost: a\r\n\r\n")
            await events.head()
            await events.reader.readuntil(b"data: 1\n\n\r\n")
            for peer in sockets:
                peer.send(TEXT, b"before")
                assert await peer.message() == b"before"
            process.send_signal(signal.SIGHUP)
            assert {(await peer.closed())[0] for peer in sockets} == {1001}
            assert await events.reader.read() == b"0\r\n\r\n"
            await asyncio.to_thread(serving.until_logged, process, "All 2 workers were replaced")
            again = await connect(address, "/app/chat", {})
            again.send(TEXT, b"after")
            assert await again.message() == b"after"
            for one in (*sockets, again):
                one.cut()
            events.close()
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, 60) == 0
    assert "Traceback" not in serving.log.read_text()
