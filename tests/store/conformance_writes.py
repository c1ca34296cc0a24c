"""What every engine promises of bulks, idempotency keys, quotas and JSON patches."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.core.errors import (
    BadRequest,
    IdempotencyMismatch,
    IdempotencyRunning,
    NotFound,
    PatchConflict,
    PreconditionFailed,
    QuotaExceeded,
    Unprocessable,
)
from gateway.store.json.strict import dumps
from gateway.store.model import patch as patches
from gateway.store.model.collection import NO_SETTINGS, CollectionSettings
from gateway.store.model.document import ANY, Precondition
from gateway.store.model.idempotency import IdempotencyKey
from gateway.store.model.patch import MergePatch
from gateway.store.model.query import Query
from gateway.store.model.write import MAX_BULK, Create, Delete, Outcome, Quota, Replace, Update
from gateway.store.port import Capability, DocumentStore
from tests.eventually import head_start
from tests.store import docs
from tests.store.conformance import ACME, GLOBEX, ids, match

ONLY_NEW = Precondition(none_match=frozenset({ANY}))


def require(store: DocumentStore, capability: Capability) -> None:
    """Skip where the engine says that it cannot."""
    if capability not in store.CAPABILITIES:
        pytest.skip(f"this engine lacks: {capability}")


def json_patch(*operations: Any) -> patches.JsonPatch:
    return patches.parse_json_patch(dumps(list(operations)).encode())


def statuses(outcomes: tuple[Outcome, ...]) -> list[int]:
    return [outcome.status for outcome in outcomes]


class JsonPatches:
    async def test_a_json_patch_changes_what_it_names(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        await docs.replace(tenant, "c", "x", {"a": [1, 2], "b": {"c": 1}})
        patch = json_patch(
            {"op": "test", "path": "/b", "value": {"c": 1.0}},
            {"op": "add", "path": "/a/-", "value": 3},
            {"op": "move", "from": "/b/c", "path": "/d"},
            {"op": "remove", "path": "/a/0"},
        )
        patched = await docs.patch(tenant, "c", "x", patch)
        assert patched.data == {"a": [2, 3], "b": {}, "d": 1}
        assert await tenant.read("c", "x") == patched

    async def test_a_patch_that_does_not_fit_changes_nothing(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        made = (await docs.replace(tenant, "c", "x", {"a": 1})).document
        add = {"op": "add", "path": "/b", "value": 1}
        for last, error in (
            ({"op": "test", "path": "/a", "value": True}, PatchConflict),
            ({"op": "remove", "path": "/none"}, PatchConflict),
            ({"op": "add", "path": "/$a", "value": 1}, Unprocessable),
            ({"op": "replace", "path": "", "value": []}, Unprocessable),
        ):
            with pytest.raises(error):
                await docs.patch(tenant, "c", "x", json_patch(add, last))
        with pytest.raises(PreconditionFailed):
            await docs.patch(tenant, "c", "x", json_patch(add), match('"other"'))
        with pytest.raises(NotFound):
            await docs.patch(tenant, "c", "none", json_patch(add))
        assert await tenant.read("c", "x") == made

    async def test_a_json_patch_sees_the_id_that_a_reader_sees(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        await docs.replace(tenant, "c", "x", {"a": 1})
        patched = await docs.patch(
            tenant,
            "c",
            "x",
            json_patch(
                {"op": "test", "path": "/id", "value": "x"},
                {"op": "test", "path": "", "value": {"a": 1, "id": "x"}},
                {"op": "copy", "from": "/id", "path": "/own"},
            ),
        )
        assert patched.data == {"a": 1, "own": "x"}
        whole = json_patch({"op": "replace", "path": "", "value": {"id": "x", "b": 2}})
        assert (await docs.patch(tenant, "c", "x", whole)).data == {"b": 2}
        for operation, error in (
            ({"op": "test", "path": "/id", "value": "y"}, PatchConflict),
            ({"op": "test", "path": "", "value": {"b": 2}}, PatchConflict),
            ({"op": "test", "path": "/id/0", "value": "x"}, PatchConflict),
            ({"op": "replace", "path": "", "value": {"id": "y"}}, Unprocessable),
        ):
            with pytest.raises(error):
                await docs.patch(tenant, "c", "x", json_patch(operation))


class Bulks:
    async def test_each_operation_stands_for_itself(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        made = (await docs.replace(tenant, "c", "x", {"n": 1})).document
        outcomes = await tenant.bulk(
            "c",
            [
                Create({"n": 2}),
                Replace("y", {"n": 3}),
                Replace("x", {}, ONLY_NEW),
                Update("x", MergePatch({"m": 1}), match(made.etag)),
                Update("none", MergePatch({})),
                Update("y", json_patch({"op": "remove", "path": "/n"})),
                Delete("y"),
                Delete("y"),
            ],
        )
        assert statuses(outcomes) == [201, 201, 412, 200, 404, 200, 204, 404]
        assert (await tenant.read("c", outcomes[0].id)).etag == outcomes[0].etag
        assert (await tenant.read("c", "x")).data == {"n": 1, "m": 1}
        assert outcomes[2].id == "x" and outcomes[2].data["error"]["code"] == "precondition_failed"
        assert await ids(tenant, "c") == sorted([outcomes[0].id, "x"])

    async def test_an_atomic_bulk_is_done_as_a_whole(self, store: DocumentStore) -> None:
        require(store, Capability.ATOMIC_BULK)
        tenant = store.tenant(ACME)
        await docs.replace(tenant, "c", "x", {"n": 1})
        before = await tenant.collection("c")
        writes = [Create({}), Update("x", MergePatch({"n": 2})), Delete("none"), Replace("y", {})]
        outcomes = await tenant.bulk("c", writes, atomic=True)
        assert statuses(outcomes) == [424, 424, 404, 424]
        assert {outcome.id for outcome in outcomes} == {"", "x", "none", "y"}
        assert (await tenant.read("c", "x")).data == {"n": 1} and await ids(tenant, "c") == ["x"]
        assert await tenant.collection("c") == before
        outcomes = await tenant.bulk("c", [writes[1], writes[3], Delete("x")], atomic=True)
        assert statuses(outcomes) == [200, 201, 204] and await ids(tenant, "c") == ["y"]

    async def test_a_bulk_has_a_limit_and_may_be_empty(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        assert await tenant.bulk("c", []) == ()
        with pytest.raises(BadRequest):
            await tenant.bulk("c", [Create({})] * (MAX_BULK + 1))

    async def test_a_document_that_is_too_large_is_one_failure_among_the_others(
        self, store: DocumentStore
    ) -> None:
        outcomes = await store.tenant(ACME).bulk("c", [Create({"a": "x" * 11_000_000}), Create({})])
        assert statuses(outcomes) == [413, 201]


def key(name: str = "key", fingerprint: bytes = b"1") -> IdempotencyKey:
    return IdempotencyKey(name, fingerprint)


class Idempotency:
    async def test_the_same_request_again_gives_the_first_result_and_writes_nothing(
        self, store: DocumentStore
    ) -> None:
        tenant = store.tenant(ACME)
        made = await docs.create(tenant, "c", {"n": 1}, idempotency=key())
        assert await docs.create(tenant, "c", {"n": 1}, idempotency=key()) == made
        assert await ids(tenant, "c") == [made.id]
        replaced = await docs.replace(tenant, "c", "x", {}, idempotency=key("r"))
        assert await docs.replace(tenant, "c", "x", {}, idempotency=key("r")) == replaced and replaced.created
        patched = await docs.patch(tenant, "c", "x", MergePatch({"n": 1}), idempotency=key("p"))
        await docs.patch(tenant, "c", "x", MergePatch({"n": 2}))
        assert await docs.patch(tenant, "c", "x", MergePatch({"n": 1}), idempotency=key("p")) == patched
        assert (await tenant.read("c", "x")).data == {"n": 2}
        await docs.delete(tenant, "c", "x", idempotency=key("d"))
        await docs.replace(tenant, "c", "x", {})
        await docs.delete(tenant, "c", "x", idempotency=key("d"))
        assert (await tenant.read("c", "x")).data == {}

    async def test_a_replay_has_the_document_while_it_is_that_version_and_later_only_its_tag(
        self, store: DocumentStore
    ) -> None:
        tenant = store.tenant(ACME)
        data = {"text": "long " * 1000}
        made = await docs.create(tenant, "c", data, idempotency=key())
        assert await docs.create(tenant, "c", data, idempotency=key()) == made
        await docs.patch(tenant, "c", made.id, MergePatch({"n": 1}))
        again = await docs.create(tenant, "c", data, idempotency=key())
        assert (again.id, again.etag, again.text) == (made.id, made.etag, "")
        await docs.delete(tenant, "c", made.id)
        await docs.replace(tenant, "c", made.id, data)
        again = await docs.create(tenant, "c", data, idempotency=key())
        assert (again.etag, again.text) == (made.etag, "")

    async def test_another_request_with_the_key_is_refused(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        await docs.create(tenant, "c", {}, idempotency=key())
        with pytest.raises(IdempotencyMismatch):
            await docs.delete(tenant, "c", "x", idempotency=key(fingerprint=b"2"))
        await docs.create(tenant, "c", {}, idempotency=key("other", b"2"))
        await docs.create(store.tenant(GLOBEX), "c", {}, idempotency=key(fingerprint=b"2"))

    async def test_a_bulk_is_replayed_with_its_failures(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        writes = [Create({}), Delete("none"), Replace("x", {})]
        outcomes = await tenant.bulk("c", writes, idempotency=key())
        await docs.replace(tenant, "c", "none", {})
        assert await tenant.bulk("c", writes, idempotency=key()) == outcomes
        assert statuses(outcomes) == [201, 404, 201] and len(await ids(tenant, "c")) == 3

    async def test_a_write_that_failed_may_be_tried_again(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        with pytest.raises(NotFound):
            await docs.patch(tenant, "c", "x", MergePatch({"n": 1}), idempotency=key())
        await docs.replace(tenant, "c", "x", {})
        assert (await docs.patch(tenant, "c", "x", MergePatch({"n": 1}), idempotency=key())).version == 2

    async def test_of_many_at_once_one_is_done_and_the_others_are_told_or_answered(
        self, store: DocumentStore
    ) -> None:
        tenant = store.tenant(ACME)
        writes = [docs.create(tenant, "c", {}, idempotency=key()) for _ in range(20)]
        results = await asyncio.gather(*writes, return_exceptions=True)
        assert len(await ids(tenant, "c")) == 1
        done = {result.id for result in results if not isinstance(result, BaseException)}
        assert len(done) == 1
        for result in results:
            assert not isinstance(result, BaseException) or isinstance(result, IdempotencyRunning)

    async def test_a_caller_who_went_away_finds_the_result(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        write = asyncio.create_task(docs.create(tenant, "c", {"n": 1}, idempotency=key()))
        await asyncio.sleep(0)
        write.cancel()
        await asyncio.gather(write, return_exceptions=True)
        while True:
            try:
                made = await docs.create(tenant, "c", {"n": 1}, idempotency=key())
                break
            except IdempotencyRunning:
                await head_start(0.001)
        assert await ids(tenant, "c") == [made.id]


class Quotas:
    async def test_documents_are_limited(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME, Quota(documents=3))
        for identifier in "abc":
            await docs.replace(tenant, "c", identifier, {})
        for attempt in (
            docs.create(tenant, "c", {}),
            docs.create(tenant, "other", {}),
            docs.replace(tenant, "c", "d", {}),
        ):
            with pytest.raises(QuotaExceeded):
                await attempt
        await docs.replace(tenant, "c", "a", {"larger": "is fine"})
        await docs.delete(tenant, "c", "b")
        await docs.create(tenant, "other", {})
        outcomes = await tenant.bulk("c", [Create({}), Delete("a"), Create({}), Create({})])
        assert statuses(outcomes) == [507, 204, 201, 507]
        await docs.create(store.tenant(GLOBEX, Quota(documents=1)), "c", {})

    async def test_bytes_are_limited_and_smaller_is_always_done(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME, Quota(bytes=1000))
        await docs.replace(tenant, "c", "a", {"x": "y" * 900})
        with pytest.raises(QuotaExceeded):
            await docs.replace(tenant, "c", "b", {"x": "y" * 100})
        with pytest.raises(QuotaExceeded):
            await docs.patch(tenant, "c", "a", MergePatch({"z": "y" * 100}))
        tight = store.tenant(ACME, Quota(documents=0, bytes=10))
        assert (await docs.replace(tight, "c", "a", {"x": "y" * 800})).document.version == 2
        with pytest.raises(QuotaExceeded):
            await docs.replace(tight, "c", "a", {"x": "y" * 801})
        await docs.delete(tight, "c", "a")

    async def test_collections_are_limited_declared_or_not(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME, Quota(collections=3))
        for name in "ab":
            await docs.create(tenant, name, {})
        await tenant.put_collection("c", NO_SETTINGS)
        for attempt in (docs.create(tenant, "d", {}), docs.replace(tenant, "d", "x", {})):
            with pytest.raises(QuotaExceeded):
                await attempt
        with pytest.raises(QuotaExceeded):
            await tenant.put_collection("d", NO_SETTINGS)
        assert statuses(await tenant.bulk("d", [Create({}), Create({})])) == [507, 507]
        await docs.replace(tenant, "a", "x", {})
        await docs.create(tenant, "c", {})
        await tenant.put_collection("a", NO_SETTINGS)
        await tenant.delete_collection("c", documents=True)
        assert statuses(await tenant.bulk("d", [Create({}), Create({})])) == [201, 201]
        with pytest.raises(QuotaExceeded):
            await docs.create(tenant, "e", {})
        for document in (await tenant.list("d", Query())).items:
            await docs.delete(tenant, "d", document.id)
        await docs.create(tenant, "e", {})

    async def test_names_of_collections_that_are_empty_again_leave_nothing_behind(
        self, store: DocumentStore
    ) -> None:
        tenant = store.tenant(ACME, Quota(collections=2))
        for n in range(10):
            document = await docs.create(tenant, f"c{n}", {})
            await docs.delete(tenant, f"c{n}", document.id)
        assert (await tenant.collections()).items == ()

    async def test_settings_count_for_the_bytes(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME, Quota(bytes=2000))
        large = CollectionSettings(schema={"description": "x" * 900})
        await tenant.put_collection("a", large)
        await tenant.put_collection("b", large)
        for attempt in (tenant.put_collection("c", large), docs.create(tenant, "a", {"x": "y" * 400})):
            with pytest.raises(QuotaExceeded):
                await attempt
        with pytest.raises(QuotaExceeded):
            await tenant.patch_collection("a", MergePatch({"schema": {"description": "x" * 1500}}))
        await tenant.put_collection("a", NO_SETTINGS)
        await docs.create(tenant, "a", {"x": "y" * 400})
        await tenant.delete_collection("b")
        await tenant.put_collection("c", large)

    async def test_remembered_writes_count_for_the_bytes_and_hold_no_documents(
        self, store: DocumentStore
    ) -> None:
        tenant = store.tenant(ACME, Quota(bytes=60_000))
        done = 0
        with pytest.raises(QuotaExceeded):
            for n in range(1000):
                await docs.replace(tenant, "c", "x", {"text": "y" * 20_000, "n": n}, idempotency=key(f"{n}"))
                done += 1
        assert 40 <= done <= 300  # versions of 200 bytes or so: not 2 documents, and not without end
        document = await tenant.read("c", "x")
        with pytest.raises(QuotaExceeded):
            await tenant.bulk("c", [Create({})] * 3, idempotency=key("bulk"))
        await docs.delete(tenant, "c", "x", idempotency=key("delete"))
        assert document.data["n"] == done - 1
        await docs.create(tenant, "c", {}, idempotency=key("now"))

    async def test_many_at_once_do_not_pass_the_quota(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME, Quota(documents=10))
        results = await asyncio.gather(
            *(docs.create(tenant, "c", {}) for _ in range(30)), return_exceptions=True
        )
        assert sum(isinstance(result, QuotaExceeded) for result in results) == 20
        assert len(await ids(tenant, "c")) == 10


class WriteConformance(JsonPatches, Bulks, Idempotency, Quotas):
    """All of it."""
