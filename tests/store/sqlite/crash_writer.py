"""A process that writes until it is killed: `python -m tests.store.sqlite.crash_writer FOLDER PREFIX`.

It says `try KEY` before each write, and `ack KEY ID` once it was told that the write was done.
"""

import asyncio
import os
import sys
from pathlib import Path

from gateway.core.model import TenantId
from gateway.store.model.idempotency import IdempotencyKey
from gateway.store.model.patch import MergePatch
from gateway.store.sqlite.engine import SQLiteDocumentStore
from tests.store import docs

CLIENTS = 8


async def write(folder: Path, prefix: str) -> None:
    store = SQLiteDocumentStore(folder, b"k" * 32)
    await store.start()
    tenant = store.tenant(TenantId("acme"))

    async def client(number: int) -> None:
        for turn in range(1_000_000):
            key = f"{prefix}-{number}-{turn}"
            os.write(1, f"try {key}\n".encode())
            data = {"key": key, "tags": [key, turn], "text": "x" * (turn * 37 % 3000)}
            made = await docs.create(tenant, "c", data, idempotency=IdempotencyKey(key, b"same"))
            os.write(1, f"ack {key} {made.id}\n".encode())
            if turn % 5 == 0:
                await docs.patch(tenant, "c", made.id, MergePatch({"patched": True}))
                os.write(1, f"patched {key} {made.id}\n".encode())

    await asyncio.gather(*(client(number) for number in range(CLIENTS)))


if __name__ == "__main__":
    asyncio.run(write(Path(sys.argv[1]), sys.argv[2]))
