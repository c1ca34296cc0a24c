"""What is another tenant's answers byte for byte as what never was, at every path, method and position."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from tests.documents.api import JSON_PATCH, NDJSON, Api, ndjson

CANARY = "c4n4ry"
Asked = tuple[str, str, Any, dict[str, str]]


def requests(identifier: str, tag: str, cursor: str, event: str, name: str) -> list[Asked]:
    """Everything that names an id, a tag, a cursor, an event id or a collection."""
    path = f"/{name}/{identifier}"
    query = {"filter": {"id": identifier}}
    return [
        ("GET", path, None, {}), ("HEAD", path, None, {}),
        ("GET", path, None, {"If-None-Match": tag}), ("GET", path, None, {"If-Match": tag}),
        ("GET", path, None, {"If-None-Match": "*"}), ("GET", path, None, {"If-Match": "*"}),
        ("PATCH", path, {"a": 1}, {}), ("PATCH", path, {"a": 1}, {"If-Match": tag}),
        ("PATCH", path, [{"op": "test", "path": "/secret", "value": CANARY}], JSON_PATCH),
        ("DELETE", path, None, {}), ("DELETE", path, None, {"If-Match": tag}),
        ("DELETE", path, None, {"Idempotency-Key": '"theirs"'}),
        ("PUT", path, {"a": 1}, {"If-Match": tag}), ("PUT", path, {"a": 1}, {"If-Match": "*"}),
        ("GET", f"/{name}/?sort=n&limit=1&cursor={cursor}", None, {}),
        ("GET", f"/{name}/?filter=" + quote(json.dumps({"id": identifier})), None, {}),
        ("GET", f"/{name}/?count=true&filter=" + quote(json.dumps({"secret": CANARY})), None, {}),
        ("GET", f"/{name}/?sort=-secret", None, {}), ("GET", f"/?cursor={cursor}", None, {}),
        ("GET", "/", None, {}), ("GET", f"/{name}", None, {}), ("HEAD", f"/{name}", None, {}),
        ("GET", f"/{name}", None, {"If-None-Match": tag}),
        ("PATCH", f"/{name}", {"ttl": None}, {}), ("DELETE", f"/{name}", None, {}),
        ("DELETE", f"/{name}?documents=delete", None, {}), ("PUT", f"/{name}", {}, {"If-Match": tag}),
        ("QUERY", f"/{name}/", query, {}), ("POST", f"/{name}/query", {**query, "count": True}, {}),
        ("POST", f"/{name}/query", {"sort": "n", "limit": 1, "cursor": cursor}, {}),
        ("GET", f"/{name}/export", None, {}), ("GET", f"/{name}/changes?after={event}", None, {}),
        ("GET", f"/{name}/changes", None, {"Last-Event-ID": event}),
        ("POST", f"/{name}/bulk", ndjson(
            {"op": "patch", "id": identifier, "data": {}}, {"op": "delete", "id": identifier},
            {"op": "replace", "id": identifier, "data": {}, "if_match": tag},
        ), NDJSON),
        ("POST", f"/{name}/bulk?atomic=true", ndjson({"op": "delete", "id": identifier}), NDJSON),
    ]  # fmt: skip


async def event_of(api: Api) -> str:
    """An event id of the collection."""
    async with api.session.get(api.url("/orders/changes"), headers=api.headers) as response:
        while not (line := await response.content.readline()).startswith(b"id: "):
            pass
        return line[4:].decode().strip()


async def test_what_is_another_tenants_answers_as_what_never_was(api: Api) -> None:
    a, b = api.of("acme"), api.of("globex")
    await a("PUT", "/orders", {"indexes": [{"name": "s", "fields": ["n"], "unique": True}]})
    for n in range(3):
        await a(
            "PUT",
            f"/orders/mine-{n}",
            {"secret": CANARY, "n": n},
            {"Idempotency-Key": '"theirs"'} if n else {},
        )
        await a("PUT", f"/orders/mine-{n}", {"secret": CANARY, "n": n})
    tag = (await a("GET", "/orders/mine-0"))[1]["ETag"]
    cursor = (await a("GET", "/orders/?limit=1&sort=n"))[2]["next"]
    event = await event_of(a)
    theirs = requests("mine-0", tag, cursor, event, "orders")
    never = requests("none-0", '"aaaaaaaaaaaaaaaa-1"', "A" * len(cursor), "A" * len(event), "nobody")
    for asked, nobodys in zip(theirs, never, strict=True):
        left, right = await b.raw(*asked), await b.raw(*nobodys)
        body = left[2].replace(b"mine-0", b"none-0")  # a bulk repeats the ids that it was sent
        assert (left[0], body) == (right[0], right[2]), asked
        for headers in (left[1], right[1]):
            headers.pop("Date", None)
        assert left[1] == right[1], asked
        assert CANARY.encode() not in left[2] and "ETag" not in left[1], asked
    assert (await b("GET", "/"))[2] == {"items": []}
    status, _, own = await b("PUT", "/orders/mine-0", {"own": 1, "n": 0}, {"If-None-Match": "*"})
    assert (status, own) == (201, {"id": "mine-0", "own": 1, "n": 0})
    assert (await a("GET", "/orders/mine-0"))[2] == {"id": "mine-0", "secret": CANARY, "n": 0}
    assert (await a("GET", "/orders/?count=true"))[2]["count"] == 3


async def test_a_feed_hears_of_its_own_tenant_alone(api: Api) -> None:
    a, b = api.of("acme"), api.of("globex")
    async with api.session.get(api.url("/orders/changes"), headers=b.headers) as response:
        await response.content.readuntil(b"\n\n")
        await a("PUT", "/orders/x", {"secret": CANARY})
        await b("PUT", "/orders/y", {})
        event = await response.content.readuntil(b"\n\n")
        assert b'"y"' in event and CANARY.encode() not in event
