"""A process that alters and deletes collections, and writes, until it is killed:
`python -m tests.store.sqlite.write.long_writer FOLDER PREFIX`.

It says `ack KEY ID` once it was told that a document is there, and `work` after each alteration and deletion.
"""

import asyncio
import os
import sys
from pathlib import Path

from gateway.core.model import TenantId
from gateway.store.model import collection
from gateway.store.model.write import Create
from gateway.store.sqlite.engine import SQLiteDocumentStore
from gateway.store.sqlite.write.transaction import Pace
from tests.eventually import head_start
from tests.store import docs

SETTINGS = tuple(
    collection.from_data(data)
    for data in (
        {"indexes": [{"name": "key", "fields": ["key"], "unique": True}, {"name": "n", "fields": ["n"]}]},
        {"ttl": {"seconds": 100_000}, "indexes": [{"name": "n", "fields": ["n"]}]},
        {},
        {"ttl": {"field": "end"}, "indexes": [{"name": "key", "fields": ["key", "n"], "unique": True}]},
    )
)


async def write(folder: Path, prefix: str) -> None:
    store = SQLiteDocumentStore(folder, b"k" * 32, pace=Pace(0.0, 20))
    await store.start()
    tenant = store.tenant(TenantId("acme"))

    async def create() -> None:
        for turn in range(1_000_000):
            key = f"{prefix}-{turn}"
            made = await docs.create(tenant, "c", {"key": key, "n": turn % 7, "end": 4e9})
            os.write(1, f"ack {key} {made.id}\n".encode())
            await head_start(0.001)

    async def alter() -> None:
        for turn in range(1_000_000):
            await tenant.put_collection("c", SETTINGS[turn % len(SETTINGS)])
            os.write(1, b"work\n")

    async def delete() -> None:
        while True:
            await tenant.bulk("d", [Create({"n": n}) for n in range(100)])
            await tenant.put_collection("d", SETTINGS[1])
            await tenant.delete_collection("d", documents=True)
            os.write(1, b"work\n")

    await asyncio.gather(create(), alter(), delete())


if __name__ == "__main__":
    asyncio.run(write(Path(sys.argv[1]), sys.argv[2]))
