"""A gateway serves each tenant from where it is, over HTTP, while it is moved."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import aiohttp

from gateway.core.model import TenantId
from gateway.store.moving.tenant import Side, TenantCopy
from gateway.store.opening import document_store, moves
from tests.eventually import END, eventually
from tests.harness import routing, running, token, url

ACME = TenantId("acme")
ROUTE: dict[str, Any] = {
    "name": "documents", "path": "/documents/{rest*}", "strip": "/documents", "target": "documents"
}  # fmt: skip
SCOPE = "documents:read documents:write documents:manage"


async def test_reads_go_on_writes_wait_and_each_sees_what_was_acknowledged(tmp_path: Path) -> None:
    uris = [f"sqlite:{tmp_path / name}" for name in ("one", "two")]
    async with (
        running(tmp_path, routing([ROUTE]), store_uri=uris[0], store_next=uris[1]) as gateway,
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {token(gateway, scope=SCOPE)}"}) as client,
    ):
        stores = [document_store(uri, b"k" * 32, moved_too=True) for uri in uris]
        for store in stores:
            await store.start()
        acknowledged: dict[str, int] = {}
        moved = asyncio.Event()

        async def use(number: int) -> None:
            after = 0  # turns since it was moved
            for turn in itertools.count():
                name = f"{number}-{turn % 5}"
                path = url(gateway, f"/documents/orders/{name}")
                async with client.put(path, json={"n": turn}) as response:
                    assert response.status in (200, 201), await response.text()
                acknowledged[name] = turn
                async with client.get(path) as response:
                    assert (await response.json())["n"] == turn
                after += moved.is_set()
                if after > 5:
                    return

        users = [asyncio.create_task(use(number)) for number in range(3)]
        await eventually(lambda: len(acknowledged) >= 10)
        sides = [Side(store.tenant(ACME), moves(uri)) for store, uri in zip(stores, uris, strict=True)]
        await TenantCopy(ACME, *sides).run("two")
        moved.set()
        async with asyncio.timeout(END):
            await asyncio.gather(*users)
        found = {name: (await sides[1].store.read("orders", name)).data["n"] for name in acknowledged}
        assert found == acknowledged
        for store in stores:
            await store.close()
