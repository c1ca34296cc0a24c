"""A WebSocket whose ends are silent, or slow."""

from __future__ import annotations

import asyncio
import resource
import time
from pathlib import Path

import pytest

from tests.edge.websocket.tunnels import cut_at_the_end, nobody_inside, opened, through
from tests.eventually import AT_ONCE, at_rest, head_start, passes
from tests.support.sockets import BINARY, CLOSE, PING, PONG, TEXT, Peer, websocket

__all__ = ["cut_at_the_end"]  # a fixture of every test here
pytestmark = pytest.mark.asyncio


# --- idle ---


async def test_a_client_without_a_sign_of_life_is_pinged_and_then_closed(tmp_path: Path) -> None:
    seen: list[int] = []

    async def play(backend: Peer) -> None:
        while True:
            opcode, _, payload = await backend.frame()
            if opcode == PING:
                backend.send(PONG, payload)
            elif opcode == CLOSE:
                seen.append(int.from_bytes(payload[:2], "big"))
                return

    async with through(tmp_path, websocket(play), idle=0.4) as (gateway, _):
        peer = await opened(gateway)
        begun = time.monotonic()
        assert (await peer.frame())[0] == PING
        assert (await peer.closed())[0] == 1001
        assert time.monotonic() - begun > 0.3
        peer.cut()
        await nobody_inside(gateway)
    assert seen == [1001]


async def test_a_silent_websocket_whose_ends_answer_pings_lives_on(tmp_path: Path) -> None:
    """And the pongs to our pings go no further."""
    heard: list[int] = []

    async def answering(peer: Peer) -> bytes:
        while True:
            opcode, _, payload = await peer.frame()
            heard.append(opcode)
            if opcode == PING:
                peer.send(PONG, payload)
            if opcode == TEXT:
                return payload

    async def play(backend: Peer) -> None:
        backend.send(TEXT, await answering(backend))

    async with through(tmp_path, websocket(play), idle=0.4) as (gateway, _):
        peer = await opened(gateway)
        waiting = asyncio.create_task(answering(peer))
        await passes(1.2)
        peer.send(TEXT, b"alive")
        assert await waiting == b"alive"
        assert PING in heard and PONG not in heard
        peer.cut()


async def test_a_silent_backend_is_closed_and_the_client_with_1014(tmp_path: Path) -> None:
    async def play(backend: Peer) -> None:
        assert (await backend.frame())[0] == PING  # and no pong
        assert await backend.closed() == (1001, "No sign of life for 0.4 s.")

    async with through(tmp_path, websocket(play), idle=0.4) as (gateway, _):
        peer = await opened(gateway)
        end = time.monotonic() + 2
        while (found := await peer.frame())[0] != CLOSE:
            assert time.monotonic() < end
            peer.send(PONG, found[2])
        assert int.from_bytes(found[2][:2], "big") == 1014
        peer.cut()


# --- back-pressure ---


async def test_a_slow_reader_holds_the_backend_back_and_loses_nothing(tmp_path: Path) -> None:
    sent = 0
    piece, count = bytes(64 * 1024), 640  # 40 MiB in all

    async def play(backend: Peer) -> None:
        nonlocal sent
        for _ in range(count):
            backend.send(BINARY, piece)
            await backend.writer.drain()
            sent += len(piece)
        backend.close(1000)
        await backend.closed(60)

    async with through(tmp_path, websocket(play)) as (gateway, _):
        peer = await opened(gateway)
        before = await at_rest(lambda: sent)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert before < 20 * 1024 * 1024  # what the sockets of the system hold, and no more
        received = 0
        while received < count * len(piece):
            received += len(await peer.message())
        assert (await peer.closed())[0] == 1000
        peer.close(1000)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 10 * 1024  # KiB


async def test_who_reads_a_long_frame_slowly_is_not_taken_for_silent(tmp_path: Path) -> None:
    """It cannot answer a ping that stands behind the frame."""
    size = 40 * 1024 * 1024

    async def play(backend: Peer) -> None:
        backend.send(BINARY, bytes(size))
        await backend.closed(30)

    async with through(tmp_path, websocket(play), max_message=size, idle=2 * AT_ONCE) as (gateway, _):
        peer = await opened(gateway)
        await peer.reader.readexactly(10)
        for _ in range(20):
            await head_start(0.12)
            await peer.reader.readexactly(size // 20)
        peer.close(1000)
        await nobody_inside(gateway)


async def test_a_slow_backend_holds_the_client_back(tmp_path: Path) -> None:
    go = asyncio.Event()
    got = 0

    async def play(backend: Peer) -> None:
        nonlocal got
        await go.wait()
        while True:
            opcode, _, payload = await backend.frame()
            if opcode == CLOSE:
                backend.close(1000)
                return
            got += len(payload)

    async with through(tmp_path, websocket(play)) as (gateway, _):
        peer = await opened(gateway)
        piece, count = bytes(64 * 1024), 480  # 30 MiB
        pushed = 0

        async def push() -> None:
            nonlocal pushed
            for _ in range(count):
                peer.send(BINARY, piece)
                await peer.writer.drain()
                pushed += 1

        pushing = asyncio.create_task(push())
        assert await at_rest(lambda: pushed) < count
        go.set()
        await pushing
        peer.close(1000)
        assert (await peer.closed())[0] == 1000
    assert got == count * len(piece)
