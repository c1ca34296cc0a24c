"""Several gateways on one folder; here two stores, whose connections know as little of each other as those of
two processes, and a process of its own."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing
from pathlib import Path
from threading import Barrier

import pytest

from gateway.core.errors import NotFound, PreconditionFailed, SchemaViolation, UniqueConflict
from gateway.store.model import collection
from gateway.store.model.collection import NO_SETTINGS
from gateway.store.model.idempotency import IdempotencyKey
from gateway.store.model.patch import MergePatch
from gateway.store.model.query import Query
from gateway.store.sqlite.engine import SQLiteDocumentStore
from gateway.store.sqlite.files import damage
from gateway.store.sqlite.files.connections import open_writer
from gateway.store.sqlite.operator import SQLiteOperator
from tests.store import docs
from tests.store.conformance import ACME, ids, match
from tests.store.conformance_streams import collect
from tests.store.sqlite.test_crash import ROOT

Both = tuple[SQLiteDocumentStore, SQLiteDocumentStore]
UNIQUE = collection.from_data({"indexes": [{"name": "a", "fields": ["a"], "unique": True}]})


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[Both]:
    stores = (SQLiteDocumentStore(tmp_path, b"k" * 32), SQLiteDocumentStore(tmp_path, b"k" * 32))
    for store in stores:
        await store.start()
    yield stores
    for store in stores:
        await store.close()


async def test_each_sees_what_the_other_wrote_and_counts_are_right(both: Both, tmp_path: Path) -> None:
    one, two = (store.tenant(ACME) for store in both)
    for turn in range(10):
        made = await docs.create(one, "c", {"turn": turn})
        assert await two.read("c", made.id) == made
        changed = await docs.patch(two, "c", made.id, MergePatch({"by": "two"}), match(made.etag))
        assert await one.read("c", made.id) == changed
        with pytest.raises(PreconditionFailed):
            await docs.delete(one, "c", made.id, match(made.etag))
    await docs.delete(two, "c", changed.id)
    with pytest.raises(NotFound):
        await one.read("c", changed.id)
    assert (await one.collection("c")).documents == 9 and await ids(one, "c") == await ids(two, "c")
    assert await SQLiteOperator(tmp_path).verify(ACME) == ()


async def test_settings_of_one_hold_for_the_next_write_of_the_other(both: Both) -> None:
    one, two = (store.tenant(ACME) for store in both)
    await docs.create(one, "c", {})
    await docs.create(two, "c", {})
    await one.put_collection("c", collection.from_data({"schema": {"required": ["a"]}}))
    with pytest.raises(SchemaViolation):
        await docs.create(two, "c", {})
    await two.put_collection("c", UNIQUE)
    await docs.create(one, "c", {"a": 1})
    with pytest.raises(UniqueConflict):
        await docs.create(two, "c", {"a": 1})
    await one.put_collection("c", NO_SETTINGS)
    await docs.create(two, "c", {"a": 1})


async def test_writes_of_both_at_once_lose_nothing(both: Both, tmp_path: Path) -> None:
    one, two = (store.tenant(ACME) for store in both)
    await one.put_collection("c", UNIQUE)

    async def write(tenant_of: int, n: int) -> bool:
        try:
            await docs.create((one, two)[tenant_of], "c", {"a": n})
        except UniqueConflict:
            return False
        return True

    done = await asyncio.gather(*(write(side, n) for n in range(100) for side in (0, 1)))
    assert sum(done) == 100 and (await one.list("c", Query(count=True))).count == 100
    assert await SQLiteOperator(tmp_path).verify(ACME) == ()


async def test_a_key_holds_in_both(both: Both) -> None:
    one, two = (store.tenant(ACME) for store in both)
    key = IdempotencyKey("key", b"1")
    made = await asyncio.gather(*(docs.create(side, "c", {}, idempotency=key) for side in (one, two)))
    assert made[0] == made[1] and await ids(one, "c") == [made[0].id]


async def test_a_feed_of_one_tells_what_the_other_wrote(both: Both) -> None:
    one, two = (store.tenant(ACME) for store in both)
    await docs.create(one, "c", {})
    async with aclosing(one.changes("c")) as feed:
        await anext(feed)
        made = await docs.create(two, "c", {})
        (change,) = await collect(feed, 1)
        assert change.document == made


async def test_a_process_that_writes_and_is_killed_does_not_hold_the_other_up(tmp_path: Path) -> None:
    store = SQLiteDocumentStore(tmp_path, b"k" * 32)
    await store.start()
    tenant = store.tenant(ACME)
    async with aclosing(tenant.changes("c")) as feed:
        await anext(feed)
        command = [sys.executable, "-m", "tests.store.sqlite.crash_writer", str(tmp_path), "p"]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
            try:
                await collect_some(feed)
                for n in range(20):
                    await docs.create(tenant, "mine", {"n": n})
            finally:
                process.kill()
    for n in range(20):
        await docs.create(tenant, "mine", {"n": n})
    assert (await tenant.collection("mine")).documents == 40
    await store.close()
    assert await SQLiteOperator(tmp_path).verify(ACME) == ()


async def collect_some(feed: AsyncIterator[object]) -> None:
    async with asyncio.timeout(30):
        await anext(feed)


def test_a_new_file_is_made_once_however_many_open_it_at_once(tmp_path: Path) -> None:
    """The tenant's first write may come to all gateways at the same moment."""
    openers = 6
    together = Barrier(openers)

    def make(path: Path) -> int:
        together.wait()
        with closing(open_writer(path, None)) as connection:
            return int(connection.execute("SELECT count(*) FROM meta").fetchone()[0])

    with ThreadPoolExecutor(openers) as threads:
        for name in range(30):
            path = tmp_path / f"{name}.db"
            assert list(threads.map(make, [path] * openers)) == [1] * openers


def test_a_log_beside_a_file_that_was_made_meanwhile_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.with_name("a.db-journal").write_bytes(b"begun")
    assert "a.db-journal is left" in damage.of_log(path)
    path.touch()
    assert damage.of_log(path) == ""
