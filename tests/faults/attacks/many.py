"""Honest load at full speed: what many clients do who mean no harm."""

from __future__ import annotations

import asyncio

from tests.faults.isolation import NOISY, Site, attack


@attack("nobody attacks")
async def nothing(site: Site) -> None:
    """What the third tenant sees when it is alone."""
    await asyncio.Event().wait()


@attack("64 connections of two tenants, small GETs through the asynchronous backend")
async def proxied(site: Site) -> None:
    await asyncio.gather(*(_repeat(site, tenant, "/a/quick") for tenant in NOISY for _ in range(32)))


@attack("64 connections of two tenants, small GETs through the threaded backend")
async def threaded(site: Site) -> None:
    await asyncio.gather(*(_repeat(site, tenant, "/t/quick") for tenant in NOISY for _ in range(32)))


@attack("64 connections of two tenants, views of 1 s in the threaded backend", lead=2.0)
async def seated(site: Site) -> None:
    """The first wave of tenants that nobody knows holds all seats, each within its share, to its end."""
    await asyncio.gather(*(_repeat(site, tenant, "/t/sleep/1.0") for tenant in NOISY for _ in range(32)))


@attack("a new connection for each GET without a token, 64 at once")
async def connections(site: Site) -> None:
    request = site.head("", "GET", "/a/quick", "Connection: close")

    async def again() -> None:
        while True:
            reader, writer = await site.connect()
            writer.write(request)
            await reader.read()
            writer.close()

    await asyncio.gather(*(again() for _ in range(64)))


async def _repeat(site: Site, tenant: str, path: str) -> None:
    """One GET after the other on a kept connection."""
    request = site.head(tenant, "GET", path)
    reader, writer = await site.connect()
    while True:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].split(b"\r\n", 1)[0]
        await reader.readexactly(int(length or b"0"))
