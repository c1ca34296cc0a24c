"""Writing a document over HTTP: both patches, Prefer, Idempotency-Key, quotas."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests import harness
from tests.documents.api import ALL, JSON_PATCH, MERGE, NDJSON, Api, ndjson, serving

# --- JSON patch ----------------------------------------------------------------------------------


async def test_a_json_patch_is_done_whole(api: Api) -> None:
    tag = (await api("PUT", "/orders/x", {"a": 1, "b": [1, 2]}))[1]["ETag"]
    patch = [
        {"op": "test", "path": "/a", "value": 1},
        {"op": "replace", "path": "/a", "value": 2},
        {"op": "add", "path": "/b/-", "value": {"c": None}},
        {"op": "move", "from": "/b/0", "path": "/d"},
    ]
    status, headers, document = await api("PATCH", "/orders/x", patch, {**JSON_PATCH, "If-Match": tag})
    assert (status, document) == (200, {"id": "x", "a": 2, "b": [2, {"c": None}], "d": 1})
    assert headers["ETag"] == (await api("GET", "/orders/x"))[1]["ETag"] != tag


@pytest.mark.parametrize(
    ("patch", "status", "code"),
    [
        ([{"op": "test", "path": "/a", "value": 2}], 409, "patch_conflict"),
        ([{"op": "replace", "path": "/a", "value": 2}, {"op": "remove", "path": "/none"}], 409,
        "patch_conflict"),
        ([{"op": "replace", "path": "/id", "value": "y"}], 422, "unprocessable"),
        ([{"op": "add", "path": "/$set", "value": 1}], 422, "unprocessable"),
        ([{"op": "add", "path": "/_etag", "value": 1}], 422, "unprocessable"),
        ([{"op": "replace", "path": "", "value": []}], 422, "unprocessable"),
        ([{"op": "where", "path": "/a"}], 422, "unprocessable"), ([{}], 422, "unprocessable"),
        ([1], 422, "unprocessable"), ({}, 422, "unprocessable"), (b"[", 400, "bad_request"),
        ([{"op": "add", "path": "a", "value": 1}], 422, "unprocessable"),
        ([{"op": "add", "path": "/~2", "value": 1}], 422, "unprocessable"),
        ([{"op": "add", "path": "/b"}], 422, "unprocessable"),
        (b'[{"op":"add","path":"/b","value":NaN}]', 422, "unprocessable"),
        (b'[{"op":"add","path":"/b","value":1,"value":2}]', 422, "unprocessable"),
    ],
)  # fmt: skip
async def test_a_json_patch_that_cannot_be_done_changes_nothing(
    api: Api, patch: Any, status: int, code: str
) -> None:
    before = await api("PUT", "/orders/x", {"a": 1})
    actual, _, problem = await api("PATCH", "/orders/x", patch, JSON_PATCH)
    assert (actual, problem["code"]) == (status, code) and problem["detail"]
    if status == 422:
        assert all("pointer" in error for error in problem["errors"])
    after = await api("GET", "/orders/x")
    assert (after[1]["ETag"], after[2]) == (before[1]["ETag"], before[2])


# --- what is returned ----------------------------------------------------------------------------


async def test_who_prefers_little_gets_the_tag_and_the_place(api: Api) -> None:
    for prefer in ("return=minimal", 'wait=5, Return="minimal"; x=y'):
        little = {"Prefer": prefer}
        status, headers, body = await api.raw("POST", "/orders/", {"a": 1}, little)
        assert (status, body, headers["Preference-Applied"]) == (201, b"", "return=minimal")
        path = headers["Location"].removeprefix("/documents")
        assert (await api("GET", path))[1]["ETag"] == headers["ETag"]
        for method in ("PUT", "PATCH"):
            status, headers, body = await api.raw(method, path, {"a": 2}, little)
            assert (status, body) == (204, b"") and headers["ETag"]
    status, headers, document = await api("PUT", path, {"a": 3}, {"Prefer": "return=representation"})
    assert (status, headers["Preference-Applied"], document["a"]) == (200, "return=representation", 3)
    for prefer in ("", "respond-async", "return=everything", "\xff", ",;="):
        status, headers, document = await api("PUT", path, {}, {"Prefer": prefer})
        assert status == 200 and document and "Preference-Applied" not in headers


# --- idempotency keys ----------------------------------------------------------------------------


async def test_a_write_that_is_sent_twice_happens_once_and_answers_the_same(api: Api) -> None:
    key = {"Idempotency-Key": '"8e03978e-40d5"'}
    first = await api.raw("POST", "/orders/", {"a": 1}, key)
    await api("PUT", first[1]["Location"].removeprefix("/documents"), {"a": 2})
    again = await api.raw("POST", "/orders/", {"a": 1}, {"Idempotency-Key": "8e03978e-40d5"})
    assert first[0] == again[0] == 201 and first[2] == again[2]
    assert "Idempotency-Replayed" not in first[1] and again[1]["Idempotency-Replayed"] == "true"
    assert (first[1]["ETag"], first[1]["Location"]) == (again[1]["ETag"], again[1]["Location"])
    assert len((await api("GET", "/orders/"))[2]["items"]) == 1


async def test_each_write_heeds_its_key(api: Api) -> None:
    tag = (await api("PUT", "/orders/x", {"n": 0}))[1]["ETag"]
    writes: list[tuple[str, str, Any, dict[str, str]]] = [
        ("PUT", "/orders/x", {"n": 1}, {"If-Match": tag}),
        ("PATCH", "/orders/x", {"m": 1}, MERGE),
        ("PATCH", "/orders/x", [{"op": "add", "path": "/l", "value": [1]}], JSON_PATCH),
        ("POST", "/orders/bulk", ndjson({"op": "create", "data": {}}, {"op": "delete", "id": "no"}), NDJSON),
        ("DELETE", "/orders/x", None, {}),
    ]
    for number, (method, path, body, headers) in enumerate(writes):
        sent = {**headers, "Idempotency-Key": f'"key \\"{number}\\""'}
        first = await api.raw(method, path, body, sent)
        again = await api.raw(method, path, body, sent)
        assert first[0] == again[0] < 300 and first[2] == again[2], path
        assert again[1]["Idempotency-Replayed"] == "true" and first[1].get("ETag") == again[1].get("ETag")
    assert len((await api("GET", "/orders/"))[2]["items"]) == 1


async def test_a_replay_of_a_document_that_changed_since_has_its_status_and_tag_without_it(api: Api) -> None:
    key, large = {"Idempotency-Key": "k"}, {"text": "x" * 9000}
    first = await api("POST", "/orders/", large, key)
    assert (await api("POST", "/orders/", large, key))[2] == first[2]
    path = first[1]["Location"].removeprefix("/documents")
    await api("PATCH", path, {"n": 1}, {"Content-Type": "application/merge-patch+json"})
    status, headers, body = await api.raw("POST", "/orders/", large, key)
    assert (status, body) == (201, b"")
    assert (headers["ETag"], headers["Location"]) == (first[1]["ETag"], first[1]["Location"])
    assert headers["Idempotency-Replayed"] == "true"
    put = {"Idempotency-Key": "p", "Prefer": "return=representation"}
    await api("PUT", path, large, put)
    await api("DELETE", path)
    status, headers, body = await api.raw("PUT", path, large, put)
    assert (status, body) == (204, b"") and "Preference-Applied" not in headers


async def test_a_key_that_came_with_another_request_is_422(api: Api) -> None:
    key = {"Idempotency-Key": '"k"'}
    tag = (await api("PUT", "/orders/x", {"a": 1}, key))[1]["ETag"]
    others: list[tuple[str, str, Any, dict[str, str]]] = [
        ("PUT", "/orders/x", {"a": 2}, {}), ("PUT", "/orders/y", {"a": 1}, {}),
        ("PUT", "/others/x", {"a": 1}, {}), ("PATCH", "/orders/x", {"a": 1}, {}),
        ("PUT", "/orders/x", {"a": 1}, {"If-Match": tag}), ("PUT", "/orders/x", b'{"a": 1 }', {}),
    ]  # fmt: skip
    for method, path, body, headers in others:
        status, _, problem = await api(method, path, body, {**headers, **key})
        assert (status, problem["code"]) == (422, "idempotency_mismatch"), (method, path)
    bob = api.of("acme")
    bob.headers = harness.bearer(api.gateway, scope=ALL, sub="bob")
    assert (await bob("PUT", "/orders/x", {"a": 1}, key))[0] == 422
    assert (await api.of("globex")("PUT", "/orders/x", {"a": 9}, key))[0] == 201
    assert (await api("GET", "/orders/x"))[2]["a"] == 1


async def test_a_write_that_failed_may_be_tried_again_with_its_key(api: Api) -> None:
    key = {"Idempotency-Key": '"k"'}
    assert (await api("PATCH", "/orders/x", {"a": 1}, key))[0] == 404
    await api("PUT", "/orders/x", {})
    status, headers, document = await api("PATCH", "/orders/x", {"a": 1}, key)
    assert (status, document["a"]) == (200, 1) and "Idempotency-Replayed" not in headers


async def test_the_same_key_at_the_same_time_makes_one_document(api: Api) -> None:
    key = {"Idempotency-Key": '"k"'}
    answers = await asyncio.gather(*(api("POST", "/orders/", {"a": 1}, key) for _ in range(8)))
    assert {status for status, _, _ in answers} <= {201, 409}
    assert all(body["code"] == "idempotency_running" for status, _, body in answers if status == 409)
    assert len((await api("GET", "/orders/"))[2]["items"]) == 1


@pytest.mark.parametrize(
    "key", ["", '""', '"', '"a" "b"', '"a', "a b", '"\xe9"', "x" * 256, '"a", "b"', "a,b"]
)
async def test_a_key_that_is_malformed_is_400(api: Api, key: str) -> None:
    for method, path in (("POST", "/orders/"), ("PUT", "/orders/x"), ("PATCH", "/orders/x")):
        assert (await api(method, path, {}, {"Idempotency-Key": key}))[0] == 400
    assert (await api("DELETE", "/orders/x", None, {"Idempotency-Key": key}))[0] == 400
    assert (await api("GET", "/orders/"))[2]["items"] == []


# --- quotas --------------------------------------------------------------------------------------


async def test_a_tenant_may_have_so_many_collections(tmp_path: Path) -> None:
    tenants: dict[str, Any] = {"acme": {"documents": {"max_collections": 2}}, "globex": {}}
    async with serving(tmp_path, tenants=tenants) as api:
        assert (await api("PUT", "/a", {}))[0] == 201
        assert (await api("POST", "/b/", {}))[0] == 201
        for method, path in (("PUT", "/c"), ("POST", "/c/"), ("PUT", "/c/x")):
            status, _, problem = await api(method, path, {})
            assert (status, problem["code"]) == (507, "quota_exceeded")
            assert "2 collections" in problem["detail"]
        assert (await api("DELETE", "/a"))[0] == 204
        assert (await api("PUT", "/c", {}))[0] == 201
        assert (await api.of("globex")("PUT", "/c", {}))[0] == 201


async def test_a_quota_is_507_and_reading_and_deleting_go_on(tmp_path: Path) -> None:
    tenants = {"acme": {"documents": {"max_documents": 2}}, "globex": {"documents": {"max_bytes": "100B"}}}
    async with serving(tmp_path, tenants=tenants) as api:
        for name in "ab":
            assert (await api("PUT", f"/orders/{name}", {}))[0] == 201
        for method, path in (("PUT", "/orders/c"), ("POST", "/other/")):
            status, _, problem = await api(method, path, {})
            assert (status, problem["code"]) == (507, "quota_exceeded")
        assert (await api("PUT", "/orders/a", {"more": 1}))[0] == 200
        status, _, lines = await api("POST", "/orders/bulk", ndjson({"op": "create", "data": {}}), NDJSON)
        assert (status, lines[0]["status"], lines[0]["error"]["code"]) == (200, 507, "quota_exceeded")
        status, _, lines = await api(
            "POST", "/orders/import", ndjson(*({"n": n} for n in range(500))), NDJSON
        )
        assert status == 200 and lines[-1]["done"] is False and lines[-1]["error"]["code"] == "quota_exceeded"
        assert (await api("DELETE", "/orders/a"))[0] == 204
        assert (await api("PUT", "/orders/c", {}))[0] == 201
        other = api.of("globex")
        assert (await other("PUT", "/orders/x", {"a": "x" * 40}))[0] == 201
        assert (await other("PUT", "/orders/y", {"a": "x" * 80}))[0] == 507
        assert (await other("PUT", "/orders/x", {"a": "x" * 40}, {"Idempotency-Key": "k"}))[0] == 507
        assert (await other("GET", "/orders/x"))[0] == 200
