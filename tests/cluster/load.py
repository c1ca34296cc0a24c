"""The clients: each gateway gets documents to store, and requests of a tenant that is limited. Every outcome
is a line of JSON on standard output. Ended by SIGTERM."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from typing import Any

import aiohttp

from tests.cluster.nodes import GATEWAYS, PORT, RATE

PAUSE = 0.2  # seconds between two writes to a gateway
TIMEOUT = aiohttp.ClientTimeout(total=3.0)


async def outcome(client: aiohttp.ClientSession, method: str, url: str, **more: Any) -> int:
    """The status; 0 for none, and then nobody knows whether it was done."""
    try:
        async with client.request(method, url, timeout=TIMEOUT, **more) as response:
            await response.read()
            return response.status
    except (aiohttp.ClientError, TimeoutError, OSError):
        return 0


def tell(kind: str, node: str, began: float, status: int, name: str = "") -> None:
    """One line."""
    line = {"at": began, "kind": kind, "node": node, "status": status, "id": name}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


async def write(node: str, address: str, token: str) -> None:
    """Documents, one after the other."""
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as client:
        for number in itertools.count():
            name, began = f"{node}-{number}", time.time()
            url = f"http://{address}:{PORT}/documents/load/{name}"
            tell("write", node, began, await outcome(client, "PUT", url, json={"n": number}), name)
            await asyncio.sleep(PAUSE)


async def press(node: str, address: str, token: str) -> None:
    """Twice as much as both gateways together may give the tenant."""
    url = f"http://{address}:{PORT}/documents/load/x?wrong=1"  # 400, without asking the store
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as client:
        while True:
            began = time.time()
            tell("limited", node, began, await outcome(client, "GET", url))
            await asyncio.sleep(max(0.0, 0.5 / RATE - (time.time() - began)))


async def main(writer: str, limited: str) -> None:
    """Until it is ended."""
    async with asyncio.TaskGroup() as group:
        for node, address in GATEWAYS.items():
            group.create_task(write(node, address, writer))
            group.create_task(press(node, address, limited))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
