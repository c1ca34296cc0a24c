"""Requests on a fixed schedule (open loop), from this process."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.bench.load.closed import quantile


@dataclass
class Paced:
    """What was seen: latencies in ms, and failures."""

    spent: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        ordered = sorted(self.spent)
        return {
            "requests": len(ordered) + len(self.failures),
            "failed": len(self.failures),
            "failures": sorted(set(self.failures))[:5],
            "p50_ms": quantile(ordered, 0.5),
            "p99_ms": quantile(ordered, 0.99),
            "max_ms": ordered[-1] if ordered else 0.0,
        }


async def steady(client: aiohttp.ClientSession, path: str, rate: float, seconds: float, found: Paced) -> None:
    """GETs on a fixed schedule, however long the answers take."""
    loop = asyncio.get_running_loop()
    began = loop.time() + 0.01
    calls = []
    for number in range(round(rate * seconds)):
        due = began + number / rate
        await asyncio.sleep(max(0.0, due - loop.time()))
        calls.append(asyncio.create_task(_one(client, path, found, due)))
    await asyncio.gather(*calls)


async def _one(client: aiohttp.ClientSession, path: str, found: Paced, due: float) -> None:
    """One request; its time counts from when it was due, so that a stall is not hidden."""
    try:
        async with client.get(path) as answer:
            await answer.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        found.failures.append(repr(error))
        return
    if answer.status == 200:
        found.spent.append(1e3 * (asyncio.get_running_loop().time() - due))
    else:
        found.failures.append(f"status {answer.status}")
