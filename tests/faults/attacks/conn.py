"""What a client's connection can be made to do: requests sent ahead, half ones, tiny pieces, storms."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

from tests.faults.isolation import NOISY, Site, attack

_LINGER_OFF = struct.pack("ii", 1, 0)
_TEXT = "Content-Type: text/plain"
_JSON = "Content-Type: application/json"


async def _flood(site: Site, raw: bytes, *, reads: bool = True, first: bytes = b"") -> None:
    """Send the same bytes as fast as they are taken, on one connection."""
    reader, writer = await site.connect()

    async def read() -> None:
        while await reader.read(1 << 18):
            pass

    reading = asyncio.create_task(read()) if reads else None
    try:
        writer.write(first)
        while True:
            writer.write(raw)
            await writer.drain()
    finally:
        if reading is not None:
            reading.cancel()
        writer.close()


async def _again(work: Callable[[], object], pause: float = 0.0) -> None:
    while True:
        try:
            await work()  # type: ignore[misc]
        except OSError:
            await asyncio.sleep(0.01)
        await asyncio.sleep(pause)


async def _many(count: int, work: Callable[[], object]) -> None:
    await asyncio.gather(*(_again(work) for _ in range(count)))


@attack("requests without credentials, pipelined and never read")
async def pipelined_unread(site: Site) -> None:
    raw = site.head("", "GET", "/documents/c/d") * 1000
    await _many(4, lambda: _flood(site, raw, reads=False))


@attack("requests without credentials, pipelined and read")
async def pipelined_read(site: Site) -> None:
    raw = site.head("", "GET", "/documents/c/d") * 1000
    await _many(4, lambda: _flood(site, raw))


@attack("404s with a valid token, pipelined on 8 connections")
async def pipelined_missing(site: Site) -> None:
    raws = [site.head(tenant, "GET", "/nowhere") * 200 for tenant in NOISY]
    await asyncio.gather(*(_again(lambda raw=raw: _flood(site, raw)) for raw in raws for _ in range(4)))


@attack("reads of a document with a valid token, pipelined on 8 connections")
async def pipelined_documents(site: Site) -> None:
    raws = [site.head(tenant, "GET", "/documents/notes/none") * 200 for tenant in NOISY]
    await asyncio.gather(*(_again(lambda raw=raw: _flood(site, raw)) for raw in raws for _ in range(4)))


@attack("requests without credentials, pipelined on 500 connections")
async def pipelined_everywhere(site: Site) -> None:
    raw = site.head("", "GET", "/documents/c/d") * 100
    await _many(500, lambda: _flood(site, raw))


@attack("1,000 connections, each with the next request when it was refused the last")
async def lockstep(site: Site) -> None:
    request = site.head("", "GET", "/documents/c/d")

    async def one() -> None:
        reader, writer = await site.connect()
        while True:
            writer.write(request)
            if not await reader.read(1 << 16):
                return

    await _many(1000, one)


@attack("empty lines at full speed")
async def empty_lines(site: Site) -> None:
    await _many(4, lambda: _flood(site, b"\r\n" * 50_000))


@attack("two empty lines before each of many pipelined requests")
async def few_empty_lines(site: Site) -> None:
    raw = (b"\r\n\r\n" + site.head("", "GET", "/documents/c/d")) * 1000
    await _many(4, lambda: _flood(site, raw))


def _chunked(site: Site, tenant: str) -> bytes:
    return site.head(tenant, "POST", "/a/quick", _TEXT, "Transfer-Encoding: chunked")


@attack("bodies in chunks of one byte, on 8 connections")
async def single_bytes(site: Site) -> None:
    work = [
        lambda t=t: _flood(site, b"1\r\nx\r\n" * 20_000, first=_chunked(site, t))
        for t in NOISY
        for _ in "1234"
    ]
    await asyncio.gather(*map(_again, work))


@attack("bodies in chunks of sixteen bytes, on 8 connections")
async def small_chunks(site: Site) -> None:
    raw = b"10\r\n0123456789abcdef\r\n" * 20_000
    work = [lambda t=t: _flood(site, raw, first=_chunked(site, t)) for t in NOISY for _ in "1234"]
    await asyncio.gather(*map(_again, work))


@attack("chunks with extensions of 3 KiB")
async def extensions(site: Site) -> None:
    raw = (b"800;" + b"e" * 3000 + b"\r\n" + b"x" * 2048 + b"\r\n") * 50
    work = [lambda t=t: _flood(site, raw, first=_chunked(site, t)) for t in NOISY for _ in "1234"]
    await asyncio.gather(*map(_again, work))


@attack("header lines without end")
async def header_lines(site: Site) -> None:
    first = b"GET /a/quick HTTP/1.1\r\nHost: a\r\n"
    raw = b"".join(b"x-%d: v\r\n" % number for number in range(5000))
    await _many(16, lambda: _flood(site, raw, first=first))


@attack("unfinished heads just below the limit, on 500 connections")
async def heads(site: Site) -> None:
    raw = b"GET /a/quick HTTP/1.1\r\nHost: a\r\n" + b"".join(
        b"a: " + b"x" * 16_000 + b"\r\n" for _ in range(4)
    )

    async def one() -> None:
        reader, writer = await site.connect()
        writer.write(raw[:65_000])
        await reader.read()
        writer.close()

    await _many(500, one)


@attack("heads of one byte a packet, on 200 connections")
async def drops(site: Site) -> None:
    async def one() -> None:
        _, writer = await site.connect()
        writer.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(16_000):
            writer.write(b"G")
            await asyncio.sleep(0)
        writer.close()

    await _many(200, one)


@attack("connections that are reset at once")
async def storm(site: Site) -> None:
    loop = asyncio.get_running_loop()

    async def one() -> None:
        with socket.socket() as sock:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_OFF)
            await loop.sock_connect(sock, (site.host, site.port))

    await _many(32, one)


@attack("hellos of TLS, on a new connection each")
async def hellos(site: Site) -> None:
    async def one() -> None:
        reader, writer = await site.connect()
        writer.write(bytes.fromhex("1603010200010001fc0303") + b"\x00" * 500)
        await reader.read()
        writer.close()

    await _many(64, one)


@attack("bodies of 9 MB without credentials")
async def refused_bodies(site: Site) -> None:
    raw = site.head("", "PUT", "/documents/c/d", _JSON, "Content-Length: 9000000") + b"x" * 9_000_000

    async def one() -> None:
        reader, writer = await site.connect()
        writer.write(raw)
        await reader.read()
        writer.close()

    await _many(8, one)


@attack("clients that leave in the middle of their bodies")
async def leavers(site: Site) -> None:
    heads = [
        site.head(tenant, method, path, media, "Content-Length: 900000")
        for tenant in NOISY
        for method, path, media in (
            ("PUT", "/documents/c/d", _JSON), ("POST", "/t/quick", _TEXT), ("POST", "/a/quick", _TEXT),
        )
    ]  # fmt: skip

    async def one() -> None:
        for head in heads:
            _, writer = await site.connect()
            writer.write(head + b"x" * 100_000)
            await writer.drain()
            await asyncio.sleep(0.005)
            writer.transport.abort()

    await _many(16, one)
