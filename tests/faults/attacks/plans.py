"""Writes and queries that cost much more than they say: bulks, indexes, imports, exports, sorts."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterable
from typing import Any

import aiohttp

from tests.faults.isolation import NOISY, Site, attack

NDJSON = {"Content-Type": "application/x-ndjson"}
MERGE = {"Content-Type": "application/merge-patch+json"}
TEN = tuple(f"noisy-{number}" for number in range(10))


def lines(items: Iterable[Any]) -> bytes:
    return "".join(json.dumps(item) + "\n" for item in items).encode()


async def send(client: aiohttp.ClientSession, method: str, path: str, **more: Any) -> None:
    async with client.request(method, f"/documents{path}", **more) as response:
        await response.read()


async def declare(client: aiohttp.ClientSession, collection: str, *fields: str) -> None:
    indexes = [{"name": f"i{number}", "fields": [field]} for number, field in enumerate(fields)]
    await send(client, "PUT", f"/{collection}", json={"indexes": indexes})


async def _large(site: Site) -> None:
    """A document of 9.9 MB."""
    for tenant in NOISY:
        async with site.client(tenant) as client:
            items = [{"k": number, "s": "abcdefgh" * 4} for number in range(180_000)]
            await send(client, "PUT", "/plans-large/x", json={"items": items, "n": 0})


async def _patch_in_bulk(site: Site, query: str) -> None:
    body = lines({"op": "patch", "id": "x", "data": {"n": number}} for number in range(1000))

    async def again(tenant: str) -> None:
        async with site.client(tenant) as client:
            while True:
                await send(client, "POST", f"/plans-large/bulk{query}", data=body, headers=NDJSON)

    await asyncio.gather(*(again(tenant) for tenant in NOISY))


@attack("bulks of 1,000 patches of a document of 9.9 MB", prepare=_large)
async def patches(site: Site) -> None:
    await _patch_in_bulk(site, "")


@attack("atomic bulks of 1,000 patches of a document of 9.9 MB", prepare=_large)
async def atomic(site: Site) -> None:
    await _patch_in_bulk(site, "?atomic=true")


@attack("patches of a document of 9.9 MB, four at once of each tenant", prepare=_large)
async def single(site: Site) -> None:
    async def again(tenant: str) -> None:
        async with site.client(tenant) as client:
            while True:
                await send(client, "PATCH", "/plans-large/x", data=b'{"n":1}', headers=MERGE)

    await asyncio.gather(*(again(tenant) for tenant in NOISY for _ in range(4)))


async def _sixteen(site: Site) -> None:
    for tenant in NOISY:
        async with site.client(tenant) as client:
            await declare(client, "plans-wide", *(f"f{number}" for number in range(16)))


@attack("documents with long arrays in 16 indexes, refused and the largest that are not", prepare=_sixteen)
async def wide(site: Site) -> None:
    refused = {f"f{number}": [f"{n:08x}" for n in range(6000)] for number in range(16)}
    taken = {f"f{number}": [f"{n * 7919:08x}" for n in range(249)] for number in range(16)}
    bodies = [json.dumps(one).encode() for one in (refused, taken, taken, taken)]

    async def again(tenant: str, body: bytes, name: int) -> None:
        async with site.client(tenant) as client:
            while True:
                headers = {"Content-Type": "application/json"}
                await send(client, "PUT", f"/plans-wide/{name}", data=body, headers=headers)

    await asyncio.gather(*(again(tenant, body, name) for tenant in NOISY for name, body in enumerate(bodies)))


async def _seven(site: Site) -> None:
    for tenant in NOISY:
        async with site.client(tenant) as client:
            await declare(client, "plans-import", *(f"f{number}" for number in range(7)))


@attack("imports into 7 indexes, two of each tenant", prepare=_seven)
async def imports(site: Site) -> None:
    numbers = random.Random()

    def documents(count: int) -> bytes:
        fields = range(7)
        made = ({f"f{field}": f"{numbers.getrandbits(64):016x}" for field in fields} for _ in range(count))
        return lines(made)

    pieces = [documents(500) for _ in range(20)]

    async def body() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield numbers.choice(pieces)

    async def again(tenant: str) -> None:
        async with site.client(tenant) as client:
            while True:
                await send(client, "POST", "/plans-import/import", data=body(), headers=NDJSON)

    await asyncio.gather(*(again(tenant) for tenant in NOISY for _ in range(2)))


@attack("bulks of 1,000 documents of ten tenants, more than there are writers")
async def writers(site: Site) -> None:
    body = lines({"op": "replace", "id": str(n), "data": {"n": n, "t": "x" * 200}} for n in range(1000))

    async def again(tenant: str) -> None:
        async with site.client(tenant) as client:
            while True:
                await send(client, "POST", "/plans-writers/bulk", data=body, headers=NDJSON)

    await asyncio.gather(*(again(tenant) for tenant in TEN for _ in range(2)))


async def _many(site: Site) -> None:
    """50,000 documents, of which nine in ten have the same value in one index."""
    for tenant in NOISY:
        async with site.client(tenant) as client:
            await declare(client, "plans-many", "g", "n")
            made = (
                {"id": f"{n:06d}", "g": n if n % 10 == 0 else "same", "n": n, "u": n % 97, "t": "x" * 100}
                for n in range(50_000)
            )
            await send(client, "POST", "/plans-many/import", data=lines(made), headers=NDJSON)


@attack("exports that are not read, beside a steady writer", prepare=_many)
async def exports(site: Site) -> None:
    async def unread(tenant: str) -> None:
        reader, writer = await site.connect()
        writer.write(site.head(tenant, "GET", "/documents/plans-many/export"))
        await reader.readexactly(100)
        await asyncio.sleep(1e6)

    async def write(tenant: str) -> None:
        async with site.client(tenant) as client:
            body = {"t": "y" * 200_000}
            while True:
                await send(client, "PUT", "/plans-steady/x", json=body)

    await asyncio.gather(
        *(unread(tenant) for tenant in NOISY for _ in range(4)), *(write(tenant) for tenant in NOISY)
    )


@attack("$or, descending sorts and sorts without an index, 4 clients of each tenant", prepare=_many)
async def sorts(site: Site) -> None:
    queries = (
        {"filter": {"$or": [{"n": 17}, {"g": {"$lt": 90}}]}, "count": True},
        {"filter": {"$or": [{"n": 17}, {"u": 3}]}, "count": True},
        {"sort": ["-g"], "limit": 1000},
        {"sort": ["-u", "g"], "limit": 1000},
    )

    async def again(tenant: str, query: dict[str, Any]) -> None:
        async with site.client(tenant) as client:
            while True:
                await send(client, "POST", "/plans-many/query", json=query)

    await asyncio.gather(*(again(tenant, query) for tenant in NOISY for query in queries))
