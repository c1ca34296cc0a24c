"""Large bodies, slow bodies, and bodies of nothing: what two tenants may send and ask of their documents."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

from tests.faults.isolation import NOISY, Site, attack

MANY_MEMBERS = b"{" + b",".join(b'"m%d":%d' % (number, number) for number in range(600_000)) + b"}"
LONG_TEXT = json.dumps({"text": "x" * (9_400 * 1024), "n": 0}).encode()
MANY_LISTS = b'{"lists":[' + b"[1]," * 2_300_000 + b"0]}"
DEEP = b'{"deep":' + b",".join([b"[" * 60 + b"]" * 60] * 70_000).join((b"[", b"]")) + b"}"
ESCAPED = b'{"text":"' + rb"\u00fc" * 1_600_000 + b'"}'
MERGE, PATCH = "application/merge-patch+json", "application/json-patch+json"
NDJSON = "application/x-ndjson"


def request(
    site: Site, tenant: str, method: str, path: str, body: bytes, kind: str = "application/json"
) -> bytes:
    lines = (f"Content-Type: {kind}", f"Content-Length: {len(body)}")
    return site.head(tenant, method, f"/documents{path}", *lines) + body


async def answer(reader: asyncio.StreamReader) -> int:
    """Read one answer away. Gives its status."""
    head = await reader.readuntil(b"\r\n\r\n")
    lower = head.lower()
    if b"transfer-encoding" in lower:
        while int(await reader.readline(), 16):
            await reader.readuntil(b"\n")
        await reader.readline()
    else:
        left = int(lower.partition(b"content-length: ")[2].split(b"\r\n", 1)[0] or b"0")
        while left:
            left -= len(await reader.read(min(left, 65536)))
    return int(head.split(b" ")[1])


async def repeat(site: Site, raw: bytes) -> None:
    """The same request again and again, on a connection that is made anew when it is cut."""
    while True:
        reader, writer = await site.connect()
        try:
            while True:
                writer.write(raw)
                await writer.drain()
                if await answer(reader) in (429, 503):
                    await asyncio.sleep(0.05)
        except (OSError, asyncio.IncompleteReadError, ValueError):
            writer.close()


async def both(site: Site, count: int, make: Callable[[str, int], bytes]) -> None:
    """So many connections of each noisy tenant. make: the request of a tenant's connection."""
    await asyncio.gather(*(repeat(site, make(tenant, number)) for tenant in NOISY for number in range(count)))


async def once(site: Site, tenant: str, raw: bytes) -> None:
    reader, writer = await site.connect()
    writer.write(raw)
    await writer.drain()
    if (status := await answer(reader)) >= 300:
        raise RuntimeError(f"the gateway answered {status}")
    writer.close()


def putting(name: str, body: bytes) -> None:
    @attack(f"PUTs of {len(body) / 2**20:.1f} MiB back to back, 4 connections of two tenants: {name}")
    async def put(site: Site) -> None:
        await both(site, 2, lambda tenant, n: request(site, tenant, "PUT", f"/big/{n}", body))


for _name, _body in {
    "600,000 members": MANY_MEMBERS,
    "one text": LONG_TEXT,
    "2.3 million small arrays": MANY_LISTS,
    "60 levels deep": DEEP,
    "escaped": ESCAPED,
}.items():
    putting(_name, _body)


async def _stored(site: Site) -> None:
    settings = b'{"indexes":[{"name":"n","fields":["n"]},{"name":"m","fields":["m1"]}]}'
    for tenant in NOISY:
        await once(site, tenant, request(site, tenant, "PUT", "/big", settings))
        await once(site, tenant, request(site, tenant, "PUT", "/big/0", MANY_MEMBERS))
        await once(site, tenant, request(site, tenant, "PUT", "/big/text", LONG_TEXT))


@attack("merge patches of an indexed document of 600,000 members", prepare=_stored)
async def merge_patches(site: Site) -> None:
    await both(site, 4, lambda tenant, n: request(site, tenant, "PATCH", "/big/0", b'{"n":%d}' % n, MERGE))


@attack("JSON patches of an indexed document of 600,000 members", prepare=_stored)
async def json_patches(site: Site) -> None:
    change = b'[{"op":"add","path":"/n","value":1},{"op":"copy","from":"/n","path":"/m"}]'
    await both(site, 4, lambda tenant, n: request(site, tenant, "PATCH", "/big/0", change, PATCH))


@attack("merge patches of 9.4 MiB", prepare=_stored)
async def large_patches(site: Site) -> None:
    await both(site, 2, lambda tenant, n: request(site, tenant, "PATCH", "/big/0", LONG_TEXT, MERGE))


@attack("reads of 9.4 MiB by 16 fast readers", prepare=_stored)
async def fast_reads(site: Site) -> None:
    await both(site, 8, lambda tenant, n: site.head(tenant, "GET", "/documents/big/text"))


@attack("reads of 9.4 MiB by 400 readers that read nothing", prepare=_stored)
async def slow_reads(site: Site) -> None:
    async def ask(tenant: str) -> None:
        while True:
            reader, writer = await site.connect()
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(site.head(tenant, "GET", "/documents/big/text"))
            await asyncio.sleep(5)
            writer.transport.abort()
            del reader

    await asyncio.gather(*(ask(tenant) for tenant in NOISY for _ in range(200)))


async def _drip(site: Site, head: bytes, pause: float) -> None:
    reader, writer = await site.connect()
    writer.write(head)
    gone = asyncio.create_task(reader.read(1))
    while not gone.done():
        writer.write(b" ")
        await asyncio.wait([gone], timeout=pause)
    writer.close()


@attack("400 bodies of 9 MB at a byte per second")
async def dripping(site: Site) -> None:
    def head(tenant: str, path: str) -> bytes:
        return site.head(tenant, "PUT", path, "Content-Type: application/json", "Content-Length: 9000000")

    async def again(tenant: str, path: str) -> None:
        while True:
            await _drip(site, head(tenant, path), 1.0)

    paths = ("/documents/big/x", "/t/quick", "/a/quick", "/documents/c/import")
    await asyncio.gather(*(again(t, p) for t in NOISY for p in paths for _ in range(50)))


@attack("8 imports of nothing but blank lines")
async def blank_imports(site: Site) -> None:
    await _importing(site, b"\n" * 65_536)


@attack("8 imports of blank lines with a document now and then")
async def nearly_blank_imports(site: Site) -> None:
    await _importing(site, b" \n" * 32_000 + b'{"id":"x"}\n')


@attack("8 imports of the smallest documents")
async def tiny_imports(site: Site) -> None:
    await _importing(site, b'{"id":"x"}\n' * 6_000)


@attack("8 imports of lines that are no JSON")
async def failing_imports(site: Site) -> None:
    await _importing(site, b"x\n" * 32_000)


async def _importing(site: Site, piece: bytes) -> None:
    async def one(tenant: str) -> None:
        while True:
            reader, writer = await site.connect()
            lines = (f"Content-Type: {NDJSON}", "Transfer-Encoding: chunked")
            writer.write(site.head(tenant, "POST", "/documents/c/import", *lines))
            reading = asyncio.create_task(reader.read())
            try:
                while not reading.done():
                    writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                    await writer.drain()
                    await asyncio.sleep(0)
            except OSError:
                pass
            writer.close()
            await asyncio.wait([reading])

    await asyncio.gather(*(one(tenant) for tenant in NOISY for _ in range(4)))


@attack("bulks of 1,000 lines of 9 KiB, 4 connections of two tenants")
async def large_bulks(site: Site) -> None:
    data = json.dumps({"values": list(range(1_700))})
    lines = "".join(f'{{"op":"replace","id":"{n}","data":{data}}}\n' for n in range(1_000)).encode()
    await both(site, 2, lambda tenant, n: request(site, tenant, "POST", "/bulky/bulk", lines, NDJSON))


@attack("bulks of 8 lines of 1 MiB, 4 connections of two tenants", prepare=_stored)
async def bulks_of_large_lines(site: Site) -> None:
    data = json.dumps({"values": list(range(150_000))})
    lines = "".join(f'{{"op":"replace","id":"{n}","data":{data}}}\n' for n in range(8)).encode()
    await both(site, 2, lambda tenant, n: request(site, tenant, "POST", "/big/bulk", lines, NDJSON))


@attack("documents just below what is large, 16 connections of two tenants")
async def nearly_large(site: Site) -> None:
    body = b'{"values":[' + b"1," * 8_000 + b"1]}"
    await both(site, 8, lambda tenant, n: request(site, tenant, "PUT", f"/small/{n}", body))


@attack("queries and settings of 9 MiB")
async def large_queries(site: Site) -> None:
    body = b'{"filter":{"a":{"$in":[' + b"1," * 4_700_000 + b"1]}}}"

    def make(tenant: str, number: int) -> bytes:
        return request(site, tenant, "PUT" if number else "POST", "/c" if number else "/c/query", body)

    await both(site, 2, make)
