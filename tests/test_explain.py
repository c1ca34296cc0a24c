"""`gateway explain` says what the gateway does: both are asked the same, and both must agree."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from gateway import explain
from gateway.app import Gateway
from gateway.core.check import compile_data
from gateway.core.errors import GatewayError
from gateway.services.keys import Keys
from tests import harness

SCOPES = {"read": ["d:read"], "write": ["d:write"], "DELETE": ["d:drop"], "manage": ["d:manage"]}
ROUTES = [
    harness.route("docs", "documents", scopes=SCOPES),
    harness.route("plain", "documents"),
    {"name": "small", "path": "/small/{rest*}", "target": "documents", "strip": "/small", "body_limit": 4},
]
REQUESTS = [
    ("GET", "/docs/"), ("POST", "/docs/"), ("GET", "/docs/orders"), ("GET", "/docs/orders/"),
    ("HEAD", "/docs/orders/"), ("GET", "/docs/orders/?limit=x"), ("GET", "/docs/orders/?zzz=1"),
    ("QUERY", "/docs/orders/"), ("POST", "/docs/orders"), ("POST", "/docs/orders/"), ("PUT", "/docs/orders"),
    ("PATCH", "/docs/orders"), ("DELETE", "/docs/orders"), ("DELETE", "/docs/orders?documents=delete"),
    ("DELETE", "/docs/orders?documents=keep"), ("GET", "/docs/orders/1"), ("PUT", "/docs/orders/1"),
    ("PATCH", "/docs/orders/1"), ("DELETE", "/docs/orders/1"), ("POST", "/docs/orders/1"),
    ("POST", "/docs/orders/query"), ("GET", "/docs/orders/query"), ("POST", "/docs/orders/bulk"),
    ("GET", "/docs/orders/export"), ("POST", "/docs/orders/import"), ("GET", "/docs/orders/changes"),
    ("OPTIONS", "/docs/orders/1"), ("GET", "/docs/a/b/c"), ("GET", "/docs/A B/1"), ("GET", "/docs/_x/1"),
    ("PUT", "/plain/orders/1"), ("GET", "/nowhere"), ("PUT", "/small/o/1"),
]  # fmt: skip
TOKENS = [
    "", "d:read", "d:write", "d:drop", "d:manage", "d:read:orders", "d:write:orders d:drop:orders",
    "d:read:other d:write:other", "d:read d:write d:drop d:manage",
]  # fmt: skip
# What is decided by the head alone. A body that is missing or wrong is 400, 415 or 422: of those only the
# first comes without one, too.
DECIDED = {401, 403, 404, 405, 413, 426}
BODIES = {
    "bulk": (b'{"op": "create", "data": {"a": 1}}\n', "application/x-ndjson"),
    "import": (b'{"a": 1}\n', "application/x-ndjson"),
}


async def asked(gateway: Gateway, method: str, path: str, scope: str) -> tuple[int, str]:
    """Status and code of the gateway's own answer."""
    body, kind = BODIES.get(path.rpartition("/")[2], (b'{"filter": {}}', "application/json"))
    sends = method in ("POST", "PUT", "PATCH", "QUERY")
    headers = harness.bearer(gateway, scope=scope) | ({"Content-Type": kind} if sends else {})
    address = harness.url(gateway, path)
    async with aiohttp.ClientSession() as session:
        request = session.request(method, address, headers=headers, data=body if sends else None)
        async with request as answer:
            if "event-stream" in answer.content_type or answer.status < 400 or method == "HEAD":
                return answer.status, ""
            return answer.status, (await answer.json())["code"]


def explained(
    gateway: Gateway, data: dict[str, Any], method: str, path: str, scope: str
) -> GatewayError | None:
    async def nowhere(call: Any) -> Any:
        raise AssertionError

    keys = Keys(Path(gateway.config.keys), harness.RULE)
    keys.load()
    length = {"Content-Length": "14"} if method in ("POST", "PUT", "PATCH", "QUERY") else {}
    headers = CIMultiDictProxy(CIMultiDict({**harness.bearer(gateway, scope=scope), **length}))
    compiled = compile_data(data, lambda backend: nowhere, "/s")
    call, refused = explain.run(compiled, keys, method, path.replace(" ", "%20"), headers)
    assert explain.story(call, refused)[-1][0] == "outcome"
    return refused


@pytest.mark.parametrize("scope", TOKENS)
async def test_it_refuses_what_the_gateway_refuses_and_nothing_else(tmp_path: Path, scope: str) -> None:
    data = harness.routing(ROUTES)
    async with harness.running(tmp_path, data) as gateway:
        for method, path in REQUESTS:
            status, code = await asked(gateway, method, path, scope)
            refused = await in_a_thread(gateway, data, method, path, scope)
            said = (refused.status, "" if method == "HEAD" else refused.code) if refused else (0, "")
            by_head = status in DECIDED and code != "not_found"  # that a document is there, the store says
            if path.endswith("/bulk") and refused is None:
                continue  # each of its lines needs the scopes of its own operation, and is not looked at
            if by_head or refused is not None:
                assert said == (status, code), (method, path)


async def in_a_thread(*arguments: Any) -> GatewayError | None:
    return await asyncio.to_thread(explained, *arguments)


@pytest.mark.parametrize(
    ("method", "path", "needs"),
    [
        ("GET", "/docs/orders/1", "d:read to GET (for one collection with its name behind, as in :orders)"),
        ("DELETE", "/docs/orders/1", "d:drop to DELETE (for"),
        ("POST", "/docs/orders/import", "d:write to POST, d:write to PUT (for"),
        ("DELETE", "/docs/o?documents=delete", "d:manage to manage the collection, d:drop to DELETE (for"),
        ("POST", "/docs/orders/query", "d:read to GET (for"),
    ],
)
async def test_it_says_which_scopes_are_asked_for_what(
    tmp_path: Path, method: str, path: str, needs: str
) -> None:
    data = harness.routing(
        ROUTES, tenants={"acme": {"rate_limit": "5/s", "quota": "9/day", "documents": {"max_documents": 7}}}
    )
    async with harness.running(tmp_path, data) as gateway:
        keys = Keys(Path(gateway.config.keys), harness.RULE)
        keys.load()
        headers = CIMultiDictProxy(CIMultiDict(harness.bearer(gateway, scope=TOKENS[-1])))
        compiled = compile_data(data, lambda backend: gateway.documents, "/s")
        call, refused = await asyncio.to_thread(explain.run, compiled, keys, method, path, headers)
    rows = dict(explain.story(call, refused))
    assert refused is None
    assert rows["needs"].startswith(needs)
    for limit in ("the tenant's rate 5/s (burst 5)", "its quota 9/day", "its 7 documents", "300 s in all"):
        assert limit in rows["limits"]
    assert ("body" in rows) == (method == "POST")


@pytest.mark.parametrize(
    ("more", "outcome"),
    [
        ({"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}, None),
        ({"Sec-WebSocket-Version": "8", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}, 426),
        ({"Sec-WebSocket-Version": "13"}, 400),
        ({"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Origin": "http://x"},
         403),
    ],
)  # fmt: skip
def test_it_checks_a_websockets_handshake_too(
    tmp_path: Path, more: dict[str, str], outcome: int | None
) -> None:
    async def nowhere(call: Any) -> Any:
        raise AssertionError

    data = harness.routing(
        [harness.route("ws", "b", public=True, websocket=True)],
        backends={"b": {"kind": "asab", "addresses": ["unix:x"]}},
    )
    headers = CIMultiDictProxy(CIMultiDict({"Connection": "Upgrade", "Upgrade": "websocket", **more}))
    compiled = compile_data(data, lambda backend: nowhere, "/s")
    keys = Keys(tmp_path / "none", harness.RULE)
    call, refused = explain.run(compiled, keys, "GET", "/ws/x", headers)
    assert (refused.status if refused else None) == outcome
    assert dict(explain.story(call, refused))["upgrade"] == "to a WebSocket"
