"""The store's writes beside a bare sqlite3 loop that writes the same rows, by turns in one process; and what
reading all rows costs without a gateway.

As a program: python -m tests.bench.sites.documents_bare writes FOLDER ROUNDS SECONDS
              python -m tests.bench.sites.documents_bare export FILE WRITTEN
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sqlite3
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from gateway.core.model import TenantId
from gateway.store.json.strict import dumps
from gateway.store.model.write import Create
from gateway.store.port import TenantStore
from gateway.store.sqlite.engine import SQLiteDocumentStore
from tests.bench import machine
from tests.bench.load.closed import LoadFailed
from tests.bench.sites.documents_site import document

CLIENTS = 32
_ALL = 100_000  # of what collection the documents are
_INCARNATION = "0123456789abcdef0123"
_TABLE = """
    CREATE TABLE documents (
        collection TEXT NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL, incarnation TEXT NOT NULL,
        created REAL NOT NULL, modified REAL NOT NULL, size INTEGER NOT NULL, data TEXT NOT NULL,
        expires REAL,
        UNIQUE (collection, id)
    ) STRICT"""
_INSERT = "INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_SELECT = "SELECT id, data FROM documents WHERE collection = 'orders' ORDER BY id"
_BUFFER = 1024 * 1024


def writes(folder: Path, rounds: int, seconds: float) -> dict[str, Any]:
    """Rows a second of both, by clients; on the server core. Raises LoadFailed."""
    found = _program(["writes", str(folder), str(rounds), str(seconds)])
    return {clients: summarise(turns) for clients, turns in found.items()}


def export(path: Path, written: Path) -> dict[str, Any]:
    """Bytes and seconds of a bare select and write of all rows, on the server core. Raises LoadFailed."""
    found: dict[str, Any] = _program(["export", str(path), str(written)])
    return found


def summarise(turns: list[tuple[float, float]]) -> dict[str, float]:
    """Medians of pairs of store and bare."""
    return {
        "store": statistics.median(store for store, _ in turns),
        "bare": statistics.median(bare for _, bare in turns),
        "ratio": statistics.median(store / bare for store, bare in turns),
    }


def _program(arguments: list[str]) -> Any:
    command = [*machine.pinned(machine.SERVER_CORE), sys.executable, "-m", "tests.bench.sites.documents_bare"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise LoadFailed(f"the bare loop ended with {done.returncode}: {done.stderr[-1000:]}")
    return json.loads(done.stdout)


class _Bare:
    """A sqlite3 file with the store's settings and its rows, and nothing else."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        for setting in ("journal_mode=WAL", "synchronous=FULL"):
            self._connection.execute(f"PRAGMA {setting}")
        self._connection.execute(_TABLE)
        self._text = dumps(document(0, _ALL))
        self._count = 0

    def turn(self, rows: int, seconds: float) -> float:
        """Rows a second, so many in each transaction."""
        began = time.perf_counter()
        first, end = self._count, began + seconds
        execute, text = self._connection.execute, self._text
        while time.perf_counter() < end:
            execute("BEGIN IMMEDIATE")
            for number in range(self._count, self._count + rows):
                row = ("orders", f"019b0000-0000-7000-8000-{number:012x}", 1, _INCARNATION, began, began)
                execute(_INSERT, (*row, len(text), text, None))
            execute("COMMIT")
            self._count += rows
        return (self._count - first) / (time.perf_counter() - began)

    def close(self) -> None:
        self._connection.close()


async def _writes(folder: Path, rounds: int, seconds: float) -> dict[str, list[tuple[float, float]]]:
    store = SQLiteDocumentStore(folder / "store", secrets.token_bytes(32))
    await store.start()
    bare = _Bare(folder / "bare.db")
    documents = store.tenant(TenantId("acme"))
    found: dict[str, list[tuple[float, float]]] = {}
    try:
        for clients in (CLIENTS, 1):
            await _store_turn(documents, clients, 0.2)
            found[str(clients)] = [
                (await _store_turn(documents, clients, seconds), bare.turn(clients, seconds))
                for _ in range(rounds)
            ]
    finally:
        bare.close()
        await store.close()
    return found


async def _store_turn(documents: TenantStore, clients: int, seconds: float) -> float:
    """Documents a second; each client creates its next one when the last one is durable."""
    end = time.perf_counter() + seconds

    async def client(number: int) -> int:
        created = 0
        while time.perf_counter() < end:
            await documents.write("orders", Create(document(number + created, _ALL)))
            created += 1
        return created

    began = time.perf_counter()
    counts = await asyncio.gather(*(client(1000 * number) for number in range(clients)))
    return sum(counts) / (time.perf_counter() - began)


def _export(path: Path, written: Path) -> dict[str, Any]:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    began = time.perf_counter()
    with written.open("w", buffering=_BUFFER) as output:
        for name, text in connection.execute(_SELECT):
            output.write(f'{{"id":"{name}",{text[1:]}\n')
    seconds = time.perf_counter() - began
    connection.close()
    return {"seconds": seconds, "bytes": written.stat().st_size}


if __name__ == "__main__":
    if sys.argv[1] == "writes":
        print(json.dumps(asyncio.run(_writes(Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))))
    else:
        print(json.dumps(_export(Path(sys.argv[2]), Path(sys.argv[3]))))
