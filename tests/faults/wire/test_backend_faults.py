"""Backends that misbehave: what the client sees, and that nothing is executed twice."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests import harness
from tests.eventually import AT_ONCE, eventually, takes
from tests.fakes import Backend, Heard, RawClient, Script, always, answer, then_close
from tests.support.ports import free_port

pytestmark = pytest.mark.asyncio

KINDS = pytest.mark.parametrize("kind", ["http", "gunicorn"])


def config(addresses: list[str], kind: str = "http", **more: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {"kind": kind, "addresses": addresses}
    if kind == "gunicorn":
        settings["threads"] = 2
    return harness.routing([harness.route("svc", "app", **more)], backends={"app": settings})


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


async def code_of(response: aiohttp.ClientResponse) -> str:
    assert response.content_type == "application/problem+json"
    body = await response.json()
    assert body["status"] == response.status
    assert body["instance"] == response.headers["X-Request-ID"]
    assert body["type"] == f"urn:gateway:problem:{body['code']}"
    return str(body["code"])


@KINDS
async def test_a_closed_port_is_503_at_once(
    tmp_path: Path, session: aiohttp.ClientSession, kind: str
) -> None:
    routing = config([f"http://127.0.0.1:{free_port()}"], kind)
    async with harness.running(tmp_path, routing) as gateway:
        begun = time.perf_counter()
        async with session.get(harness.url(gateway, "/svc/"), headers=harness.bearer(gateway)) as response:
            assert response.status == 503
            assert await code_of(response) == "backend_unavailable"
            assert int(response.headers["Retry-After"]) >= 1
        assert time.perf_counter() - begun < AT_ONCE
        assert gateway.admission.in_use() == {"app": 0}


async def test_a_backend_that_does_not_accept_is_503_at_the_connect_timeout(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    with socket.socket() as full:  # a listener whose queue is full drops the SYN
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
        routing = config([f"http://127.0.0.1:{port}"], timeouts={"connect": "200ms"})
        async with harness.running(tmp_path, routing) as gateway:
            begun = time.perf_counter()
            async with session.get(
                harness.url(gateway, "/svc/"), headers=harness.bearer(gateway)
            ) as response:
                assert response.status == 503
                assert await code_of(response) == "backend_unavailable"
            assert 0.2 <= time.perf_counter() - begun < AT_ONCE
        for sock in waiting:
            sock.close()


async def test_another_address_takes_over_when_one_refuses(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    async with Backend(always(answer())) as backend:
        routing = config([f"http://127.0.0.1:{free_port()}", backend.address])
        async with harness.running(tmp_path, routing) as gateway:
            for _ in range(4):
                async with session.post(
                    harness.url(gateway, "/svc/"), data=b"x", headers=harness.bearer(gateway)
                ) as response:
                    assert response.status == 200
        assert len(backend.heard) == 4


@KINDS
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST"])
async def test_a_backend_that_dies_before_it_answers_is_502_and_executes_once(
    tmp_path: Path, session: aiohttp.ClientSession, method: str, kind: str
) -> None:
    """Also on a connection that served before: there a common client would send it again by itself."""
    calls = 0

    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            writer.write(answer())
        else:
            writer.close()

    async with (
        Backend(script) as backend,
        harness.running(tmp_path, config([backend.address], kind)) as gateway,
    ):
        for expected in (200, 502):
            async with session.request(
                method, harness.url(gateway, "/svc/"), headers=harness.bearer(gateway)
            ) as response:
                assert response.status == expected
                if expected == 502:
                    assert await code_of(response) == "backend_reset"
        assert backend.connections == 1
        assert calls == 2
        assert gateway.admission.in_use() == {"app": 0}


async def test_a_silent_backend_is_504(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await takes(5)

    async with Backend(script) as backend:
        routing = config([backend.address], timeouts={"first_byte": "150ms"})
        async with harness.running(tmp_path, routing) as gateway:
            async with session.get(
                harness.url(gateway, "/svc/"), headers=harness.bearer(gateway)
            ) as response:
                assert response.status == 504
                assert await code_of(response) == "backend_timeout"


async def test_the_seat_of_a_silent_thread_is_free_when_the_thread_is(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    done = asyncio.Event()

    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()
        writer.write(answer())

    async with Backend(script) as backend:
        routing = config([backend.address], "gunicorn", timeouts={"first_byte": "150ms"})
        async with harness.running(tmp_path, routing) as gateway:
            async with session.get(
                harness.url(gateway, "/svc/"), headers=harness.bearer(gateway)
            ) as response:
                assert response.status == 504
            assert gateway.admission.in_use() == {"app": 1}
            done.set()
            await eventually(lambda: gateway.admission.in_use() == {"app": 0})


JUNK = {
    "not HTTP at all": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "a bad status": b"HTTP/1.1 9999 Huh\r\n\r\n",
    "a bad length": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    "both lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "an unasked switch of protocols": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    "a header that never ends": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
    "twenty interim answers": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 20 + answer(),
}


@pytest.mark.parametrize("name", JUNK)
async def test_junk_is_502(tmp_path: Path, session: aiohttp.ClientSession, name: str) -> None:
    async with Backend(then_close(JUNK[name])) as backend:
        async with harness.running(tmp_path, config([backend.address])) as gateway:
            async with session.get(
                harness.url(gateway, "/svc/"), headers=harness.bearer(gateway)
            ) as response:
                assert response.status == 502
                assert await code_of(response) == "backend_malformed"
            assert len(backend.heard) == 1


async def _stalls(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    await takes(5)


@pytest.mark.parametrize(
    ("script", "timeouts"),
    [
        pytest.param(then_close(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"), {}, id="short"),
        pytest.param(
            then_close(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"),
            {},
            id="chunked",
        ),
        pytest.param(_stalls, {"idle": "200ms"}, id="stalled"),
        pytest.param(_stalls, {"total": "200ms"}, id="too long in all"),
    ],
)
async def test_an_answer_that_is_cut_off_never_looks_complete(
    tmp_path: Path, script: Script, timeouts: dict[str, str]
) -> None:
    async with Backend(script) as backend:
        async with harness.running(tmp_path, config([backend.address], timeouts=timeouts)) as gateway:
            client = await RawClient.connect(harness.address(gateway))
            bearer = harness.token(gateway)
            client.send(f"GET /svc/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {bearer}\r\n\r\n".encode())
            received = await client.rest()
            assert received.startswith(b"HTTP/1.1 200 ")
            assert b"half" in received
            assert not received.endswith(b"0\r\n\r\n")
            client.close()


@pytest.mark.parametrize("timeouts", [{}, {"idle": "200ms"}])
async def test_an_answer_to_http_1_0_that_is_cut_off_ends_with_a_reset(
    tmp_path: Path, timeouts: dict[str, str]
) -> None:
    """It has no framing: with an ordinary end of the connection it would look complete."""

    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
        if timeouts:
            await takes(5)
        await takes(0.05)
        writer.close()

    async with Backend(script) as backend:
        routing = config([backend.address], timeouts=timeouts, public=True)
        async with harness.running(tmp_path, routing) as gateway:
            client = await RawClient.connect(harness.address(gateway))
            client.send(b"GET /svc/ HTTP/1.0\r\nHost: x\r\n\r\n")
            async with asyncio.timeout(30):
                assert await client.reader.readuntil(b"half")
                with pytest.raises(ConnectionResetError):
                    await client.reader.read()
    lines = [json.loads(line) for line in (tmp_path / "var" / "access.log").read_text().splitlines()]
    assert lines[-1]["code"] == ("backend_timeout" if timeouts else "backend_reset")


async def test_surplus_bytes_reach_nobody(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    calls = 0

    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1
        writer.write(answer(f"answer {calls}".encode()) + answer(b"for somebody else"))

    async with Backend(script) as backend, harness.running(tmp_path, config([backend.address])) as gateway:
        for number in (1, 2, 3):
            async with session.get(
                harness.url(gateway, "/svc/"), headers=harness.bearer(gateway)
            ) as response:
                assert await response.text() == f"answer {number}"
        assert backend.connections == 3


async def test_an_answer_before_the_whole_request_is_relayed_at_once(tmp_path: Path) -> None:
    async with Backend(always(answer(b"no", "413 Content Too Large")), heads_only=True) as backend:
        async with harness.running(tmp_path, config([backend.address])) as gateway:
            client = await RawClient.connect(harness.address(gateway))
            head = f"POST /svc/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {harness.token(gateway)}\r\n"
            client.send(f"{head}Content-Length: 1000000\r\n\r\nbeginning".encode())
            received, _ = await client.answer()
            assert received.startswith("HTTP/1.1 413 ")
            assert "connection: close" in received.lower()
            client.close()


async def test_the_gateway_is_fine_after_all_that(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    """Each fault on one gateway, a good call between: no seat, connection or task is left behind."""
    bad = then_close(b"")
    calls = 0

    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1
        if calls % 2:
            faults: list[Script] = [bad, *[then_close(raw) for raw in JUNK.values()]]
            await faults[calls // 2 % len(faults)](heard, reader, writer)
        else:
            writer.write(answer())

    async with Backend(script) as backend:
        async with harness.running(tmp_path, config([backend.address], "gunicorn")) as gateway:
            before = len(asyncio.all_tasks())
            for _ in range(2 * len(JUNK) + 2):
                for expected in (502, 200):
                    async with session.get(
                        harness.url(gateway, "/svc/"), headers=harness.bearer(gateway)
                    ) as response:
                        assert response.status == expected
            await eventually(lambda: gateway.admission.in_use() == {"app": 0})
            await eventually(lambda: len(asyncio.all_tasks()) <= before + 2)  # the keep-alive connections
