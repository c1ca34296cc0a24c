"""What every engine promises, over the port. An engine's test file subclasses these and gives `store`."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Collection, Mapping
from typing import ClassVar

import pytest

from gateway.core.errors import BadRequest, BodyTooLarge, NotFound, PreconditionFailed
from gateway.core.model import TenantId
from gateway.store.filter import parse as filters
from gateway.store.filter.nodes import And
from gateway.store.json import strict
from gateway.store.model import sort as sorts
from gateway.store.model.document import ANY, MAX_DOCUMENT_BYTES, Precondition
from gateway.store.model.patch import MergePatch
from gateway.store.model.query import Query
from gateway.store.model.write import Replace
from gateway.store.port import DocumentStore, TenantStore
from tests.store import docs

ACME, GLOBEX = TenantId("acme"), TenantId("globex")


def match(*tags: str) -> Precondition:
    return Precondition(match=frozenset(tags))


def none_match(*tags: str) -> Precondition:
    return Precondition(none_match=frozenset(tags))


async def ids(tenant: TenantStore, collection: str, text: str = "{}", sort: str = "") -> list[str]:
    query = Query(filters.parse(text), sorts.parse(sort) if sort else ())
    return [document.id for document in (await tenant.list(collection, query)).items]


async def names(tenant: TenantStore) -> list[str]:
    return [collection.name for collection in (await tenant.collections()).items]


class ReadsAndWrites:
    async def test_a_created_document_is_read_back_as_it_was_written(self, store: DocumentStore) -> None:
        data = {"a": 1, "b": [None, True, {"c": "é\u2028\U0001f600"}], "d": 0.1, "": "", "f": -(2**63)}
        before = time.time()
        made = await docs.create(store.tenant(ACME), "orders", data)
        read = await store.tenant(ACME).read("orders", made.id)
        assert read == made
        assert read.data == data and list(read.data) == list(data)
        assert read.version == 1 and before <= read.created == read.modified <= time.time()

    async def test_ids_made_by_the_store_are_uuid7_and_rise(self, store: DocumentStore) -> None:
        made = [await docs.create(store.tenant(ACME), "orders", {}) for _ in range(20)]
        assert all(uuid.UUID(document.id).version == 7 for document in made)
        assert all(abs((uuid.UUID(d.id).int >> 80) / 1000 - d.created) < 5 for d in made)
        assert [d.id for d in made] == sorted(d.id for d in made)

    async def test_reading_what_is_not_there_is_not_found(self, store: DocumentStore) -> None:
        with pytest.raises(NotFound):
            await store.tenant(ACME).read("orders", "none")

    async def test_replace_makes_a_document_and_then_replaces_all_of_it(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        first = await docs.replace(tenant, "orders", "x", {"a": 1, "b": 2})
        second = await docs.replace(tenant, "orders", "x", {"a": 3})
        assert first.created and not second.created
        assert second.document.data == {"a": 3}
        assert second.document.version == 2 and second.document.created == first.document.created
        assert await tenant.read("orders", "x") == second.document

    async def test_patch_is_a_merge_patch(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        await docs.replace(tenant, "orders", "x", {"a": {"b": 1, "c": 2}, "d": [1, 2], "e": 5})
        patch = MergePatch({"a": {"b": None, "n": {"m": None}}, "d": [3], "f": 1})
        patched = await docs.patch(tenant, "orders", "x", patch)
        assert patched.data == {"a": {"c": 2, "n": {}}, "d": [3], "e": 5, "f": 1}
        assert await tenant.read("orders", "x") == patched

    async def test_patch_and_delete_of_what_is_not_there_are_not_found_whatever_is_asked(
        self, store: DocumentStore
    ) -> None:
        tenant = store.tenant(ACME)
        for precondition in (Precondition(), match('"x-1"'), match(ANY), none_match(ANY)):
            with pytest.raises(NotFound):
                await docs.patch(tenant, "orders", "x", MergePatch({}), precondition)
            with pytest.raises(NotFound):
                await docs.delete(tenant, "orders", "x", precondition)

    async def test_a_deleted_document_is_gone(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        await docs.replace(tenant, "orders", "x", {})
        await docs.delete(tenant, "orders", "x")
        with pytest.raises(NotFound):
            await tenant.read("orders", "x")
        assert await ids(tenant, "orders") == []

    async def test_a_document_that_is_too_large_is_refused_by_every_write(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        half = "x" * (MAX_DOCUMENT_BYTES // 2)
        await docs.replace(tenant, "orders", "x", {"a": half})
        for write in (
            docs.create(tenant, "orders", {"a": half, "b": half}),
            docs.replace(tenant, "orders", "x", {"a": half, "b": half}),
            docs.patch(tenant, "orders", "x", MergePatch({"b": half})),
        ):
            with pytest.raises(BodyTooLarge):
                await write
        assert (await tenant.read("orders", "x")).data == {"a": half}

    async def test_collections_are_those_with_documents_in_pages(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        assert (await tenant.collections()).items == ()
        for name in ("b", "a", "c", "B", "a-1"):
            await docs.replace(tenant, name, "x", {})
            await docs.replace(tenant, name, "y", {})
        await docs.delete(tenant, "c", "x")
        await docs.delete(tenant, "c", "y")
        assert await names(tenant) == ["B", "a", "a-1", "b"]
        first = await tenant.collections(3)
        assert [c.name for c in first.items] == ["B", "a", "a-1"] and first.next is not None
        rest = await tenant.collections(3, first.next)
        assert [c.name for c in rest.items] == ["b"] and rest.next is None


class Preconditions:
    async def test_every_write_gives_a_tag_that_was_never_there(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        tags = []
        for _ in range(3):
            tags.append((await docs.replace(tenant, "orders", "x", {"a": 1})).document.etag)
            tags.append((await docs.replace(tenant, "orders", "x", {"a": 1})).document.etag)
            tags.append((await docs.patch(tenant, "orders", "x", MergePatch({}))).etag)
            await docs.delete(tenant, "orders", "x")
        assert len(set(tags)) == len(tags)

    async def test_a_stale_tag_changes_nothing(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        stale = (await docs.replace(tenant, "orders", "x", {"a": 1})).document.etag
        current = (await docs.replace(tenant, "orders", "x", {"a": 2}, match(stale, '"other"'))).document
        for write in (
            docs.replace(tenant, "orders", "x", {"a": 3}, match(stale)),
            docs.patch(tenant, "orders", "x", MergePatch({"a": 3}), match(stale)),
            docs.delete(tenant, "orders", "x", match(stale)),
            docs.replace(tenant, "orders", "x", {"a": 3}, match()),
            docs.replace(tenant, "orders", "x", {"a": 3}, none_match(ANY)),
            docs.patch(tenant, "orders", "x", MergePatch({"a": 3}), none_match(current.etag)),
        ):
            with pytest.raises(PreconditionFailed):
                await write
        assert await tenant.read("orders", "x") == current
        await docs.delete(tenant, "orders", "x", match(current.etag))

    async def test_replace_that_needs_a_document_does_not_make_one(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        for precondition in (match(ANY), match('"x-1"')):
            with pytest.raises(PreconditionFailed):
                await docs.replace(tenant, "orders", "x", {}, precondition)
        assert (await docs.replace(tenant, "orders", "x", {}, none_match(ANY))).created

    async def test_of_many_writes_with_one_tag_one_wins(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        tag = (await docs.replace(tenant, "orders", "x", {"n": 0})).document.etag
        writes = [docs.patch(tenant, "orders", "x", MergePatch({"n": n}), match(tag)) for n in range(1, 33)]
        results = await asyncio.gather(*writes, return_exceptions=True)
        won = [result for result in results if not isinstance(result, BaseException)]
        lost = [result for result in results if isinstance(result, PreconditionFailed)]
        assert len(won) == 1 and len(lost) == 31
        assert await tenant.read("orders", "x") == won[0]

    async def test_of_many_creations_with_one_id_one_wins(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        writes = [docs.replace(tenant, "orders", "x", {"n": n}, none_match(ANY)) for n in range(32)]
        results = await asyncio.gather(*writes, return_exceptions=True)
        assert sum(not isinstance(result, BaseException) for result in results) == 1
        assert sum(isinstance(result, PreconditionFailed) for result in results) == 31

    async def test_counting_with_compare_and_swap_loses_nothing(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        await docs.replace(tenant, "orders", "x", {"n": 0})

        async def count() -> None:
            for _ in range(5):
                while True:
                    current = await tenant.read("orders", "x")
                    try:
                        patch = MergePatch({"n": current.data["n"] + 1})
                        await docs.patch(tenant, "orders", "x", patch, match(current.etag))
                        break
                    except PreconditionFailed:
                        pass

        await asyncio.gather(*(count() for _ in range(5)))
        assert (await tenant.read("orders", "x")).data == {"n": 25}


MIXED = {
    "missing": {}, "null": {"a": None}, "zero": {"a": 0}, "one": {"a": 1}, "half": {"a": 0.5},
    "big": {"a": 2**53 + 1}, "bigger": {"a": 1e300}, "text": {"a": "1"}, "empty": {"a": ""},
    "true": {"a": True}, "false": {"a": False}, "object": {"a": {"b": 1}}, "deep": {"a": {"b": {"c": [1]}}},
    "array": {"a": [1, "x", None]}, "objects": {"a": [{"b": 1}, {"c": 2}, 7]}, "arrays": {"a": [[1], []]},
}  # fmt: skip


async def fill(store: DocumentStore) -> TenantStore:
    tenant = store.tenant(ACME)
    await tenant.bulk("mixed", [Replace(name, data) for name, data in MIXED.items()])
    return tenant


EQUAL: dict[str, set[str]] = {
    "{}": set(MIXED),
    '{"a":1}': {"one", "array"},
    '{"a":1.0}': {"one", "array"},
    '{"a":true}': {"true"},
    '{"a":false}': {"false"},
    '{"a":0}': {"zero"},
    '{"a":"1"}': {"text"},
    '{"a":""}': {"empty"},
    '{"a":0.5}': {"half"},
    '{"a":9007199254740993}': {"big"},
    '{"a":9007199254740992}': set(),
    '{"a":1e300}': {"bigger"},
    '{"a":null}': {"missing", "null", "array"},
    '{"a":{"$eq":null}}': {"missing", "null", "array"},
    '{"a":{"b":1}}': {"object", "objects"},
    '{"a":{"b":{"c":[1]}}}': {"deep"},
    '{"a":[1,"x",null]}': {"array"},
    '{"a":[1]}': {"arrays"},
    '{"a":[]}': {"arrays"},
    '{"a":{}}': set(),
    '{"a.b":1}': {"object", "objects"},
    '{"a.b.c":1}': {"deep"},
    '{"a.b":null}': set(MIXED) - {"object", "deep", "array", "arrays"},
    '{"id":"one"}': {"one"},
    '{"id":{"$eq":"one"},"a":1}': {"one"},
    '{"id":null}': set(),
    '{"id":1}': set(),
    '{"$and":[{"a":1},{"a":"x"}]}': {"array"},
    '{"a":1,"b":null}': {"one", "array"},
}


async def check_answers(
    tenant: TenantStore, collection: str, expected: Mapping[str, set[str]], gaps: Collection[str]
) -> None:
    """Each filter finds what is expected. gaps: the filters to which another answer is known to come."""
    answers = {text: set(await ids(tenant, collection, text)) for text in expected}
    others = {text: found for text, found in answers.items() if found != expected[text]}
    assert others.keys() == expected.keys() & set(gaps), others


class Lists:
    GAPS: ClassVar[Mapping[str, str]] = {}

    async def test_a_list_of_an_unknown_collection_is_empty(self, store: DocumentStore) -> None:
        page = await store.tenant(ACME).list("nothing", Query())
        assert page.items == () and page.next is None

    async def test_without_a_sort_the_order_is_by_id(self, store: DocumentStore) -> None:
        assert await ids(await fill(store), "mixed") == sorted(MIXED)

    async def test_equality(self, store: DocumentStore) -> None:
        await check_answers(await fill(store), "mixed", EQUAL, self.GAPS)

    async def test_the_order_is_total_over_all_types(self, store: DocumentStore) -> None:
        tenant = await fill(store)
        ranks = [
            ["missing", "null"], ["zero"], ["half"], ["one"], ["big"], ["bigger"], ["empty"], ["text"],
            ["deep", "object"], ["array", "arrays", "objects"], ["false"], ["true"],
        ]  # fmt: skip
        assert await ids(tenant, "mixed", sort="a") == [name for rank in ranks for name in rank]
        assert await ids(tenant, "mixed", sort="-a") == [name for rank in reversed(ranks) for name in rank]

    @pytest.mark.parametrize("sort", ["", "id", "-id", "a", "-a", "a,-id", "-a.b,a", "b,-a,id"])
    async def test_pages_together_are_the_list_once_each(self, store: DocumentStore, sort: str) -> None:
        tenant = await fill(store)
        keys = sorts.parse(sort) if sort else ()
        whole = await ids(tenant, "mixed", sort=sort)
        for limit in (1, 3, len(MIXED) - 1, len(MIXED), 1000):
            seen: list[str] = []
            cursor = None
            while True:
                page = await tenant.list("mixed", Query(sort=keys, limit=limit, cursor=cursor))
                seen += [document.id for document in page.items]
                assert len(page.items) <= limit
                cursor = page.next
                if cursor is None:
                    break
            assert seen == whole and len(seen) == len(MIXED), limit

    async def test_a_page_goes_on_where_it_ended_when_its_last_document_was_deleted(
        self, store: DocumentStore
    ) -> None:
        tenant = await fill(store)
        whole = await ids(tenant, "mixed", sort="-a")
        page = await tenant.list("mixed", Query(sort=sorts.parse("-a"), limit=5))
        await docs.delete(tenant, "mixed", page.items[-1].id)
        rest = await tenant.list("mixed", Query(sort=sorts.parse("-a"), cursor=page.next))
        assert [document.id for document in rest.items] == whole[5:]

    async def test_long_texts_make_no_long_cursor(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        for name in "cab":
            await docs.replace(tenant, "long", name, {"a": "é" * 100_000 + name})
        page = await tenant.list("long", Query(sort=sorts.parse("-a"), limit=1))
        assert page.items[0].id == "c"
        assert page.next is not None and len(page.next) < 4000
        rest = await tenant.list("long", Query(sort=sorts.parse("-a"), cursor=page.next))
        assert [document.id for document in rest.items] == ["b", "a"]

    async def test_a_page_of_very_large_documents_ends_early_and_goes_on(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        for name in "abc":
            await docs.replace(tenant, "large", name, {"a": "x" * 5_000_000})
        page = await tenant.list("large", Query())
        assert [document.id for document in page.items] == ["a"] and page.next is not None
        page = await tenant.list("large", Query(cursor=page.next))
        assert [document.id for document in page.items] == ["b"]

    async def test_a_cursor_counts_only_for_the_list_that_gave_it(self, store: DocumentStore) -> None:
        tenant = await fill(store)
        await docs.replace(store.tenant(GLOBEX), "mixed", "x", {})
        sort = sorts.parse("a")
        cursor = (await tenant.list("mixed", Query(sort=sort, limit=1))).next
        names = (await tenant.collections(1)).next
        assert cursor is not None and names is None
        await docs.replace(tenant, "other", "x", {})
        names = (await tenant.collections(1)).next
        assert names is not None
        flipped = ("A" if cursor[0] != "A" else "B") + cursor[1:]
        foreign = [
            store.tenant(GLOBEX).list("mixed", Query(sort=sort, cursor=cursor)),
            store.tenant(GLOBEX).collections(cursor=names),
            tenant.list("orders", Query(sort=sort, cursor=cursor)),
            tenant.list("mixed", Query(sort=sorts.parse("-a"), cursor=cursor)),
            tenant.list("mixed", Query(filters.parse('{"a":1}'), sort, cursor=cursor)),
            tenant.list("mixed", Query(sort=sort, cursor=names)),
            tenant.collections(cursor=cursor),
            *(
                tenant.list("mixed", Query(sort=sort, cursor=forged))
                for forged in ("", "A", "AAAA", flipped, cursor + "AAAA", "é", "$", cursor * 100, cursor[:20])
            ),
        ]
        details = set()
        for attempt in foreign:
            with pytest.raises(BadRequest) as caught:
                await attempt
            details.add(caught.value.detail)
        assert len(details) == 1


class Isolation:
    async def test_a_tenant_sees_nothing_of_another(self, store: DocumentStore) -> None:
        a, b = store.tenant(ACME), store.tenant(GLOBEX)
        secret = (await docs.replace(a, "orders", "x", {"canary": "c4n4ry"})).document
        theirs = (match(secret.etag), match(ANY), Precondition())
        for identifier in ("x", "never"):
            for precondition in theirs:
                with pytest.raises(NotFound):
                    await docs.patch(b, "orders", identifier, MergePatch({"a": 1}), precondition)
                with pytest.raises(NotFound):
                    await docs.delete(b, "orders", identifier, precondition)
            with pytest.raises(NotFound):
                await b.read("orders", identifier)
            with pytest.raises(PreconditionFailed):
                await docs.replace(b, "orders", identifier, {}, match(secret.etag))
        assert await ids(b, "orders", '{"canary":"c4n4ry"}') == []
        assert (await b.collections()).items == ()
        own = (await docs.replace(b, "orders", "x", {"mine": 1})).document
        assert own.data == {"mine": 1} and own.etag != secret.etag
        await docs.delete(b, "orders", "x")
        assert await a.read("orders", "x") == secret

    async def test_texts_that_mean_something_elsewhere_are_only_texts(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        odd = ["' OR 1=1 --", '{"$ne":null}', "%", "_", '"', "\\", "$.a", "a\u001fb".replace("\u001f", "")]
        for text in odd:
            await docs.replace(tenant, "odd", text, {"a": text})
        for text in odd:
            assert (await tenant.read("odd", text)).data == {"a": text}
            query = Query(And((filters.parse(f'{{"a":{strict.dumps(text)}}}'),)))
            assert [document.id for document in (await tenant.list("odd", query)).items] == [text]


class Conformance(ReadsAndWrites, Preconditions, Lists, Isolation):
    """All of it."""
