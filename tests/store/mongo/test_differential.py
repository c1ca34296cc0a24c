"""The MongoDB engine finds and orders what the reference finds and orders: random documents, filters, sorts,
pages; with declared indexes and without.

On a MongoDB server in full; on nx-27017 without the conditions on the client's members, of which
test_filter.py shows that they leave out no match.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.model import TenantId
from gateway.store.filter import regex
from gateway.store.filter.nodes import EVERYTHING, Node
from gateway.store.model import collection
from gateway.store.model.patch import MergePatch
from gateway.store.model.query import Query
from gateway.store.model.sort import SortKey
from gateway.store.model.write import Replace
from gateway.store.mongo.engine import MongoDocumentStore
from gateway.store.mongo.tenant import MongoTenantStore
from tests.store import docs
from tests.store.mongo import server
from tests.store.sqlite.read.test_differential import (
    INDEXED,
    Stored,
    canonical,
    documents,
    expected,
    filters,
    held,
    keys,
    parts,
)

DECLARED = collection.from_data(
    {"indexes": [{"name": f"i{n}", "fields": [".".join(path)]} for n, path in enumerate(INDEXED)]}
)


@dataclass
class Engine:
    """A tenant's store, used from outside of its event loop."""

    runner: asyncio.Runner
    tenant: MongoTenantStore

    def store(self, data: list[dict[str, Any]], *, indexed: bool) -> Stored:
        """The documents as read back, with the instants of their creation and modification."""
        return self.runner.run(self._store([canonical(members) for members in data], indexed))

    async def _store(self, data: list[dict[str, Any]], indexed: bool) -> Stored:
        tenant = self.tenant
        await docs.replace(tenant, "c", "x", {})
        await tenant.delete_collection("c", documents=True)
        numbered = [Replace(str(n), members) for n, members in enumerate(data)]
        await tenant.bulk("c", numbered[::2])
        if indexed:  # some documents are there before the indexes, some come and go after
            await tenant.put_collection("c", DECLARED)
            await docs.replace(tenant, "c", "gone", data[0])
            await docs.delete(tenant, "c", "gone")
        await tenant.bulk("c", numbered[1::2])
        await docs.patch(tenant, "c", "0", MergePatch(data[-1]))
        found = (await tenant.list("c", Query(limit=1000))).items
        return {item.id: (item.data, item.created, item.modified) for item in found}

    def found(self, wanted: Node, sort: tuple[SortKey, ...] = (), limit: int = 1000) -> list[str]:
        return self.runner.run(self._found(wanted, sort, limit))

    async def _found(self, wanted: Node, sort: tuple[SortKey, ...], limit: int) -> list[str]:
        """All pages, one after the other."""
        page = await self.tenant.list("c", Query(wanted, sort, limit, count=True))
        total, seen = page.count, [item.id for item in page.items]
        while page.next is not None:
            page = await self.tenant.list("c", Query(wanted, sort, limit, page.next))
            seen += [item.id for item in page.items]
        assert total == len(seen)
        return seen


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with server.serve(tmp_path_factory.mktemp("nx")) as uri, asyncio.Runner() as runner:
        store = MongoDocumentStore(server.driver(uri, members=False), b"k" * 32)
        runner.run(store.start())
        yield Engine(runner, store.tenant(TenantId("acme")))
        runner.run(store.close())


@pytest.mark.skipif(not regex.AVAILABLE, reason="google-re2 is not installed")
@settings(max_examples=60, deadline=None)
@given(data=documents, parts=parts, choice=st.data(), indexed=st.booleans())
def test_a_filter_finds_what_the_reference_matches(
    engine: Engine, data: list[dict[str, Any]], parts: list[Any], choice: st.DataObject, indexed: bool
) -> None:
    stored = engine.store(data, indexed=indexed)
    parts += [part for whole in stored.values() for part in held(whole[0])]
    for _ in range(3):
        wanted = choice.draw(filters)
        sort, limit = choice.draw(keys), choice.draw(st.sampled_from([1, 3, 1000]))
        assert engine.found(wanted, sort, limit) == expected(stored, wanted, sort)


@settings(max_examples=40, deadline=None)
@given(data=documents, sort=keys, limit=st.integers(1, 4), indexed=st.booleans())
def test_pages_come_in_the_reference_order_with_nothing_left_out_or_twice(
    engine: Engine, data: list[dict[str, Any]], sort: tuple[SortKey, ...], limit: int, indexed: bool
) -> None:
    stored = engine.store(data, indexed=indexed)
    assert engine.found(EVERYTHING, sort, limit) == expected(stored, EVERYTHING, sort)
