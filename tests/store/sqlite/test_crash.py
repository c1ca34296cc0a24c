"""kill -9 under write load: each acknowledged write is there exactly once, and so is each one tried again."""

import asyncio
import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gateway.store.model import collection
from gateway.store.model.idempotency import IdempotencyKey
from gateway.store.model.query import Query
from gateway.store.sqlite.engine import SQLiteDocumentStore
from gateway.store.sqlite.operator import SQLiteOperator
from gateway.store.sqlite.write import alterations, sweep
from tests.eventually import eventually, meanwhile
from tests.store import docs
from tests.store.conformance import ACME, ids
from tests.store.sqlite.write.long_writer import SETTINGS as ALTERED

ROUNDS = 20
ROUNDS_OF_SLICES = 6
ROOT = Path(__file__).resolve().parents[3]
SETTINGS = collection.from_data(
    {
        "indexes": [{"name": "tags", "fields": ["tags"]}, {"name": "key", "fields": ["key"], "unique": True}],
    }
)


async def opened(folder: Path) -> SQLiteDocumentStore:
    store = SQLiteDocumentStore(folder, b"k" * 32)
    await store.start()
    return store


def write_and_kill(folder: Path, prefix: str, seconds: float, writer: str = "crash_writer") -> list[str]:
    """What a writer said until it was killed, so many seconds after its first acknowledgement."""
    command = [sys.executable, "-m", f"tests.store.sqlite.{writer}", str(folder), prefix]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        lines = []
        while not lines or not lines[-1].startswith(b"ack"):
            lines.append(process.stdout.readline())
            assert lines[-1], "the writer ended by itself"
        meanwhile(seconds)
        process.kill()
        rest = process.stdout.read()
    whole = rest[: rest.rfind(b"\n") + 1]  # the last line may be torn
    return [line.decode() for line in [*lines, *whole.splitlines()]]


async def stored(store: SQLiteDocumentStore) -> dict[str, Any]:
    """All documents by their keys; each key is there once."""
    found: dict[str, Any] = {}
    cursor = None
    while True:
        page = await store.tenant(ACME).list("c", Query(limit=1000, cursor=cursor))
        for document in page.items:
            key = document.data["key"]
            assert key not in found, f"{key} is there twice"
            found[key] = document
        cursor = page.next
        if cursor is None:
            return found


async def test_acknowledged_writes_survive_kill_9_and_are_there_once(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    folder = tmp_path / "documents"
    store = await opened(folder)
    await store.tenant(ACME).put_collection("c", SETTINGS)
    await store.close()
    acknowledged: dict[str, str] = {}
    for turn in range(ROUNDS):
        said = await asyncio.to_thread(write_and_kill, folder, str(turn), chance.uniform(0.0, 0.08))
        words = [line.split() for line in said]
        acknowledged |= {word[1]: word[2] for word in words if word[0] == "ack"}
        tried = {word[1] for word in words if word[0] == "try"}
        store = await opened(folder)
        found = await stored(store)
        for key, identifier in acknowledged.items():
            assert found[key].id == identifier
        for word in words:
            assert word[0] != "patched" or found[word[1]].data.get("patched") is True
        for key in tried:
            again = await docs.create(
                store.tenant(ACME), "c", {"key": key, "tags": []}, idempotency=IdempotencyKey(key, b"same")
            )
            known = acknowledged.setdefault(key, again.id)
            assert again.id == known and (key not in found or again.id == found[key].id)
        await stored(store)
        await store.close()
    assert len(acknowledged) > ROUNDS, "on a slow machine each round is over soon"
    assert await SQLiteOperator(folder).verify(ACME) == ()


def left(folder: Path) -> int:
    """How much long work is not at its end."""
    with closing(sqlite3.connect(folder / "acme.db")) as connection:
        statement = "SELECT (SELECT count(*) FROM alterations) + (SELECT count(*) FROM trash)"
        return int(connection.execute(statement).fetchone()[0])


async def test_long_work_that_kill_9_ended_is_right_at_once_and_brought_to_its_end_by_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alterations, "LEFT_SECONDS", 0.5)
    monkeypatch.setattr(sweep, "SWEEP_SECONDS", 0.05)
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    operator, folder = SQLiteOperator(tmp_path), tmp_path
    acknowledged: dict[str, str] = {}
    midway = 0
    for turn in range(ROUNDS_OF_SLICES):
        seconds = chance.uniform(0.05, 0.5)
        said = await asyncio.to_thread(write_and_kill, folder, str(turn), seconds, "write.long_writer")
        words = [line.split() for line in said]
        acknowledged |= {word[1]: word[2] for word in words if word[0] == "ack"}
        assert await operator.verify(ACME) == ()
        midway += bool(left(folder))
        store = await opened(folder)
        tenant = store.tenant(ACME)
        for key, identifier in chance.sample(sorted(acknowledged.items()), min(20, len(acknowledged))):
            assert await ids(tenant, "c", f'{{"key":"{key}"}}') == [identifier]
        await eventually(lambda: not left(folder))
        assert (await tenant.collection("c")).settings in (*ALTERED, collection.NO_SETTINGS)
        assert (await tenant.collection("c")).documents >= len(acknowledged)
        await store.close()
        assert await operator.verify(ACME) == ()
    assert midway > 0
