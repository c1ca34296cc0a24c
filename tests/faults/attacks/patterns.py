"""Regular expressions that compile to much: to compile one locks the interpreter, and nobody else runs."""

from __future__ import annotations

import asyncio
import json
from itertools import count
from urllib.parse import quote

from tests.faults.isolation import NOISY, Site, attack

_CLIENTS = 4  # of each tenant


def _filter(number: int, pattern: str, most: int = 2040) -> str:
    """As many patterns, each another one, as fit into a short filter."""
    conditions: list[dict[str, object]] = []
    while True:
        conditions.append({"a": {"$regex": f"{pattern}{number:x}_{len(conditions)}"}})
        text = json.dumps({"$or": conditions}, separators=(",", ":"))
        if len(text) > most:
            return json.dumps({"$or": conditions[:-1]}, separators=(",", ":"))


async def _lists(site: Site, pattern: str, most: int = 2040) -> None:
    numbers = count()

    async def one(tenant: str) -> None:
        async with site.client(tenant) as client:
            while True:
                given = quote(_filter(next(numbers), pattern, most))
                async with client.get(f"/documents/missing/?filter={given}") as response:
                    await response.read()

    async with asyncio.TaskGroup() as group:
        for tenant in NOISY * _CLIENTS:
            group.create_task(one(tenant))


@attack("short filters of patterns that compile to too much, each another one")
async def refused_filters(site: Site) -> None:
    await _lists(site, r"\pL{29}")


@attack("short filters of patterns that compile to as much as they may, each another one")
async def large_filters(site: Site) -> None:
    await _lists(site, r"\pL{6}", 250)


@attack("settings with a short schema of 130 patterns, each another one")
async def schemas(site: Site) -> None:
    numbers = count()

    async def one(tenant: str) -> None:
        async with site.client(tenant) as client:
            while True:
                number = next(numbers)
                patterns = {str(n): {"pattern": rf"(?i)\pL{number:x}_{n}"} for n in range(110)}
                async with client.put("/documents/p", json={"schema": {"properties": patterns}}) as response:
                    await response.read()

    async with asyncio.TaskGroup() as group:
        for tenant in NOISY * _CLIENTS:
            group.create_task(one(tenant))
