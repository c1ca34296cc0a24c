"""A drain ends what is idle at once, and everything else with its last byte."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from gateway.app import Gateway
from tests import harness
from tests.edge.client.test_order import config, connection_of, echo, get, warm
from tests.eventually import AT_ONCE, head_start
from tests.fakes import Backend, Heard, RawClient, answer


async def draining(gateway: Gateway) -> asyncio.Task[None]:
    task = asyncio.create_task(gateway.drain())
    await head_start(0.1)
    return task


async def test_an_idle_connection_ends_while_another_one_is_still_served(tmp_path: Path) -> None:
    """Were it open but deaf, its client's next request would wait for nothing."""
    async with Backend(echo) as backend, harness.running(tmp_path, config(backend)) as gateway:
        idle, busy = await warm(gateway), await warm(gateway)
        fresh = await RawClient.connect(harness.address(gateway))
        busy.send(get("/slow"))
        await head_start(0.02)
        task = await draining(gateway)
        assert await idle.rest(AT_ONCE) == await fresh.rest(AT_ONCE) == b""
        assert not task.done()
        head, body = await busy.answer()
        assert body == b"/slow"
        assert "connection: close" in head.lower()
        await task
        for client in (idle, fresh, busy):
            client.close()


@pytest.mark.parametrize("pause", [0.0, 0.1])
@pytest.mark.parametrize("cut", [1, 30])
async def test_half_a_head_that_came_before_it_is_served(tmp_path: Path, cut: int, pause: float) -> None:
    async with Backend(echo) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await warm(gateway)
        whole = get("/a", "X-A: 1\r\n")
        client.send(whole[:cut])
        await head_start(pause)
        task = await draining(gateway)
        client.send(whole[cut:])
        head, body = await client.answer()
        assert body == b"/a"
        assert "connection: close" in head.lower()
        await task
        client.close()


async def test_half_a_head_that_never_ends_is_refused_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.edge.client.connection.HEAD_TIME", 0.1)
    async with Backend(echo) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await warm(gateway)
        client.send(b"GET /svc/")
        task = await draining(gateway)
        assert (await client.rest()).startswith(b"HTTP/1.1 408 ")
        await task
        client.close()


async def test_it_ends_when_the_last_byte_has_left(tmp_path: Path) -> None:
    """The process ends after it, and what would still be in its memory then would be lost."""
    big = bytes(40_000_000)

    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(big if "big" in heard.line else b""))

    async with Backend(script) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await warm(gateway)
        transport = connection_of(gateway).transport
        assert transport is not None
        client.send(get("/big"))
        await client.head()
        task = await draining(gateway)
        while not task.done():
            await client.reader.read(256 * 1024)
            await asyncio.sleep(0)
            unsent = 0 if transport.is_closing() else transport.get_write_buffer_size()
            assert not (task.done() and unsent)
        assert transport.get_write_buffer_size() == 0
        client.close()


async def test_a_request_that_the_kernel_holds_keeps_its_connection_from_being_closed_as_idle(
    tmp_path: Path,
) -> None:
    """It would be lost, and its client could not tell whether it was done."""
    async with Backend(echo) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await warm(gateway)
        connection = connection_of(gateway)
        sock = client.writer.get_extra_info("socket")
        os.write(sock.fileno(), get("/late"))  # at once, and the loop does not turn
        connection.drain()
        _, body = await client.answer()
        assert body == b"/late"
        connection.drain()
        assert await client.rest(AT_ONCE) == b""
        client.close()


async def test_an_idle_connection_is_kept_for_a_moment_and_told_with_its_next_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.edge.client.listener.IDLE_GRACE", 4.0)
    async with Backend(echo) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await warm(gateway)
        task = await draining(gateway)
        assert not task.done()
        client.send(get("/next"))
        head, body = await client.answer()
        assert body == b"/next"
        assert "connection: close" in head.lower()
        await task
        client.close()
