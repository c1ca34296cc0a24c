"""Lists of documents over HTTP: pages, links, projection, counts, and queries in a body."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import quote

import pytest

from gateway.call import Call
from gateway.core.model import TenantId
from gateway.documents import listing
from gateway.store.filter import regex
from gateway.store.filter.nodes import And, Text
from tests.documents.api import NDJSON, PREFIX, Api, ndjson, serving


async def test_a_list_has_items_with_their_ids_and_tags(api: Api) -> None:
    tags = {name: (await api("PUT", f"/orders/{name}", {"n": name}))[1]["ETag"] for name in "ba"}
    for path in ("/orders/",):
        status, headers, content = await api("GET", path)
        assert "Link" not in headers
        assert status == 200
        for item in content["items"]:
            assert item.pop("_created") == item.pop("_modified") and item["_etag"] == tags[item["id"]]
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


async def test_fields_leave_or_leave_out_members_and_the_id_stays(api: Api) -> None:
    await api("PUT", "/orders/x", {"a": 1, "b": {"c": 2, "d": 3}, "e": [{"f": 1, "g": 2}]})
    for fields, left in (
        ("a", {"a": 1}), ("b.c,e.f", {"b": {"c": 2}, "e": [{"f": 1}]}), ("-b,-e", {"a": 1}), ("none", {}),
    ):  # fmt: skip
        item = (await api("GET", f"/orders/?fields={fields}"))[2]["items"][0]
        assert {n: v for n, v in item.items() if not n.startswith("_")} == {"id": "x", **left}, fields


async def test_a_count_is_of_all_pages_and_only_when_asked_for(api: Api) -> None:
    for n in range(5):
        await api("PUT", f"/orders/{n}", {"n": n})
    path = "/orders/?limit=2&filter=" + quote('{"n":{"$gte":1}}')
    assert "count" not in (await api("GET", path))[2]
    first = (await api("GET", path + "&count=true"))[2]
    assert (len(first["items"]), first["count"]) == (2, 4)
    last = (await api("GET", f"{path}&count=true&cursor={first['next']}"))[2]
    assert (len(last["items"]), last["count"], "next" in last) == (2, 4, False)


async def test_a_query_in_a_body_is_the_same_list(api: Api) -> None:
    for n in range(5):
        await api("PUT", f"/orders/{n}", {"n": n % 2, "m": n})
    asked = "?sort=-n,id&fields=n&limit=2&count=true&filter=" + quote('{"m":{"$lt":4}}')
    listed = (await api("GET", f"/orders/{asked}"))[2]
    for fields in ("n", ["n"]):
        for sort in ("-n,id", ["-n", "id"]):
            body = {"filter": {"m": {"$lt": 4}}, "sort": sort, "fields": fields, "limit": 2, "count": True}
            for method, path in (("QUERY", "/orders/"), ("POST", "/orders/query")):
                status, headers, content = await api(method, path, body)
                assert (status, content) == (200, listed) and "Link" not in headers
                following = await api(method, path, {**body, "cursor": content["next"]})
                assert [item["id"] for item in following[2]["items"]] == ["0", "2"]
    assert len((await api("QUERY", "/orders/", {}))[2]["items"]) == 5


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("limit=0", "limit"), ("limit=1001", "limit"), ("limit=-1", "limit"), ("limit=1e1", "limit"),
        ("limit=", "limit"), ("limit=%D9%A1", "limit"), ("limit=1&limit=2", "limit"), ("limit", None),
        ("&", None), ("unknown=1", "unknown"), ("filter=", "filter"), ("filter={", "filter"),
        ("filter=[]", "filter"), ("filter=%7B%22%24where%22:1%7D", "filter"), ("filter=%FF", None),
        ("filter=" + "[" * 7000, "filter"), ("filter=" + quote('{"a":"\\ud800"}'), "filter"),
        ("sort=", "sort"), ("sort=%24a", "sort"), ("sort=a.0", "sort"), ("sort=a%00", "sort"),
        ("sort=" + ",".join("abcde"), "sort"), ("cursor=", "cursor"), ("cursor=x", "cursor"),
        ("cursor=" + "A" * 100, "cursor"), ("cursor=%00", "cursor"), ("count=1", "count"),
        ("fields=", "fields"), ("fields=a,-b", "fields"), ("fields=-id", "fields"), ("fields=%24a", "fields"),
    ],
)  # fmt: skip
async def test_a_parameter_that_is_not_understood_is_400_and_named(
    api: Api, query: str, parameter: str | None
) -> None:
    await api("PUT", "/orders/x", {"a": 1})
    status, _, problem = await api("GET", f"/orders/?{query}")
    assert (status, problem["code"], problem.get("parameter")) == (400, "bad_request", parameter)


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        (b"", 400, None), (b"{", 400, None), (b"\xff", 400, None), ([], 400, ""), ({"x": 1}, 400, "/x"),
        (b'{"limit":1,"limit":2}', 422, "/limit"), (b"[" * 100_000, 422, ""),
        ({"filter": []}, 400, "/filter"), ({"filter": {"a": {"$where": 1}}}, 400, "/filter/a/$where"),
        ({"filter": {"$expr": 1}}, 400, "/filter/$expr"), (b'{"filter":{"a":NaN}}', 422, "/filter/a"),
        ({"sort": 1}, 400, "/sort"), ({"sort": "$a"}, 400, "/sort"), ({"sort": [["a"]]}, 400, "/sort"),
        ({"fields": {}}, 400, "/fields"), ({"fields": ["a", "-b"]}, 400, "/fields"),
        ({"limit": 0}, 400, "/limit"), ({"limit": True}, 400, "/limit"), ({"limit": "5"}, 400, "/limit"),
        ({"cursor": 1}, 400, "/cursor"), ({"cursor": "x"}, 400, "/cursor"), ({"count": 1}, 400, "/count"),
    ],
)  # fmt: skip
async def test_a_query_in_a_body_that_is_not_understood_is_pointed_at(
    api: Api, body: Any, status: int, pointer: str | None
) -> None:
    for method, path in (("QUERY", "/orders/"), ("POST", "/orders/query")):
        actual, _, problem = await api(method, path, body)
        assert actual == status
        if pointer is not None:
            assert [error["pointer"] for error in problem["errors"]] == [pointer]


async def test_a_query_needs_json_and_has_no_parameters(api: Api) -> None:
    for method, path in (("QUERY", "/orders/"), ("POST", "/orders/query")):
        status, headers, _ = await api(method, path, b"{}", NDJSON)
        assert (status, headers["Accept-Query"]) == (415, "application/json")
        assert (await api(method, path + "?limit=1", {}))[0] == 400


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


async def test_a_large_page_is_the_same_in_pieces(tmp_path: Any) -> None:
    """Large documents, many small ones, text beyond ASCII, and what is left of the large ones."""
    async with serving(tmp_path, body_limit=10**9) as api:
        members = {f"m{number}": number for number in range(20_000)}
        large = {"n": 1, "s": "é€😀" * 15_000, "a": members, "b": [{"c": 1, "d": 2}]}
        await api("PUT", "/orders/large", large)
        small = {"n": 2, "s": "x" * 900}
        lines = [{"op": "replace", "id": f"s{number:03}", "data": small} for number in range(500)]
        assert (await api("POST", "/orders/bulk", ndjson(*lines), NDJSON))[0] == 200
        status, headers, content = await api("GET", "/orders/?limit=1000&count=true")
        assert status == 200 and int(headers["Content-Length"]) > 800_000 and content["count"] == 501
        items = {item["id"]: {k: v for k, v in item.items() if k[0] != "_"} for item in content["items"]}
        assert items["large"] == {"id": "large", **large} and items["s499"]["n"] == 2 and len(items) == 501
        for fields, left in (
            ("n,b.c", {"n": 1, "b": [{"c": 1}]}), ("-a,-s", {"n": 1, "b": large["b"]}), ("a", {"a": members}),
        ):  # fmt: skip
            item = (await api("GET", f"/orders/?limit=1&fields={fields}"))[2]["items"][0]
            assert {k: v for k, v in item.items() if k[0] != "_"} == {"id": "large", **left}, fields
        status, headers, content = await api("HEAD", "/orders/?limit=1000")
        assert status == 200 and content is None


@pytest.mark.parametrize("sort", ["n", "-n", "s", "-s", "a.m7,n", "missing", "a", "flag,-n"])
async def test_pages_of_large_documents_follow_each_other_in_every_order(tmp_path: Any, sort: str) -> None:
    async with serving(tmp_path, body_limit=10**9) as api:
        pad = "x" * 300_000
        values = [1.1, 0.1, -3, 10**15 + 1, 1e300, "a", "é", None, True]
        for number, value in enumerate(values):
            data = {"n": value, "s": f"{number % 3}é", "a": {"m7": number % 2}, "flag": number % 2 == 0}
            await api("PUT", f"/orders/{number}", {**data, "pad": pad} if number % 3 else data)
        whole = [item["id"] for item in (await api("GET", f"/orders/?fields=n&sort={sort}"))[2]["items"]]
        seen, path = [], f"/orders/?limit=1&sort={sort}"
        while path:
            content = (await api("GET", path))[2]
            seen += [item["id"] for item in content["items"]]
            path = f"/orders/?limit=1&sort={sort}&cursor={content['next']}" if "next" in content else ""
        assert seen == whole and len(seen) == len(values)


async def test_a_large_filter_is_read_as_a_small_one_is_in_a_parameter_a_body_and_an_export(api: Api) -> None:
    for n in range(3):
        await api("PUT", f"/orders/{n}", {"n": n})
    wanted = {"$or": [{"n": {"$in": list(range(1, 900))}}, {"n": -1}]}
    refused = {"n": {"$in": ["x" * 2050, {"$gt": 1}]}}
    body = {"filter": wanted, "sort": "n"}
    asked = f"/orders/?sort=n&filter={quote(json.dumps(wanted, separators=(',', ':')))}"
    for status, _, content in (await api("POST", "/orders/query", body), await api("GET", asked)):
        assert (status, [item["id"] for item in content["items"]]) == (200, ["1", "2"])
    status, _, content = await api("POST", "/orders/query", {"filter": refused})
    assert (status, content["errors"][0]["pointer"]) == (400, "/filter/n/$in/1/$gt")
    for path in ("/orders/?filter=", "/orders/export?filter="):
        status, _, content = await api("GET", path + quote(json.dumps(refused)))
        assert (status, content["errors"][0]["pointer"]) == (400, "/n/$in/1/$gt")
        assert content["parameter"] == "filter"


def _call_of(tenant: str) -> Call:
    return cast(Call, SimpleNamespace(tenant=SimpleNamespace(id=TenantId(tenant))))


class _Workers:
    """A store of which a worker is asked for what takes long. asked: how often."""

    def __init__(self) -> None:
        self.asked = 0

    async def work(self, function: Any, *args: Any) -> Any:
        self.asked += 1
        with ProcessPoolExecutor(1, get_context("spawn")) as processes:
            return await asyncio.get_running_loop().run_in_executor(processes, function, *args)


@pytest.mark.skipif(not regex.AVAILABLE, reason="google-re2 is not installed")
async def test_large_patterns_are_read_by_a_worker_and_compiled_in_a_thread() -> None:
    """Each locks the interpreter for milliseconds, and 68 of them fit into a short filter."""
    workers, patterns = _Workers(), [rf"\pL{{2}}W{n}" for n in range(10)]
    text = json.dumps({"$or": [{"a": {"$regex": pattern}} for pattern in patterns]})
    node = await listing.parse_filter(cast(Any, workers), {"filter": text})
    assert workers.asked == 1 and not any(map(regex.is_known, patterns))
    with await listing.compiled_patterns(_call_of("acme"), node):
        assert all(map(regex.is_known, patterns))
    assert await listing.parse_filter(cast(Any, workers), {"filter": text}) == node
    assert workers.asked == 1  # it is quick now


@pytest.mark.skipif(not regex.AVAILABLE, reason="google-re2 is not installed")
async def test_who_compiles_one_filter_waits_for_one_of_another_tenant_and_not_for_all() -> None:
    ended: list[str] = []

    async def ask(tenant: str, number: int) -> None:
        patterns = [Text(("a",), "regex", rf"\pL{{3}}{tenant}{number}_{n}") for n in range(3)]
        with await listing.compiled_patterns(_call_of(tenant), And(tuple(patterns))):
            ended.append(tenant)

    await asyncio.gather(*(ask("noisy", number) for number in range(6)), ask("quiet", 0))
    assert ended.index("quiet") <= 1 and len(ended) == 7


@pytest.mark.skipif(not regex.AVAILABLE, reason="google-re2 is not installed")
async def test_lists_and_exports_match_large_patterns_however_they_come(api: Api) -> None:
    await api("PUT", "/orders/x", {"a": "шум"})
    await api("PUT", "/orders/y", {"a": "12"})
    condition = {"a": {"$regex": r"^\pL{3}$"}}
    given = quote(json.dumps(condition))
    for method, path, body in (
        ("GET", f"/orders/?filter={given}", None), ("POST", "/orders/query", {"filter": condition}),
    ):  # fmt: skip
        assert [item["id"] for item in (await api(method, path, body))[2]["items"]] == ["x"]
    assert [line["id"] for line in (await api("GET", f"/orders/export?filter={given}"))[2]] == ["x"]
    refused = await api("GET", "/none/?filter=" + quote(json.dumps({"a": {"$regex": r"\pL{29}N"}})))
    assert refused[0] == 400 and refused[2]["errors"][0]["pointer"] == "/a/$regex"
