"""Who sends requests and does not read the answers waits; its answers do not pile up here."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from tests import harness
from tests.edge.client.test_order import config, connection_of, get, warm
from tests.eventually import END, eventually, head_start, nothing_for, takes
from tests.fakes import Backend, Heard, RawClient, answer

PIPELINED = {
    "direct": get("/a"),
    "task": get("/a", "X-Request-Timeout: 9\r\n"),
    "ours": get("/a").replace(b"/svc", b"/nowhere"),
    "ours, task": get("/a", "X-Request-Timeout: 9\r\n").replace(b"/svc", b"/nowhere"),
}


async def page(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(answer(b"x" * 60_000))


@pytest.mark.parametrize("name", PIPELINED)
@pytest.mark.parametrize("packets", ["all at once", "one by one"])
async def test_answers_that_nobody_reads_do_not_pile_up(tmp_path: Path, name: str, packets: str) -> None:
    async with Backend(page) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await warm(gateway)
        connection = connection_of(gateway)
        transport = connection.transport
        assert transport is not None
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        raw, number = PIPELINED[name], 5000 if "ours" in name else 50
        if packets == "all at once":
            client.send(raw * number)
        else:
            for _ in range(10):
                client.send(raw * (number // 10))
                await head_start(0.001)
        await eventually(lambda: connection.writing_paused)
        for _ in range(10):
            await nothing_for(0.01)
            assert transport.get_write_buffer_size() < 512 * 1024
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        for _ in range(number):
            head, _ = await client.answer()
            assert head.startswith("HTTP/1.1 404 " if "ours" in name else "HTTP/1.1 200 ")
        client.close()


@pytest.mark.parametrize("kind", ["http", "gunicorn"])
async def test_a_client_that_takes_nothing_for_too_long_is_cut_off_and_a_slow_one_is_not(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.edge.client.connection.READ_TIME", 0.5)

    async def large(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(b"x" * 20_000_000))

    async with Backend(large) as backend:
        routing = config(backend)
        if kind == "gunicorn":
            routing["backends"]["app"] |= {"kind": "gunicorn", "threads": 4}
        async with harness.running(tmp_path, routing) as gateway:
            stalled, slow = [await RawClient.connect(harness.address(gateway)) for _ in range(2)]
            for client in (stalled, slow):
                client.send(get("/a"))
            await slow.reader.readexactly(1000)
            stalled.writer.transport.pause_reading()  # type: ignore[attr-defined]
            connections = gateway.listener.connections
            taken = 0
            async with asyncio.timeout(END):
                while len(connections) > 1:
                    taken += len(await slow.reader.read(300_000))
                    await takes(0.1)
            assert taken < 20_000_000
            await slow.reader.readexactly(200_000)
            await eventually(lambda: sum(gateway.admission.in_use().values()) <= 1)
            for client in (stalled, slow):
                client.close()


ENDS = {
    "closed by the client's wish": get("/a", "Connection: close\r\n").replace(b"/svc", b"/nowhere"),
    "refused": b"nonsense\r\n\r\n",
    "idle": b"",
}


@pytest.mark.parametrize("name", ENDS)
async def test_few_bytes_that_nobody_takes_hold_no_connection_either(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So few that the connection would take more: what is over waits for them to leave, and not for ever."""
    monkeypatch.setattr("gateway.edge.client.connection.READ_TIME", 0.5)
    monkeypatch.setattr("gateway.edge.client.listener.KEEP_ALIVE", 1.0)
    monkeypatch.setattr("gateway.edge.client.linger.SILENCE", 1.0)
    async with Backend(page) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await warm(gateway)
        connection = connection_of(gateway)
        transport = connection.transport
        assert transport is not None
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]

        def some_wait() -> bool:
            waits = transport.get_write_buffer_size() > 0
            if not (waits or connection.busy):
                client.send(get("/a"))
            return waits and not connection.busy

        await eventually(some_wait)
        assert not connection.writing_paused
        if ENDS[name]:
            client.send(ENDS[name])
        await eventually(lambda: not gateway.listener.connections)
        client.close()
