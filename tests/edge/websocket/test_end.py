"""How a WebSocket ends: who is told what."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
import yaml

from gateway.core.websocket.frames import close_payload
from gateway.edge.websocket.tunnel import CLOSE_TIME
from tests.edge.websocket.tunnels import config, cut_at_the_end, nobody_inside, opened, through
from tests.eventually import AT_ONCE, head_start
from tests.support.sockets import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    TEXT,
    Peer,
    echo,
    raw_frame,
    websocket,
)

__all__ = ["cut_at_the_end"]  # a fixture of every test here
pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize("code", [1000, 1001, 1011, 3000, 4000, 4999])
async def test_a_close_of_the_client_reaches_the_backend_and_its_answer_the_client(
    tmp_path: Path, code: int
) -> None:
    async with through(tmp_path, websocket(echo)) as (gateway, _):
        peer = await opened(gateway)
        peer.close(code, "good bye")
        assert await peer.closed() == (code, "good bye")
        assert await peer.ended()
        await nobody_inside(gateway)


@pytest.mark.parametrize("code", [1000, 1012, 3000, 4999])
async def test_a_close_of_the_backend_reaches_the_client_and_its_answer_the_backend(
    tmp_path: Path, code: int
) -> None:
    answered: list[tuple[int, str]] = []

    async def play(backend: Peer) -> None:
        backend.send(TEXT, b"last")
        backend.close(code, "enough")
        answered.append(await backend.closed())

    async with through(tmp_path, websocket(play)) as (gateway, _):
        peer = await opened(gateway)
        assert await peer.message() == b"last"
        assert await peer.closed() == (code, "enough")
        peer.close(code, "agreed")
        assert await peer.ended()
        await nobody_inside(gateway)
    assert answered == [(code, "agreed")]


async def test_a_close_without_a_code_passes_as_one(tmp_path: Path) -> None:
    async with through(tmp_path, websocket(echo)) as (gateway, _):
        peer = await opened(gateway)
        peer.send(CLOSE)
        assert await peer.frame() == (CLOSE, True, b"")
        assert await peer.ended()


async def test_when_the_backend_dies_the_client_is_closed_with_1014(tmp_path: Path) -> None:
    async def play(backend: Peer) -> None:
        backend.send(TEXT, b"still here")
        await backend.frame()
        backend.cut()

    async with through(tmp_path, websocket(play)) as (gateway, _):
        peer = await opened(gateway)
        assert await peer.message() == b"still here"
        peer.send(TEXT, b"die")
        assert await peer.closed() == (1014, "The backend is gone.")
        peer.close(1000)
        assert await peer.ended()
        await nobody_inside(gateway)


async def test_when_the_backend_dies_in_a_frame_the_client_is_cut_off(tmp_path: Path) -> None:
    """A close frame in the middle of another frame would be read as its payload."""

    async def play(backend: Peer) -> None:
        backend.writer.write(raw_frame(BINARY, bytes(1000), masked=False)[:500])
        await backend.writer.drain()
        await backend.frame()
        backend.cut()

    async with through(tmp_path, websocket(play)) as (gateway, _):
        peer = await opened(gateway)
        peer.send(TEXT, b"die")
        received = b""
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            async with asyncio.timeout(30):
                received = await peer.reader.readexactly(501)
        assert received == b""
        await nobody_inside(gateway)


async def test_when_the_client_vanishes_the_backend_is_closed_with_1001_within_a_second(
    tmp_path: Path,
) -> None:
    seen: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()

    async def play(backend: Peer) -> None:
        backend.send(TEXT, b"hello")
        seen.set_result(await backend.closed())
        backend.close(1001)

    async with through(tmp_path, websocket(play)) as (gateway, _):
        peer = await opened(gateway)
        await peer.message()
        peer.cut()
        assert await asyncio.wait_for(seen, AT_ONCE) == (1001, "The client is gone.")
        await nobody_inside(gateway)


@pytest.mark.parametrize("fragmented", [False, True])
async def test_a_message_above_the_limit_closes_the_client_with_1009(
    tmp_path: Path, fragmented: bool
) -> None:
    seen: list[tuple[int, bytes]] = []

    async def play(backend: Peer) -> None:
        opcode = TEXT
        while opcode != CLOSE:
            opcode, _, payload = await backend.frame()
            seen.append((opcode, payload[:2] if opcode == CLOSE else payload))
        backend.close(1001)

    async with through(tmp_path, websocket(play), max_message=1000) as (gateway, _):
        peer = await opened(gateway)
        peer.send(BINARY, bytes(1000))
        if fragmented:
            peer.send(BINARY, bytes(600), final=False)
            peer.send(CONTINUATION, bytes(401))
        else:
            peer.send(BINARY, bytes(1001))
        code, reason = await peer.closed()
        assert code == 1009 and "1000 bytes" in reason
        peer.cut()
        await nobody_inside(gateway)
    assert seen[0] == (BINARY, bytes(1000))
    assert seen[1:] == [(BINARY, bytes(600))] * fragmented + [(CLOSE, (1001).to_bytes(2, "big"))]


async def test_a_message_of_the_backend_above_the_limit_closes_it_with_1009_and_the_client_with_1014(
    tmp_path: Path,
) -> None:
    seen: list[int] = []

    async def play(backend: Peer) -> None:
        backend.send(BINARY, bytes(1001))
        seen.append((await backend.closed())[0])

    async with through(tmp_path, websocket(play), max_message=1000) as (gateway, _):
        peer = await opened(gateway)
        assert (await peer.closed())[0] == 1014
        peer.close(1014)
        assert await peer.ended()
        await nobody_inside(gateway)
    assert seen == [1009]


BROKEN = {
    "a frame that is not masked": raw_frame(TEXT, b"x", masked=False),
    "a reserved bit": raw_frame(TEXT, b"x", masked=True, bits=0x40),
    "an unknown opcode": raw_frame(0x3, b"x", masked=True),
    "a fragment of nothing": raw_frame(CONTINUATION, b"x", masked=True),
    "a message within a message": raw_frame(TEXT, b"x", masked=True, final=False) * 2,
    "a fragmented ping": raw_frame(PING, b"x", masked=True, final=False),
    "a long ping": raw_frame(PING, bytes(126), masked=True),
    "a length that is not the shortest": b"\x82\xfe\x00\x05" + bytes(9),
    "close code 1005": raw_frame(CLOSE, (1005).to_bytes(2, "big"), masked=True),
    "close code 1006": raw_frame(CLOSE, (1006).to_bytes(2, "big"), masked=True),
    "close code 999": raw_frame(CLOSE, (999).to_bytes(2, "big"), masked=True),
    "close code 5000": raw_frame(CLOSE, (5000).to_bytes(2, "big"), masked=True),
    "half a close code": raw_frame(CLOSE, b"\x03", masked=True),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_breach_of_the_protocol_closes_the_client_with_1002_and_never_passes(
    tmp_path: Path, name: str
) -> None:
    seen: list[tuple[int, bytes]] = []

    async def play(backend: Peer) -> None:
        while not seen or seen[-1][0] != CLOSE:
            opcode, _, payload = await backend.frame()
            seen.append((opcode, payload))
        backend.close(1001)

    async with through(tmp_path, websocket(play)) as (gateway, _):
        peer = await opened(gateway)
        peer.writer.write(BROKEN[name])
        assert (await peer.closed())[0] == 1002
        peer.cut()
        await nobody_inside(gateway)
    passed = [(TEXT, b"x")] if name == "a message within a message" else []
    assert seen[:-1] == passed
    assert seen[-1][1][:2] == (1001).to_bytes(2, "big")


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("name", [*BROKEN, "a message that is too large"])
async def test_the_connection_ends_at_once_when_who_broke_the_protocol_has_answered(
    tmp_path: Path, name: str, late: bool
) -> None:
    """And its seat is free: not after the seconds that an answer may take. late: in two parts."""

    async def play(backend: Peer) -> None:
        await backend.closed()
        backend.close(1001)

    async with through(tmp_path, websocket(play), max_message="1KiB") as (gateway, _):
        peer = await opened(gateway)
        large = raw_frame(BINARY, bytes(70_000), masked=True)
        peer.writer.write(BROKEN.get(name, large))
        assert (await peer.closed())[0] in (1002, 1009)
        raw = raw_frame(CLOSE, close_payload(1002, "sorry"), masked=True)
        if "close code" not in name:  # who has sent a close frame sends no other
            peer.writer.write(raw[:5] if late else raw)
            if late:
                await head_start(0.02)
                peer.writer.write(raw[5:])
        began = time.monotonic()
        assert await peer.ended()
        await nobody_inside(gateway)
        assert time.monotonic() - began < AT_ONCE < CLOSE_TIME
        peer.cut()


async def test_a_reason_that_is_not_utf8_closes_with_1007(tmp_path: Path) -> None:
    async with through(tmp_path, websocket(echo)) as (gateway, _):
        peer = await opened(gateway)
        peer.send(CLOSE, (1000).to_bytes(2, "big") + b"\xff")
        assert (await peer.closed())[0] == 1007
        peer.cut()


async def test_a_masked_frame_of_the_backend_closes_it_with_1002_and_the_client_with_1014(
    tmp_path: Path,
) -> None:
    seen: list[int] = []

    async def play(backend: Peer) -> None:
        backend.writer.write(raw_frame(TEXT, b"x", masked=True))
        seen.append((await backend.closed())[0])

    async with through(tmp_path, websocket(play)) as (gateway, _):
        peer = await opened(gateway)
        assert (await peer.closed())[0] == 1014
        peer.cut()
        await nobody_inside(gateway)
    assert seen == [1002]


async def test_it_is_closed_with_1008_when_the_token_expires(tmp_path: Path) -> None:
    seen: list[tuple[int, str]] = []

    async def play(backend: Peer) -> None:
        seen.append(await backend.closed())
        backend.close(1008)

    async with through(tmp_path, websocket(play)) as (gateway, _):
        begun = time.time()
        peer = await opened(gateway, exp=begun + 0.5)
        assert await peer.closed() == (1008, "The token has expired.")
        assert 0.4 < time.time() - begun < AT_ONCE
        peer.close(1008)
        assert await peer.ended()
        await nobody_inside(gateway)
    assert seen == [(1008, "The token has expired.")]


async def test_a_frame_that_is_on_its_way_is_completed_before_a_close_of_ours(tmp_path: Path) -> None:
    raw = raw_frame(BINARY, bytes(range(200)), masked=False)

    async def play(backend: Peer) -> None:
        backend.writer.write(raw[:100])
        assert await backend.closed() == (1008, "The token has expired.")
        backend.writer.write(raw[100:] + raw_frame(TEXT, b"too late", masked=False))
        backend.close(1008)

    async with through(tmp_path, websocket(play)) as (gateway, _):
        peer = await opened(gateway, exp=time.time() + 0.3)
        assert await peer.message() == bytes(range(200))
        assert await peer.frame() == (CLOSE, True, close_payload(1008, "The token has expired."))
        peer.close(1008)
        assert await peer.ended(AT_ONCE)
        await nobody_inside(gateway)


async def test_it_is_closed_with_1008_within_a_second_of_its_tenant_being_disabled(tmp_path: Path) -> None:
    async with through(tmp_path, websocket(echo)) as (gateway, backend):
        acme, globex = await opened(gateway), await opened(gateway, tenant="globex")
        changed = {**config(backend.address), "tenants": {"acme": {"disabled": True}, "globex": {}}}
        (tmp_path / "routing.yaml").write_text(yaml.safe_dump(changed))
        await gateway.reload()
        assert await acme.closed(AT_ONCE) == (1008, "The tenant is disabled.")
        globex.send(TEXT, b"still served")
        assert await globex.message() == b"still served"
        acme.cut()
        globex.cut()


async def test_it_is_closed_with_1001_when_the_gateway_drains(tmp_path: Path) -> None:
    async with through(tmp_path, websocket(echo)) as (gateway, _):
        peer = await opened(gateway)
        begun = time.monotonic()
        drained = asyncio.create_task(gateway.drain())
        assert await peer.closed() == (1001, "The gateway is shutting down.")
        peer.close(1001)
        await drained
        assert time.monotonic() - begun < AT_ONCE
        assert await peer.ended()


async def test_who_does_not_answer_a_close_of_ours_is_cut_off_and_nothing_follows_the_close(
    tmp_path: Path,
) -> None:
    seen: list[int] = []

    async def play(backend: Peer) -> None:
        try:
            while True:
                seen.append((await backend.frame())[0])
        except (asyncio.IncompleteReadError, ConnectionError):
            seen.append(-1)

    async with through(tmp_path, websocket(play)) as (gateway, _):
        peer = await opened(gateway, exp=time.time() + 0.3)
        peer.send(TEXT, b"before")
        assert await peer.closed() == (1008, "The token has expired.")
        begun = time.monotonic()
        peer.send(TEXT, b"after")
        assert await peer.ended()
        assert time.monotonic() - begun > CLOSE_TIME - 1
        await nobody_inside(gateway)
    assert seen == [TEXT, CLOSE, -1]


async def test_a_backend_that_hangs_up_on_a_close_leaves_the_client_with_1000(tmp_path: Path) -> None:
    async def play(backend: Peer) -> None:
        assert (await backend.frame())[0] == CLOSE

    async with through(tmp_path, websocket(play)) as (gateway, _):
        peer = await opened(gateway)
        peer.close(4321, "going")
        assert await peer.closed() == (1000, "")
        assert await peer.ended(AT_ONCE)
        await nobody_inside(gateway)
