"""What few bytes have worker processes do: patches that double a document, and patterns on long texts."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any
from urllib.parse import quote

from tests.faults.isolation import NOISY, Site, attack

_CLIENTS = 4  # of each tenant
_JSON, _LINES, _PATCH = "application/json", "application/x-ndjson", "application/json-patch+json"
_DOUBLING = [{"op": "copy", "from": "", "path": f"/x{number}"} for number in range(20)]


async def _put(site: Site, path: str, data: Any) -> None:
    for tenant in NOISY:
        async with site.client(tenant) as client:
            async with client.put(path, json=data) as response:
                await response.read()


async def _send(site: Site, method: str, path: str, body: bytes = b"", kind: str = _JSON) -> None:
    async def one(tenant: str) -> None:
        async with site.client(tenant) as client:
            while True:
                async with client.request(
                    method, path, data=body or None, headers={"Content-Type": kind}
                ) as response:
                    await response.read()

    async with asyncio.TaskGroup() as group:
        for tenant in NOISY * _CLIENTS:
            group.create_task(one(tenant))


async def _small(site: Site) -> None:
    await _put(site, "/documents/copies/1", {"a": {"b": 1}})


@attack("patches of 900 bytes that double a document 20 times", prepare=_small)
async def doubling(site: Site) -> None:
    await _send(site, "PATCH", "/documents/copies/1", json.dumps(_DOUBLING).encode(), _PATCH)


async def _many_values(site: Site) -> None:
    await _put(site, "/documents/copies/many", {"a": [[]] * 2100})


@attack("bulks of 1,000 such patches of 2,100 values", prepare=_many_values)
async def doubling_bulks(site: Site) -> None:
    line = json.dumps({"op": "patch", "id": "many", "data": _DOUBLING}).encode() + b"\n"
    await _send(site, "POST", "/documents/copies/bulk", line * 1000, _LINES)


async def _texts(site: Site) -> None:
    text = "".join(random.Random(1).choices("ab", k=3_000_000))
    await _put(site, "/documents/texts/long", {"s": text})
    for number in range(50):
        await _put(site, f"/documents/texts/{number}", {"s": text[number * 40_000 : (number + 1) * 40_000]})


@attack("a pattern of 900 repetitions on 3 MB, and on texts of 40 kB", prepare=_texts)
async def patterns(site: Site) -> None:
    wanted = quote(json.dumps({"s": {"$regex": "a.{900}Q"}}))
    await _send(site, "GET", f"/documents/texts/?limit=1&fields=id&filter={wanted}")


@attack("filters of 200,000 branches without a condition")
async def branches(site: Site) -> None:
    wanted = b'{"filter":{"$and":[%b]}}' % b",".join([b"{}"] * 200_000)
    await _send(site, "POST", "/documents/texts/query", wanted)
