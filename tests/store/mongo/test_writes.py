"""What only the MongoDB engine's writes can do wrong: documents that end, settings that change while one is
written, and what a gateway that died leaves half done on a server without transactions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from gateway.core.errors import (
    IdempotencyRunning,
    NotFound,
    QuotaExceeded,
    StoreUnavailable,
    UniqueConflict,
)
from gateway.core.model import TenantId
from gateway.store.filter import parse as filters
from gateway.store.model import collection, instants
from gateway.store.model import sort as sorts
from gateway.store.model.change import Change
from gateway.store.model.idempotency import IdempotencyKey
from gateway.store.model.query import Query
from gateway.store.model.write import Quota, Replace
from gateway.store.mongo.engine import MongoDocumentStore
from gateway.store.mongo.operator import MongoOperator
from gateway.store.mongo.rows import (
    CLAIMS,
    COLLECTIONS,
    DOCUMENTS,
    IDEMPOTENCY,
    TENANTS,
    joined,
    scope,
)
from gateway.store.mongo.write import idempotency
from gateway.store.mongo.write import writes as mongo_writes
from gateway.store.mongo.write.sweep import Sweeper
from tests.store import docs
from tests.store.mongo import server as mongo_server

ACME = TenantId("acme")
UNIQUE = {"indexes": [{"name": "by_a", "fields": ["a"], "unique": True}]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mongo_server.serve(tmp_path_factory.mktemp("nx")) as uri:
        yield uri


@pytest.fixture(params=[False, True], ids=["single server", "replica set"])
async def store(server: str, request: pytest.FixtureRequest) -> AsyncIterator[MongoDocumentStore]:
    store = MongoDocumentStore(mongo_server.driver(server, transactions=request.param), b"k" * 32)
    await store.start()
    yield store
    await store.close()


@pytest.fixture
async def single(server: str) -> AsyncIterator[MongoDocumentStore]:
    store = MongoDocumentStore(mongo_server.driver(server), b"k" * 32)
    await store.start()
    yield store
    await store.close()


def sweeper(store: MongoDocumentStore) -> Sweeper:
    assert store._sweeper is not None
    return store._sweeper


async def test_what_has_ended_is_swept_with_its_counts_and_unique_values(store: MongoDocumentStore) -> None:
    tenant = store.tenant(ACME, Quota(documents=2))
    await tenant.put_collection("c", collection.from_data({**UNIQUE, "ttl": {"field": "end"}}))
    await docs.replace(tenant, "c", "ended", {"a": 1, "end": instants.now() - 1})
    await docs.replace(tenant, "c", "stays", {"a": 2, "end": instants.now() + 1000})
    with pytest.raises(NotFound):
        await tenant.read("c", "ended")
    assert (await tenant.collection("c")).documents == 2
    await sweeper(store).sweep()
    assert (await tenant.collection("c")).documents == 1
    claims = [row async for row in store._driver.find(CLAIMS, scope("acme", "c"))]
    assert [row["o"] for row in claims] == ["stays"]
    await docs.create(tenant, "c", {"a": 1, "end": instants.now() + 1000})


async def test_what_is_forgotten_no_longer_counts_for_the_quota(store: MongoDocumentStore) -> None:
    tenant = store.tenant(ACME, Quota(bytes=1000))
    for n in range(4):
        await docs.replace(tenant, "c", "x", {}, idempotency=IdempotencyKey(f"{n}", b"1"))
    with pytest.raises(QuotaExceeded):
        await docs.replace(tenant, "c", "x", {"a": "x" * 500})
    own = {"t": "acme"}
    rows = [row async for row in store._driver.find(IDEMPOTENCY, own)]
    assert all("x" not in row for row in rows)  # the server would remove it, and could not count
    for row in rows[1:]:
        await store._driver.update(IDEMPOTENCY, {"_id": row["_id"]}, {"$set": {"until": instants.now() - 1}})
    again = next(row["_id"].rpartition("\x1f")[2] for row in rows[1:])
    await docs.replace(tenant, "c", "x", {}, idempotency=IdempotencyKey(again, b"2"))
    await sweeper(store).sweep()
    await docs.replace(tenant, "c", "x", {"a": "x" * 300})
    assert await MongoOperator(store._driver).verify(ACME) == ()
    await store._driver.update("tenants", own, {"$inc": {"bytes": 7}})
    assert await MongoOperator(store._driver).verify(ACME) != ()


async def test_a_document_that_was_written_again_before_the_sweep_stays(store: MongoDocumentStore) -> None:
    tenant = store.tenant(ACME)
    await tenant.put_collection("c", collection.from_data({"ttl": {"field": "end"}}))
    first = (await docs.replace(tenant, "c", "x", {"end": instants.now() - 1})).document
    again = await docs.replace(tenant, "c", "x", {"end": instants.now() + 1000})
    assert again.created and again.document.incarnation != first.incarnation
    await sweeper(store).sweep()
    assert await tenant.read("c", "x") == again.document


async def test_a_feed_tells_what_was_swept(server: str) -> None:
    store = MongoDocumentStore(mongo_server.driver(server, transactions=True), b"k" * 32)
    await store.start()
    tenant = store.tenant(ACME)
    await tenant.put_collection("c", collection.from_data({"ttl": {"field": "end"}}))
    document = (await docs.replace(tenant, "c", "x", {"end": instants.now() - 1})).document
    feed = tenant.changes("c")
    await anext(feed)
    await sweeper(store).sweep()
    seen: list[Change] = list((await asyncio.wait_for(anext(feed), 30)).items)
    assert [(change.kind, change.id, change.etag) for change in seen] == [("deleted", "x", document.etag)]
    await feed.aclose()
    await store.close()


async def test_a_value_that_a_dead_gateway_claimed_for_nothing_is_free(single: MongoDocumentStore) -> None:
    tenant = single.tenant(ACME)
    await tenant.put_collection("c", collection.from_data(UNIQUE))
    await docs.replace(tenant, "c", "x", {"a": 1})
    (claim,) = [row async for row in single._driver.find(CLAIMS, scope("acme", "c"))]
    half_done = {**claim, "_id": claim["_id"].replace("[1]", "[2]"), "o": "never"}
    await single._driver.insert(CLAIMS, half_done)
    with pytest.raises(UniqueConflict):  # it may be a write that goes on this moment
        await docs.replace(tenant, "c", "y", {"a": 2})
    long_ago = {"$set": {"at": instants.now() - mongo_writes._CLAIM_SECONDS - 1}}
    await single._driver.update(CLAIMS, scope("acme", "c", {"_id": half_done["_id"]}), long_ago)
    assert (await docs.replace(tenant, "c", "y", {"a": 2})).created
    with pytest.raises(UniqueConflict):
        await docs.replace(tenant, "c", "z", {"a": 2})


async def test_a_write_that_fails_takes_back_what_it_did_before(single: MongoDocumentStore) -> None:
    tenant = single.tenant(ACME)
    await tenant.put_collection("c", collection.from_data(UNIQUE))
    await docs.replace(tenant, "c", "x", {"a": 1})

    async def lost(*_: object) -> bool:
        raise asyncio.CancelledError

    broken = single._writes("acme", Quota())
    broken._store = lost  # type: ignore[method-assign,assignment]
    with pytest.raises(asyncio.CancelledError):
        await broken.run(lambda session, undo: broken.write(session, undo, "c", _replace("y", {"a": 2})))
    row = await single._driver.find_one(TENANTS, {"_id": "acme"})
    assert row is not None and row["documents"] == 1
    assert (await docs.replace(tenant, "c", "z", {"a": 2})).created


def _replace(identifier: str, data: dict[str, int]) -> Replace:
    return Replace(identifier, data)


async def test_a_document_written_by_settings_that_were_just_replaced_gets_the_new_entries(
    single: MongoDocumentStore,
) -> None:
    tenant = single.tenant(ACME)
    await docs.replace(tenant, "c", "x", {"a": 2})
    writes = single._writes("acme", Quota())
    store, state = writes._store, await writes.state("c")

    async def store_late(*args: object) -> None:
        declared = collection.from_data({"indexes": [{"name": "by_a", "fields": ["a"]}]})
        await tenant.put_collection("c", declared)
        await store(*args)  # type: ignore[arg-type]

    writes._store = store_late  # type: ignore[method-assign,assignment]
    await writes.run(lambda session, undo: writes.write(session, undo, "c", _replace("y", {"a": 1})))
    row = await single._driver.find_one(DOCUMENTS, scope("acme", "c", {"id": "y"}))
    assert row is not None and row["g"] > state.version
    page = await tenant.list("c", Query(filters.parse('{"a":{"$lt":3}}'), sorts.parse("a")))
    assert [document.id for document in page.items] == ["y", "x"]


async def test_while_an_index_is_built_lists_do_without_it(store: MongoDocumentStore) -> None:
    tenant = store.tenant(ACME)
    await tenant.put_collection("c", collection.from_data({"indexes": [{"name": "by_a", "fields": ["a"]}]}))
    for identifier, value in (("x", 2), ("y", 1)):
        await docs.replace(tenant, "c", identifier, {"a": value})
    own = scope("acme", "c", {"_id": joined("acme", "c")})
    await store._driver.update(COLLECTIONS, own, {"$set": {"building": True}})
    await store._driver.update(DOCUMENTS, scope("acme", "c", {"id": "y"}), {"$set": {"ix": [], "o": {}}})
    query = Query(filters.parse('{"a":{"$gt":0}}'), sorts.parse("a"))
    assert [document.id for document in (await tenant.list("c", query)).items] == ["y", "x"]
    # Declaring it again completes it.
    await tenant.put_collection("c", (await tenant.collection("c")).settings)
    row = await store._driver.find_one(DOCUMENTS, scope("acme", "c", {"id": "y"}))
    assert row is not None and len(row["ix"]) == 1
    assert [document.id for document in (await tenant.list("c", query)).items] == ["y", "x"]


async def test_a_write_whose_answer_was_lost_behind_its_commit_is_remembered(
    store: MongoDocumentStore,
) -> None:
    tenant, key = store.tenant(ACME), IdempotencyKey("key", b"f")
    transaction = store._driver.transaction

    async def lose_the_answer(work: Callable[[Any], Awaitable[Any]]) -> Any:
        await transaction(work)
        raise StoreUnavailable

    if not tenant._writes.transactions:
        pytest.skip("without transactions there is no commit")
    store._driver.transaction = lose_the_answer  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable):
        await docs.create(tenant, "c", {"a": 1}, idempotency=key)
    store._driver.transaction = transaction  # type: ignore[method-assign]
    document = await docs.create(tenant, "c", {"a": 1}, idempotency=key)
    assert (await tenant.list("c", Query())).items == (document,)


async def test_the_key_of_a_write_whose_gateway_died_is_free_after_a_while(store: MongoDocumentStore) -> None:
    tenant, key = store.tenant(ACME), IdempotencyKey("key", b"f")
    now = instants.now()
    row: dict[str, object]
    row = {"_id": joined("acme", "key"), "t": "acme", "f": b"f", "lease": "dead", "result": ""}
    row["until"] = now + 60
    await store._driver.insert(IDEMPOTENCY, row)
    with pytest.raises(IdempotencyRunning):
        await docs.create(tenant, "c", {}, idempotency=key)
    over = {"$set": {"until": now - idempotency.LEASE_SECONDS}}
    await store._driver.update(IDEMPOTENCY, {"_id": row["_id"]}, over)
    document = await docs.create(tenant, "c", {}, idempotency=key)
    assert await docs.create(tenant, "c", {}, idempotency=key) == document
