"""What every engine promises of lists by long texts: they are in the order of the whole texts."""

from __future__ import annotations

import random
from typing import Any

import pytest

from gateway.core.model import TenantId
from gateway.store.model import sort as sorts
from gateway.store.model.collection import CollectionSettings, Index
from gateway.store.model.cursor import MAX_TEXT
from gateway.store.model.patch import MergePatch
from gateway.store.model.query import Query
from gateway.store.model.write import Replace
from gateway.store.port import DocumentStore, TenantStore
from tests.store import docs

ACME = TenantId("acme")
INDEXES = CollectionSettings(indexes=tuple(Index(f"by_{name}", ((name,),)) for name in "ab"))
# What a cursor may add to a URL, of which a server takes some 8 KiB.
URL_BYTES = 5000

Members = dict[str, dict[str, Any]]


def long_texts() -> Members:
    """Texts that agree in many characters, at the borders of what is held of them; some are equal."""
    texts: list[Any] = ["", "same", "same", 7, None, "\U0010ffff" * 130]
    begins = ["x" * length for length in (127, 128, 129, 1000, 5000)]
    for begin in [*begins, "é" * 128, "é" * 1000, "\U0001f600" * 128]:
        texts += [begin, begin + "\uffff", begin + "\U00010000", begin + "a" * 90, begin + "a" * 90]
    ids = [f"{number:03}" for number in range(len(texts))]
    random.Random(1).shuffle(ids)
    return {name: {"a": texts[number], "b": texts[number % 7]} for number, name in enumerate(ids)}


def standing(value: Any) -> tuple[int, Any]:
    """Where nothing, a number or a text stands. Python compares texts by code point."""
    return (0, 0) if value is None else (2, value) if isinstance(value, str) else (1, value)


def expected(members: Members, sort: str) -> list[str]:
    ids = sorted(members)
    for key in reversed(sort.split(",")):
        name = key.removeprefix("-")
        if name == "id":
            ids.sort(reverse=key != name)
        else:
            ids.sort(key=lambda i: standing(members[i].get(name)), reverse=key != name)
    return ids


async def stored(store: DocumentStore, members: Members, *, indexed: bool) -> TenantStore:
    tenant = store.tenant(ACME)
    if indexed:
        await tenant.put_collection("long", INDEXES)
    for outcome in await tenant.bulk("long", [Replace(name, data) for name, data in members.items()]):
        assert outcome.status == 201
    return tenant


async def page(
    tenant: TenantStore, sort: str, limit: int, cursor: str | None
) -> tuple[list[str], str | None]:
    found = await tenant.list("long", Query(sort=sorts.parse(sort), limit=limit, cursor=cursor))
    assert found.next is None or len(found.next) < URL_BYTES
    return [document.id for document in found.items], found.next


async def pages(tenant: TenantStore, sort: str, limit: int, cursor: str | None = None) -> list[str]:
    seen: list[str] = []
    while True:
        ids, cursor = await page(tenant, sort, limit, cursor)
        seen += ids
        if cursor is None:
            return seen


def tied(length: int, count: int = 6) -> Members:
    """Texts that differ in the last character only, in the opposite order of their ids."""
    return {f"{number}": {"a": "x" * length + chr(0x60 - number)} for number in range(count)}


class OrderConformance:
    @pytest.mark.parametrize("indexed", [False, True])
    @pytest.mark.parametrize(
        ("sort", "limit"), [("a", 1), ("-a", 2), ("a,-id", 3), ("-a,-id", 3), ("-a,b", 2), ("b,-a", 3)]
    )
    async def test_pages_are_in_the_order_of_whole_texts(
        self, store: DocumentStore, sort: str, limit: int, indexed: bool
    ) -> None:
        members = long_texts()
        tenant = await stored(store, members, indexed=indexed)
        assert await pages(tenant, sort, 1000) == expected(members, sort)
        assert await pages(tenant, sort, limit) == expected(members, sort)

    @pytest.mark.parametrize("indexed", [False, True])
    @pytest.mark.parametrize("sort", ["a", "-a"])
    async def test_large_documents_are_in_the_order_of_whole_texts(
        self, store: DocumentStore, sort: str, indexed: bool
    ) -> None:
        members = tied(300_000, 3) | {"short": {"a": "x"}}
        tenant = await stored(store, members, indexed=indexed)
        assert await pages(tenant, sort, 1) == expected(members, sort)

    @pytest.mark.parametrize("indexed", [False, True])
    @pytest.mark.parametrize("sort", ["a", "-a", "a,b"])
    async def test_a_page_goes_on_exactly_behind_a_document_whatever_became_of_it(
        self, store: DocumentStore, sort: str, indexed: bool
    ) -> None:
        members = tied(MAX_TEXT - 10)
        tenant = await stored(store, members, indexed=indexed)
        (first, second), cursor = await page(tenant, sort, 2, None)
        (third,), later = await page(tenant, sort, 1, cursor)
        await docs.delete(tenant, "long", second)
        await docs.patch(tenant, "long", third, MergePatch({"a": "z" if sort == "-a" else "a"}))  # before all
        whole = expected(members, sort)
        assert [first, second, third] == whole[:3]
        assert await pages(tenant, sort, 2, later) == whole[3:]

    @pytest.mark.parametrize("indexed", [False, True])
    @pytest.mark.parametrize("sort", ["a", "-a", "a,b"])
    async def test_behind_a_very_long_text_that_was_changed_none_is_left_out(
        self, store: DocumentStore, sort: str, indexed: bool
    ) -> None:
        members = tied(5 * MAX_TEXT) | {"first": {"a": "w"}, "last": {"a": "xy"}}
        tenant = await stored(store, members, indexed=indexed)
        whole = expected(members, sort)
        ids, cursor = await page(tenant, sort, 4, None)
        assert ids == whole[:4]
        # Another member of it decides nothing.
        await docs.patch(tenant, "long", ids[-1], MergePatch({"c": 1}))
        assert await pages(tenant, sort, 1, cursor) == whole[4:]
        # Without its text all that begin like it come (again), in order.
        await docs.patch(tenant, "long", ids[-1], MergePatch({"a": members[ids[-1]]["a"] + "!"}))
        ids_now, _ = await page(tenant, sort, 1000, None)
        assert await pages(tenant, sort, 2, cursor) == ids_now[1:]
        await docs.delete(tenant, "long", ids[-1])
        assert await pages(tenant, sort, 2, cursor) == [name for name in whole[1:] if name != ids[-1]]
