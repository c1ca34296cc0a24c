"""Collections and their settings over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from tests.documents.api import MERGE, PREFIX, Api

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
SETTINGS = {
    "schema": SCHEMA,
    "indexes": [{"name": "by_email", "fields": ["email"], "unique": True}],
    "ttl": {"field": "ends", "seconds": 5},
    "require_if_match": True,
}


def own(collection: dict[str, Any]) -> dict[str, Any]:
    """What the client set."""
    return {name: value for name, value in collection.items() if not name.startswith("_") and name != "name"}


async def test_the_root_lists_what_is_declared_and_what_is_used_in_pages(api: Api) -> None:
    await api("PUT", "/b", {"require_if_match": True})
    for name in ("a", "a", "c"):
        await api("POST", f"/{name}/", {})
    status, headers, content = await api("GET", "/?limit=2")
    a, b = content["items"]
    assert status == 200 and (a["name"], a["_declared"], a["_documents"]) == ("a", False, 2)
    assert (b["name"], b["_declared"], b["_documents"], b["require_if_match"]) == ("b", True, 0, True)
    assert headers["Link"].startswith(f"<{PREFIX}/?limit=2&cursor=")
    status, headers, rest = await api("GET", f"/?limit=2&cursor={content['next']}")
    assert [one["name"] for one in rest["items"]] == ["c"] and "Link" not in headers and "next" not in rest
    assert (await api.of("globex")("GET", ""))[2] == {"items": []}


async def test_a_collection_is_declared_changed_and_forgotten(api: Api) -> None:
    status, made, body = await api("PUT", "/users", SETTINGS)
    assert (status, own(body), made["Location"]) == (201, SETTINGS, f"{PREFIX}/users")
    assert body["name"] == "users" and body["_declared"] is True and body["_etag"] == made["ETag"]
    status, read, same = await api("GET", "/users")
    assert (status, same, read["ETag"]) == (200, body, made["ETag"])
    status, _, sent_back = await api("PUT", "/users", same)
    assert (status, own(sent_back)) == (200, SETTINGS)
    status, patched, body = await api("PATCH", "/users", {"ttl": None, "require_if_match": None}, MERGE)
    assert (status, sorted(own(body))) == (200, ["indexes", "schema"]) and patched["ETag"] != made["ETag"]
    assert (await api.raw("DELETE", "/users"))[::2] == (204, b"")
    for method in ("GET", "DELETE"):
        assert (await api(method, "/users"))[0] == 404
    assert (await api("PATCH", "/users", {}, MERGE))[0] == 404


async def test_settings_have_preconditions(api: Api) -> None:
    only_new = {"If-None-Match": "*"}
    first = (await api("PUT", "/users", {}, only_new))[1]["ETag"]
    assert (await api("PUT", "/users", {}, only_new))[0] == 412
    second = (await api("PUT", "/users", {"require_if_match": True}, {"If-Match": first}))[1]["ETag"]
    for method, body in (("PUT", {}), ("PATCH", {}), ("DELETE", None), ("GET", None)):
        assert (await api(method, "/users", body, {"If-Match": first}))[0] == 412, method
    assert (await api.raw("GET", "/users", headers={"If-None-Match": second}))[::2] == (304, b"")
    assert (await api("DELETE", "/users", headers={"If-Match": second}))[0] == 204


async def test_documents_are_deleted_with_their_collection_only_when_told(api: Api) -> None:
    await api("PUT", "/users/x", {})
    status, _, problem = await api("DELETE", "/users")
    assert (status, problem["code"]) == (409, "conflict")
    status, _, problem = await api("DELETE", "/users?documents=yes")
    assert (status, problem["parameter"]) == (400, "documents")
    assert (await api("GET", "/users/x"))[0] == 200
    assert (await api("DELETE", "/users?documents=delete"))[0] == 204
    assert (await api("GET", "/users/x"))[0] == 404 and (await api("GET", "/users"))[0] == 404


async def test_a_schema_and_a_unique_index_hold_for_each_write(api: Api) -> None:
    settings = {**SETTINGS, "require_if_match": False}
    await api("PUT", "/users", settings)
    status, _, problem = await api("POST", "/users/", {"n": "1"})
    assert (status, problem["code"], problem["errors"][0]["pointer"]) == (422, "schema_violation", "/n")
    assert (await api("PUT", "/users/x", {"n": 1, "email": "a@b"}))[0] == 201
    status, _, problem = await api("POST", "/users/", {"n": 1, "email": "a@b"})
    assert (status, problem["code"]) == (409, "unique_conflict")


async def test_writes_need_a_precondition_where_the_collection_says_so(api: Api) -> None:
    await api("PUT", "/users", {"require_if_match": True})
    tag = (await api("PUT", "/users/x", {}))[1]["ETag"]
    for method, body in (("PUT", {}), ("PATCH", {}), ("DELETE", None)):
        status, _, problem = await api(method, "/users/x", body)
        assert (status, problem["code"]) == (428, "precondition_required")
    assert (await api("DELETE", "/users/x", headers={"If-Match": tag}))[0] == 204


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        (b"{", 400, None), (b'{"ttl":1,"ttl":2}', 422, "/ttl"), ([], 422, ""), ({"x": 1}, 422, "/x"),
        ({"name": "other"}, 422, "/name"), ({"name": ["users"]}, 422, "/name"),
        ({"schema": []}, 422, "/schema"), ({"schema": {"type": "no"}}, 422, "/schema/type"),
        ({"schema": {"$ref": "https://example.com/x"}}, 422, "/schema/$ref"),
        ({"schema": {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}}, 422,
        "/schema/$defs/a/$ref"),
        ({"schema": {"items": {"$id": "https://example.com/"}}}, 422, "/schema/items/$id"),
        ({"schema": {"pattern": "(?=a)b"}}, 422, None),
        ({"schema": {"pattern": "(a{9999}){9999}"}}, 422, None),
        ({"indexes": {}}, 422, "/indexes"), ({"indexes": [{"name": "a", "fields": ["$b"]}]}, 422,
                                             "/indexes/0/fields/0"),
        ({"indexes": [{"name": "a", "fields": ["b"], "unique": 1}]}, 422, "/indexes/0/unique"),
        ({"ttl": {"seconds": -1}}, 422, "/ttl/seconds"), ({"ttl": {"seconds": 10**18}}, 422, "/ttl/seconds"),
        ({"require_if_match": 1}, 422, "/require_if_match"),
        (b'{"schema":' + b"[" * 50_000 + b"]" * 50_000 + b"}", 422, ""),
    ],
)  # fmt: skip
async def test_settings_that_cannot_be_are_pointed_at_and_change_nothing(
    api: Api, body: Any, status: int, pointer: str | None
) -> None:
    before = (await api("PUT", "/users", SETTINGS))[2]
    for method, headers in (("PUT", {}), ("PATCH", MERGE)):
        actual, _, problem = await api(method, "/users", body, headers)
        assert actual == status, problem
        if pointer is not None:
            assert [error["pointer"] for error in problem["errors"]] == [pointer]
    assert (await api("GET", "/users"))[2] == before


async def test_an_idempotency_key_is_refused_where_it_would_not_be_heeded(api: Api) -> None:
    tag, key = (await api("PUT", "/users", {}))[1]["ETag"], {"Idempotency-Key": "k"}
    for method, path, body, headers in (
        ("PUT", "/users", {"require_if_match": True}, key), ("PATCH", "/users", {}, {**key, **MERGE}),
        ("DELETE", "/users", None, key), ("DELETE", "/users?documents=delete", None, key),
    ):  # fmt: skip
        status, _, problem = await api(method, path, body, headers)
        assert (status, problem["code"]) == (400, "bad_request") and "Idempotency-Key" in problem["detail"]
    assert (await api("GET", "/users"))[1]["ETag"] == tag
    assert (await api("POST", "/users", {}, key))[0] == 201
