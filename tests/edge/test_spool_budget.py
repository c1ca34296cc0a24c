"""Bodies and answers of many slow clients: together they take no more of the disk than they may."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest

from gateway.app import Gateway
from tests import harness
from tests.eventually import at_rest, eventually
from tests.fakes import Backend, Heard, RawClient

pytestmark = pytest.mark.asyncio
MIB = 1024 * 1024
SPOOL = 8 * MIB
ANSWER = random.Random(20).randbytes(20 * MIB)


def config(backend: Backend, threads: int = 12) -> dict[str, Any]:
    backends = {"app": {"kind": "gunicorn", "threads": threads, "addresses": [backend.address]}}
    routes = [harness.route("svc", "app"), harness.route("open", "app", public=True)]
    return harness.routing(routes, backends=backends)


async def give(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A large answer to a GET; of a POST how many bytes came."""
    body = ANSWER if heard.line.startswith("GET") else b"%d" % len(heard.body)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    await writer.drain()


async def asked(gateway: Gateway, tenant: str = "acme") -> RawClient:
    """A client that does not read the answer."""
    client = await RawClient.connect(harness.address(gateway))
    head = harness.bearer(gateway, tenant)["Authorization"]
    client.send(f"GET /svc/ HTTP/1.1\r\nHost: a\r\nAuthorization: {head}\r\n\r\n".encode())
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    return client


async def post(gateway: Gateway, size: int, tenant: str = "acme", path: str = "/svc/") -> tuple[int, str]:
    """The status, and the code of a problem; the body comes in two pieces, so that it is spooled."""
    client = await RawClient.connect(harness.address(gateway))
    lines = f"Content-Length: {size}\r\n"
    if path == "/svc/":
        lines += f"Authorization: {harness.bearer(gateway, tenant)['Authorization']}\r\n"
    client.send(f"POST {path} HTTP/1.1\r\nHost: a\r\n{lines}\r\n".encode())
    client.send(b"x" * size)
    head, body = await client.answer()
    client.close()
    assert (" 503 " in head) <= ("Retry-After" in head)
    return int(head.split()[1]), json.loads(body)["code"] if " 200 " not in head else ""


async def test_slow_readers_of_large_answers_take_half_of_the_disks_budget_and_then_hold_their_seats(
    tmp_path: Path,
) -> None:
    async with Backend(give) as backend:
        async with harness.running(tmp_path, config(backend), spool=SPOOL) as gateway:
            budget = gateway.spools.budget
            clients = [await asked(gateway) for _ in range(6)]
            await eventually(lambda: "total 0" not in "".join(gateway.spools.refused.lines()))
            used = await at_rest(lambda: budget.used)
            assert SPOOL // 4 < used <= SPOOL // 2, "as much as is free"
            assert gateway.admission.in_use() == {"app": 6}, "the backend waits with the rest"
            assert await post(gateway, MIB, "globex") == (200, "")
            other = await asked(gateway, "globex")
            await eventually(lambda: budget.held("globex"))
            assert await post(gateway, 3 * MIB) == (429, "tenant_limit")
            for client in (*clients, other):
                client.writer.transport.resume_reading()  # type: ignore[attr-defined]
            for client in (*clients, other):
                await client.head()
                assert await client.reader.readexactly(len(ANSWER)) == ANSWER
                client.close()
            await eventually(lambda: not budget.used)


async def test_what_a_client_that_left_had_on_disk_is_given_back(tmp_path: Path) -> None:
    async with Backend(give) as backend:
        async with harness.running(tmp_path, config(backend), spool=SPOOL) as gateway:
            clients = [await asked(gateway) for _ in range(2)]
            await eventually(lambda: gateway.spools.budget.used)
            for client in clients:
                client.close()
            await eventually(lambda: not gateway.spools.budget.used)


async def test_a_body_is_503_where_others_have_taken_the_room(tmp_path: Path) -> None:
    async with Backend(give) as backend:
        async with harness.running(tmp_path, config(backend), spool=SPOOL) as gateway:
            client = await asked(gateway)
            await eventually(lambda: gateway.spools.budget.used >= SPOOL // 4)
            await at_rest(lambda: gateway.spools.budget.used)
            assert await post(gateway, 5 * MIB, "globex") == (503, "spool_saturated")
            assert await post(gateway, 5 * MIB, path="/open/") == (503, "spool_saturated")
            assert gateway.spools.budget.held("globex") == 0
            client.close()
            await eventually(lambda: not gateway.spools.budget.used)
            assert await post(gateway, 3 * MIB, "globex") == (200, "")


async def test_who_reads_nothing_gives_the_thread_up_to_another_tenant_and_who_reads_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.proxy.proxied_call._CHECK", 0.3)
    async with Backend(give) as backend:
        async with harness.running(tmp_path, config(backend, threads=2), spool=SPOOL) as gateway:
            still = await asked(gateway)
            reading = await asked(gateway)
            reading.writer.transport.resume_reading()  # type: ignore[attr-defined]
            await reading.head()
            await eventually(lambda: gateway.spools.budget.used)
            await at_rest(lambda: gateway.spools.budget.used)
            assert gateway.admission.in_use()["app"] >= 1

            async def read_on() -> bytes:
                got = b""
                while len(got) < len(ANSWER):
                    got += await reading.reader.read(MIB)
                return got

            task = asyncio.create_task(read_on())
            assert await post(gateway, 1000, "globex") == (200, "")
            assert await task == ANSWER
            third = await asked(gateway)
            assert await post(gateway, 1000, "globex") == (200, "")
            for client in (still, reading, third):
                client.close()


async def test_who_reads_nothing_may_hold_a_thread_that_nobody_else_wants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.proxy.proxied_call._CHECK", 0.05)
    async with Backend(give) as backend:
        async with harness.running(tmp_path, config(backend, threads=1), spool=SPOOL) as gateway:
            client = await asked(gateway)
            await eventually(lambda: gateway.spools.budget.used)
            await at_rest(lambda: gateway.spools.budget.used)
            assert gateway.admission.in_use() == {"app": 1}
            client.writer.transport.resume_reading()  # type: ignore[attr-defined]
            await client.head()
            assert await client.reader.readexactly(len(ANSWER)) == ANSWER
            client.close()


async def test_all_threads_held_by_who_reads_nothing_are_free_for_another_tenant_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.proxy.proxied_call._CHECK", 0.2)
    async with Backend(give) as backend:
        async with harness.running(tmp_path, config(backend, threads=2), spool=2 * MIB) as gateway:
            clients = [await asked(gateway) for _ in range(6)]
            await eventually(lambda: gateway.admission.waiting()["app"] == 4)
            assert await post(gateway, 1000, "globex") == (200, "")
            for client in clients:
                client.close()
    lines = [json.loads(line) for line in (tmp_path / "var" / "access.log").read_text().splitlines()]
    assert "request_timeout" in [line["code"] for line in lines]
