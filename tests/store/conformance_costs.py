"""What every engine promises of what a write may cost: of bulks, and of entries in indexes."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.errors import Unprocessable
from gateway.store.model.collection import CollectionSettings, Index
from gateway.store.model.document import ANY, Precondition
from gateway.store.model.indexing import MAX_ENTRIES, MAX_UNIQUE_VALUES
from gateway.store.model.patch import MergePatch
from gateway.store.model.write import MAX_BULK_COST, Create, Delete, Replace, Update
from gateway.store.port import Capability, DocumentStore
from tests.store import docs
from tests.store.conformance import ACME
from tests.store.conformance_writes import require, statuses

LARGE = {"text": "x" * (MAX_BULK_COST // 8), "n": 0}  # four of them, read and written, are a bulk's cost
ONLY_NEW = Precondition(none_match=frozenset({ANY}))


def indexed(*fields: str, unique: bool = False) -> CollectionSettings:
    return CollectionSettings(indexes=tuple(Index(f"by_{f}", ((f,),), unique) for f in fields))


def pointers(error: Unprocessable) -> list[str]:
    return [problem["pointer"] for problem in error.extra["errors"]]


class CostConformance:
    async def test_a_bulk_whose_cost_is_used_up_does_what_it_did_and_refuses_the_rest(
        self, store: DocumentStore
    ) -> None:
        tenant = store.tenant(ACME)
        await docs.replace(tenant, "c", "x", LARGE)
        outcomes = await tenant.bulk("c", [Update("x", MergePatch({"n": n})) for n in range(1, 9)])
        assert statuses(outcomes) == [200] * 4 + [429] * 4
        assert outcomes[-1].id == "x"
        assert outcomes[-1].error is not None
        assert "Send this operation" in outcomes[-1].error["detail"]
        assert (await tenant.read("c", "x")).data["n"] == 4
        assert statuses(await tenant.bulk("c", [Update("x", MergePatch({"n": 9}))])) == [200]

    async def test_what_fails_costs_what_it_read(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        await docs.replace(tenant, "c", "x", LARGE)
        outcomes = await tenant.bulk("c", [Replace("x", {}, ONLY_NEW) for _ in range(10)])
        assert statuses(outcomes) == [412] * 8 + [429] * 2

    async def test_an_atomic_bulk_beyond_the_cost_changes_nothing(self, store: DocumentStore) -> None:
        require(store, Capability.ATOMIC_BULK)
        tenant = store.tenant(ACME)
        await docs.replace(tenant, "c", "x", LARGE)
        patches = [Update("x", MergePatch({"n": n})) for n in range(1, 9)]
        assert statuses(await tenant.bulk("c", patches, atomic=True)) == [424] * 4 + [413] + [424] * 3
        assert (await tenant.read("c", "x")).data["n"] == 0
        assert statuses(await tenant.bulk("c", patches[:4], atomic=True)) == [200] * 4

    async def test_a_document_with_too_many_values_in_indexes_is_refused_with_its_place(
        self, store: DocumentStore
    ) -> None:
        tenant = store.tenant(ACME)
        await tenant.put_collection("c", indexed("a", "b"))
        half = list(range(MAX_ENTRIES // 2))
        await docs.replace(tenant, "c", "x", {"a": half[:-1], "b": half[:-1]})
        texts = [f"y{n}" for n in half]
        for data in ({"a": half, "b": [*half, -1]}, {"a": [], "b": [*half, *texts, -1]}):
            with pytest.raises(Unprocessable) as caught:
                await docs.replace(tenant, "c", "x", data)
            assert pointers(caught.value) == ["/b"]
        assert (await tenant.read("c", "x")).version == 1
        items = [Create({"a": half * 3, "b": [*half, -1]}), Create({"a": half * 3})]
        outcomes = await tenant.bulk("c", items)
        assert statuses(outcomes) == [422, 201]
        assert statuses(await tenant.bulk("c", [Delete("x")])) == [204]

    async def test_values_in_indexes_are_limited_by_their_length_too(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        await tenant.put_collection("c", indexed(*(f"f{n}" for n in range(16))))
        long = [f"{n:03d}" + "x" * 200 for n in range(240)]
        with pytest.raises(Unprocessable) as caught:
            await docs.create(tenant, "c", {f"f{n}": long for n in range(16)})
        assert pointers(caught.value) != []
        await docs.create(tenant, "c", {"f0": long})

    async def test_a_document_that_fits_no_index_refuses_the_index_and_stays(
        self, store: DocumentStore
    ) -> None:
        tenant = store.tenant(ACME)
        await docs.replace(tenant, "c", "wide", {"a": list(range(MAX_ENTRIES + 2))})
        with pytest.raises(Unprocessable) as caught:
            await tenant.put_collection("c", indexed("a"))
        assert "document wide" in caught.value.detail
        assert pointers(caught.value) == ["/a"]
        assert (await tenant.collection("c")).settings.indexes == ()
        await tenant.put_collection("c", indexed("b"))
        await docs.delete(tenant, "c", "wide")
        await tenant.put_collection("c", indexed("a"))

    @pytest.mark.parametrize("value", [list(range(MAX_UNIQUE_VALUES + 1)), {"m": [[0] * MAX_UNIQUE_VALUES]}])
    async def test_a_value_that_is_dear_to_compare_is_not_unique(
        self, store: DocumentStore, value: Any
    ) -> None:
        tenant = store.tenant(ACME)
        await tenant.put_collection(
            "c", CollectionSettings(indexes=(Index("pair", (("a",), ("b",)), unique=True),))
        )
        with pytest.raises(Unprocessable) as caught:
            await docs.create(tenant, "c", {"a": 1, "b": value})
        assert pointers(caught.value) == ["/b"]
