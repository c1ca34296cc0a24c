"""A client that leaves in the middle of its body is no bug and no bad request: the log says 499."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

import pytest

from tests import harness
from tests.documents.api import ALL, SCOPES
from tests.eventually import eventually
from tests.fakes import Backend, Heard
from tests.support.wire import Wire

pytestmark = pytest.mark.asyncio

LEFT = {
    "a document": ("PUT /documents/c/x", "application/json"),
    "an import": ("POST /documents/c/import", "application/x-ndjson"),
    "a bulk": ("POST /documents/c/bulk", "application/x-ndjson"),
    "a query": ("QUERY /documents/c/", "application/json"),
    "an asynchronous backend": ("POST /a/x", "text/plain"),
    "a backend that is tried again": ("PUT /r/x", "text/plain"),
    "a thread": ("POST /t/x", "text/plain"),
}
_BEGUN = b'{"a":"'.ljust(80_000, b"x")  # half a line
FRAMINGS = {
    "a length": (b"Content-Length: 900000\r\n\r\n", _BEGUN),
    "chunks": (b"Transfer-Encoding: chunked\r\n\r\n", b"13880\r\n" + _BEGUN + b"\r\n"),
    "few bytes": (b"Content-Length: 100\r\n\r\n", b"{"),
}


async def silent(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("name", LEFT)
async def test_a_client_that_leaves_in_the_middle_of_its_body_is_a_499(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, framing: str
) -> None:
    line, media = LEFT[name]
    lines, body = FRAMINGS[framing]
    async with Backend(silent, heads_only=True) as backend, Backend(silent) as threads:
        backends = {
            "app": {"kind": "uvicorn", "addresses": [backend.address]},
            "threads": {"kind": "gunicorn", "threads": 4, "addresses": [threads.address]},
        }
        routes = [
            harness.route("documents", "documents", scopes=SCOPES),
            harness.route("a", "app"),
            harness.route("r", "app", retry="idempotent"),
            harness.route("t", "threads"),
        ]
        async with harness.running(tmp_path, harness.routing(routes, backends=backends)) as gateway:
            wire = await Wire.connect(harness.address(gateway))
            authorization = harness.bearer(gateway, scope=ALL)["Authorization"]
            head = (
                f"{line} HTTP/1.1\r\nHost: a\r\nAuthorization: {authorization}\r\nContent-Type: {media}\r\n"
            )
            wire.send(head.encode() + lines + body)
            await eventually(lambda: gateway.life.inside)
            (call,) = gateway.life.inside
            if framing != "few bytes":
                await eventually(lambda: call.bytes_in)
            wire.close()
            await eventually(lambda: not gateway.life.inside and not gateway.listener.connections)
            await eventually(lambda: not any(gateway.admission.in_use().values()))
            log = Path(gateway.config.access_log)
            counted = gateway.metrics.render()
    (told,) = [json.loads(raw) for raw in log.read_text().splitlines()]
    assert (told["status"], told["code"]) == (499, None)
    assert 'status="4xx"' in counted
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
