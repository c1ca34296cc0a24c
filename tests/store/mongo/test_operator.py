"""What an operator asks of the MongoDB engine: who is there, how much, and whether all fits together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.core.errors import NotFound, NotSupportedByStore
from gateway.core.model import TenantId
from gateway.store.model import collection
from gateway.store.mongo.driver import Driver
from gateway.store.mongo.engine import MongoDocumentStore
from gateway.store.mongo.operator import MongoOperator
from gateway.store.mongo.rows import CLAIMS, COLLECTIONS, DOCUMENTS, TENANTS, scope
from tests.store import docs
from tests.store.mongo import server

ACME, GLOBEX = TenantId("acme"), TenantId("globex")
Both = tuple[MongoDocumentStore, MongoOperator]


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[Both]:
    """A store with documents of two tenants, and the operator of its database."""
    with server.serve(tmp_path) as uri:
        uri = server.database(uri)
        store, operator = MongoDocumentStore(Driver(uri), b"k" * 32), MongoOperator(Driver(uri))
        await store.start()
        declared = {"indexes": [{"name": "a", "fields": ["a"], "unique": True}], "ttl": {"seconds": 1000}}
        await store.tenant(ACME).put_collection("c", collection.from_data(declared))
        await docs.replace(store.tenant(ACME), "c", "x", {"a": 1})
        await docs.replace(store.tenant(ACME), "c", "y", {"a": [2, 3]})
        await docs.create(store.tenant(ACME), "d", {"é": "é"})
        await docs.create(store.tenant(GLOBEX), "c", {})
        yield store, operator
        await operator.close()
        await store.close()


async def test_tenants_and_their_sizes(both: Both) -> None:
    _, operator = both
    assert await operator.tenants() == (ACME, GLOBEX)
    size = await operator.size(ACME)
    texts = b"".join(text.encode() for text in ('{"a":1}', '{"a":[2,3]}', '{"é":"é"}'))
    assert (size.collections, size.documents, size.bytes) == (2, 3, len(texts))
    assert size.stored_bytes > size.bytes
    with pytest.raises(NotFound):
        await operator.size(TenantId("nobody"))
    with pytest.raises(NotFound):
        await operator.verify(TenantId("nobody"))


@pytest.mark.parametrize(
    ("name", "query", "change", "told"),
    [
        (DOCUMENTS, scope("acme", "c", {"id": "x"}), {"$set": {"d": {"a": 7}}}, "c/x: its entries"),
        (DOCUMENTS, scope("acme", "c", {"id": "x"}), {"$set": {"d": {"a": 7}}}, "c/x: a unique value"),
        (DOCUMENTS, scope("acme", "c", {"id": "x"}), {"$set": {"s": 99}}, "c/x: its size"),
        (CLAIMS, scope("acme", "c", {"o": "x"}), {"$set": {"o": "y"}}, "c/x: a unique value"),
        (COLLECTIONS, scope("acme", "c"), {"$inc": {"documents": 1}}, "c counts 3 documents"),
        (COLLECTIONS, scope("acme", "c"), {"$set": {"building": True}}, "not complete"),
        (TENANTS, {"$and": [{"_id": "acme"}, {"t": "acme"}]}, {"$inc": {"bytes": 1}}, "The tenant counts 3"),
    ],
)
async def test_verifying_tells_what_does_not_fit(
    both: Both, name: str, query: dict[str, object], change: dict[str, object], told: str
) -> None:
    store, operator = both
    assert await operator.verify(ACME) == () == await operator.verify(GLOBEX)
    assert await store._driver.update(name, query, change)
    assert any(told in sentence for sentence in await operator.verify(ACME))
    assert await operator.verify(GLOBEX) == ()


async def test_copies_are_the_servers_business(both: Both, tmp_path: Path) -> None:
    _, operator = both
    with pytest.raises(NotSupportedByStore, match="mongodump"):
        await operator.backup(ACME, tmp_path / "x")
    with pytest.raises(NotSupportedByStore, match="mongorestore"):
        await operator.restore(ACME, tmp_path / "x")
