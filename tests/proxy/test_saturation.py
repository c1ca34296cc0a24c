"""A backend that is full, over real sockets: who waits, who is refused and how, what the backend is told."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.app import Gateway
from tests import harness
from tests.eventually import AT_ONCE, eventually, takes
from tests.fakes import Backend, Heard, RawClient, Script, always, answer
from tests.support.sockets import connect, echo, request, websocket

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Gate:
    """Answers only once it is open. /stream/... is an event stream that ends then."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def __call__(
        self, heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if "/stream" in heard.line:
            writer.write(STREAM + b"9\r\ndata: 1\n\n\r\n")
            await writer.drain()
            await self.open.wait()
            writer.write(b"0\r\n\r\n")
        elif "/quick" in heard.line:
            writer.write(answer())
        else:
            await self.open.wait()
            writer.write(answer())


@asynccontextmanager
async def through(
    folder: Path, script: Script, route: dict[str, Any] | None = None, **settings: Any
) -> AsyncIterator[tuple[Gateway, Backend]]:
    """A gateway with tenants acme and globex (acme is limited by `acme`) in front of one backend."""
    tenants = {"acme": settings.pop("acme", {}), "globex": {}}
    async with Backend(script) as backend:
        app = {"kind": "gunicorn", "threads": 1, "addresses": [backend.address], **settings}
        if app["kind"] != "gunicorn":
            del app["threads"]
        routes = [
            harness.route("svc", "app", **(route or {})),
            harness.route("ws", "app", **({"websocket": True} if app["kind"] != "gunicorn" else {})),
        ]
        routing = harness.routing(routes, backends={"app": app}, tenants=tenants)
        async with harness.running(folder, routing) as gateway:
            yield gateway, backend


async def ask(
    gateway: Gateway, path: str = "/svc/", tenant: str = "acme", method: str = "GET", more: str = ""
) -> RawClient:
    client = await RawClient.connect(harness.address(gateway))
    bearer = harness.token(gateway, tenant)
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {bearer}\r\n{more}\r\n"
    client.send(head.encode())
    return client


async def refusal(client: RawClient) -> tuple[int, str, int]:
    """Status, code and Retry-After of a problem."""
    head, body = await client.answer()
    client.close()
    fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
    problem = json.loads(body)
    assert fields["content-type"].startswith("application/problem+json")
    assert problem["status"] == int(head.split()[1])
    return problem["status"], problem["code"], int(fields["retry-after"])


def in_use(gateway: Gateway) -> int:
    return gateway.admission.in_use()["app"]


def waiting(gateway: Gateway) -> int:
    return gateway.admission.waiting()["app"]


async def test_a_full_queue_is_429_for_its_tenant_and_no_matter_to_another(tmp_path: Path) -> None:
    gate = Gate()
    async with through(tmp_path, gate, queue={"length": 1}) as (gateway, backend):
        clients = [await ask(gateway)]
        await eventually(lambda: in_use(gateway) == 1)
        clients.append(await ask(gateway))
        await eventually(lambda: waiting(gateway) == 1)
        began = time.monotonic()
        status, code, retry_after = await refusal(await ask(gateway))
        assert (status, code) == (429, "tenant_queue_full")
        assert 1 <= retry_after <= 10
        assert time.monotonic() - began < AT_ONCE
        clients.append(await ask(gateway, tenant="globex"))
        await eventually(lambda: waiting(gateway) == 2)
        gate.open.set()
        for client in clients:
            assert (await client.head()).startswith("HTTP/1.1 200 ")
            client.close()
        await eventually(lambda: in_use(gateway) == 0)
        assert 'gateway_admission_refused_total{backend="app",code="tenant_queue_full"} 1' in (
            gateway.metrics.render()
        )
        assert len(backend.heard) == 3, "what was refused never reached the backend"


async def test_a_wait_in_vain_is_503_and_the_backends_own_timeout_counts(tmp_path: Path) -> None:
    gate = Gate()
    async with through(tmp_path, gate, queue={"timeout": "100ms"}) as (gateway, _):
        first = await ask(gateway)
        await eventually(lambda: in_use(gateway) == 1)
        began = time.monotonic()
        status, code, _ = await refusal(await ask(gateway, tenant="globex"))
        assert (status, code) == (503, "backend_saturated")
        assert 0.1 <= time.monotonic() - began < AT_ONCE
        gate.open.set()
        first.close()


async def test_the_wait_in_line_counts_against_the_calls_total_time(tmp_path: Path) -> None:
    gate = Gate()
    async with through(tmp_path, gate) as (gateway, _):
        first = await ask(gateway)
        await eventually(lambda: in_use(gateway) == 1)
        began = time.monotonic()
        second = await ask(gateway, tenant="globex", more="X-Request-Timeout: 0.2\r\n")
        assert (await refusal(second))[:2] == (503, "backend_saturated")
        assert time.monotonic() - began < AT_ONCE
        gate.open.set()
        first.close()


async def test_who_cannot_make_it_is_refused_before_its_body_is_read(tmp_path: Path) -> None:
    gate = Gate()
    async with through(tmp_path, gate, queue={"length": 1}) as (gateway, _):
        clients = [await ask(gateway)]
        await eventually(lambda: in_use(gateway) == 1)
        clients.append(await ask(gateway))
        await eventually(lambda: waiting(gateway) == 1)
        client = await ask(
            gateway, method="POST", more="Content-Length: 100000\r\n"
        )  # of which nothing comes
        assert (await refusal(client))[:2] == (429, "tenant_queue_full")
        gate.open.set()
        for client in clients:
            client.close()


async def test_a_client_that_leaves_frees_its_place(tmp_path: Path) -> None:
    gate = Gate()
    async with through(tmp_path, gate, queue={"length": 1}) as (gateway, backend):
        first = await ask(gateway)
        await eventually(lambda: in_use(gateway) == 1)
        second = await ask(gateway, "/svc/gone")
        await eventually(lambda: waiting(gateway) == 1)
        second.close()
        await eventually(lambda: waiting(gateway) == 0)
        third = await ask(gateway, "/svc/third")
        await eventually(lambda: waiting(gateway) == 1)
        gate.open.set()
        for client in (first, third):
            assert (await client.head()).startswith("HTTP/1.1 200 ")
            client.close()
        assert [heard.line.split()[1] for heard in backend.heard] == ["/", "/third"]


async def test_a_tenants_calls_under_way_are_limited_in_all(tmp_path: Path) -> None:
    gate = Gate()
    async with through(tmp_path, gate, acme={"concurrency": 2}) as (gateway, _):
        clients = [await ask(gateway)]
        await eventually(lambda: in_use(gateway) == 1)
        clients.append(await ask(gateway))
        await eventually(lambda: waiting(gateway) == 1)
        assert (await refusal(await ask(gateway)))[:2] == (429, "tenant_limit")
        clients.append(await ask(gateway, tenant="globex"))
        gate.open.set()
        for client in clients:
            assert (await client.head()).startswith("HTTP/1.1 200 ")
            client.close()
        await eventually(lambda: in_use(gateway) == 0)
        for _ in range(5):
            client = await ask(gateway)
            assert (await client.head()).startswith("HTTP/1.1 200 "), "what is over does not count"
            client.close()


async def test_only_requests_say_how_long_requests_take(tmp_path: Path) -> None:
    """Without a warm connection a seat is taken in vain first, on the way that waits for nothing."""

    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await takes(0.05)
        writer.write(answer(headers="Connection: close\r\n"))
        writer.close()

    async with through(tmp_path, script) as (gateway, backend):
        for _ in range(5):
            client = await ask(gateway)
            assert (await client.head()).startswith("HTTP/1.1 200 ")
            client.close()
            await eventually(lambda: in_use(gateway) == 0)
        assert backend.connections == 5
        assert gateway.admission.state()["app"]["service_time"] >= 0.05


# --- streams ---------------------------------------------------------------------------------------


async def test_event_streams_never_take_all_threads_of_a_backend(tmp_path: Path) -> None:
    gate = Gate()
    async with through(tmp_path, gate, threads=2, streams=1) as (gateway, _):
        stream = await ask(gateway, "/svc/stream")
        assert "text/event-stream" in await stream.head()
        assert gateway.admission.state()["app"]["streams"] == {"seats": 1, "in_use": 1}
        assert (await refusal(await ask(gateway, "/svc/stream", "globex")))[:2] == (503, "backend_saturated")
        for _ in range(3):
            client = await ask(gateway, "/svc/quick", "globex")
            assert (await client.head()).startswith("HTTP/1.1 200 ")
            client.close()
        gate.open.set()
        await eventually(lambda: in_use(gateway) == 0)
        stream.close()


async def test_a_stream_of_an_asynchronous_backend_leaves_its_seat_to_others(tmp_path: Path) -> None:
    gate = Gate()
    async with through(tmp_path, gate, kind="http", concurrency=1) as (gateway, _):
        streams = [await ask(gateway, "/svc/stream") for _ in range(3)]
        for stream in streams:
            assert "text/event-stream" in await stream.head()
        client = await ask(gateway, "/svc/quick")
        assert (await client.head()).startswith("HTTP/1.1 200 ")
        client.close()
        for stream in streams:
            stream.close()
        await eventually(lambda: in_use(gateway) == 0)


async def test_websockets_take_seats_for_streams_from_the_start(tmp_path: Path) -> None:
    settings = {"kind": "http", "concurrency": 1, "streams": 1}
    async with through(tmp_path, websocket(echo), **settings) as (gateway, _):
        bearer = harness.bearer(gateway)
        peer = await connect(harness.address(gateway), "/ws/chat", bearer)
        state = gateway.admission.state()["app"]
        assert (state["in_use"], state["streams"]["in_use"]) == (0, 1)
        client = await RawClient.connect(harness.address(gateway))
        authorization = f"Authorization: {bearer['Authorization']}"
        client.send(request("/ws/chat", "gateway.example", authorization))
        assert (await refusal(client))[:2] == (503, "backend_saturated")
        peer.cut()
        await eventually(lambda: in_use(gateway) == 0)


# --- what the backend is told ----------------------------------------------------------------------


def told(heard: Heard, name: str) -> float:
    value = heard.one(name)
    assert value is not None
    assert value.startswith("t=")
    assert len(value.partition(".")[2]) == 3, "seconds since the epoch, with milliseconds"
    return float(value.removeprefix("t="))


@pytest.mark.parametrize("kind", ["http", "gunicorn"])
@pytest.mark.parametrize("warm", [False, True])
async def test_the_backend_hears_when_the_call_began_and_when_it_must_end(
    tmp_path: Path, kind: str, warm: bool
) -> None:
    """On the way that waits for nothing (warm: its connection is there already) as on the other."""
    async with through(tmp_path, always(answer()), {"timeouts": {"total": "30s"}}, kind=kind) as (
        gateway,
        backend,
    ):
        for _ in range(2 if warm else 1):
            client = await ask(gateway, more="X-Request-Deadline: t=1\r\nX-Request-Start: t=1\r\n")
            await client.head()
            client.close()
        heard = backend.heard[-1]
        assert backend.connections == 1
        assert abs(told(heard, "X-Request-Start") - time.time()) < 5
        assert told(heard, "X-Request-Deadline") - told(heard, "X-Request-Start") == pytest.approx(
            30, abs=0.01
        )


async def test_a_client_that_has_less_time_shortens_the_deadline(tmp_path: Path) -> None:
    async with through(tmp_path, always(answer())) as (gateway, backend):
        client = await ask(gateway, more="X-Request-Timeout: 2\r\n")
        await client.head()
        client.close()
        heard = backend.heard[0]
        assert told(heard, "X-Request-Deadline") - told(heard, "X-Request-Start") == pytest.approx(
            2, abs=0.01
        )


async def test_a_call_without_a_deadline_tells_none(tmp_path: Path) -> None:
    async with through(tmp_path, always(answer()), {"timeouts": {"total": 0}}) as (gateway, backend):
        client = await ask(gateway, more="X-Request-Deadline: t=1\r\n")
        await client.head()
        client.close()
        assert backend.heard[0].one("X-Request-Deadline") is None


class Clock:
    """A clock that the test moves, in seconds. It starts anywhere, as the monotonic one does."""

    at = 1000.0

    def __call__(self) -> float:
        return self.at


@pytest.mark.parametrize(("idle", "count"), [(180.0, 30), (900.0, 6), (54_000.0, 300)])
async def test_a_burst_after_a_pause_is_served(tmp_path: Path, idle: float, count: int) -> None:
    """Four threads whose requests take 5 ms, by a clock that only they move: how busy this machine is does
    not count. When the last request ended says nothing of how long they take."""
    clock = Clock()

    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        clock.at += 0.005 / 4  # the four of them work at once
        writer.write(answer())

    # The one time that is real: no load makes a test wait so long, and each pause would add up to more.
    patient = {"timeouts": {"queue": "300s", "total": "600s", "first_byte": "300s"}}
    async with through(tmp_path, script, patient, threads=4) as (gateway, _):
        gateway.admission._queues["app"]._now = clock
        for _ in range(5):
            client = await ask(gateway)
            assert (await client.head()).startswith("HTTP/1.1 200 ")
            client.close()
        await eventually(lambda: in_use(gateway) == 0)
        clock.at += idle
        gateway.admission.tick()
        clients = await asyncio.gather(*(ask(gateway) for _ in range(count)))
        heads = await asyncio.gather(*(client.head() for client in clients))
        assert {head.split("\r\n")[0] for head in heads} == {"HTTP/1.1 200 OK"}
        for client in clients:
            client.close()
