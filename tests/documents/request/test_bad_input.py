"""Bad input in every position: a clear 4xx, never a 5xx, and the gateway serves on."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest

from tests.documents.api import JSON_PATCH, MERGE, NDJSON, Api

DEEP = "[" * 20_000 + "]" * 20_000
VALUES = {
    "where": '{"$where":"sleep(1000)"}', "ne": '{"$ne":null}', "gt": '{"$gt":""}',
    "expr": '{"$expr":{"$eq":[1,1]}}',
    "function": '{"$function":{"body":"x","args":[],"lang":"js"}}', "lookup": '[{"$lookup":{"from":"x"}}]',
    "regex": '{"$regex":"(a+)+$"}', "operators in a value": '{"$eq":{"$gt":1}}', "deep": DEEP, "NaN": "NaN",
    "infinity": "-Infinity", "huge integer": "9" * 5000, "int65": "36893488147419103232",
    "huge float": "1e999",
    "NUL": '"a\\u0000b"', "surrogate": '"\\ud800"', "twice": '{"a":1,"a":2}', "dot": '{"a.b":1}',
    "proto": '{"__proto__":{"a":1}}', "null": "null", "string": '"x"', "empty": "", "truncated": '{"a":',
    "true": "true", "array": "[]", "number": "0", "negative": "-1", "utf16": "\ufeff{}",
    "sql": '"\' OR 1=1 --"',
    "path": '"../../etc/passwd"', "template": '"{{7*7}}"', "long": json.dumps("x" * 3000),
}  # fmt: skip


def bodies(value: str) -> list[tuple[str, str, str, dict[str, str]]]:
    """The value as a body, and in each place of one."""
    return [
        ("POST", "/orders/", value, {}), ("POST", "/orders/", f'{{"a":{value}}}', {}),
        ("PUT", "/orders/x", value, {}), ("PUT", "/orders/x", f'{{"id":{value}}}', {}),
        ("PATCH", "/orders/x", value, MERGE), ("PATCH", "/orders/x", f'{{"a":{{"b":{value}}}}}', MERGE),
        ("PATCH", "/orders/x", value, JSON_PATCH), ("PATCH", "/orders/x", f"[{value}]", JSON_PATCH),
        ("PATCH", "/orders/x", f'[{{"op":{value},"path":"/a","value":1}}]', JSON_PATCH),
        ("PATCH", "/orders/x", f'[{{"op":"add","path":{value},"value":1}}]', JSON_PATCH),
        ("PATCH", "/orders/x", f'[{{"op":"move","from":{value},"path":"/a"}}]', JSON_PATCH),
        ("PATCH", "/orders/x", f'[{{"op":"test","path":"/a","value":{value}}}]', JSON_PATCH),
        ("PUT", "/orders", value, {}), ("PATCH", "/orders", f'{{"schema":{value}}}', MERGE),
        ("PUT", "/orders", f'{{"schema":{{"properties":{{"a":{value}}}}}}}', {}),
        ("PUT", "/orders", f'{{"indexes":{value}}}', {}), ("PUT", "/orders", f'{{"indexes":[{value}]}}', {}),
        ("PUT", "/orders", f'{{"indexes":[{{"name":"i","fields":[{value}]}}]}}', {}),
        ("PUT", "/orders", f'{{"ttl":{value}}}', {}), ("PUT", "/orders",
        f'{{"ttl":{{"seconds":{value}}}}}', {}),
        ("PUT", "/orders", f'{{"require_if_match":{value},"name":{value}}}', {}),
        *(("QUERY", "/orders/", body, {}) for body in (
            value, f'{{"filter":{value}}}', f'{{"filter":{{"a":{value}}}}}',
            f'{{"filter":{{"$and":[{value}]}}}}',
            f'{{"filter":{{"a":{{"$in":[{value}]}}}}}}', f'{{"filter":{{"a":{{"$elemMatch":{value}}}}}}}',
            f'{{"filter":{{"a":{{"$not":{value}}}}}}}', f'{{"filter":{{"id":{value}}}}}',
            f'{{"filter":{{"_created":{value}}}}}', f'{{"filter":{{"a":{{"$regex":{value}}}}}}}',
            f'{{"filter":{{"a":{{"$mod":{value}}}}}}}', f'{{"sort":{value}}}', f'{{"sort":[{value}]}}',
            f'{{"fields":{value}}}', f'{{"fields":[{value}]}}', f'{{"limit":{value}}}',
            f'{{"cursor":{value}}}',
            f'{{"count":{value}}}', f'{{{json.dumps(value[:100])}:1}}',
        )),
        *((("POST", "/orders/bulk?atomic=true", body, NDJSON)) for body in (
            value, f'{{"op":{value}}}', f'{{"op":"create","data":{value}}}',
            f'{{"op":"replace","id":{value},"data":{{}}}}', f'{{"op":"delete","id":"x","if_match":{value}}}',
            f'{{"op":"patch","id":"x","data":{value}}}', f'{{"op":"patch","id":"x","data":[{value}]}}',
        )),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", VALUES)
async def test_a_value_in_any_place_of_a_body_is_taken_or_refused_clearly(api: Api, kind: str) -> None:
    await api("PUT", "/orders/x", {"a": 1})
    for method, path, body, headers in bodies(VALUES[kind]):
        status, received, problem = await api(method, path, body.encode(), headers)
        where = (method, path, body[:100], problem)
        assert status < 500, where
        if status >= 400:
            assert received["Content-Type"].startswith("application/problem+json"), where
            assert problem["detail"] and problem["code"] != "internal", where
            errors = problem.get("errors", ())
            assert all(e["detail"] and (e["pointer"] == "" or e["pointer"][0] == "/") for e in errors), where
            assert errors or status != 422 or "idempotency" in problem["code"], where
        await api("PUT", "/orders", {})
    assert (await api("PUT", "/orders/y", {"a": 1}))[0] in (200, 201)


def places(value: str) -> list[tuple[str, str]]:
    text = quote(value, safe="")
    return [
        *(("GET", f"/orders/?{name}={text}") for name in
          ("filter", "sort", "fields", "limit", "cursor", "count", text)),
        ("GET", f"/orders/export?filter={text}"), ("GET", f"/orders/changes?after={text}x"),
        ("GET", f"/?cursor={text}"), ("GET", f"/?limit={text}"), ("DELETE", f"/none?documents={text}"),
        ("POST", f"/orders/bulk?atomic={text}"), ("POST", f"/orders/import?replace={text}"),
        ("GET", f"/orders/{text}"), ("GET", f"/{text}/x"), ("PUT", f"/{text}"), ("DELETE", f"/orders/{text}"),
        ("GET", f"/orders/x/{text}"), ("GET", "/orders/?filter=" + quote(f'{{"a":{value}}}')),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", [*VALUES, "controls", "escapes", "not utf-8", "raw bytes"])
async def test_a_value_in_any_place_of_a_url_is_taken_or_refused_clearly(api: Api, kind: str) -> None:
    raw = {"controls": "\x01\x7f\x85", "escapes": "%00%2e%2e%2f", "not utf-8": "%FF", "raw bytes": "é"}
    value = (VALUES | raw)[kind][:1500]
    for method, path in places(value):
        status, _, problem = await api(method, path, None, NDJSON if method == "POST" else {})
        assert status < 500, (method, path[:200], problem)
        if status == 400 and "?" in path and "filter" in path:
            assert problem.get("parameter") in ("filter", None), problem


HEADERS = [
    ("If-Match", '"' + "x" * 5000 + '"'), ("If-Match", "\xff"), ("If-None-Match", '"a" OR 1=1'),
    ("Last-Event-ID", "x" * 5000), ("Idempotency-Key", "\xa0"), ("Prefer", "return=" * 500),
    ("Content-Type", "application/json;" * 200), ("Content-Encoding", "gzip"), ("Accept", "text/html"),
    ("Content-Type", "\xff"), ("If-Match", ","), ("Range", "bytes=0-5"), ("If-Modified-Since", "yesterday"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), HEADERS)
async def test_a_header_is_taken_or_refused_clearly(api: Api, name: str, value: str) -> None:
    asked: list[tuple[str, str, Any]] = [
        ("GET", "/orders/x", None), ("PUT", "/orders/x", {}), ("PATCH", "/orders/x", {}),
        ("GET", "/orders/", None),
        ("POST", "/orders/", {}), ("POST", "/orders/bulk", b"{}"), ("POST", "/orders/import", b"{}"),
        ("HEAD", "/orders/changes", None), ("PUT", "/orders", {}), ("DELETE", "/orders/x", None),
    ]  # fmt: skip
    for method, path, body in asked:
        status, _, content = await api.raw(method, path, body, {name: value})
        assert status < 500, (method, path, content)
