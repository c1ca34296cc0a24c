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
from gateway.store import patch as patches
from gateway.store.document import ANY, Precondition
from gateway.store.patch import MergePatch
from gateway.store.port import Capability, DocumentStore
from gateway.store.strict_json import dumps
from gateway.store.write import (
    MAX_BULK,
    Create,
    Delete,
    IdempotencyKey,
    Outcome,
    Quota,
    Replace,
    Update,
)
from tests.eventually import head_start
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
        await tenant.replace("c", "x", {"a": [1, 2], "b": {"c": 1}})
        patch = json_patch(
            {"op": "test", "path": "/b", "value": {"c": 1.0}},
            {"op": "add", "path": "/a/-", "value": 3},
            {"op": "move", "from": "/b/c", "path": "/d"},
            {"op": "remove", "path": "/a/0"},
        )
        patched = await tenant.patch("c", "x", patch)
        assert patched.data == {"a": [2, 3], "b": {}, "d": 1}
        assert await tenant.read("c", "x") == patched

    async def test_a_patch_that_does_not_fit_changes_nothing(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        made = (await tenant.replace("c", "x", {"a": 1})).document
        add = {"op": "add", "path": "/b", "value": 1}
        for last, error in (
            ({"op": "test", "path": "/a", "value": True}, PatchConflict),
            ({"op": "remove", "path": "/none"}, PatchConflict),
            ({"op": "add", "path": "/$a", "value": 1}, Unprocessable),
            ({"op": "replace", "path": "", "value": []}, Unprocessable),
        ):
            with pytest.raises(error):
                await tenant.patch("c", "x", json_patch(add, last))
        with pytest.raises(PreconditionFailed):
            await tenant.patch("c", "x", json_patch(add), match('"other"'))
        with pytest.raises(NotFound):
            await tenant.patch("c", "none", json_patch(add))
        assert await tenant.read("c", "x") == made


class Bulks:
    async def test_each_operation_stands_for_itself(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        made = (await tenant.replace("c", "x", {"n": 1})).document
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
        await tenant.replace("c", "x", {"n": 1})
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
        made = await tenant.create("c", {"n": 1}, idempotency=key())
        assert await tenant.create("c", {"n": 1}, idempotency=key()) == made
        assert await ids(tenant, "c") == [made.id]
        replaced = await tenant.replace("c", "x", {}, idempotency=key("r"))
        assert await tenant.replace("c", "x", {}, idempotency=key("r")) == replaced and replaced.created
        patched = await tenant.patch("c", "x", MergePatch({"n": 1}), idempotency=key("p"))
        await tenant.patch("c", "x", MergePatch({"n": 2}))
        assert await tenant.patch("c", "x", MergePatch({"n": 1}), idempotency=key("p")) == patched
        assert (await tenant.read("c", "x")).data == {"n": 2}
        await tenant.delete("c", "x", idempotency=key("d"))
        await tenant.replace("c", "x", {})
        await tenant.delete("c", "x", idempotency=key("d"))
        assert (await tenant.read("c", "x")).data == {}

    async def test_another_request_with_the_key_is_refused(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        await tenant.create("c", {}, idempotency=key())
        with pytest.raises(IdempotencyMismatch):
            await tenant.delete("c", "x", idempotency=key(fingerprint=b"2"))
        await tenant.create("c", {}, idempotency=key("other", b"2"))
        await store.tenant(GLOBEX).create("c", {}, idempotency=key(fingerprint=b"2"))

    async def test_a_bulk_is_replayed_with_its_failures(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        writes = [Create({}), Delete("none"), Replace("x", {})]
        outcomes = await tenant.bulk("c", writes, idempotency=key())
        await tenant.replace("c", "none", {})
        assert await tenant.bulk("c", writes, idempotency=key()) == outcomes
        assert statuses(outcomes) == [201, 404, 201] and len(await ids(tenant, "c")) == 3

    async def test_a_write_that_failed_may_be_tried_again(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        with pytest.raises(NotFound):
            await tenant.patch("c", "x", MergePatch({"n": 1}), idempotency=key())
        await tenant.replace("c", "x", {})
        assert (await tenant.patch("c", "x", MergePatch({"n": 1}), idempotency=key())).version == 2

    async def test_of_many_at_once_one_is_done_and_the_others_are_told_or_answered(
        self, store: DocumentStore
    ) -> None:
        tenant = store.tenant(ACME)
        writes = [tenant.create("c", {}, idempotency=key()) for _ in range(20)]
        results = await asyncio.gather(*writes, return_exceptions=True)
        assert len(await ids(tenant, "c")) == 1
        done = {result.id for result in results if not isinstance(result, BaseException)}
        assert len(done) == 1
        for result in results:
            assert not isinstance(result, BaseException) or isinstance(result, IdempotencyRunning)

    async def test_a_caller_who_went_away_finds_the_result(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        write = asyncio.create_task(tenant.create("c", {"n": 1}, idempotency=key()))
        await asyncio.sleep(0)
        write.cancel()
        await asyncio.gather(write, return_exceptions=True)
        while True:
            try:
                made = await tenant.create("c", {"n": 1}, idempotency=key())
                break
            except IdempotencyRunning:
                await head_start(0.001)
        assert await ids(tenant, "c") == [made.id]


class Quotas:
    async def test_documents_are_limited(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME, Quota(documents=3))
        for identifier in "abc":
            await tenant.replace("c", identifier, {})
        for attempt in (tenant.create("c", {}), tenant.create("other", {}), tenant.replace("c", "d", {})):
            with pytest.raises(QuotaExceeded):
                await attempt
        await tenant.replace("c", "a", {"larger": "is fine"})
        await tenant.delete("c", "b")
        await tenant.create("other", {})
        outcomes = await tenant.bulk("c", [Create({}), Delete("a"), Create({}), Create({})])
        assert statuses(outcomes) == [507, 204, 201, 507]
        await store.tenant(GLOBEX, Quota(documents=1)).create("c", {})

    async def test_bytes_are_limited_and_smaller_is_always_done(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME, Quota(bytes=1000))
        await tenant.replace("c", "a", {"x": "y" * 900})
        with pytest.raises(QuotaExceeded):
            await tenant.replace("c", "b", {"x": "y" * 100})
        with pytest.raises(QuotaExceeded):
            await tenant.patch("c", "a", MergePatch({"z": "y" * 100}))
        tight = store.tenant(ACME, Quota(documents=0, bytes=10))
        assert (await tight.replace("c", "a", {"x": "y" * 800})).document.version == 2
        with pytest.raises(QuotaExceeded):
            await tight.replace("c", "a", {"x": "y" * 801})
        await tight.delete("c", "a")

    async def test_many_at_once_do_not_pass_the_quota(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME, Quota(documents=10))
        results = await asyncio.gather(*(tenant.create("c", {}) for _ in range(30)), return_exceptions=True)
        assert sum(isinstance(result, QuotaExceeded) for result in results) == 20
        assert len(await ids(tenant, "c")) == 10


class WriteConformance(JsonPatches, Bulks, Idempotency, Quotas):
    """All of it."""
