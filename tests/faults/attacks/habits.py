"""What a client can do without knowing of any weak place: floods of what is allowed or refused, large things,
and clients that wait, leave or come again."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable
from urllib.parse import quote

from tests.faults.isolation import NOISY, Site, attack, fill

_LINE = {"Content-Type": "application/x-ndjson"}


async def _noisy_orders(site: Site) -> None:
    """Ten thousand documents of each noisy tenant."""
    for tenant in NOISY:
        await fill(site, tenant)
        async with site.client(tenant) as client:
            for at in range(1_000, 10_000, 1_000):
                lines = [
                    json.dumps({"id": str(n), "customer": n % 100, "tags": ["a", "b"], "note": "x" * 64})
                    for n in range(at, at + 1_000)
                ]
                body = "\n".join(lines)
                async with client.post("/documents/orders/import", data=body, headers=_LINE) as response:
                    await response.read()


async def _both(
    site: Site, each: int, work: Callable[[Site, str], Awaitable[None]], tenants: tuple[str, ...] = NOISY
) -> None:
    """So many at once of each tenant, without end."""

    async def again(tenant: str) -> None:
        while True:
            await work(site, tenant)

    await asyncio.gather(*(again(tenant) for tenant in tenants for _ in range(each)))


@attack("forged tokens, each another one, 32 connections")
async def forged(site: Site) -> None:
    good = site.token("noisy-a").encode()

    async def one(site: Site, _: str) -> None:
        reader, writer = await site.connect()
        try:
            while True:
                token = good[:-43] + secrets.token_urlsafe(32).encode()
                writer.write(
                    b"GET /a/quick HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token + b"\r\n\r\n"
                )
                if not await reader.read(65536):
                    return
        finally:
            writer.transport.abort()

    await _both(site, 16, one)


@attack("preflights and 404s of long paths, 32 connections that pipeline eight at a time")
async def refused(site: Site) -> None:
    path = "/" + "/".join(["segment%20of%20a%20path"] * 500)
    requests = [
        site.head(
            "", "OPTIONS", "/a/quick", "Origin: https://a.example", "Access-Control-Request-Method: GET"
        ),
        site.head("", "GET", path),
    ]

    async def one(site: Site, _: str) -> None:
        reader, writer = await site.connect()
        try:
            while True:
                writer.write(b"".join(requests * 4))
                if not await reader.read(1 << 20):
                    return
        finally:
            writer.transport.abort()

    await _both(site, 16, one)


@attack("uploads of 9 MiB to the threaded backend, 16 at once")
async def uploads(site: Site) -> None:
    body = bytes(9 * 1024 * 1024)

    async def one(site: Site, tenant: str) -> None:
        async with site.client(tenant) as client:
            while True:
                async with client.post("/t/upload", data=body) as response:
                    await response.read()

    await _both(site, 8, one)


@attack("downloads of 60 MiB through both backends, 16 fast readers")
async def downloads(site: Site) -> None:
    async def one(site: Site, tenant: str) -> None:
        async with site.client(tenant) as client:
            while True:
                for path in ("/a/large/60", "/t/large/60"):
                    async with client.get(path) as response:
                        async for _ in response.content.iter_chunked(1 << 18):
                            pass

    await _both(site, 8, one)


@attack("creates, replaces, patches and deletes, 32 at once")
async def writes(site: Site) -> None:
    async def one(site: Site, tenant: str) -> None:
        async with site.client(tenant) as client:
            merge = {"Content-Type": "application/merge-patch+json"}
            while True:
                name = f"/documents/written/{secrets.token_hex(3)}"
                for method, body, headers in (
                    ("PUT", {"n": 1, "text": "x" * 500}, {}),
                    ("PATCH", {"n": 2}, merge),
                    ("DELETE", None, {}),
                ):
                    async with client.request(method, name, json=body, headers=headers) as response:
                        await response.read()

    await _both(site, 16, one)


@attack("imports of small documents at full speed, 8 at once")
async def imports(site: Site) -> None:
    body = "".join(json.dumps({"n": n, "text": "x" * 200}) + "\n" for n in range(20_000))

    async def one(site: Site, tenant: str) -> None:
        async with site.client(tenant) as client:
            async with client.post("/documents/imported/import", data=body, headers=_LINE) as response:
                await response.read()

    await _both(site, 4, one)


@attack("filters of a thousand nodes and $in of thousands of values, 16 at once", prepare=_noisy_orders)
async def filters(site: Site) -> None:
    nodes = {"$or": [{"$and": [{"customer": n}, {"note": {"$ne": f"y{n}"}}]} for n in range(200)]}
    many = {"customer": {"$in": list(range(4_000))}, "note": {"$regex": "^x{1,60}y?$"}}
    most = {"$or": nodes["$or"][:49]}  # of what is accepted
    values = {"customer": {"$in": list(range(1_000))}, "note": {"$regex": "^x{1,60}y?$"}}

    async def one(site: Site, tenant: str) -> None:
        async with site.client(tenant) as client:
            for node in (nodes, many, {"$nor": [nodes]}, most, values):
                query = {"filter": node, "sort": "-note,customer", "limit": 100, "count": True}
                async with client.post("/documents/orders/query", json=query) as response:
                    await response.read()

    await _both(site, 8, one)


@attack("counts and scans of ten thousand documents, 32 at once", prepare=_noisy_orders)
async def counts(site: Site) -> None:
    path = "/documents/orders/?count=true&limit=100&sort=-note&filter=" + quote('{"note":{"$contains":"xx"}}')

    async def one(site: Site, tenant: str) -> None:
        async with site.client(tenant) as client:
            while True:
                async with client.get(path) as response:
                    await response.read()

    await _both(site, 16, one)


@attack("exports of ten thousand documents, 16 at once", prepare=_noisy_orders)
async def exports(site: Site) -> None:
    async def one(site: Site, tenant: str) -> None:
        async with site.client(tenant) as client:
            async with client.get("/documents/orders/export") as response:
                async for _ in response.content.iter_chunked(1 << 16):
                    pass

    await _both(site, 8, one)


@attack("indexes declared and removed on ten thousand documents", prepare=_noisy_orders)
async def declared(site: Site) -> None:
    fields = [{"name": f"i{n}", "fields": [f]} for n, f in enumerate(("note", "tags", "customer"))]

    async def one(site: Site, tenant: str) -> None:
        async with site.client(tenant) as client:
            for indexes in (fields, []):
                async with client.put("/documents/orders", json={"indexes": indexes}) as response:
                    await response.read()

    await _both(site, 2, one)


@attack("feeds of changes opened and left, 200 at once")
async def feeds(site: Site) -> None:
    async def one(site: Site, tenant: str) -> None:
        reader, writer = await site.connect()
        try:
            writer.write(site.head(tenant, "GET", "/documents/orders/changes"))
            await reader.readuntil(b"\r\n\r\n")
        finally:
            writer.transport.abort()

    await _both(site, 100, one)


@attack("requests whose clients leave at once, 64 at a time")
async def left(site: Site) -> None:
    paths = ("/t/sleep/0.2", "/e/large/5", "/documents/orders/?sort=note&count=true", "/a/quick")

    async def one(site: Site, tenant: str) -> None:
        for path in paths:
            _, writer = await site.connect()
            writer.write(site.head(tenant, "GET", path))
            await writer.drain()
            await asyncio.sleep(0.01)
            writer.transport.abort()

    await _both(site, 32, one)


@attack("Expect: 100-continue that is never followed by a body, 200 at once")
async def expected(site: Site) -> None:
    async def one(site: Site, tenant: str) -> None:
        reader, writer = await site.connect()
        try:
            head = site.head(tenant, "POST", "/t/upload", "Content-Length: 9000000", "Expect: 100-continue")
            writer.write(head)
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(1.0)
        finally:
            writer.transport.abort()

    await _both(site, 100, one)


@attack("views that take all threads for 5 s, 100 at once")
async def hung(site: Site) -> None:
    async def one(site: Site, tenant: str) -> None:
        async with site.client(tenant) as client:
            async with client.get("/t/sleep/5.0") as response:
                await response.read()

    await _both(site, 50, one)


@attack("lines of 16 KiB in the access log: long agents and paths, 16 connections")
async def logged(site: Site) -> None:
    request = site.head("", "GET", "/a/quick", "User-Agent: " + "a" * 8_000, "Referer: " + "\x22" * 4_000)

    async def one(site: Site, _: str) -> None:
        reader, writer = await site.connect()
        try:
            while True:
                writer.write(request)
                if not await reader.read(65536):
                    return
        finally:
            writer.transport.abort()

    await _both(site, 8, one)
