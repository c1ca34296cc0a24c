"""What a tenant stores beside its documents: writes that are remembered, collections, settings."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager

import aiohttp

from tests.faults.isolation import NOISY, Site, attack

Asked = AbstractAsyncContextManager[aiohttp.ClientResponse]
Work = Callable[[aiohttp.ClientSession, int], Asked]

_CONNECTIONS = 8
_MANY = 10_000


async def _each(site: Site, work: Work) -> None:
    """The work on some connections of both noisy tenants, until cancelled."""
    async with asyncio.TaskGroup() as group:
        for tenant in NOISY:
            client = site.client(tenant)
            for number in range(_CONNECTIONS):
                group.create_task(_again(client, work, number))


async def _again(client: aiohttp.ClientSession, work: Work, number: int) -> None:
    for turn in itertools.count(number, _CONNECTIONS):
        async with work(client, turn) as response:
            await response.read()


@attack("an Idempotency-Key with every write of one document")
async def idempotency_keys(site: Site) -> None:
    run = os.urandom(4).hex()

    def work(client: aiohttp.ClientSession, turn: int) -> Asked:
        headers = {"Idempotency-Key": f"{run}-{turn}"}
        return client.put("/documents/keys/one", json={"text": "x" * 60_000, "n": turn}, headers=headers)

    await _each(site, work)


@attack("collections without end, each with a schema of 200 KiB")
async def collections(site: Site) -> None:
    run = os.urandom(4).hex()

    def work(client: aiohttp.ClientSession, turn: int) -> Asked:
        return client.put(f"/documents/{run}-{turn}", json={"schema": {"description": "x" * 200_000}})

    await _each(site, work)


async def _large_collections(site: Site) -> None:
    for tenant in NOISY:
        async with site.client(tenant) as client:
            for n in range(150):
                settings = {"schema": {"description": "x" * 240_000}}
                async with client.put(f"/documents/large-{n}", json=settings) as response:
                    await response.read()


@attack("the list of 150 collections with settings of 240 kB", prepare=_large_collections)
async def large_collections(site: Site) -> None:
    await _each(site, lambda client, turn: client.get("/documents/", params={"limit": "1000"}))


async def _many_collections(site: Site) -> None:
    for tenant in NOISY:
        async with site.client(tenant) as client:
            turns = iter(range(_MANY // 2))
            await asyncio.gather(*(_fill(client, turns) for _ in range(_CONNECTIONS * 4)))


async def _fill(client: aiohttp.ClientSession, turns: Iterator[int]) -> None:
    for turn in turns:
        async with client.put(f"/documents/many-{turn}/x", json={}) as response:
            await response.read()


@attack("10,000 collections that are listed and written one after the other", prepare=_many_collections)
async def many_collections(site: Site) -> None:
    def work(client: aiohttp.ClientSession, turn: int) -> Asked:
        if turn % 3 == 0:
            return client.get("/documents/", params={"limit": "1000"})
        return client.put(f"/documents/many-{turn * 7 % (_MANY // 2)}/x", json={"n": turn})

    await _each(site, work)


@attack("bulks of 1,000 refused writes, each with a key")
async def remembered_failures(site: Site) -> None:
    run = os.urandom(4).hex()
    line = json.dumps({"op": "patch", "id": "not there", "data": {"a": 1}}) + "\n"

    def work(client: aiohttp.ClientSession, turn: int) -> Asked:
        headers = {"Idempotency-Key": f"{run}-{turn}", "Content-Type": "application/x-ndjson"}
        return client.post("/documents/keys/bulk", data=line * 1000, headers=headers)

    await _each(site, work)
