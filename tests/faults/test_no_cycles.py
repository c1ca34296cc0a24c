"""What a refused request held is gone when it is answered, without the garbage collector: no error of the
request path is part of a reference cycle."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.app import Gateway
from gateway.call import Call
from gateway.core.errors import GatewayError
from gateway.core.http.request_reader import Request
from gateway.edge.backend.exchange import Exchange
from gateway.edge.client.body import RequestStream
from gateway.edge.client.connection import ClientConnection
from gateway.edge.response.relay import Relay
from tests import harness
from tests.documents.api import ALL, SCOPES
from tests.eventually import eventually
from tests.fakes import Backend, Heard
from tests.support.ports import free_port
from tests.support.sockets import request as handshake
from tests.support.wire import Wire

pytestmark = pytest.mark.asyncio

_WATCHED = (GatewayError, Call, Request, Exchange, Relay, RequestStream, ClientConnection)
_TIMES = 12
_NUMBERS = [None, *(number + 0.5 for number in range(1000))]
SETTINGS = {
    "checked": {"schema": {"properties": {"a": {"items": {"type": "number"}}}}},
    "costly": {"schema": {"properties": {"a": {"items": {"enum": _NUMBERS}}}}},
}
COSTLY = json.dumps({"a": [-1] * 2000})  # beyond what is checked at once
_FEW = 6  # what the last request, and the collection's own frame, may still name


async def misbehaving(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    path = heard.line.split()[1]
    if path.startswith("/junk"):
        writer.write(b"nonsense\r\n\r\n")
    elif path.startswith("/cut"):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
    elif path.startswith("/silent"):
        await reader.read(1)
    writer.close()


class Clock:
    """So fast that a circuit, once open, is tried again with each request."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def site(folder: Path, clock: Clock) -> AsyncIterator[Gateway]:
    routes: list[dict[str, Any]] = [
        harness.route("documents", "documents", scopes=SCOPES, body_limit=100_000),
        harness.route("a", "app", timeouts={"first_byte": "50ms"}, websocket={"origins": ["http://a"]}),
        harness.route("t", "threads", timeouts={"first_byte": "50ms"}, body_limit=100_000),
        harness.route("gone", "gone"),
    ]
    async with Backend(misbehaving) as backend, Backend(misbehaving) as threads:
        backends = {
            "app": {"kind": "uvicorn", "addresses": [backend.address]},
            "threads": {"kind": "gunicorn", "threads": 4, "addresses": [threads.address]},
            "gone": {"kind": "uvicorn", "addresses": [f"http://127.0.0.1:{free_port()}"]},
        }
        tenants = {"acme": {}, "limited": {"quota": "1/day"}}
        config = harness.routing(routes, backends=backends, tenants=tenants)
        async with harness.running(folder, config, now=clock) as gateway:
            yield gateway


def kinds(gateway: Gateway) -> Iterator[tuple[str, int, bytes]]:
    """Name, status (0: whatever), raw request."""
    good = f"Authorization: Bearer {harness.token(gateway, scope=ALL)}\r\n"
    poor = f"Authorization: Bearer {harness.token(gateway, scope='nothing')}\r\n"
    limited = f"Authorization: Bearer {harness.token(gateway, 'limited', scope=ALL)}\r\n"
    bad = "Authorization: Bearer a.b.c\r\n"
    as_json = "Content-Type: application/json\r\n"

    def raw(line: str, more: str = good, body: str = "", length: int = -1) -> bytes:
        size = len(body) if length < 0 else length
        framing = f"Content-Length: {size}\r\n" if size else ""
        return f"{line} HTTP/1.1\r\nHost: a\r\n{more}{framing}\r\n{body}".encode()

    for collection, settings in SETTINGS.items():
        raw_settings = json.dumps(settings)
        yield "settings", 0, raw(f"PUT /documents/{collection}", good + as_json, raw_settings)
    yield "no token", 401, raw("GET /documents/c/x", "")
    yield "a bad token", 401, raw("GET /documents/c/x", bad)
    yield "no scope", 403, raw("GET /documents/c/x", poor)
    yield "no route", 404, raw("GET /nowhere")
    yield "a method", 405, raw("DELETE /documents/")
    yield "a limit", 429, raw("GET /documents/c/x", limited)
    yield "a bad request", 400, raw("GET /a/%00")
    yield "a bad head", 400, b"GET / HTTP/1.1\r\nno colon\r\n\r\n"
    yield "a large head", 431, raw("GET /", "".join(f"a{n}: {'x' * 8000}\r\n" for n in range(20)))
    yield "a long line", 414, raw(f"GET /{'x' * 20000}")
    yield "an expectation", 417, raw("PUT /documents/c/x", good + "Expect: tea\r\n", "{}")
    yield "a large body", 413, raw("PUT /documents/c/x", good + as_json, "x" * 50_000, 500_000)
    yield "a large body for a thread", 413, raw("POST /t/x", good, "x" * 50_000, 500_000)
    chunked = "Transfer-Encoding: chunked\r\n"
    yield "a broken body", 400, raw("PUT /documents/c/x", good + as_json + chunked) + b"3\r\nabc\r\nzz\r\n"
    yield "a broken body, streamed", 400, raw("POST /a/wait", good + chunked) + b"3\r\nabc\r\nzz\r\n"
    yield "no JSON", 400, raw("PUT /documents/c/x", good + as_json, "{" * 40_000)
    yield "no document", 422, raw("PUT /documents/c/x", good + as_json, "[]")
    yield "no media type", 415, raw("PUT /documents/c/x", good, "{}")
    yield "not there", 404, raw("GET /documents/c/never")
    yield "a precondition", 412, raw("PUT /documents/c/x", good + as_json + 'If-Match: "1"\r\n', '{"a":1}')
    lines = '{"op":"replace","id":"x","data":{}}\n{"op":"delete","id":"never"}\n'
    lines_type = "Content-Type: application/x-ndjson\r\n"
    yield "a bulk", 0, raw("POST /documents/c/bulk", good + lines_type, lines)
    yield "an atomic bulk", 0, raw("POST /documents/c/bulk?atomic=true", good + lines_type, lines)
    yield "an import", 200, raw("POST /documents/c/import", good + lines_type, '{"a":\n{"_id":""}\n')
    yield "a document that does not fit", 422, raw("PUT /documents/checked/x", good + as_json, '{"a":["x"]}')
    yield "one that is costly to check", 422, raw("PUT /documents/costly/x", good + as_json, COSTLY)
    yield "a filter", 400, raw("GET /documents/c/?filter={")
    yield "a backend that is gone", 503, raw("GET /gone/x")
    yield "a backend that closes", 502, raw("GET /a/close")
    yield "a backend that talks nonsense", 502, raw("GET /a/junk")
    yield "an answer that is cut", 0, raw("GET /a/cut")
    yield "a backend that is silent", 504, raw("GET /a/silent")
    yield "a thread that closes", 502, raw("POST /t/close", good, "x" * 1000)
    yield "a WebSocket of others", 403, handshake("/a/ws", "a", good.strip(), "Origin: http://evil")
    yield "a WebSocket that is none", 502, handshake("/a/junk", "a", good.strip())


def watched() -> int:
    # By type: a proxy of what is gone (weakref) answers isinstance with an error.
    return sum(issubclass(type(one), _WATCHED) for one in gc.get_objects())


async def test_no_refusal_leaves_anything_to_the_garbage_collector(tmp_path: Path) -> None:
    clock = Clock()
    async with site(tmp_path, clock) as gateway:
        left: dict[str, int] = {}
        gc.collect()
        gc.disable()
        try:
            for name, status, raw in kinds(gateway):
                before = watched()
                for number in range(_TIMES):
                    wire = await Wire.connect(harness.address(gateway))
                    clock.now += 120.0
                    wire.send(raw)
                    answers = await wire.answers(["GET"])
                    if number:
                        assert not status or [a.status for a in answers] == [status], (name, answers)
                    wire.close()
                await eventually(lambda: not gateway.listener.connections)
                if (more := watched() - before) > _FEW:
                    left[name] = more
        finally:
            gc.enable()
        assert not left, f"after {_TIMES} requests of each kind"


async def test_a_client_that_leaves_in_the_middle_of_its_body_leaves_nothing(tmp_path: Path) -> None:
    async with site(tmp_path, Clock()) as gateway:
        authorization = harness.bearer(gateway, scope=ALL)["Authorization"]
        gc.collect()
        gc.disable()
        try:
            before = watched()
            for line, media in (
                ("PUT /documents/c/x", "application/json"),
                ("POST /documents/c/import", "application/x-ndjson"),
                ("POST /a/x", "text/plain"),
                ("POST /t/x", "text/plain"),
            ):
                for _ in range(_TIMES):
                    wire = await Wire.connect(harness.address(gateway))
                    head = f"{line} HTTP/1.1\r\nHost: a\r\nAuthorization: {authorization}\r\n"
                    wire.send(
                        f"{head}Content-Type: {media}\r\nContent-Length: 90000\r\n\r\n".encode()
                        + b"x" * 70_000
                    )
                    await eventually(lambda: gateway.life.inside)
                    wire.close()
                    await eventually(lambda: not gateway.life.inside)
            await eventually(lambda: not gateway.listener.connections)
            assert watched() - before <= _FEW
        finally:
            gc.enable()
