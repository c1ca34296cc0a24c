"""`retry: idempotent`: once more, elsewhere, within the same time, and never after a byte of an answer."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.app import Gateway
from tests import harness
from tests.eventually import AT_ONCE, END, eventually, nothing_for, takes
from tests.fakes import Backend, Heard, RawClient, Script, answer

pytestmark = pytest.mark.asyncio

KINDS = pytest.mark.parametrize("kind", ["http", "gunicorn"])
WAYS = pytest.mark.parametrize("way", ["direct", "task"])


def config(*backends: Backend, kind: str = "http", retry: str = "idempotent", **more: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {"kind": kind, "addresses": [backend.address for backend in backends]}
    if kind == "gunicorn":
        settings["threads"] = 1
    route = harness.route("svc", "app", public=True, retry=retry, **more)
    return harness.routing([route], backends={"app": settings})


def dying(times: int, last_words: bytes = b"", pause: float = 0.0) -> Script:
    """Dies at so many of the requests to /die, after these bytes; answers all others with its number and the
    body that came."""
    deaths = 0

    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal deaths
        if "die" in heard.line and deaths < times:
            deaths += 1
            await takes(pause)
            writer.write(last_words)
            writer.close()
        else:
            writer.write(answer(b"fine " + heard.body))

    return script


async def warm(gateway: Gateway, way: str = "direct") -> RawClient:
    """A client; and a warm connection to the backend, unless the way is that of a task."""
    client = await RawClient.connect(harness.address(gateway))
    if way == "direct":
        client.send(b"GET /svc/warm HTTP/1.1\r\nHost: a\r\n\r\n")
        await client.answer()
    return client


def request(method: str = "GET", body: bytes = b"", more: str = "") -> bytes:
    length = f"Content-Length: {len(body)}\r\n" if body or method in ("PUT", "POST") else ""
    return f"{method} /svc/die HTTP/1.1\r\nHost: a\r\n{more}{length}\r\n".encode() + body


def died(backend: Backend) -> list[str]:
    return [heard.line.split()[0] for heard in backend.heard if "die" in heard.line]


def counted(gateway: Gateway) -> dict[str, int]:
    """By result."""
    begin = 'gateway_retries_total{backend="app",result="'
    lines = [line for line in gateway.metrics.render().splitlines() if line.startswith(begin)]
    return {line.split('"')[3]: int(line.split()[-1]) for line in lines}


async def settled(gateway: Gateway) -> None:
    await eventually(lambda: not (any(gateway.admission.in_use().values()) or gateway.pools.under_way))


@KINDS
@WAYS
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_an_idempotent_request_is_tried_once_more_on_a_new_connection(
    tmp_path: Path, kind: str, way: str, method: str
) -> None:
    async with (
        Backend(dying(1)) as backend,
        harness.running(tmp_path, config(backend, kind=kind)) as gateway,
    ):
        client = await warm(gateway, way)
        body = b"body" if method == "PUT" else b""
        client.send(request(method, body))
        assert (await client.head()).startswith("HTTP/1.1 200 ")
        if method != "HEAD":
            assert await client.reader.readexactly(5 + len(body)) == b"fine " + body
        assert died(backend) == [method, method]
        one, two = (heard for heard in backend.heard if "die" in heard.line)
        assert one.body == two.body == body
        assert one.one("X-Request-ID") == two.one("X-Request-ID")
        assert backend.connections == 2
        assert counted(gateway) == {"tried": 1}
        await settled(gateway)
        client.close()


@KINDS
@WAYS
@pytest.mark.parametrize(
    ("method", "retry"), [("POST", "idempotent"), ("PATCH", "idempotent"), ("GET", "none")]
)
async def test_nothing_else_is_tried_again(
    tmp_path: Path, kind: str, way: str, method: str, retry: str
) -> None:
    async with (
        Backend(dying(1)) as backend,
        harness.running(tmp_path, config(backend, kind=kind, retry=retry)) as gateway,
    ):
        client = await warm(gateway, way)
        client.send(request(method, b"body" if method != "GET" else b""))
        head, body = await client.answer()
        assert head.startswith("HTTP/1.1 502 ")
        assert json.loads(body)["code"] == "backend_reset"
        assert died(backend) == [method]
        assert counted(gateway) == {}
        client.close()


@WAYS
@pytest.mark.parametrize(
    ("last_words", "status"),
    [
        (b"H", 502),
        (b"HTTP/1.1 100 Continue\r\n\r\n", 502),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n", 502),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 200),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfi", 200),
        (b"junk\r\n\r\n", 502),
    ],
)
async def test_never_after_a_byte_of_an_answer(
    tmp_path: Path, way: str, last_words: bytes, status: int
) -> None:
    async with (
        Backend(dying(1, last_words)) as backend,
        harness.running(tmp_path, config(backend)) as gateway,
    ):
        client = await warm(gateway, way)
        client.send(request())
        assert (await client.head()).startswith(f"HTTP/1.1 {status} ")
        await settled(gateway)
        assert died(backend) == ["GET"]
        assert counted(gateway) == {}
        client.close()


@WAYS
async def test_once_is_enough(tmp_path: Path, way: str) -> None:
    async with Backend(dying(9)) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await warm(gateway, way)
        client.send(request())
        head, body = await client.answer()
        assert head.startswith("HTTP/1.1 502 ")
        assert json.loads(body)["code"] == "backend_reset"
        assert died(backend) == ["GET", "GET"]
        await settled(gateway)
        client.close()


@KINDS
async def test_a_large_body_that_came_slowly_is_sent_whole_twice(tmp_path: Path, kind: str) -> None:
    big = bytes(range(256)) * 3000
    async with (
        Backend(dying(1)) as backend,
        harness.running(tmp_path, config(backend, kind=kind)) as gateway,
    ):
        client = await RawClient.connect(harness.address(gateway))
        client.send(b"PUT /svc/die HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        half = len(big) // 2
        client.send(b"%x\r\n%b\r\n" % (half, big[:half]))
        await nothing_for(0.1)
        assert not backend.heard, "it is buffered, for it may be needed again"
        client.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(big) - half, big[half:]))
        assert (await client.answer())[1] == b"fine " + big
        assert [heard.body for heard in backend.heard] == [big, big]
        client.close()


async def test_a_backend_that_dies_in_the_middle_of_a_body_gets_it_from_its_beginning(tmp_path: Path) -> None:
    big = bytes(range(256)) * 40_000
    received: list[bytes] = []

    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not received:
            received.append(await reader.readexactly(100_000))
            writer.transport.abort()
            return
        received.append(await reader.readexactly(len(big)))
        writer.write(answer())

    async with (
        Backend(script, heads_only=True) as backend,
        harness.running(tmp_path, config(backend, body_limit="20MiB")) as gateway,
    ):
        client = await RawClient.connect(harness.address(gateway))
        client.send(request("PUT", big))
        assert (await client.answer())[0].startswith("HTTP/1.1 200 ")
        assert received == [big[:100_000], big]
        client.close()


async def test_a_body_over_the_route_s_limit_is_413_before_the_backend_hears_of_it(tmp_path: Path) -> None:
    async with (
        Backend(dying(0)) as backend,
        harness.running(tmp_path, config(backend, body_limit="1KiB")) as gateway,
    ):
        client = await RawClient.connect(harness.address(gateway))
        client.send(
            b"PUT /svc/die HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n" + b"x" * 2000
        )
        assert (await client.head()).startswith("HTTP/1.1 413 ")
        assert not backend.heard
        client.close()


@KINDS
@WAYS
async def test_another_address_is_preferred(tmp_path: Path, kind: str, way: str) -> None:
    async with Backend(dying(99)) as bad, Backend(dying(0)) as good:
        async with harness.running(tmp_path, config(bad, good, kind=kind)) as gateway:
            client = await warm(gateway, way)
            if way == "direct":
                client.send(b"GET /svc/warm HTTP/1.1\r\nHost: a\r\n\r\n")  # both are warm
                await client.answer()
            for _ in range(6):
                client.send(request())
                assert (await client.answer())[1] == b"fine "
            assert len(died(bad)) == counted(gateway)["tried"] > 0
            await settled(gateway)
            client.close()
        lines = [json.loads(line) for line in (tmp_path / "var" / "access.log").read_text().splitlines()]
        assert {line["address"] for line in lines if line["status"] == 200} >= {good.address}


async def test_the_address_that_failed_is_the_last_choice_also_when_it_has_the_least_to_do(
    tmp_path: Path,
) -> None:
    go_on = asyncio.Event()

    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if "hold" in heard.line:
            await go_on.wait()
        writer.write(answer(b"fine "))

    async with Backend(dying(99)) as bad, Backend(script) as good:
        async with harness.running(tmp_path, config(bad, good)) as gateway:
            holder = await RawClient.connect(harness.address(gateway))
            for _ in range(2):  # the bad one answers it at once, the good one keeps it
                holder.send(b"GET /svc/hold HTTP/1.1\r\nHost: a\r\n\r\n")
            await eventually(lambda: good.heard and gateway.admission.in_use() == {"app": 1})
            client = await RawClient.connect(harness.address(gateway))
            client.send(request())
            assert (await client.answer())[1] == b"fine "
            assert (len(died(bad)), len(died(good))) == (1, 1)
            go_on.set()
            client.close()
            holder.close()


async def test_another_address_without_a_free_seat_is_not_used(tmp_path: Path) -> None:
    go_on = asyncio.Event()

    async def busy(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await go_on.wait()
        writer.write(answer(b"late"))

    async with Backend(dying(1)) as dies, Backend(busy) as other:
        async with harness.running(tmp_path, config(dies, other, kind="gunicorn")) as gateway:
            clients = [await warm(gateway, "task") for _ in range(2)]
            for client in clients:  # one to each, whoever is first
                client.send(request())
            await eventually(lambda: len(died(dies)) >= 2)
            assert len(other.heard) == 1
            go_on.set()
            received = {(await client.answer())[1] for client in clients}
            assert received == {b"fine ", b"late"}
            for client in clients:
                client.close()


@WAYS
async def test_all_tries_share_one_deadline(tmp_path: Path, way: str) -> None:
    deadlines: list[str | None] = []

    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if "die" not in heard.line:
            writer.write(answer())
            return
        deadlines.append(heard.one("X-Request-Deadline"))
        if len(deadlines) == 1:
            await takes(0.1)
            writer.close()
        await takes(END)

    async with Backend(script) as backend:
        async with harness.running(tmp_path, config(backend, timeouts={"total": "1500ms"})) as gateway:
            client = await warm(gateway, way)
            begun = time.monotonic()
            client.send(request())
            assert (await client.head()).startswith("HTTP/1.1 504 ")
            assert time.monotonic() - begun > 1.4
            first, second = deadlines
            assert first == second and first is not None
            client.close()


async def test_a_time_of_the_client_s_counts_for_all_tries(tmp_path: Path) -> None:
    async with Backend(dying(1, pause=END)) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await RawClient.connect(harness.address(gateway))
        begun = time.monotonic()
        client.send(request(more="X-Request-Timeout: 0.25\r\n"))
        assert (await client.head()).startswith("HTTP/1.1 504 ")
        assert time.monotonic() - begun < AT_ONCE
        assert died(backend) == ["GET"]
        client.close()


@WAYS
async def test_the_budget_ends_a_storm_and_a_reload_does_not_fill_it(tmp_path: Path, way: str) -> None:
    async with Backend(dying(999)) as backend, harness.running(tmp_path, config(backend)) as gateway:
        (address,) = gateway.live.current.backends["app"].addresses
        for number in range(20):
            gateway.health.responded(address, 200)  # else the circuit would end the storm
            client = await warm(gateway, way)
            client.send(request())
            assert (await client.head()).startswith("HTTP/1.1 502 ")
            client.close()
            if number == 15:
                (tmp_path / "routing.yaml").write_text((tmp_path / "routing.yaml").read_text() + "\n# new\n")
                await gateway.reload()
                assert gateway.live.current.revision == 2
        requests = 20 * (2 if way == "direct" else 1)
        counts = counted(gateway)
        assert counts["tried"] <= 10 + requests // 10
        assert counts["tried"] + counts["exhausted"] == 20
        assert len(died(backend)) == 20 + counts["tried"]


@WAYS
async def test_the_first_failure_is_the_answer_when_nobody_is_there_for_a_second_try(
    tmp_path: Path, way: str
) -> None:
    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if "die" in heard.line:
            assert backend._server is not None
            backend._server.close()
            writer.close()
        else:
            writer.write(answer())

    async with Backend(script) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await warm(gateway, way)
        client.send(request())
        head, body = await client.answer()
        assert head.startswith("HTTP/1.1 502 ")
        assert json.loads(body)["code"] == "backend_reset"
        client.send(b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await client.head()).startswith("HTTP/1.1 404 "), "the client's connection goes on"
        await settled(gateway)
        client.close()


@WAYS
async def test_a_client_that_leaves_during_the_second_try_leaves_nothing(tmp_path: Path, way: str) -> None:
    """The one seat is taken while the retry waits for it."""
    inside = asyncio.Event()
    held = asyncio.Event()

    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if "hold" in heard.line:
            inside.set()
            await held.wait()
        elif "die" in heard.line:
            await takes(0.1)
            writer.close()
            return
        writer.write(answer())

    async with (
        Backend(script) as backend,
        harness.running(tmp_path, config(backend, kind="gunicorn")) as gateway,
    ):
        client, holder = await warm(gateway, way), await RawClient.connect(harness.address(gateway))
        client.send(request())
        await eventually(lambda: gateway.admission.in_use() == {"app": 1})
        holder.send(b"GET /svc/hold HTTP/1.1\r\nHost: a\r\n\r\n")  # the next in line
        await inside.wait()
        await eventually(lambda: gateway.admission.waiting() == {"app": 1})
        client.close()
        await eventually(lambda: not gateway.admission.waiting()["app"])
        held.set()
        await holder.answer()
        await settled(gateway)
        assert died(backend) == ["GET"]
        holder.close()
    lines = [json.loads(line) for line in (tmp_path / "var" / "access.log").read_text().splitlines()]
    assert 499 in [line["status"] for line in lines]


async def test_drain_waits_for_a_second_try(tmp_path: Path) -> None:
    async with Backend(dying(1, pause=0.2)) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await warm(gateway)
        client.send(request())
        await eventually(lambda: died(backend))
        draining = asyncio.create_task(gateway.drain())
        assert (await client.answer())[1] == b"fine "
        await draining
        client.close()
