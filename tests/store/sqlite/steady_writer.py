"""A process that writes until it is killed: `python -m tests.store.sqlite.steady_writer FOLDER`.

Each client writes its documents one after another, and says `ack CLIENT N` once it was told that the Nth is
there.
"""

import asyncio
import os
import sys
from pathlib import Path

from gateway.core.model import TenantId
from gateway.store.sqlite.engine import SQLiteDocumentStore
from tests.store import docs

CLIENTS = 8


async def write(folder: Path) -> None:
    store = SQLiteDocumentStore(folder, b"k" * 32)
    await store.start()
    tenant = store.tenant(TenantId("acme"))

    async def client(number: int) -> None:
        for turn in range(1_000_000):
            data = {"client": number, "n": turn, "text": "x" * 1000}
            await docs.replace(tenant, "c", f"{number}-{turn:06}", data)
            os.write(1, f"ack {number} {turn}\n".encode())

    await asyncio.gather(*(client(number) for number in range(CLIENTS)))


if __name__ == "__main__":
    asyncio.run(write(Path(sys.argv[1])))
