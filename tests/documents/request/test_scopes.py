"""Scopes of documents: for all collections or one, by verb; and nothing is read by whoever may only write."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.documents.api import JSON_PATCH, MANAGE, NDJSON, READ, WRITE, Api, ndjson, serving

Asked = tuple[str, str, Any, dict[str, str]]

READS: list[Asked] = [
    ("GET", "/orders/x", None, {}), ("HEAD", "/orders/x", None, {}), ("GET", "/orders/", None, {}),
    ("GET", "/orders/?filter=" + quote('{"a":1}'), None, {}), ("GET", "/orders/?sort=a&limit=1", None, {}),
    ("QUERY", "/orders/", {"filter": {"a": 1}}, {}), ("POST", "/orders/query", {"sort": "a"}, {}),
    ("GET", "/orders/export", None, {}), ("HEAD", "/orders/changes", None, {}), ("GET", "/orders", None, {}),
]  # fmt: skip
CREATE = ("POST", "/orders/", {"a": 1}, {})
WRITES: list[Asked] = [
    CREATE, ("PUT", "/orders/x", {"a": 1}, {}), ("PATCH", "/orders/x", {"a": 1}, {}),
    ("POST", "/orders/bulk", ndjson({"op": "patch", "id": "x", "data": {}}), NDJSON),
    ("POST", "/orders/import", ndjson({"id": "x"}), NDJSON), ("DELETE", "/orders/x", None, {}),
]  # fmt: skip
MANAGES: list[Asked] = [
    ("PUT", "/orders", {}, {}), ("PATCH", "/orders", {}, {}), ("DELETE", "/orders", None, {}),
]  # fmt: skip


async def statuses(api: Api, asked: list[Asked]) -> list[int]:
    found = []
    for method, path, body, headers in asked:
        await api.of("acme")("PUT", "/orders/x", {"a": 1})
        found.append((await api.raw(method, path, body, headers))[0])
    return found


def allowed(found: list[int]) -> set[bool]:
    return {status != 403 for status in found}


@pytest.mark.parametrize("one", [False, True], ids=["all collections", "one collection"])
@pytest.mark.parametrize(("scope", "may"), [(READ, READS), (WRITE, WRITES), (MANAGE, MANAGES), ("", [])])
async def test_a_scope_allows_its_verbs_and_no_others(
    api: Api, scope: str, may: list[Asked], one: bool
) -> None:
    client = api.of("acme", f"{scope}:orders" if one and scope else scope)
    for kind in (READS, WRITES, MANAGES):
        left = [asked for asked in kind if not (scope == MANAGE and asked[:2] == ("GET", "/orders"))]
        assert allowed(await statuses(client, left)) == {kind is may}, (scope, kind)


async def test_the_scope_of_another_collection_does_not_count(api: Api) -> None:
    others = " ".join(
        f"{s}:{c}" for s in (READ, WRITE, MANAGE) for c in ("order", "orders2", "ORDERS", "*", "")
    )
    client = api.of("acme", others)
    assert allowed(await statuses(client, READS + WRITES + MANAGES)) == {False}


async def test_a_refusal_names_the_scope_that_is_missing(api: Api) -> None:
    status, headers, problem = await api.of("acme", f"{READ}:other")("GET", "/orders/x")
    assert (status, problem["code"]) == (403, "forbidden") and READ in problem["detail"]
    assert headers["WWW-Authenticate"] == f'Bearer error="insufficient_scope", scope="{READ}"'


async def test_the_root_lists_the_collections_that_the_token_may_read(api: Api) -> None:
    for name in ("orders", "secrets", "users"):
        await api("PUT", f"/{name}", {})
    for scope, names in (
        (READ, ["orders", "secrets", "users"]), (f"{READ}:orders {READ}:users", ["orders", "users"]),
        (f"{WRITE} {READ}:none", []),
    ):  # fmt: skip
        content = (await api.of("acme", scope)("GET", "/"))[2]
        assert [one["name"] for one in content["items"]] == names
    for scope in ("", f"{WRITE} {MANAGE}:orders", f"{READ}s:orders"):
        assert (await api.of("acme", scope)("GET", "/"))[0] == 403


async def test_who_may_only_write_gets_nothing_to_read(api: Api) -> None:
    await api("PUT", "/orders/x", {"secret": "c4n4ry"})
    writer = api.of("acme", f"{WRITE}:orders")
    for method, path, status in (
        ("PATCH", "/orders/x", 204),
        ("POST", "/orders/", 201),
        ("PUT", "/orders/x", 204),
    ):
        actual, headers, body = await writer.raw(method, path, {"a": 1}, {"Prefer": "return=representation"})
        assert (actual, body) == (status, b"") and headers["ETag"]
    sent = {"Idempotency-Key": '"k"'}
    assert (await writer.raw("PUT", "/orders/x", {"b": 1}, sent))[2] == b""
    assert (await writer.raw("PUT", "/orders/x", {"b": 1}, sent))[2] == b""


async def test_a_json_patch_tells_what_is_there_so_it_needs_to_read(api: Api) -> None:
    await api("PUT", "/orders/x", {"secret": 1})
    probe = [{"op": "test", "path": "/secret", "value": 1}]
    line = ndjson({"op": "patch", "id": "x", "data": probe})
    for scope, status in ((WRITE, 403), (f"{WRITE} {READ}:orders", 200)):
        client = api.of("acme", scope)
        assert (await client("PATCH", "/orders/x", probe, JSON_PATCH))[0] == status
        assert (await client("POST", "/orders/bulk", line, NDJSON))[0] == status


async def test_a_bulk_needs_the_scope_of_each_of_its_operations(tmp_path: Path) -> None:
    scopes = {"read": [READ], "write": [WRITE], "DELETE": ["documents:delete"], "manage": [MANAGE]}
    create, delete = {"op": "create", "data": {}}, {"op": "delete", "id": "x"}
    async with serving(tmp_path, scopes=scopes) as api:
        writer, both = api.of("acme", WRITE), api.of("acme", f"{WRITE} documents:delete:orders")
        assert (await writer("POST", "/orders/bulk", ndjson(create), NDJSON))[0] == 200
        assert (await writer("POST", "/orders/bulk", ndjson(create, delete), NDJSON))[0] == 403
        assert (await writer("DELETE", "/orders/x"))[0] == 403
        assert (await both("POST", "/orders/bulk", ndjson(create, delete), NDJSON))[0] == 200
        managing = api.of("acme", f"{MANAGE} {WRITE}")
        assert (await managing("DELETE", "/orders?documents=delete"))[0] == 403
        managing = api.of("acme", f"{MANAGE}:orders documents:delete")
        assert (await managing("DELETE", "/orders?documents=delete"))[0] == 204
