"""Documents over HTTP: one document, preconditions, and what is refused."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

import pytest

from gateway.store.model.document import RESERVED_IDS
from tests.documents.api import BODY_LIMIT, MERGE, NDJSON, PREFIX, Api, ndjson
from tests.eventually import head_start

ODD_ID = "a/b c?é#%"


# --- one document --------------------------------------------------------------------------------


async def test_create_answers_the_document_and_where_it_is(api: Api) -> None:
    status, headers, document = await api("POST", "/orders/", {"a": 1, "b": {"c": [None]}})
    assert status == 201
    assert headers["Content-Type"] == "application/json"
    assert document == {"id": document["id"], "a": 1, "b": {"c": [None]}}
    assert headers["Location"] == f"/documents/orders/{document['id']}"
    status, read, again = await api("GET", f"/orders/{document['id']}")
    assert (status, again, read["ETag"]) == (200, document, headers["ETag"])
    assert (await api("POST", "/orders", {}))[0] == 201


async def test_head_is_get_without_the_body(api: Api) -> None:
    for path in ("/orders/x", "/orders/", "/"):
        await api("PUT", "/orders/x", {"a": 1})
        got = await api.raw("GET", path)
        head = await api.raw("HEAD", path)
        assert (head[0], head[2]) == (200, b"")
        for name in ("Content-Length", "Content-Type", "Cache-Control"):
            assert head[1][name] == got[1][name]
        assert head[1].get("ETag") == got[1].get("ETag")


async def test_put_makes_and_then_replaces(api: Api) -> None:
    path = "/orders/" + quote(ODD_ID, safe="")
    status, made, document = await api("PUT", path, {"id": ODD_ID, "a": 1})
    assert (status, document) == (201, {"id": ODD_ID, "a": 1})
    assert made["Location"] == PREFIX + path
    status, replaced, document = await api("PUT", path, {})
    assert (status, document) == (200, {"id": ODD_ID})
    assert "Location" not in replaced and replaced["ETag"] != made["ETag"]


async def test_patch_merges(api: Api) -> None:
    await api("PUT", "/orders/x", {"a": {"b": 1, "c": 2}, "d": 1})
    for headers in (MERGE, {"Content-Type": "application/json; charset=UTF-8"}):
        status, received, document = await api("PATCH", "/orders/x", {"a": {"b": None}}, headers)
        assert (status, document) == (200, {"id": "x", "a": {"c": 2}, "d": 1})
        assert (await api("GET", "/orders/x"))[1]["ETag"] == received["ETag"]


async def test_delete_leaves_nothing(api: Api) -> None:
    await api("PUT", "/orders/x", {})
    assert (await api.raw("DELETE", "/orders/x"))[::2] == (204, b"")
    for method in ("GET", "DELETE"):
        status, _, problem = await api(method, "/orders/x")
        assert (status, problem["code"]) == (404, "not_found")
    assert (await api("PATCH", "/orders/x", {}, MERGE))[0] == 404


# --- preconditions -------------------------------------------------------------------------------


async def test_a_read_with_the_current_tag_is_304(api: Api) -> None:
    tag = (await api("PUT", "/orders/x", {"a": 1}))[1]["ETag"]
    for value in (tag, f"W/{tag}", f'"other", {tag}', f'"with,comma" ,W/{tag}', ", ," + tag, "*"):
        for method in ("GET", "HEAD"):
            status, headers, body = await api.raw(method, "/orders/x", headers={"If-None-Match": value})
            assert (status, headers["ETag"], body) == (304, tag, b"")
    assert (await api("GET", "/orders/x", headers={"If-None-Match": '"other"'}))[0] == 200
    assert (await api("GET", "/orders/none", headers={"If-None-Match": "*"}))[0] == 404


async def test_if_match_is_strong_and_asked_first(api: Api) -> None:
    tag = (await api("PUT", "/orders/x", {"a": 1}))[1]["ETag"]
    for method, body in (("PUT", {}), ("PATCH", {}), ("DELETE", None), ("GET", None)):
        for value in ('"other"', f"W/{tag}", f'W/{tag}, "other"'):
            headers = {"If-Match": value, "If-None-Match": tag}
            status, _, problem = await api(method, "/orders/x", body, headers)
            assert (status, problem["code"]) == (412, "precondition_failed"), (method, value)
    status, headers, _ = await api("PATCH", "/orders/x", {"a": 2}, {"If-Match": f'"other", {tag}', **MERGE})
    assert status == 200 and headers["ETag"] != tag
    assert (await api("DELETE", "/orders/x", headers={"If-Match": "*"}))[0] == 204


async def test_put_with_if_none_match_star_never_overwrites(api: Api) -> None:
    only_new = {"If-None-Match": "*"}
    assert (await api("PUT", "/orders/x", {"a": 1}, only_new))[0] == 201
    assert (await api("PUT", "/orders/x", {"a": 2}, only_new))[0] == 412
    assert (await api("PUT", "/orders/none", {}, {"If-Match": "*"}))[0] == 412
    assert (await api("GET", "/orders/x"))[2] == {"id": "x", "a": 1}
    assert (await api("GET", "/orders/none"))[0] == 404


async def test_a_tag_does_not_come_back_after_deletion(api: Api) -> None:
    old = (await api("PUT", "/orders/x", {"a": 1}))[1]["ETag"]
    await api("DELETE", "/orders/x")
    new = (await api("PUT", "/orders/x", {"a": 1}))[1]["ETag"]
    assert new != old
    assert (await api("PUT", "/orders/x", {}, {"If-Match": old}))[0] == 412


@pytest.mark.parametrize(
    "value", ["abc", '"a" "b"', '"a', 'w/"a"', '*, "a"', "", ",", '"a b"', ", ".join(['"a"'] * 101)]
)
async def test_a_precondition_that_is_malformed_is_400(api: Api, value: str) -> None:
    await api("PUT", "/orders/x", {})
    for header in ("If-Match", "If-None-Match"):
        for method, body in (("GET", None), ("PUT", {}), ("DELETE", None)):
            status, _, problem = await api(method, "/orders/x", body, {header: value})
            assert status == 400 and header in problem["detail"]


# --- what is refused -----------------------------------------------------------------------------


PATCHES = "application/merge-patch+json, application/json-patch+json, application/json"


@pytest.mark.parametrize(
    ("path", "methods", "allow", "more"),
    [
        ("/", "POST PUT PATCH DELETE QUERY", "GET, HEAD", {}),
        ("/orders", "QUERY PROPFIND", "GET, HEAD, PUT, PATCH, DELETE, POST",
         {"Accept-Patch": "application/merge-patch+json, application/json"}),
        ("/orders/", "PUT PATCH DELETE PROPFIND", "GET, HEAD, QUERY, POST",
         {"Accept-Query": "application/json"}),
        ("/orders/x", "POST QUERY PROPFIND", "GET, HEAD, PUT, PATCH, DELETE", {"Accept-Patch": PATCHES}),
        ("/orders/query", "GET PUT PATCH DELETE QUERY", "POST", {"Accept-Query": "application/json"}),
        ("/orders/bulk", "GET PUT PATCH DELETE QUERY", "POST", {}),
        ("/orders/import", "GET PUT PATCH DELETE QUERY", "POST", {}),
        ("/orders/export", "POST PUT PATCH DELETE QUERY", "GET, HEAD", {}),
        ("/orders/changes", "POST PUT PATCH DELETE QUERY", "GET, HEAD", {}),
    ],
)  # fmt: skip
async def test_what_may_be_done_is_told_by_options_and_by_405(
    api: Api, path: str, methods: str, allow: str, more: dict[str, str]
) -> None:
    status, headers, body = await api.raw("OPTIONS", path)
    assert (status, headers["Allow"], body) == (204, f"{allow}, OPTIONS", b"")
    assert {name: headers[name] for name in more} == more
    for method in methods.split():
        status, headers, problem = await api(method, path)
        assert (status, headers["Allow"], problem["code"]) == (405, f"{allow}, OPTIONS", "method_not_allowed")
        assert {name: headers[name] for name in more} == more


@pytest.mark.parametrize(
    "given",
    ["application/json;", "Application/Json; version=1", 'application/json; charset="UTF-8"',
     "application/json;charset=utf-8; profile=x", "application/json ; ; charset=utf8"],
)  # fmt: skip
async def test_parameters_of_a_media_type_are_no_reason_to_refuse_it(api: Api, given: str) -> None:
    assert (await api("PUT", "/orders/x", {"a": 1}, {"Content-Type": given}))[0] in (200, 201)
    assert (await api("POST", "/orders/query", {"filter": {}}, {"Content-Type": given}))[0] == 200
    merge, lines = (given.lower().replace("json", name) for name in ("merge-patch+json", "x-ndjson"))
    assert (await api("PATCH", "/orders/x", {"a": 2}, {"Content-Type": merge}))[0] == 200
    for path in ("/orders/bulk", "/orders/import"):
        line = b'{"op":"create","data":{}}' if path.endswith("bulk") else b"{}"
        assert (await api("POST", path, line, {"Content-Type": lines}))[0] == 200


@pytest.mark.parametrize("charset", ["latin-1", '"utf-16"', "utf-8; charset=latin-1", "us-ascii2"])
async def test_another_charset_is_415_and_told_to_be_the_reason(api: Api, charset: str) -> None:
    sent = {"Content-Type": f"application/json; charset={charset}"}
    status, _, problem = await api("PUT", "/orders/x", {}, sent)
    assert status == 415 and "charset" in problem["detail"] and "UTF-8" in problem["detail"]


IDS = [".", "..", "a/../b", "./a", "a/..", "a\\b", "\\", "a\nb", "\x00", "", "x" * 201, "query", "bulk",
       "export", "import", "changes", "\x7f", "\x85"]  # fmt: skip
REACHED = ["...", "a/b", "/", ".a", "a..b", "%2e", "a b", "é", "?", "#", "\u2028"]


@pytest.mark.parametrize("identifier", IDS)
async def test_an_id_that_no_url_reaches_is_refused_wherever_it_comes_in(api: Api, identifier: str) -> None:
    path = f"/orders/{quote(identifier, safe='')}"
    if identifier and identifier not in RESERVED_IDS:
        assert (await api("PUT", path, {}))[0] == 400
        assert (await api("GET", path))[0] == 400
        assert (await api("GET", f"{path}?"))[0] == 400
    for op in ({"op": "replace", "data": {}}, {"op": "patch", "data": {}}, {"op": "delete"}):
        status, _, lines = await api("POST", "/orders/bulk", ndjson({**op, "id": identifier}), NDJSON)
        assert status == 200 and lines[0]["status"] in (400, 422)
    status, _, lines = await api("POST", "/orders/import", ndjson({"id": identifier}), NDJSON)
    assert status == 200 and lines[0]["status"] in (400, 422) and lines[-1]["failed"] == 1


@pytest.mark.parametrize("identifier", REACHED)
async def test_an_id_that_a_url_reaches_is_taken_wherever_it_comes_in(api: Api, identifier: str) -> None:
    path = f"/orders/{quote(identifier, safe='')}"
    status, _, lines = await api("POST", "/orders/import", ndjson({"id": identifier, "n": 1}), NDJSON)
    assert (status, lines[-1]["created"]) == (200, 1)
    assert (await api("GET", path))[2] == {"id": identifier, "n": 1}
    assert (await api("PUT", path, {"n": 2}))[0] == 200
    replace = {"op": "replace", "id": identifier, "data": {"n": 3}}
    assert (await api("POST", "/orders/bulk", ndjson(replace), NDJSON))[2][0]["status"] == 200
    assert (await api("DELETE", path))[0] == 204


async def test_an_id_that_is_not_utf8_is_400_with_the_reason(api: Api) -> None:
    for method in ("GET", "PUT", "DELETE"):
        status, _, problem = await api(method, "/orders/K%E4se", {} if method == "PUT" else None)
        assert status == 400 and "UTF-8" in problem["detail"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"}, {"Content-Type": "application/xml"}, {"Content-Type": ""},
        {"Content-Type": "application/json; charset=latin-1"}, {"Content-Encoding": "br"},
        {"Content-Type": "multipart/form-data"},
    ],
)  # fmt: skip
async def test_other_content_is_415_with_what_is_accepted(api: Api, headers: dict[str, str]) -> None:
    await api("PUT", "/orders/x", {})
    for method, path, name in (
        ("POST", "/orders/", "Accept"),
        ("PUT", "/orders/x", "Accept"),
        ("PATCH", "/orders/x", "Accept-Patch"),
    ):
        status, received, problem = await api(method, path, {}, headers)
        assert (status, problem["code"]) == (415, "unsupported_media_type")
        assert "application/json" in received[name]
        assert ("application/merge-patch+json" in received[name]) is (method == "PATCH")


async def test_a_merge_patch_is_no_document(api: Api) -> None:
    assert (await api("PUT", "/orders/x", {}, MERGE))[0] == 415


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        (b"", 400, None), (b"{", 400, None), (b"\xff", 400, None), (b"[]", 422, ""), (b"null", 422, ""),
        (b'{"a":1,"a":2}', 422, "/a"), (b'{"a":NaN}', 422, "/a"), (b'{"a":"\\u0000"}', 422, "/a"),
        (b'{"a":"\\ud83d"}', 422, "/a"), (b'{"a":99999999999999999999}', 422, "/a"),
        (b'{"a":1e400}', 422, "/a"),
        (b'{"$set":{}}', 422, "/$set"), (b'{"a.b":1}', 422, "/a.b"), (b'{"_etag":1}', 422, "/_etag"),
        (b'{"id":"y"}', 422, "/id"), (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 422, ""),
        (b'{"a":"' + b"x" * BODY_LIMIT + b'"}', 413, None),
    ],
)  # fmt: skip
async def test_bad_bodies_are_clear_and_change_nothing(
    api: Api, body: bytes, status: int, pointer: str | None
) -> None:
    await api("PUT", "/orders/x", {"a": 1})
    writes = (("POST", "/new/", {}), ("PUT", "/orders/x", {}), ("PATCH", "/orders/x", MERGE))
    for method, path, headers in writes:
        actual, _, problem = await api(method, path, body, headers)
        assert actual == status and problem["detail"]
        if pointer is not None:
            assert [error["pointer"] for error in problem["errors"]] == [pointer]
    assert (await api("GET", "/orders/x"))[2] == {"id": "x", "a": 1}
    assert [one["name"] for one in (await api("GET", "/"))[2]["items"]] == ["orders"]


async def test_a_large_body_is_parsed_and_kept_whole(api: Api) -> None:
    data = {"a": [{"n": n, "t": "é" * 50} for n in range(3000)]}
    status, _, document = await api("POST", "/orders/", data)
    assert status == 201
    assert (await api("GET", f"/orders/{document['id']}"))[2] == {"id": document["id"], **data}


@pytest.mark.parametrize(
    "path",
    ["/a.b/", "/%24a/x", f"/{'c' * 65}/", "/c%20/x", f"/orders/{'i' * 201}", "/orders/%01", "/orders/%FF"],
)
async def test_names_that_cannot_be_are_400(api: Api, path: str) -> None:
    status, _, problem = await api("GET", path)
    assert (status, problem["code"]) == (400, "bad_request")


async def test_paths_below_a_document_are_404(api: Api) -> None:
    await api("PUT", "/orders/x", {})
    for path in ("/orders/x/", "/orders/x/y"):
        for method in ("GET", "DELETE"):
            assert (await api(method, path))[0] == 404


async def test_a_client_that_leaves_during_a_write_leaves_a_whole_document_or_none(api: Api) -> None:
    await api("PUT", "/orders/x", {"n": 0})
    for n in range(1, 20):
        writing = asyncio.create_task(api("PUT", "/orders/x", {"n": n, "m": n}))
        await head_start(0.0005 * (n % 5))
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        found = (await api("GET", "/orders/x"))[2]
        assert found["n"] == found.get("m", 0)
    assert (await api("PUT", "/orders/x", {"n": -1}))[0] == 200
