"""A tenant's file that may not grow: writes are 507, nothing is half done, reading and deleting go on."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from gateway.core.errors import InsufficientStorage, NotFound, QueryTooSlow, StoreUnavailable
from gateway.store.filter import parse as filters
from gateway.store.model import collection
from gateway.store.model.idempotency import IdempotencyKey
from gateway.store.model.query import Query
from gateway.store.model.write import Create
from gateway.store.sqlite.engine import SQLiteDocumentStore
from gateway.store.sqlite.operator import SQLiteOperator
from tests.store import docs
from tests.store.conformance import ACME
from tests.store.conformance_streams import collect

SETTINGS = collection.from_data(
    {
        "indexes": [{"name": "a", "fields": ["a"]}, {"name": "n", "fields": ["n"], "unique": True}],
    }
)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLiteDocumentStore]:
    store = SQLiteDocumentStore(tmp_path, b"k" * 32, max_tenant_bytes=512 * 1024)
    await store.start()
    yield store
    await store.close()


async def test_nothing_is_half_done_when_the_file_is_full(store: SQLiteDocumentStore, tmp_path: Path) -> None:
    tenant = store.tenant(ACME)
    await tenant.put_collection("c", SETTINGS)
    written = 0
    with pytest.raises(InsufficientStorage):
        for n in range(1000):
            await docs.replace(tenant, "c", f"{n:04}", {"n": n, "a": ["x" * 100, n], "text": "x" * 5000})
            written += 1
    with pytest.raises(InsufficientStorage):
        await tenant.bulk("c", [Create({"n": -n, "text": "x" * 50_000}) for n in range(1, 20)])
    with pytest.raises(InsufficientStorage):
        await docs.create(tenant, "c", {"text": "x" * 50_000}, idempotency=IdempotencyKey("key", b"1"))
    assert written > 20
    there = await tenant.list("c", Query(filters.parse('{"n":{"$gte":0}}'), count=True))
    assert (await tenant.collection("c")).documents == written == there.count
    assert await SQLiteOperator(tmp_path).verify(ACME) == ()
    async with aclosing(tenant.changes("c")) as feed:
        await anext(feed)
        for n in range(10):
            await docs.delete(tenant, "c", f"{n:04}")
        assert len(await collect(feed, 10)) == 10
    made = await docs.create(tenant, "c", {"n": 0}, idempotency=IdempotencyKey("key", b"1"))
    assert (await tenant.read("c", made.id)).data == {"n": 0}
    assert await SQLiteOperator(tmp_path).verify(ACME) == ()


async def test_an_index_for_which_there_is_no_room_is_not_declared(
    store: SQLiteDocumentStore, tmp_path: Path
) -> None:
    tenant = store.tenant(ACME)
    with pytest.raises(InsufficientStorage):
        for n in range(1000):
            await docs.replace(tenant, "c", f"{n:04}", {"n": n, "a": ["y" * 100 + str(m) for m in range(20)]})
    before = await tenant.collection("c")
    with pytest.raises(InsufficientStorage):
        await tenant.put_collection("c", SETTINGS)
    assert await tenant.collection("c") == before
    assert await SQLiteOperator(tmp_path).verify(ACME) == ()


async def test_a_slow_count_or_export_is_given_up_and_the_next_query_works(tmp_path: Path) -> None:
    store = SQLiteDocumentStore(tmp_path, b"k" * 32)
    await store.start()
    tenant = store.tenant(ACME)
    await tenant.bulk("c", [Create({"a": [{"b": n} for n in range(100)]}) for _ in range(100)])
    await store.close()
    hurried = SQLiteDocumentStore(tmp_path, b"k" * 32, query_seconds=0.0001)
    await hurried.start()
    tenant = hurried.tenant(ACME)
    never = filters.parse('{"a.b":-1}')
    with pytest.raises(NotFound):  # opens the file, which may take longer than a query
        await tenant.read("c", "none")
    for _ in range(3):
        with pytest.raises((QueryTooSlow, StoreUnavailable)):
            await tenant.list("c", Query(never, count=True))
        with pytest.raises((QueryTooSlow, StoreUnavailable)):
            async with aclosing(tenant.export("c", never)) as export:
                await anext(export)
    assert (await docs.create(tenant, "c", {})).version == 1
    await hurried.close()
