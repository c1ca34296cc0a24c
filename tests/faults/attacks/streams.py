"""Floods of what stays open: WebSockets, event streams, change feeds, and answers that nobody reads."""

from __future__ import annotations

import asyncio
import json
import socket

from tests.faults.isolation import NOISY, Site, attack
from tests.support.sockets import BINARY, CONTINUATION, PING, PONG, TEXT, raw_frame, request

_PIECE = 256 * 1024  # bytes that are sent at once
_RECEIVE = 4096  # bytes in the kernel, of who does not read


async def _socket(
    site: Site, tenant: str, path: str = "/ws/echo"
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await site.connect()
    line = f"Authorization: Bearer {site.token(tenant)}"
    writer.write(request(path, "gateway.example", line))
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


async def _flood(site: Site, tenant: str, data: bytes, first: bytes = b"", pause: float = 0.0) -> None:
    """The same bytes again and again, on a new WebSocket when one is closed."""
    while True:
        try:
            reader, writer = await _socket(site, tenant)
            reading = asyncio.create_task(_read_all(reader))
            writer.write(first)
            while not reading.done():
                writer.write(data)
                await writer.drain()
                await asyncio.sleep(pause)
            writer.transport.abort()
        except (ConnectionError, asyncio.IncompleteReadError):
            await asyncio.sleep(0.01)


async def _read_all(reader: asyncio.StreamReader) -> None:
    while await reader.read(_PIECE):
        pass


def _many(frame: bytes) -> bytes:
    return frame * (_PIECE // len(frame))


@attack("a WebSocket: pings as fast as they go")
async def pings(site: Site) -> None:
    await _flood(site, NOISY[0], _many(raw_frame(PING, b"", masked=True)))


@attack("a WebSocket: texts of one byte as fast as they go")
async def texts(site: Site) -> None:
    await _flood(site, NOISY[0], _many(raw_frame(TEXT, b"x", masked=True)))


@attack("four WebSockets: empty fragments as fast as they go")
async def fragments(site: Site) -> None:
    first = raw_frame(TEXT, b"", masked=True, final=False)
    data = _many(raw_frame(CONTINUATION, b"", masked=True, final=False))
    await asyncio.gather(*(_flood(site, NOISY[n % 2], data, first) for n in range(4)))


@attack("four WebSockets: pongs of 125 bytes as fast as they go")
async def pongs(site: Site) -> None:
    data = _many(raw_frame(PONG, bytes(125), masked=True))
    await asyncio.gather(*(_flood(site, NOISY[n % 2], data) for n in range(4)))


@attack("50 WebSockets of each of two tenants: 900 texts of one byte a second, within the limit")
async def many(site: Site) -> None:
    data = raw_frame(TEXT, b"x", masked=True) * 9
    await asyncio.gather(*(_flood(site, NOISY[n % 2], data, pause=0.01) for n in range(100)))


@attack("four WebSockets: frames of 64 KiB as fast as they go")
async def bulk(site: Site) -> None:
    data = raw_frame(BINARY, bytes(65536), masked=True) * 4
    await asyncio.gather(*(_flood(site, NOISY[n % 2], data) for n in range(4)))


@attack("four WebSockets: frames of 1 KiB as fast as they go, which no limit counts")
async def middling(site: Site) -> None:
    data = raw_frame(BINARY, bytes(1024), masked=True) * 250
    await asyncio.gather(*(_flood(site, NOISY[n % 2], data) for n in range(4)))


@attack("20 WebSockets that the backend floods with texts of one byte")
async def flooded(site: Site) -> None:
    async def one(tenant: str) -> None:
        reader, _ = await _socket(site, tenant, "/ws/flood")
        await _read_all(reader)

    await asyncio.gather(*(one(NOISY[n % 2]) for n in range(20)))


# --- what is not read ---


async def _unread(site: Site, tenant: str, path: str) -> None:
    """A request whose answer is read a little, and then not at all."""

    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (site.host, site.port))
    reader, writer = await asyncio.open_connection(sock=sock)
    writer.write(site.head(tenant, "GET", path))
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.Event().wait()


@attack("60 slow readers of 60 MB of the threaded backend, of two tenants", lead=3.0)
async def slow_readers(site: Site) -> None:
    """In the first second they hold all seats, as whoever comes first does; then who reads nothing gives its
    thread up."""
    async with asyncio.TaskGroup() as group:
        for number in range(60):
            group.create_task(_unread(site, NOISY[number % 2], "/t/large/60"))
            await asyncio.sleep(0.02)


@attack("500 event streams of tiny events that are never read")
async def unread_events(site: Site) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(500):
            group.create_task(_unread(site, NOISY[number % 2], "/e/events"))


@attack("50 event streams of tiny events as fast as they come")
async def fast_events(site: Site) -> None:
    async def one(tenant: str) -> None:
        reader, writer = await site.connect()
        writer.write(site.head(tenant, "GET", "/e/events"))
        await _read_all(reader)

    await asyncio.gather(*(one(NOISY[n % 2]) for n in range(50)))


@attack("1,000 event streams, ten events a second each")
async def many_events(site: Site) -> None:
    async def one(tenant: str) -> None:
        reader, writer = await site.connect()
        writer.write(site.head(tenant, "GET", "/e/events?every=0.1"))
        await _read_all(reader)

    await asyncio.gather(*(one(NOISY[n % 2]) for n in range(1000)))


# --- change feeds ---


async def _collection(site: Site) -> None:
    for tenant in NOISY:
        async with site.client(tenant) as client, client.put("/documents/feed", json={}) as response:
            response.raise_for_status()


async def _feed(site: Site, tenant: str) -> None:
    reader, writer = await site.connect()
    writer.write(site.head(tenant, "GET", "/documents/feed/changes"))
    await _read_all(reader)


async def _write(site: Site, tenant: str) -> None:
    """Documents of 1 kB, eight writers at full speed."""
    body = json.dumps({"note": "x" * 1000})

    async def again(number: int) -> None:
        async with site.client(tenant) as client:
            while True:
                async with client.put(
                    f"/documents/feed/{number}", data=body, headers={"Content-Type": "application/json"}
                ) as response:
                    await response.read()

    await asyncio.gather(*map(again, range(8)))


@attack("100 change feeds beside eight writers, of each of two tenants", prepare=_collection)
async def feeds(site: Site) -> None:
    await asyncio.gather(
        *(_feed(site, tenant) for tenant in NOISY for _ in range(100)), *(_write(site, t) for t in NOISY)
    )


@attack("100 change feeds that are never read beside eight writers", prepare=_collection)
async def unread_feeds(site: Site) -> None:
    await asyncio.gather(
        *(_unread(site, NOISY[0], "/documents/feed/changes") for _ in range(100)), _write(site, NOISY[0])
    )
