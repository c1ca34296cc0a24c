"""A WebSocket that is flooded: what it may take of the loop, and of the other side's time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.edge.websocket import stream_turns
from gateway.edge.websocket.tunnel import Side
from tests.edge.websocket.tunnels import cut_at_the_end, nobody_inside, opened, through
from tests.eventually import eventually
from tests.support.sockets import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Peer,
    echo,
    raw_frame,
    websocket,
)

__all__ = ["cut_at_the_end"]  # a fixture of every test here
pytestmark = pytest.mark.asyncio
MANY = {"rate": "1000000/s", "burst": 1_000_000}


async def count(peer: Peer) -> int:
    """Frames until the close frame."""
    found = 0
    while (await peer.frame(60))[0] != CLOSE:
        found += 1
    return found


async def test_many_frames_of_one_read_are_passed_on_in_many_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And arrive whole and in order, though the client is gone by then."""
    seen: list[bytes] = []
    flushed: list[int] = []
    flush = Side.flush

    def noting(side: Side) -> None:
        flushed.append(sum(map(len, side._ready)))
        flush(side)

    monkeypatch.setattr(Side, "flush", noting)

    async def play(backend: Peer) -> None:
        while (found := await backend.frame(60))[0] != CLOSE:
            seen.append(found[2])

    sent = [b"%d" % number for number in range(5000)]
    async with through(tmp_path, websocket(play), frames=MANY) as (gateway, _):
        peer = await opened(gateway)
        peer.writer.write(b"".join(raw_frame(TEXT, data, masked=True) for data in sent))
        peer.close(1000)
        await peer.writer.drain()
        peer.writer.close()
        await eventually(lambda: len(seen) == len(sent))
        await nobody_inside(gateway)
        assert gateway.tunnels.turns.turns >= len(sent) // stream_turns.TURN
    assert seen == sent
    assert max(flushed) <= stream_turns.SLICE * (6 + 4)


FLOODS = {
    "pings": raw_frame(PING, b"", masked=True),
    "pongs": raw_frame(PONG, b"x", masked=True),
    "texts of a byte": raw_frame(TEXT, b"x", masked=True),
    "texts below 1 KiB": raw_frame(TEXT, bytes(1000), masked=True),
    "empty fragments": raw_frame(CONTINUATION, b"", masked=True, final=False),
}


@pytest.mark.parametrize("kind", FLOODS)
async def test_a_client_that_sends_small_frames_too_fast_is_closed_with_1008(
    tmp_path: Path, kind: str
) -> None:
    told: list[tuple[int, str]] = []
    passed: list[int] = []

    async def play(backend: Peer) -> None:
        found = 0
        while (one := await backend.frame(60))[0] != CLOSE:
            found += 1
        passed.append(found)
        told.append((int.from_bytes(one[2][:2]), one[2][2:].decode()))

    rule = {"frames": {"rate": "1/s", "burst": 300}}
    async with through(tmp_path, websocket(play), **rule) as (gateway, _):
        peer = await opened(gateway)
        start = raw_frame(TEXT, b"", masked=True, final=False) if kind == "empty fragments" else b""
        peer.writer.write(start + FLOODS[kind] * 2000)
        assert await peer.closed() == (1008, "More than 1 small frames a second.")
        peer.close(1008)
        await nobody_inside(gateway)
        await eventually(lambda: told)
    assert told == [(1001, "The client is gone.")]
    assert 200 <= passed[0] <= 300 + 2 * stream_turns.SLICE


async def test_large_frames_are_no_flood_however_many(tmp_path: Path) -> None:
    size, number = 2048, 3000

    async def play(backend: Peer) -> None:
        assert await count(backend) == number
        backend.close(1000)

    async with through(tmp_path, websocket(play), frames={"rate": "1/s", "burst": 1}) as (gateway, _):
        peer = await opened(gateway)
        for _ in range(number):
            peer.send(BINARY, bytes(size))
        peer.close(1000)
        assert (await peer.closed(60))[0] == 1000
        await nobody_inside(gateway)


async def test_a_backend_that_sends_small_frames_too_fast_is_held_back_and_loses_nothing(
    tmp_path: Path,
) -> None:
    number = 700

    async def play(backend: Peer) -> None:
        backend.writer.write(raw_frame(TEXT, b"x", masked=False) * number)
        backend.close(1000)
        await backend.closed(60)

    async with through(tmp_path, websocket(play), frames={"rate": "1000/s", "burst": 100}) as (gateway, _):
        peer = await opened(gateway)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        assert await count(peer) == number
        assert loop.time() - begun > 0.4  # 600 beyond the burst, at 1000 a second
        peer.close(1000)
        await nobody_inside(gateway)


async def test_who_broke_the_protocol_is_not_read_for_ever(tmp_path: Path) -> None:
    async with through(tmp_path, websocket(echo), frames={"rate": "1/s", "burst": 1}) as (gateway, _):
        peer = await opened(gateway)

        async def flood() -> None:
            while not peer.writer.transport.is_closing():
                peer.writer.write(raw_frame(TEXT, b"x", masked=True) * 10_000)
                await peer.writer.drain()

        flooding = asyncio.create_task(flood())
        await nobody_inside(gateway)
        await asyncio.gather(flooding, return_exceptions=True)
