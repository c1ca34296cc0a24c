"""Queries that take long: scans, counts, sorts and exports over much, and clients that leave them behind."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import quote

import aiohttp

from tests.faults.isolation import NOISY, Site, attack

MANY = tuple(f"noisy-{number}" for number in range(10))
_LARGE = int(9.9 * 1024 * 1024)  # bytes of a document, just below the most
_NDJSON = {"Content-Type": "application/x-ndjson"}
_ALTERNATIVES = ",".join(f'{{"a.b":-{number}}}' for number in range(1, 90))
SLOW = "/documents/wide/?limit=1000&filter=" + quote(f'{{"$or":[{_ALTERNATIVES}]}}')
DEEP = "/documents/many/?sort=-n&filter=" + quote(
    '{"$nor":[{"$nor":[{"$nor":[{"$nor":[{"$nor":[{"$nor":[{"$nor":[{"$nor":[{"$nor":[{"$nor":[{"n":-1}]}]}]}]}]}]}]}]}]}]}'
)


async def _bulk(client: aiohttp.ClientSession, collection: str, documents: list[object]) -> None:
    lines = [json.dumps({"op": "create", "data": data}) + "\n" for data in documents]
    path = f"/documents/{collection}/bulk"
    async with client.post(path, data="".join(lines), headers=_NDJSON) as response:
        response.raise_for_status()
        await response.read()


async def wide(site: Site, tenants: tuple[str, ...] = NOISY) -> None:
    """Documents that a filter takes some ten seconds for."""
    for tenant in tenants:
        async with site.client(tenant) as client:
            for _ in range(4):
                await _bulk(client, "wide", [{"a": [{"b": n} for n in range(20_000)]}])


async def wide_of_ten(site: Site) -> None:
    await wide(site, MANY)


async def many(site: Site) -> None:
    """Small documents, a hundred thousand."""
    for tenant in NOISY:
        async with site.client(tenant) as client:
            for _ in range(100):
                await _bulk(client, "many", [{"n": n, "s": "x" * 20} for n in range(1000)])


async def large(site: Site) -> None:
    """Documents of 9.9 MiB: one long text, and many small members."""
    members = {f"m{number}": number for number in range(450_000)}
    for tenant in NOISY:
        async with site.client(tenant) as client:
            for number in range(4):
                for data in ({"n": number, "s": "x" * (_LARGE - 100)}, {"n": number, "a": members}):
                    path = f"/documents/large/{number}-{len(data)}-{next(reversed(data))}"
                    async with client.put(path, json=data) as response:
                        response.raise_for_status()


async def _ask(site: Site, tenants: tuple[str, ...], *paths: str, each: int = 4) -> None:
    """So many clients of each tenant, each asking one after the other and reading the answers."""

    async def one(client: aiohttp.ClientSession, at: int) -> None:
        while True:
            for path in paths[at % len(paths) :] + paths[: at % len(paths)]:
                async with client.get(path) as response:
                    async for _ in response.content.iter_any():
                        pass
                    if response.status >= 400:
                        await asyncio.sleep(0.05)

    async def of(tenant: str) -> None:
        async with site.client(tenant) as client:
            await asyncio.gather(*(one(client, at) for at in range(each)))

    await asyncio.gather(*map(of, tenants))


@attack("two tenants of 4 clients, queries that take 10 s", prepare=wide)
async def two_scan(site: Site) -> None:
    await _ask(site, NOISY, SLOW)


@attack("ten tenants of 4 clients, queries that take 10 s", prepare=wide_of_ten)
async def ten_scan(site: Site) -> None:
    await _ask(site, MANY, SLOW)


@attack("counts, sorts, patterns and exports over 100,000 documents", prepare=many)
async def scans(site: Site) -> None:
    count = "/documents/many/?count=true&limit=1&filter=" + quote('{"s":{"$contains":"y"}}')
    pattern = "/documents/many/?limit=1&filter=" + quote('{"s":{"$regex":"^x+y"}}')
    await _ask(site, NOISY, count, "/documents/many/?sort=-n,s&limit=1000", pattern, "/documents/many/export")


@attack("filters so deep that Python decides them, over 100,000 documents", prepare=many)
async def deep(site: Site) -> None:
    await _ask(site, NOISY, DEEP)


@attack("lists of documents of 9.9 MiB: fields, sorts and filters", prepare=large)
async def large_lists(site: Site) -> None:
    paths = [
        "/documents/large/?fields=n&limit=10",
        "/documents/large/?fields=-s,-a",
        "/documents/large/?sort=-n&limit=1&fields=n",
        "/documents/large/?limit=1&count=true&filter=" + quote('{"n":{"$gt":1}}'),
        "/documents/large/?limit=2",
        "/documents/large/export",
    ]
    await _ask(site, NOISY, *paths)


@attack("queries whose clients leave at once and ask again", prepare=wide)
async def leaving(site: Site) -> None:
    async def again(tenant: str) -> None:
        request = site.head(tenant, "GET", SLOW)
        while True:
            _, writer = await site.connect()
            writer.write(request)
            await asyncio.sleep(0.02)
            writer.transport.abort()

    await asyncio.gather(*(again(tenant) for tenant in NOISY for _ in range(4)))
