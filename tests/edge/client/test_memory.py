"""What unfinished heads and bodies hold together has a budget; one client never takes all of it."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from tests import harness
from tests.documents.api import ALL, SCOPES
from tests.eventually import at_rest, eventually
from tests.fakes import Backend, Heard, always, answer
from tests.support.wire import Wire

pytestmark = pytest.mark.asyncio
MEMORY = 2 * 1024 * 1024
_HEAD = b"GET /svc/x HTTP/1.1\r\nHost: a\r\n" + b"".join(b"A: %b\r\n" % (b"x" * 15_000) for _ in range(4))


def config(backend: Backend, threads: Backend) -> dict[str, Any]:
    routes = [
        harness.route("documents", "documents", scopes=SCOPES),
        harness.route("svc", "app", public=True),
        harness.route("t", "threads", public=True),
    ]
    backends = {
        "app": {"kind": "uvicorn", "addresses": [backend.address], "concurrency": 1},
        "threads": {"kind": "gunicorn", "threads": 1, "addresses": [threads.address]},
    }
    return harness.routing(routes, backends=backends)


async def test_unfinished_heads_are_refused_beyond_the_budget_and_others_are_served(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Backend(always(answer())) as backend, Backend(always(answer())) as threads:
        async with harness.running(tmp_path, config(backend, threads), memory=MEMORY) as gateway:
            authorization = harness.bearer(gateway, scope=ALL)["Authorization"]
            put = f"PUT /documents/c/%s HTTP/1.1\r\nHost: a\r\nAuthorization: {authorization}\r\n"
            put += "Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
            body = b'"' + b"x" * 99_990 + b'"'
            quiet = await Wire.connect(harness.address(gateway))
            whole = (b'{"a":' + body + b"}").ljust(100_000)
            quiet.send((put % "known").encode() + whole)
            assert [one.status for one in await quiet.answers(["PUT"])] == [201]
            heads = [await Wire.connect(harness.address(gateway)) for _ in range(60)]
            for wire in heads:
                wire.send(_HEAD)
            await eventually(lambda: sum(wire.ended for wire in heads) > 30)
            assert MEMORY // 3 < gateway.memory.budget.used <= MEMORY // 2
            refused = [wire for wire in heads if wire.ended]
            for wire in refused:
                (one,) = await wire.answers([""])
                assert one.status == 429
                assert int(one.all("retry-after")[0]) >= 1
                assert one.closes
                assert b"client_limit" in one.body
            quiet.received = b""
            quiet.send((put % "d").encode() + whole[:60_000])
            await eventually(lambda: gateway.life.inside)
            quiet.send(whole[60_000:] + b"GET /svc/x HTTP/1.1\r\nHost: a\r\n\r\n")
            assert [one.status for one in await quiet.answers(["PUT", "GET"])] == [201, 200]
            for wire in heads:
                wire.close()
            quiet.close()
            await eventually(lambda: not gateway.memory.budget.used)
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "[gateway] memory" in warnings[0].getMessage()


@pytest.mark.parametrize("path", ["/svc/x", "/t/x"])
async def test_bodies_that_wait_are_counted_refused_beyond_the_budget_and_given_back(
    tmp_path: Path, path: str
) -> None:
    """Behind a backend that has no seat free."""
    release = asyncio.Event()

    async def waits(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.write(answer())

    async with Backend(waits) as backend, Backend(waits) as threads:
        async with harness.running(tmp_path, config(backend, threads), memory=MEMORY) as gateway:
            wires = [await Wire.connect(harness.address(gateway)) for _ in range(60)]
            for wire in wires:
                wire.send(
                    f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n".encode()
                    + b"x" * 60_000
                )
            await eventually(lambda: sum(bool(wire.received) for wire in wires) > 30)
            assert await at_rest(lambda: gateway.memory.budget.used) <= MEMORY // 2
            refused = [wire for wire in wires if wire.received]
            for wire in refused:
                assert [one.status for one in await wire.answers(["POST"])] == [429]
            release.set()
            for wire in wires:
                if wire not in refused:
                    assert [one.status for one in await wire.answers(["POST"])] == [200]
                wire.close()
            await eventually(lambda: not gateway.memory.budget.used)


@pytest.mark.parametrize("chunked", [True, False], ids=["chunked", "a length"])
async def test_streamed_bodies_that_nobody_takes_are_counted_and_given_back(
    tmp_path: Path, chunked: bool
) -> None:
    async def never(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        await asyncio.Event().wait()

    async with Backend(never, heads_only=True) as backend, Backend(never) as threads:
        async with harness.running(tmp_path, config(backend, threads), memory=MEMORY) as gateway:
            framing = "Transfer-Encoding: chunked" if chunked else "Content-Length: 9000000"
            wires = [await Wire.connect(harness.address(gateway)) for _ in range(20)]
            for wire in wires:
                wire.send(f"POST /svc/x HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n".encode())
                wire.send((b"40000\r\n" if chunked else b"") + b"x" * 262_144)
            await eventually(lambda: any(wire.received for wire in wires))
            assert await at_rest(lambda: gateway.memory.budget.used) <= MEMORY // 2
            for wire in wires:
                wire.close()
            await eventually(lambda: not gateway.memory.budget.used and not gateway.listener.connections)


async def test_what_comes_whole_is_never_counted(tmp_path: Path) -> None:
    async with Backend(always(answer())) as backend, Backend(always(answer())) as threads:
        async with harness.running(tmp_path, config(backend, threads), memory=MEMORY) as gateway:
            gateway.memory.budget.used = MEMORY  # nothing is left
            wire = await Wire.connect(harness.address(gateway))
            wire.send(b"GET /svc/x HTTP/1.1\r\nHost: a\r\n\r\n")
            wire.send(b"POST /svc/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000)
            assert [one.status for one in await wire.answers(["GET", "POST"])] == [200, 200]
            wire.send(b"POST /svc/x HTTP/1.1\r\nHost: a\r\nContent-Length: 9000\r\n\r\n" + b"x" * 8000)
            assert [one.status for one in await wire.answers(["GET", "POST", "POST"])] == [200, 200, 503]
            wire.close()
            gateway.memory.budget.used = 0
