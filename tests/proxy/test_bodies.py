"""Bodies both ways: what is buffered and up to where, what never is, and what is dropped."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests import harness
from tests.eventually import at_rest, eventually, nothing_comes, nothing_for, takes
from tests.fakes import Backend, Heard, RawClient, always, answer

pytestmark = pytest.mark.asyncio

KINDS = pytest.mark.parametrize("kind", ["http", "gunicorn"])


def config(backend: Backend, kind: str = "http", **more: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {"kind": kind, "addresses": [backend.address]}
    if kind == "gunicorn":
        settings["threads"] = 2
    return harness.routing([harness.route("svc", "app", public=True, **more)], backends={"app": settings})


@KINDS
@pytest.mark.parametrize("broken", [b"zz\r\nhello\r\n0\r\n\r\n", b"-1\r\n", b"\r\n", b"5\r\nhello\r\nzz\r\n"])
async def test_a_broken_body_is_refused_and_the_backend_hears_nothing_whole(
    tmp_path: Path, kind: str, broken: bytes
) -> None:
    """Also where it breaks before its first byte: it must not be taken for an empty one."""
    async with Backend(always(answer())) as backend:
        async with harness.running(tmp_path, config(backend, kind)) as gateway:
            head = b"POST /svc/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            for pieces in ((head + broken,), (head, broken)):
                client = await RawClient.connect(harness.address(gateway))
                client.send(pieces[0])
                if len(pieces) > 1:
                    if kind == "http":  # its request has begun by then
                        await eventually(lambda: backend.heard)
                    client.send(pieces[1])
                answered, body = await client.answer()
                assert answered.startswith("HTTP/1.1 400 ") and b"framing is broken" in body
                client.close()
    sent_whole = [heard for heard in backend.heard if heard.body or not heard.one("Transfer-Encoding")]
    assert not sent_whole
    assert len(backend.heard) == (kind == "http"), "what was broken from the start was never sent"


async def test_an_asynchronous_backend_that_reads_slowly_holds_the_client_back(tmp_path: Path) -> None:
    size, sent = 80_000_000, 0
    go_on = asyncio.Event()

    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await go_on.wait()
        await reader.readexactly(size)
        writer.write(answer())

    async with (
        Backend(script, heads_only=True) as backend,
        harness.running(tmp_path, config(backend, body_limit="100MiB")) as gateway,
    ):
        client = await RawClient.connect(harness.address(gateway))
        client.send(f"POST /svc/ HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode())

        async def upload() -> None:
            nonlocal sent
            for _ in range(size // 100_000):
                client.send(b"x" * 100_000)
                await client.writer.drain()
                sent += 100_000

        task = asyncio.create_task(upload())
        assert await at_rest(lambda: sent) < 30_000_000, "the body piled up in the gateway"
        go_on.set()
        assert (await client.head()).startswith("HTTP/1.1 200 ")
        await task
        client.close()


async def test_an_answer_that_a_slow_client_leaves_behind_holds_the_thread_only_past_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to the limit it is buffered and the thread is free; past it the thread waits for the client."""
    monkeypatch.setattr("gateway.edge.spool.OUTBOX_LIMIT", 8_000_000)

    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int(heard.line.split()[1].strip("/"))
        writer.write(answer(b"x" * size))
        await writer.drain()

    async with Backend(script) as backend:
        async with harness.running(tmp_path, config(backend, "gunicorn")) as gateway:
            for size, held in ((7_000_000, 0), (60_000_000, 1)):
                client = await RawClient.connect(harness.address(gateway))
                client.send(f"GET /svc/{size} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
                await client.head()
                await eventually(lambda: gateway.admission.in_use() == {"app": held})  # noqa: B023 (now)
                await nothing_for(0.3)
                assert gateway.admission.in_use() == {"app": held}
                async with asyncio.timeout(30):
                    await client.reader.readexactly(size)
                client.close()


@KINDS
async def test_events_arrive_as_they_happen_and_longer_than_the_total_time(tmp_path: Path, kind: str) -> None:
    go_on = asyncio.Event()

    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for _ in range(5):
            writer.write(b"data: 1\n\n")
            await go_on.wait()
            go_on.clear()
            await takes(0.1)
        writer.close()

    async with (
        Backend(script) as backend,
        harness.running(tmp_path, config(backend, kind, timeouts={"total": "200ms"})) as gateway,
    ):
        client = await RawClient.connect(harness.address(gateway))
        client.send(b"GET /svc/ HTTP/1.1\r\nHost: a\r\n\r\n")
        await client.head()
        async with asyncio.timeout(30):
            for _ in range(5):
                assert await client.reader.readuntil(b"\n\n\r\n") == b"9\r\ndata: 1\n\n\r\n"
                go_on.set()
            assert await client.reader.readuntil(b"0\r\n\r\n") == b"0\r\n\r\n"
        client.close()


@KINDS
async def test_trailers_are_dropped_both_ways(tmp_path: Path, kind: str) -> None:
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\nX-Trailer: evil\r\n\r\n"
    received: list[bytes] = []

    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.readexactly(2))
        assert (received, heard.one("Content-Length")) == ([b"hi"], "2"), (
            "it came whole, so its length is known"
        )
        writer.write(raw)

    async with (
        Backend(script, heads_only=True) as backend,
        harness.running(tmp_path, config(backend, kind)) as gateway,
    ):
        client = await RawClient.connect(harness.address(gateway))
        head = b"POST /svc/ HTTP/1.1\r\nHost: a\r\nTrailer: X-Tenant\r\nTransfer-Encoding: chunked\r\n\r\n"
        for _ in range(2):
            received.clear()
            client.send(head + b"2;a=b\r\nhi\r\n0\r\nX-Tenant: globex\r\n\r\n")
            await client.head()
            assert await client.reader.readexactly(12) == b"2\r\nok\r\n0\r\n\r\n"
        client.close()
        assert backend.connections == 1, "and both connections go on"
        assert backend.heard[0].one("Trailer") is None


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_what_may_change_something_is_finished_though_its_client_left(
    tmp_path: Path, method: str
) -> None:
    finished = asyncio.Event()

    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if "work" in heard.line:
            await nothing_comes(reader.read())  # not even the end of the connection
            finished.set()
        writer.write(answer())

    async with Backend(script) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await RawClient.connect(harness.address(gateway))
        client.send(f"{method} /svc/work HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi".encode())
        await eventually(lambda: backend.heard)
        client.close()
        async with asyncio.timeout(30):
            await finished.wait()
            await eventually(lambda: not gateway.pools.under_way)
        again = await RawClient.connect(harness.address(gateway))
        again.send(b"GET /svc/ HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await again.answer())[1] == b"ok"
        assert backend.connections == 1, "its answer was read to its end, and reached nobody"
        again.close()


async def test_one_backend_that_is_full_never_delays_another(tmp_path: Path) -> None:
    go_on = asyncio.Event()

    async def stuck(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await go_on.wait()
        writer.write(answer())

    async with Backend(stuck) as full, Backend(always(answer())) as free:
        backends = {
            "full": {"kind": "gunicorn", "threads": 1, "addresses": [full.address]},
            "free": {"kind": "gunicorn", "threads": 1, "addresses": [free.address]},
        }
        routes = [harness.route(name, name, public=True) for name in backends]
        async with harness.running(tmp_path, harness.routing(routes, backends=backends)) as gateway:
            assert (full.connections, free.connections) == (0, 0), "an idle connection would hold a thread"
            waiting = [await RawClient.connect(harness.address(gateway)) for _ in range(20)]
            for client in waiting:
                client.send(b"GET /full/ HTTP/1.1\r\nHost: a\r\n\r\n")
            await eventually(lambda: gateway.admission.waiting()["full"] >= 19)
            client = await RawClient.connect(harness.address(gateway))
            for _ in range(5):
                client.send(b"GET /free/ HTTP/1.1\r\nHost: a\r\n\r\n")
                assert (await client.answer())[1] == b"ok"
            assert full.connections == 1
            go_on.set()
            for one in [*waiting, client]:
                one.close()
