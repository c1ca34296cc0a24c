"""What every engine promises of collections and their settings."""

from __future__ import annotations

import time
from typing import Any

import pytest

from gateway.core.errors import (
    Conflict,
    NotFound,
    PreconditionFailed,
    PreconditionRequired,
    SchemaViolation,
    UniqueConflict,
    Unprocessable,
)
from gateway.store.model import collection, instants
from gateway.store.model.collection import NO_SETTINGS, CollectionSettings
from gateway.store.model.document import ANY
from gateway.store.model.idempotency import IdempotencyKey
from gateway.store.model.patch import MergePatch
from gateway.store.model.query import Query
from gateway.store.model.write import Create, Replace, Update
from gateway.store.port import DocumentStore
from tests.store import docs
from tests.store.conformance import ACME, GLOBEX, ids, match, names, none_match


def settings(**data: Any) -> CollectionSettings:
    return collection.from_data(data)


def unique(*fields: str) -> dict[str, Any]:
    return {"name": "only", "fields": list(fields), "unique": True}


class Collections:
    async def test_a_page_of_collections_ends_early_where_settings_are_large(
        self, store: DocumentStore
    ) -> None:
        tenant = store.tenant(ACME)
        large = settings(schema={"description": "ä" * 240_000})
        for n in range(20):
            await tenant.put_collection(f"c{n:02}", large)
        found, page = [], await tenant.collections(1000)
        while page.next is not None:
            held = sum(len(one.text) for one in page.items)
            assert collection.PAGE_BYTES < held < collection.PAGE_BYTES + 250_000
            found += page.items
            page = await tenant.collections(1000, page.next)
        found += page.items
        assert [one.name for one in found] == [f"c{n:02}" for n in range(20)] and len(page.items) < 5
        assert found[0].settings == large

    async def test_a_collection_is_declared_read_changed_and_deleted(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        with pytest.raises(NotFound):
            await tenant.collection("orders")
        made, new = await tenant.put_collection("orders", settings(require_if_match=True))
        assert new and made.declared and made.settings.require_if_match and made.documents == 0
        assert await tenant.collection("orders") == made
        assert await names(tenant) == ["orders"]
        changed, new = await tenant.put_collection("orders", NO_SETTINGS)
        assert not new and changed.etag != made.etag and changed.settings == NO_SETTINGS
        patched = await tenant.patch_collection("orders", MergePatch({"ttl": {"field": "end"}}))
        assert patched.settings.data == {"ttl": {"field": "end", "seconds": 0}}
        patched = await tenant.patch_collection("orders", MergePatch({"ttl": None}))
        assert patched.settings == NO_SETTINGS
        await tenant.delete_collection("orders")
        for attempt in (
            tenant.collection("orders"),
            tenant.patch_collection("orders", MergePatch({})),
            tenant.delete_collection("orders"),
        ):
            with pytest.raises(NotFound):
                await attempt
        assert await names(tenant) == []

    async def test_settings_are_changed_under_preconditions(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        with pytest.raises(PreconditionFailed):
            await tenant.put_collection("orders", NO_SETTINGS, match(ANY))
        made, _ = await tenant.put_collection("orders", NO_SETTINGS, none_match(ANY))
        current, _ = await tenant.put_collection("orders", settings(require_if_match=True), match(made.etag))
        for attempt in (
            tenant.put_collection("orders", NO_SETTINGS, match(made.etag)),
            tenant.put_collection("orders", NO_SETTINGS, none_match(ANY)),
            tenant.patch_collection("orders", MergePatch({}), match(made.etag)),
            tenant.delete_collection("orders", match(made.etag)),
        ):
            with pytest.raises(PreconditionFailed):
                await attempt
        assert await tenant.collection("orders") == current
        await tenant.delete_collection("orders", match(current.etag))
        again, _ = await tenant.put_collection("orders", NO_SETTINGS)
        assert again.etag not in (made.etag, current.etag)

    async def test_a_collection_that_was_not_declared_has_no_settings_and_can_be_declared(
        self, store: DocumentStore
    ) -> None:
        tenant = store.tenant(ACME)
        await docs.replace(tenant, "orders", "x", {"a": 1})
        found = await tenant.collection("orders")
        assert (found.declared, found.settings, found.documents, found.bytes) == (False, NO_SETTINGS, 1, 7)
        made, new = await tenant.put_collection("orders", NO_SETTINGS, match(found.etag))
        assert new and made.declared and made.documents == 1
        assert (await tenant.read("orders", "x")).data == {"a": 1}

    async def test_documents_and_bytes_are_counted(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        await docs.replace(tenant, "orders", "x", {"a": "é"})
        await docs.replace(tenant, "orders", "y", {"a": "é"})
        await docs.replace(tenant, "orders", "y", {})
        await docs.patch(tenant, "orders", "x", MergePatch({"b": 1}))
        with pytest.raises(PreconditionFailed):
            await docs.replace(tenant, "orders", "x", {"a": "long" * 100}, none_match(ANY))
        found = await tenant.collection("orders")
        assert (found.documents, found.bytes) == (2, len('{"a":"é","b":1}'.encode()) + 2)
        await docs.delete(tenant, "orders", "x")
        assert (await tenant.collections()).items[0].documents == 1

    async def test_a_collection_with_documents_is_deleted_only_when_told_so(
        self, store: DocumentStore
    ) -> None:
        tenant = store.tenant(ACME)
        await tenant.put_collection("orders", settings(indexes=[unique("a")]))
        await docs.replace(tenant, "orders", "x", {"a": 1})
        await docs.replace(tenant, "others", "x", {"a": 1})
        with pytest.raises(Conflict):
            await tenant.delete_collection("orders")
        assert (await tenant.read("orders", "x")).data == {"a": 1}
        await tenant.delete_collection("orders", documents=True)
        assert await ids(tenant, "orders") == [] and await names(tenant) == ["others"]
        await docs.replace(tenant, "orders", "y", {"a": 1})
        await docs.replace(tenant, "orders", "z", {"a": 1})  # the index is gone with its collection
        assert await ids(tenant, "orders", '{"a":1}') == ["y", "z"]

    async def test_settings_are_a_tenants_own(self, store: DocumentStore) -> None:
        await store.tenant(ACME).put_collection("orders", settings(schema={"required": ["canary"]}))
        other = store.tenant(GLOBEX)
        with pytest.raises(NotFound):
            await other.collection("orders")
        await docs.replace(other, "orders", "x", {})
        assert (await other.collection("orders")).settings == NO_SETTINGS

    async def test_if_match_is_required_where_the_collection_says_so(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        await tenant.put_collection("orders", settings(require_if_match=True))
        await docs.create(tenant, "orders", {})
        made = (await docs.replace(tenant, "orders", "x", {})).document
        for attempt in (
            docs.replace(tenant, "orders", "x", {}),
            docs.patch(tenant, "orders", "x", MergePatch({})),
            docs.delete(tenant, "orders", "x"),
            docs.delete(tenant, "orders", "x", none_match('"other"')),
        ):
            with pytest.raises(PreconditionRequired):
                await attempt
        with pytest.raises(NotFound):
            await docs.delete(tenant, "orders", "none")
        await docs.delete(tenant, "orders", "x", match(made.etag))
        await tenant.put_collection("orders", NO_SETTINGS)
        await docs.replace(tenant, "orders", "x", {})
        await docs.replace(tenant, "orders", "x", {})


class Schemas:
    SCHEMA = {
        "type": "object",
        "properties": {"n": {"$ref": "#/$defs/n"}, "tags": {"items": {"type": "string"}}},
        "required": ["n"],
        "$defs": {"n": {"type": "integer", "minimum": 1}},
    }

    async def test_a_document_that_does_not_fit_is_refused_by_every_write_with_pointers(
        self, store: DocumentStore
    ) -> None:
        tenant = store.tenant(ACME)
        await tenant.put_collection("orders", settings(schema=self.SCHEMA))
        good = (await docs.replace(tenant, "orders", "x", {"n": 1, "tags": ["c4n4ry"]})).document
        for write in (
            docs.create(tenant, "orders", {"n": 0}),
            docs.replace(tenant, "orders", "x", {"n": 0}),
            docs.replace(tenant, "orders", "y", {"n": 0}),
            docs.patch(tenant, "orders", "x", MergePatch({"n": 0})),
        ):
            with pytest.raises(SchemaViolation) as caught:
                await write
            assert [error["pointer"] for error in caught.value.extra["errors"]] == ["/n"]
        with pytest.raises(SchemaViolation) as caught:
            await docs.create(tenant, "orders", {"tags": ["ok", 4711]})
        errors = caught.value.extra["errors"]
        assert {error["pointer"] for error in errors} == {"", "/tags/1"} and "4711" not in str(errors)
        assert await tenant.read("orders", "x") == good
        assert (await tenant.collection("orders")).documents == 1

    COSTLY = {"properties": {"a": {"items": {"anyOf": [{"const": n} for n in range(200)]}}}}
    GOOD, BAD = {"a": [199] * 200}, {"a": [199] * 199 + [-1]}

    async def test_a_check_that_is_costly_holds_for_every_kind_of_write(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        await tenant.put_collection("orders", await tenant.settings({"schema": self.COSTLY}))
        assert (await docs.create(tenant, "orders", self.GOOD)).data == self.GOOD
        assert (await docs.replace(tenant, "orders", "1", self.GOOD)).created
        await docs.patch(tenant, "orders", "1", MergePatch({"b": 1}))
        key = IdempotencyKey("k", b"f")
        once = await docs.create(tenant, "orders", self.GOOD, idempotency=key)
        assert (
            await docs.create(tenant, "orders", self.GOOD, idempotency=IdempotencyKey("k", b"f"))
        ).id == once.id
        for write in (
            docs.create(tenant, "orders", self.BAD),
            docs.replace(tenant, "orders", "1", self.BAD),
            docs.patch(tenant, "orders", "1", MergePatch(self.BAD)),
            docs.create(tenant, "orders", self.BAD, idempotency=IdempotencyKey("other", b"f")),
        ):
            with pytest.raises(SchemaViolation) as caught:
                await write
            assert [error["pointer"] for error in caught.value.extra["errors"]] == ["/a/199"]
        assert len(await ids(tenant, "orders")) == 3

    async def test_the_checks_of_a_bulk_are_costly_and_each_write_stands_for_itself(
        self, store: DocumentStore
    ) -> None:
        tenant = store.tenant(ACME)
        await tenant.put_collection("orders", await tenant.settings({"schema": self.COSTLY}))
        writes = [
            Replace("1", self.GOOD),
            Replace("2", self.BAD),
            Update("1", MergePatch({"b": 2})),
            Update("1", MergePatch(self.BAD)),
            Create(self.GOOD),
            Replace("3", {"b": 3}),
        ]
        outcomes = await tenant.bulk("orders", writes)
        assert [outcome.status for outcome in outcomes] == [201, 422, 200, 422, 201, 201]
        assert outcomes[1].error is not None
        assert outcomes[1].error["code"] == "schema_violation"
        assert (await tenant.read("orders", "1")).data == {**self.GOOD, "b": 2}

    async def test_a_new_schema_is_asked_of_the_next_write_and_not_of_what_is_there(
        self, store: DocumentStore
    ) -> None:
        tenant = store.tenant(ACME)
        await docs.replace(tenant, "orders", "x", {"n": "old"})
        await tenant.put_collection("orders", settings(schema=self.SCHEMA))
        assert (await tenant.read("orders", "x")).data == {"n": "old"}
        with pytest.raises(SchemaViolation):
            await docs.patch(tenant, "orders", "x", MergePatch({"m": 1}))
        await tenant.patch_collection("orders", MergePatch({"schema": None}))
        await docs.patch(tenant, "orders", "x", MergePatch({"m": 1}))

    async def test_settings_that_are_not_accepted_change_nothing(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        made, _ = await tenant.put_collection("orders", settings(schema=self.SCHEMA))
        with pytest.raises(Unprocessable):
            await tenant.patch_collection("orders", MergePatch({"schema": {"type": "nothing"}}))
        assert await tenant.collection("orders") == made


class Indexes:
    async def test_a_unique_index_refuses_the_second_document_and_names_itself(
        self, store: DocumentStore
    ) -> None:
        tenant = store.tenant(ACME)
        await tenant.put_collection("users", settings(indexes=[unique("mail")]))
        await docs.replace(tenant, "users", "a", {"mail": "a@x"})
        await docs.replace(tenant, "users", "b", {"mail": "b@x"})
        for write in (
            docs.create(tenant, "users", {"mail": "a@x"}),
            docs.replace(tenant, "users", "c", {"mail": "a@x"}),
            docs.replace(tenant, "users", "b", {"mail": "a@x"}),
            docs.patch(tenant, "users", "b", MergePatch({"mail": "a@x"})),
        ):
            with pytest.raises(UniqueConflict) as caught:
                await write
            assert caught.value.extra["index"] == "only" and "a@x" not in caught.value.detail
        assert (await tenant.read("users", "b")).data == {"mail": "b@x"}
        await docs.patch(tenant, "users", "a", MergePatch({"mail": "c@x"}))
        await docs.patch(tenant, "users", "b", MergePatch({"mail": "a@x"}))
        await docs.delete(tenant, "users", "a")
        await docs.replace(tenant, "users", "d", {"mail": "c@x"})
        assert await ids(tenant, "users", '{"mail":"c@x"}') == ["d"]

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ({}, {}), ({"a": None}, {"a": None}), ({"a": 1}, {"a": "1"}), ({"a": True}, {"a": 1}),
            ({"a": 0}, {"a": False}), ({"a": [1]}, {"a": [2]}), ({"a": [1]}, {"a": 1}),
            ({"a": "x" * 5000 + "a"}, {"a": "x" * 5000 + "b"}),
        ],
    )  # fmt: skip
    async def test_different_and_missing_values_do_not_meet(
        self, store: DocumentStore, one: dict[str, Any], other: dict[str, Any]
    ) -> None:
        tenant = store.tenant(ACME)
        await tenant.put_collection("users", settings(indexes=[unique("a")]))
        await docs.create(tenant, "users", one)
        await docs.create(tenant, "users", other)

    @pytest.mark.parametrize("value", [1, 0.5, "x", True, {"b": 1}, [1, [2]], "x" * 5000])
    async def test_equal_values_meet(self, store: DocumentStore, value: Any) -> None:
        tenant = store.tenant(ACME)
        await tenant.put_collection("users", settings(indexes=[unique("a")]))
        await docs.create(tenant, "users", {"a": value})
        with pytest.raises(UniqueConflict):
            await docs.create(tenant, "users", {"a": value})

    async def test_an_index_of_several_fields_wants_them_unique_together(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        await tenant.put_collection("users", settings(indexes=[unique("a", "b.c")]))
        await docs.replace(tenant, "users", "x", {"a": 1, "b": {"c": 1}})
        await docs.replace(tenant, "users", "y", {"a": 1, "b": {"c": 2}})
        await docs.replace(tenant, "users", "z", {"a": 1})
        await docs.replace(tenant, "users", "z2", {"a": 1})
        with pytest.raises(UniqueConflict):
            await docs.patch(tenant, "users", "y", MergePatch({"b": {"c": 1}}))

    async def test_a_unique_index_that_documents_break_is_not_declared(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        for identifier in "xy":
            await docs.replace(tenant, "users", identifier, {"a": 1})
        before = await tenant.collection("users")
        with pytest.raises(UniqueConflict):
            await tenant.put_collection("users", settings(indexes=[unique("a")]))
        assert await tenant.collection("users") == before
        await docs.replace(tenant, "users", "z", {"a": 1})

    async def test_of_many_documents_with_one_value_one_wins(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        await tenant.put_collection("users", settings(indexes=[unique("a")]))
        outcomes = await tenant.bulk("users", [Create({"a": 1})] * 10)
        assert sorted(outcome.status for outcome in outcomes) == [201] + [409] * 9

    async def test_an_index_changes_no_answer(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        data = [{"a": 1}, {"a": "x"}, {"a": [1, 10]}, {"a": [{"b": 1}, {"b": "x"}]}, {}, {"a": None}]
        for number, members in enumerate(data):
            await docs.replace(tenant, "c", str(number), members)
        filters = [
            '{"a":1}', '{"a":{"$gt":0}}', '{"a":{"$prefix":"x"}}', '{"a.b":1}', '{"a":null}',
            '{"a":{"$in":[1,"x"]}}', '{"a":{"$ne":1}}', '{"a":{"$gt":8,"$lt":2}}',
            '{"a.b":{"$gte":"a"},"a":{"$size":2}}',
        ]  # fmt: skip
        asked = [(text, sort) for text in filters for sort in ("", "a", "-a", "a.b,-a", "-id")]
        before = [await ids(tenant, "c", text, sort) for text, sort in asked]
        declared = settings(indexes=[{"name": "a", "fields": ["a"]}, {"name": "b", "fields": ["a.b"]}])
        await tenant.put_collection("c", declared)
        assert [await ids(tenant, "c", text, sort) for text, sort in asked] == before
        await tenant.patch_collection("c", MergePatch({"indexes": None}))
        assert [await ids(tenant, "c", text, sort) for text, sort in asked] == before


class TTLs:
    async def test_expired_documents_are_not_seen_by_anything(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        await tenant.put_collection("c", settings(ttl={"field": "end"}, indexes=[unique("a")]))
        past, future = time.time() - 60, time.time() + 3600
        for identifier, end in (("past", past), ("text", instants.to_text(past)), ("future", future)):
            await docs.replace(tenant, "c", identifier, {"end": end, "a": identifier})
        await docs.replace(tenant, "c", "never", {"end": "soon"})
        for identifier in ("past", "text"):
            for attempt in (
                tenant.read("c", identifier),
                docs.patch(tenant, "c", identifier, MergePatch({})),
                docs.delete(tenant, "c", identifier),
            ):
                with pytest.raises(NotFound):
                    await attempt
            with pytest.raises(PreconditionFailed):
                await docs.replace(tenant, "c", identifier, {}, match(ANY))
        assert await ids(tenant, "c") == ["future", "never"]
        assert await ids(tenant, "c", '{"a":"past"}') == []
        assert (await tenant.list("c", Query(count=True))).count == 2
        exported = b"".join([chunk async for chunk in tenant.export("c")])
        assert exported.count(b"\n") == 2
        again = await docs.replace(tenant, "c", "past", {"a": "past"}, none_match(ANY))
        assert again.created

    async def test_instants_may_have_any_number_of_digits_and_be_a_leap_second(
        self, store: DocumentStore
    ) -> None:
        tenant = store.tenant(ACME)
        await tenant.put_collection("c", settings(ttl={"field": "end"}))
        past = "2020-01-01T00:00:00.1234567Z", "2020-01-01T00:00:00.123456789+01:00", "2016-12-31T23:59:60Z"
        for number, end in enumerate(past):
            await docs.replace(tenant, "c", f"past{number}", {"end": end})
        staying = "2999-01-01T00:00:00.123456789Z", "2016-12-31T12:00:60Z", "2020-13-01"
        for number, end in enumerate(staying):
            await docs.replace(tenant, "c", f"stays{number}", {"end": end})
        assert await ids(tenant, "c") == ["stays0", "stays1", "stays2"]
        first, last = "2016-12-31T23:59:60.999999999Z", "2999-12-31T23:59:60.0000001Z"
        between = f'{{"_created":{{"$gt":"{first}","$lt":"{last}"}}}}'
        assert await ids(tenant, "c", between) == ["stays0", "stays1", "stays2"]
        assert await ids(tenant, "c", '{"_created":{"$lt":"2016-12-31T15:59:60.1234567-08:00"}}') == []

    async def test_an_expired_document_holds_no_unique_value(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        await tenant.put_collection("c", settings(ttl={"field": "end"}, indexes=[unique("a")]))
        await docs.replace(tenant, "c", "x", {"end": time.time() - 1, "a": 1})
        assert (await docs.replace(tenant, "c", "y", {"a": 1})).created

    async def test_a_new_ttl_counts_for_the_documents_that_are_there(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        await docs.replace(tenant, "c", "x", {"end": "2020-01-01T00:00:00Z"})
        await docs.replace(tenant, "c", "y", {"end": "2020-01-01T00:00:00Z", "keep": True})
        await tenant.put_collection("c", settings(ttl={"seconds": 3600}))
        assert await ids(tenant, "c") == ["x", "y"]
        await tenant.put_collection("c", settings(ttl={"field": "end", "seconds": 10}))
        assert await ids(tenant, "c") == []
        await tenant.put_collection("c", NO_SETTINGS)
        assert await ids(tenant, "c") in ([], ["x", "y"])  # what was swept already is gone

    async def test_a_collection_of_expired_documents_is_empty(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        await tenant.put_collection("c", settings(ttl={"field": "end"}))
        await docs.replace(tenant, "c", "x", {"end": 0})
        await tenant.delete_collection("c")
        assert await names(tenant) == []


class CollectionConformance(Collections, Schemas, Indexes, TTLs):
    """All of it."""
