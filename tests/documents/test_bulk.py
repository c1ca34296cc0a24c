"""Many writes in one request."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from gateway.store.json.large import is_light
from gateway.store.model.write import MAX_BULK
from tests.documents.api import NDJSON, Api, ndjson


async def bulk(api: Api, *operations: Any, query: str = "") -> tuple[int, Any, Any]:
    return await api("POST", f"/orders/bulk{query}", ndjson(*operations), NDJSON)


async def test_each_operation_has_its_line_in_order(api: Api) -> None:
    tag = (await api("PUT", "/orders/x", {"a": 1}))[1]["ETag"]
    status, headers, lines = await bulk(
        api,
        {"op": "create", "data": {"n": 1}},
        {"op": "replace", "id": "y", "data": {"id": "y", "n": 2}, "if_none_match": "*"},
        {"op": "replace", "id": "y", "data": {}, "if_none_match": "*"},
        {"op": "patch", "id": "x", "data": {"b": 2}, "if_match": tag},
        {"op": "patch", "id": "x", "data": [{"op": "test", "path": "/b", "value": 2}]},
        {"op": "patch", "id": "x", "data": {}, "if_match": f'"other", {tag}'},
        {"op": "delete", "id": "y"},
        {"op": "delete", "id": "y"},
    )
    assert (status, headers["Content-Type"]) == (200, "application/x-ndjson")
    assert [line["status"] for line in lines] == [201, 201, 412, 200, 200, 412, 204, 404]
    assert [line["error"]["code"] for line in lines if "error" in line] == [
        "precondition_failed", "precondition_failed", "not_found",
    ]  # fmt: skip
    status, headers, document = await api("GET", "/orders/x")
    assert document == {"id": "x", "a": 1, "b": 2} and headers["ETag"] == lines[4]["etag"]
    assert (await api("GET", f"/orders/{lines[0]['id']}"))[2]["n"] == 1
    assert (await api("GET", "/orders/y"))[0] == 404


async def test_an_atomic_bulk_is_done_whole_or_says_which_line_failed(api: Api) -> None:
    whole = ({"op": "replace", "id": "a", "data": {}}, {"op": "replace", "id": "b", "data": {}})
    status, _, lines = await bulk(api, *whole, query="?atomic=true")
    assert (status, [line["status"] for line in lines]) == (200, [201, 201])
    for broken, status, code in (
        ({"op": "delete", "id": "none"}, 404, "not_found"),
        ({"op": "replace", "id": "a", "data": {}, "if_match": '"other"'}, 412, "precondition_failed"),
        ({"op": "replace", "id": "$", "data": {"$set": 1}}, 422, "unprocessable"),
    ):
        actual, headers, problem = await bulk(
            api, {"op": "replace", "id": "c", "data": {}}, broken, query="?atomic=true"
        )
        assert (actual, problem["code"], problem["line"]) == (status, code, 2)
        assert (
            headers["Content-Type"].startswith("application/problem+json") and "line 2" in problem["detail"]
        )
    assert [item["id"] for item in (await api("GET", "/orders/"))[2]["items"]] == ["a", "b"]


async def test_a_line_does_the_same_in_a_bulk_that_is_large_as_a_whole(api: Api) -> None:
    """There what lines bring is held as text, and read again by what looks into it."""
    settings = {
        "indexes": [{"name": "n", "fields": ["n"]}, {"name": "u", "fields": ["u"], "unique": True}],
        "ttl": {"field": "ends"},
        "schema": {"properties": {"n": {"type": ["number", "null"]}}},
    }
    lines: list[Any] = [
        {"op": "replace", "id": "a", "data": {"n": 1.0, "u": "é\u2028", "id": "a"}},
        {"op": "replace", "id": "b", "data": {"n": "no number"}},
        {"op": "replace", "id": "c", "data": {"n": 3, "u": "é\u2028"}},
        {"op": "replace", "id": "d", "data": {"ends": "2000-01-01T00:00:00Z"}},
        {"op": "patch", "id": "a", "data": {"m": {"k": [1, None]}, "n": None}},
        {"op": "patch", "id": "a", "data": [{"op": "add", "path": "/p", "value": 2.50}]},
        {"op": "patch", "id": "a", "data": [{"op": "test", "path": "/p", "value": 1}]},
        {"op": "patch", "id": "a", "data": [{"op": "no"}]},
        {"op": "patch", "id": "none", "data": {}},
        {"op": "replace", "id": "e", "data": {"id": "f"}},
        {"op": "create", "data": {"n": 7, "u": 1}},
        {"op": "delete", "id": "d"},
    ]
    found = []
    for name, pad in (("alone", 0), ("many", 40_000)):
        assert (await api("PUT", f"/{name}", settings))[0] == 201
        raw = ndjson(*lines).replace(b"\n", b" " * pad + b"\n")
        assert is_light(raw) != bool(pad)
        status, _, received = await api("POST", f"/{name}/bulk", raw, NDJSON)
        assert status == 200, received
        pages = [await api("GET", f"/{name}/?{query}") for query in ("sort=n", "filter=" + quote('{"n":7}'))]
        items = [[cut(item) for item in page[2]["items"]] for page in pages]
        found.append(([(one["status"], one.get("error")) for one in received], items))
    assert found[0] == found[1]
    statuses = [status for status, _ in found[0][0]]
    assert statuses == [201, 422, 409, 201, 200, 200, 409, 422, 404, 422, 201, 404]
    assert [len(items) for items in found[0][1]] == [2, 1]


def cut(item: dict[str, Any]) -> dict[str, Any]:
    """A document without what differs from one to the next."""
    own = {name: value for name, value in item.items() if not name.startswith("_")}
    return own if own["id"] == "a" else {**own, "id": ""}


BAD = [
    (b"{", 400, None), (b"\xff", 400, None), (b"[]", 422, ""), (b"1", 422, ""), (b"{}", 422, "/op"),
    (b'{"op":["create"]}', 422, "/op"), (b'{"op":"upsert","data":{}}', 422, "/op"),
    (b'{"op":"create"}', 422, "/data"), (b'{"op":"create","data":[]}', 422, "/data"),
    (b'{"op":"create","data":{},"id":"x"}', 422, "/id"),
    (b'{"op":"create","data":{"id":"x"}}', 422, "/data/id"),
    (b'{"op":"create","data":{"$set":1}}', 422, "/data/$set"),
    (b'{"op":"create","data":{"a.b":1}}', 422, "/data/a.b"),
    (b'{"op":"create","data":{"_etag":1}}', 422, "/data/_etag"),
    (b'{"op":"create","data":{"a":NaN}}', 422, "/data/a"),
    (b'{"op":"create","data":{"a":"\\u0000"}}', 422, "/data/a"),
    (b'{"op":"create","data":{"a":"\\ud800"}}', 422, "/data/a"),
    (b'{"op":"create","data":{"a":99999999999999999999}}', 422, "/data/a"),
    (b'{"op":"create","data":{"a":1,"a":2}}', 422, "/data/a"),
    (b'{"op":"create","data":{"a":' + b"[" * 5000 + b"]" * 5000 + b"}}", 422, None),
    (b'{"op":"replace","data":{}}', 422, "/id"), (b'{"op":"replace","id":{"$ne":1},"data":{}}', 422, "/id"),
    (b'{"op":"replace","id":"","data":{}}', 400, "/id"),
    (b'{"op":"replace","id":"\\u0001","data":{}}', 400, "/id"),
    (b'{"op":"replace","id":"export","data":{}}', 400, "/id"),
    (b'{"op":"replace","id":"x","data":{"id":"y"}}', 422, "/data/id"),
    (b'{"op":"replace","id":"x","data":{},"if_match":1}', 422, "/if_match"),
    (b'{"op":"replace","id":"x","data":{},"if_match":"x"}', 400, "/if_match"),
    (b'{"op":"delete","id":"x","if_match":{"$gt":""}}', 422, "/if_match"),
    (b'{"op":"delete","id":"x","data":{}}', 422, "/data"),
    (b'{"op":"patch","id":"x","data":1}', 422, "/data"),
    (b'{"op":"patch","id":"x","data":[{"op":"add","path":"a"}]}', 422, "/data/0/path"),
    (b'{"op":"patch","id":"x","data":[{"op":"add","path":"/$a","value":1}]}', 404, None),
]  # fmt: skip


@pytest.mark.parametrize(("line", "status", "pointer"), BAD)
async def test_a_line_that_is_no_operation_stands_for_itself(
    api: Api, line: bytes, status: int, pointer: str | None
) -> None:
    good = ndjson({"op": "replace", "id": "good", "data": {}})
    actual, _, lines = await api("POST", "/orders/bulk", line + b"\n\n" + good, NDJSON)
    assert (actual, lines[0]["status"], lines[1]["status"]) == (200, status, 201)
    if pointer is not None:
        assert [error["pointer"] for error in lines[0]["error"]["errors"]] == [pointer]
    actual, _, problem = await api("POST", "/orders/bulk?atomic=true", good + line, NDJSON)
    assert (actual, problem["line"]) == (status, 2)
    assert [item["id"] for item in (await api("GET", "/orders/"))[2]["items"]] == ["good"]


async def test_a_bulk_has_one_to_a_thousand_operations(api: Api) -> None:
    for body in (b"", b"\n \r\n"):
        assert (await api("POST", "/orders/bulk", body, NDJSON))[0] == 400
    many = [{"op": "create", "data": {}}] * (MAX_BULK + 1)
    status, _, problem = await bulk(api, *many)
    assert (status, problem["code"]) == (413, "body_too_large")
    assert len((await bulk(api, *many[:MAX_BULK]))[2]) == MAX_BULK


async def test_what_a_bulk_is_sent_as(api: Api) -> None:
    status, headers, _ = await api("POST", "/orders/bulk", b"{}")
    assert status == 415 and "application/x-ndjson" in headers["Accept"]
    for query in ("?atomic=yes", "?x=1", "?atomic"):
        assert (await bulk(api, {"op": "create", "data": {}}, query=query))[0] == 400
