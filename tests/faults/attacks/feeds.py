"""Feeds of changes whose clients do not read, and large documents that they are to be told of."""

from __future__ import annotations

import asyncio
import json

from tests.faults.isolation import NOISY, Site, attack

_FEEDS = 50  # of each tenant


@attack("100 feeds that are never read, and documents of 9 MB that they are to be told of")
async def unread(site: Site) -> None:
    body = json.dumps({"fill": "x" * 9_000_000})
    writers: list[asyncio.StreamWriter] = []

    async def put(tenant: str) -> None:
        async with site.client(tenant) as client:
            while True:
                for number in range(6):
                    sent = client.put(
                        f"/documents/feeds/{number}", data=body, headers={"Content-Type": "application/json"}
                    )
                    async with sent as response:
                        await response.read()

    try:
        for tenant in NOISY * _FEEDS:
            reader, writer = await site.connect()
            writers.append(writer)
            writer.write(site.head(tenant, "GET", "/documents/feeds/changes"))
            await reader.readuntil(b"\r\n\r\n")
            writer.transport.pause_reading()  # type: ignore[attr-defined]
        async with asyncio.TaskGroup() as group:
            for tenant in NOISY:
                group.create_task(put(tenant))
    finally:
        for writer in writers:
            writer.transport.abort()
