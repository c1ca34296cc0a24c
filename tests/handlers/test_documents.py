"""Documents over HTTP: real sockets, the real store; what stands before the handler is a few lines here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import ClientSession, web
from pytest_aiohttp import AiohttpRawServer
from yarl import URL

from gateway.call import Call, Snapshot
from gateway.core.errors import GatewayError
from gateway.core.head import from_pairs
from gateway.core.model import Route, Tenant, TenantId
from gateway.edge import reply
from gateway.handlers.documents import Documents
from gateway.store.sqlite import SQLiteDocumentStore

PREFIX = "/documents"
BODY_LIMIT = 1_000_000
MERGE = {"Content-Type": "application/merge-patch+json"}
ODD_ID = "a/b c?é#%"


def snapshot() -> Snapshot:
    return Snapshot(1, 0.0, "", None, {}, {}, None)  # type: ignore[arg-type]


class Api:
    """A client of one tenant. Answers are status, headers, bytes."""

    def __init__(self, session: ClientSession, base: str, tenant: str = "acme") -> None:
        self.session = session
        self.base = base
        self.tenant = tenant

    def of(self, tenant: str) -> Api:
        return Api(self.session, self.base, tenant)

    async def __call__(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any, Any]:
        """As `raw`, with the body parsed."""
        status, answered, content = await self.raw(method, path, body, headers)
        return status, answered, json.loads(content) if content else None

    async def raw(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any, bytes]:
        sent = {"X-Test-Tenant": self.tenant, **(headers or {})}
        if body is not None:
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        url = URL(self.base + PREFIX + path, encoded=True)
        async with self.session.request(method, url, data=body, headers=sent) as response:
            return response.status, response.headers, await response.read()


@pytest.fixture
async def api(tmp_path: Path, aiohttp_raw_server: AiohttpRawServer) -> AsyncIterator[Api]:
    store = SQLiteDocumentStore(tmp_path / "documents", b"k" * 32)
    await store.start()
    target = Documents(store)
    route = Route("documents", "/documents/{rest*}", "documents", target, strip=PREFIX, body_limit=BODY_LIMIT)

    async def serve(request: web.BaseRequest) -> web.StreamResponse:
        head = from_pairs(request.raw_headers)
        call = Call(request.method, request.raw_path, head, "", snapshot(), request)
        call.id = "the-request"
        call.route = route
        path, _, call.query = request.raw_path.partition("?")
        call.path, call.subpath = path, path.removeprefix(PREFIX) or "/"
        tenant = request.headers["X-Test-Tenant"]
        call.tenant = Tenant(TenantId(tenant), tenant)
        try:
            return await route.target(call)
        except GatewayError as error:
            return reply.problem(call, error)

    server = await aiohttp_raw_server(serve, auto_decompress=False)
    async with ClientSession() as session:
        yield Api(session, f"http://{server.host}:{server.port}")
    await store.close()


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
        status, answered, document = await api("PATCH", "/orders/x", {"a": {"b": None}}, headers)
        assert (status, document) == (200, {"id": "x", "a": {"c": 2}, "d": 1})
        assert (await api("GET", "/orders/x"))[1]["ETag"] == answered["ETag"]


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


# --- lists ---------------------------------------------------------------------------------------


async def test_a_list_has_items_with_their_ids_and_tags(api: Api) -> None:
    tags = {name: (await api("PUT", f"/orders/{name}", {"n": name}))[1]["ETag"] for name in "ba"}
    for path in ("/orders", "/orders/"):
        status, headers, content = await api("GET", path)
        assert status == 200 and "Link" not in headers
        for item in content["items"]:
            assert item.pop("_created") == item.pop("_modified")
        assert content == {"items": [{"id": name, "_etag": tags[name], "n": name} for name in "ab"]}
    assert (await api("GET", "/unknown/"))[2] == {"items": []}


async def test_following_the_links_gives_everything_once(api: Api) -> None:
    for n in range(7):
        await api("PUT", f"/orders/{n}", {"kind": "a&b=c", "n": n % 3})
    await api("PUT", "/orders/other", {"kind": "other"})
    path = "/orders/?limit=3&sort=-n,id&filter=" + quote('{"kind":"a&b=c"}')
    seen: list[str] = []
    for _ in range(3):
        status, headers, content = await api("GET", path)
        assert status == 200
        seen += [item["id"] for item in content["items"]]
        if "Link" in headers:
            link, _, relation = headers["Link"].partition(">")
            assert relation == '; rel="next"' and link.startswith(f"<{PREFIX}/orders/?")
            assert content["next"] in link
            path = link.removeprefix("<" + PREFIX)
    assert seen == ["2", "5", "1", "4", "0", "3", "6"]
    assert "next" not in content and "Link" not in headers


async def test_the_root_lists_collections_in_pages(api: Api) -> None:
    for name in ("b", "a", "c"):
        await api("PUT", f"/{name}/x", {})
    status, headers, content = await api("GET", "/?limit=2")
    assert status == 200 and content["items"] == [{"name": "a"}, {"name": "b"}]
    assert headers["Link"].startswith(f"<{PREFIX}/?limit=2&cursor=")
    status, headers, rest = await api("GET", f"/?limit=2&cursor={content['next']}")
    assert rest == {"items": [{"name": "c"}]} and "Link" not in headers
    assert (await api.of("globex")("GET", ""))[2] == {"items": []}


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=1001", "limit=-1", "limit=1e1", "limit=", "limit=%D9%A1", "limit=1&limit=2",
        "limit", "&", "unknown=1", "filter=", "filter={", "filter=[]", "filter=%7B%22%24where%22:1%7D",
        "filter=%FF", "sort=", "sort=%24a", "sort=a.0", "cursor=", "cursor=x", "cursor=" + "A" * 100,
        "count=true", "fields=a",
    ],
)  # fmt: skip
async def test_a_query_that_is_not_understood_is_400(api: Api, query: str) -> None:
    await api("PUT", "/orders/x", {"a": 1})
    status, _, problem = await api("GET", f"/orders/?{query}")
    assert (status, problem["code"]) == (400, "bad_request")


async def test_a_refused_filter_points_at_what_is_refused(api: Api) -> None:
    status, _, problem = await api("GET", "/orders/?filter=" + quote('{"a":{"$where":"1"}}'))
    assert status == 400
    assert [error["pointer"] for error in problem["errors"]] == ["/a/$where"]
    assert "$eq" in problem["errors"][0]["detail"]


async def test_only_lists_have_parameters(api: Api) -> None:
    await api("PUT", "/orders/x", {})
    for method, path, body in (
        ("GET", "/orders/x?limit=1", None),
        ("PUT", "/orders/x?a=1", {}),
        ("POST", "/orders/?limit=1", {}),
        ("DELETE", "/orders/x?filter={}", None),
        ("GET", "/?filter={}", None),
    ):
        assert (await api(method, path, body))[0] == 400
    assert (await api("GET", "/orders/x"))[0] == 200


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "methods", "allow"),
    [
        ("/", "POST PUT PATCH DELETE OPTIONS", "GET, HEAD"),
        ("/orders/", "PUT PATCH DELETE OPTIONS PROPFIND", "GET, HEAD, POST"),
        ("/orders/x", "POST OPTIONS PROPFIND", "GET, HEAD, PUT, PATCH, DELETE"),
    ],
)
async def test_other_methods_are_405_with_those_that_are_allowed(
    api: Api, path: str, methods: str, allow: str
) -> None:
    for method in methods.split():
        status, headers, problem = await api(method, path)
        assert (status, headers["Allow"], problem["code"]) == (405, allow, "method_not_allowed")


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"}, {"Content-Type": "application/xml"}, {"Content-Type": ""},
        {"Content-Type": "application/json; charset=latin-1"}, {"Content-Encoding": "br"},
        {"Content-Type": "application/json-patch+json"},
    ],
)  # fmt: skip
async def test_other_content_is_415_with_what_is_accepted(api: Api, headers: dict[str, str]) -> None:
    await api("PUT", "/orders/x", {})
    for method, path, name in (
        ("POST", "/orders/", "Accept"),
        ("PUT", "/orders/x", "Accept"),
        ("PATCH", "/orders/x", "Accept-Patch"),
    ):
        status, answered, problem = await api(method, path, {}, headers)
        assert (status, problem["code"]) == (415, "unsupported_media_type")
        assert "application/json" in answered[name]
        assert ("application/merge-patch+json" in answered[name]) is (method == "PATCH")


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
        answered, _, problem = await api(method, path, body, headers)
        assert answered == status and problem["detail"]
        if pointer is not None:
            assert [error["pointer"] for error in problem["errors"]] == [pointer]
    assert (await api("GET", "/orders/x"))[2] == {"id": "x", "a": 1}
    assert (await api("GET", "/"))[2] == {"items": [{"name": "orders"}]}


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


# --- isolation -----------------------------------------------------------------------------------

CANARY = "c4n4ry"


Asked = tuple[str, str, Any, dict[str, str]]


def requests(identifier: str, tag: str, cursor: str, query: str) -> list[Asked]:
    path = f"/orders/{identifier}"
    return [
        ("GET", path, None, {}),
        ("HEAD", path, None, {}),
        ("GET", path, None, {"If-None-Match": tag}),
        ("GET", path, None, {"If-Match": tag}),
        ("PATCH", path, {"a": 1}, {}),
        ("PATCH", path, {"a": 1}, {"If-Match": tag}),
        ("DELETE", path, None, {}),
        ("DELETE", path, None, {"If-Match": tag}),
        ("PUT", path, {"a": 1}, {"If-Match": tag}),
        ("PUT", path, {"a": 1}, {"If-Match": "*"}),
        ("GET", f"/orders/?{query}&cursor={cursor}", None, {}),
        ("GET", "/orders/?filter=" + quote(json.dumps({"id": identifier})), None, {}),
        ("GET", "/orders/?filter=" + quote(json.dumps({"secret": CANARY})), None, {}),
        ("GET", "/orders/?sort=-secret", None, {}),
        ("GET", f"/?cursor={cursor}", None, {}),
        ("GET", "/", None, {}),
    ]


async def test_what_is_another_tenants_answers_byte_for_byte_as_what_never_was(api: Api) -> None:
    a, b = api.of("acme"), api.of("globex")
    for n in range(3):
        await a("PUT", f"/orders/mine-{n}", {"secret": CANARY, "n": n})
    tag = (await a("GET", "/orders/mine-0"))[1]["ETag"]
    cursor = (await a("GET", "/orders/?limit=1&sort=n"))[2]["next"]
    never = requests("none-0", '"aaaaaaaaaaaaaaaa-1"', "A" * len(cursor), "sort=n&limit=1")
    for theirs, nobodys in zip(requests("mine-0", tag, cursor, "sort=n&limit=1"), never, strict=True):
        left, right = await b.raw(*theirs), await b.raw(*nobodys)
        assert left[0] == right[0] and left[2] == right[2], theirs
        for answer in (left, right):
            assert set(answer[1]) <= {"Content-Type", "Content-Length", "Cache-Control", "Date", "Server"}
        assert left[1]["Content-Length"] == right[1]["Content-Length"], theirs
        assert CANARY.encode() not in left[2] and b"mine-" not in left[2], theirs
    status, _, own = await b("PUT", "/orders/mine-0", {"own": 1}, {"If-None-Match": "*"})
    assert (status, own) == (201, {"id": "mine-0", "own": 1})
    assert (await a("GET", "/orders/mine-0"))[2] == {"id": "mine-0", "secret": CANARY, "n": 0}


async def test_a_client_that_leaves_during_a_write_leaves_a_whole_document_or_none(api: Api) -> None:
    await api("PUT", "/orders/x", {"n": 0})
    for n in range(1, 20):
        writing = asyncio.create_task(api("PUT", "/orders/x", {"n": n, "m": n}))
        await asyncio.sleep(0.0005 * (n % 5))
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        found = (await api("GET", "/orders/x"))[2]
        assert found["n"] == found.get("m", 0)
    assert (await api("PUT", "/orders/x", {"n": -1}))[0] == 200
