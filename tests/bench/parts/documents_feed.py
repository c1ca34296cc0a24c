"""How long an event takes to a subscriber, over HTTP: written through the gateway, and by another process."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from contextlib import AsyncExitStack
from typing import Any

import aiohttp

from gateway.core.model import TenantId
from gateway.store.sqlite.engine import SQLiteDocumentStore
from tests.bench.load.closed import LoadFailed, quantile
from tests.bench.sites.documents_site import SMALL, DocumentsSite, document
from tests.store import docs

SUBSCRIBERS = 10
RATE = 100  # writes per second
_COLLECTION = "news"
_PATIENCE = 10.0  # seconds until an event is given up


def run(site: DocumentsSite, seconds: float) -> dict[str, Any]:
    """Gives milliseconds from when the write was sent (through the gateway: so the write is in it) or had
    been committed (by another process) until each subscriber has its event. Raises LoadFailed."""
    return asyncio.run(_run(site, max(50, round(seconds * RATE))))


class _Subscriber:
    """Reads events; gives when each document's came."""

    def __init__(self) -> None:
        self.seen: dict[str, float] = {}

    async def read(self, answer: aiohttp.ClientResponse) -> None:
        async for line in answer.content:
            if line.startswith(b"data: "):
                at = time.perf_counter()
                self.seen[json.loads(line[6:])["id"]] = at


async def _run(site: DocumentsSite, writes: int) -> dict[str, Any]:
    url = f"http://127.0.0.1:{site.server.port}/documents/{_COLLECTION}"
    store = SQLiteDocumentStore(site.store, secrets.token_bytes(32))
    async with AsyncExitStack() as stack:
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=None)
        client = await stack.enter_async_context(
            aiohttp.ClientSession(connector=connector, headers=site.headers(SMALL), timeout=timeout)
        )
        subscribers = [_Subscriber() for _ in range(SUBSCRIBERS)]
        reading = []
        for subscriber in subscribers:
            answer = await stack.enter_async_context(client.get(f"{url}/changes"))
            await answer.content.readline()  # its position: from here on it misses nothing
            reading.append(asyncio.ensure_future(subscriber.read(answer)))
        await store.start()
        stack.push_async_callback(store.close)
        documents = store.tenant(TenantId(SMALL))
        sent: dict[str, float] = {}
        committed: dict[str, float] = {}

        async def through_the_gateway(number: int) -> None:
            began = time.perf_counter()
            async with client.post(f"{url}/", json=document(number, 1000)) as answer:
                sent[(await answer.json())["id"]] = began

        async def by_another_process(number: int) -> None:
            created = await docs.create(documents, _COLLECTION, document(number, 1000))
            committed[created.id] = time.perf_counter()

        for write in (through_the_gateway, by_another_process):
            await _paced(write, writes)
        await _await_all(subscribers, [*sent, *committed])
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
    through = [1e3 * (one.seen[name] - at) for one in subscribers for name, at in sent.items()]
    other = [1e3 * (one.seen[name] - at) for one in subscribers for name, at in committed.items()]
    return {
        "subscribers": SUBSCRIBERS,
        "rate": RATE,
        "writes": writes,
        "through": _quantiles(through),
        "other": _quantiles(other),
    }


async def _paced(write: Any, writes: int) -> None:
    """So many writes on a fixed schedule."""
    began = time.perf_counter()
    tasks = []
    for number in range(writes):
        await asyncio.sleep(max(0.0, began + number / RATE - time.perf_counter()))
        tasks.append(asyncio.ensure_future(write(number)))
    await asyncio.gather(*tasks)


async def _await_all(subscribers: list[_Subscriber], names: list[str]) -> None:
    end = time.perf_counter() + _PATIENCE
    while any(name not in one.seen for one in subscribers for name in names):
        if time.perf_counter() > end:
            raise LoadFailed("a subscriber missed an event")
        await asyncio.sleep(0.01)


def _quantiles(spent: list[float]) -> dict[str, float]:
    ordered = sorted(spent)
    return {"p50_ms": quantile(ordered, 0.5), "p99_ms": quantile(ordered, 0.99), "max_ms": ordered[-1]}
