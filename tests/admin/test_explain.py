"""`gateway explain` says what the gateway does: both are asked the same, and both must agree."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.admin.explain import run
from gateway.admin.explain.rows import explanation
from gateway.app import Gateway
from gateway.cli.routing.explain import parse_headers
from gateway.core.errors import GatewayError
from gateway.core.http.hops import Via
from gateway.core.routing.compile import compile_data
from tests import harness
from tests.fakes import NOWHERE, Backend, RawClient, always, answer
from tests.support.issuer_server import IssuerServer

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


async def explained(
    gateway: Gateway, data: dict[str, Any], method: str, path: str, scope: str
) -> GatewayError | None:
    asking = run.Asking(Path(gateway.config.data) / "auth.sqlite")
    length = {"Content-Length": "14"} if method in ("POST", "PUT", "PATCH", "QUERY") else {}
    headers = CIMultiDictProxy(CIMultiDict({**harness.bearer(gateway, scope=scope), **length}))
    compiled = compile_data(data, lambda backend: NOWHERE, "/s", asking.chain)
    async with asking.of(gateway.config.tokens, {}):
        call, refused = await run.run(compiled, asking.chain, method, path.replace(" ", "%20"), headers)
    assert explanation(call, refused)[-1][0] == "outcome"
    return refused


@pytest.mark.parametrize("scope", TOKENS)
async def test_it_refuses_what_the_gateway_refuses_and_nothing_else(tmp_path: Path, scope: str) -> None:
    data = harness.routing(ROUTES)
    async with harness.running(tmp_path, data) as gateway:
        for method, path in REQUESTS:
            status, code = await asked(gateway, method, path, scope)
            refused = await explained(gateway, data, method, path, scope)
            said = (refused.status, "" if method == "HEAD" else refused.code) if refused else (0, "")
            by_head = status in DECIDED and code != "not_found"  # that a document is there, the store says
            if path.endswith("/bulk") and refused is None:
                continue  # each of its lines needs the scopes of its own operation, and is not looked at
            if by_head or refused is not None:
                assert said == (status, code), (method, path)


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
        headers = CIMultiDictProxy(CIMultiDict(harness.bearer(gateway, scope=TOKENS[-1])))
        chain = gateway.authentication
        compiled = compile_data(data, lambda backend: gateway.documents, "/s", chain)
        call, refused = await run.run(compiled, chain, method, path, headers)
    rows = dict(explanation(call, refused))
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
async def test_it_checks_a_websockets_handshake_too(
    tmp_path: Path, more: dict[str, str], outcome: int | None
) -> None:
    data = harness.routing(
        [harness.route("ws", "b", public=True, websocket=True)],
        backends={"b": {"kind": "asab", "addresses": ["unix:x"]}},
    )
    headers = CIMultiDictProxy(CIMultiDict({"Connection": "Upgrade", "Upgrade": "websocket", **more}))
    chain = run.Asking(tmp_path / "none").chain
    compiled = compile_data(data, lambda backend: NOWHERE, "/s", chain)
    call, refused = await run.run(compiled, chain, "GET", "/ws/x", headers)
    assert (refused.status if refused else None) == outcome
    assert dict(explanation(call, refused))["upgrade"] == "to a WebSocket"


# --- as it is on the wire ---

WIRE_ROUTES = [
    harness.route("docs", "documents"),
    harness.route("b", "b", public=True),
    harness.route("ws", "b", public=True, websocket=True),
    harness.route("own", "b", body_limit=4),
]
WEBSOCKET = ("Connection: Upgrade", "Upgrade: websocket")
KEY = ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")
WIRE: list[tuple[str, str, tuple[str, ...]]] = [
    ("GET", "/b/x", ()),
    ("GET", "/b/x", ("Via: 1.1 here",)), ("GET", "/b/x", ("Via: 1.1 there (a, 1.1 here)",)),
    ("GET", "/nowhere", ("Via: 1.1 here",)), ("GET", "/docs/o/1", ("Via: HTTP/1.1 other, 1.0 here",)),
    *[("GET", path, (f"X-Request-Timeout: {value}",)) for path in ("/b/x", "/docs/o/", "/ws/x")
      for value in ("z", "0", "5", "1e3")],
    ("GET", "/b/x", ("X-Request-Timeout: 1", "X-Request-Timeout: 2")),
    ("GET", "/b/x", ("Transfer-Encoding: gzip",)), ("GET", "/b/x", ("Transfer-Encoding: gzip, chunked",)),
    ("POST", "/b/x", ("Content-Length: 1", "Transfer-Encoding: chunked")),
    ("POST", "/b/x", ("Content-Length: 1", "Content-Length: 1")), ("POST", "/b/x", ("Content-Length: a",)),
    ("GET", "/b/x", ("X-A: " + "x" * 17000,)), ("GET", "/b/x", ("X-A: " + "x" * 16000,)),
    ("GET", "/b/x", tuple(f"X-{n}: 1" for n in range(130))),
    ("GET", "/b/x", tuple(f"X-{n}: " + "x" * 9000 for n in range(9))),
    ("GET", "/b/" + "x" * 17000, ()), ("GET", "/b/" + "x" * 16000, ()), ("GET", "/b/a b", ()),
    ("GET", "/b/\u00e9", ()), ("G(T", "/b/x", ()), ("GET", "/b/%00", ()),
    ("GET", "/b/x", ("a_b: 1",)), ("GET", "/b/x", ("X A: 1",)), ("GET", "/b/x", ("Host: a b",)),
    ("GET", "/b/x", ("Host: a", "Host: b")), ("POST", "/own/x", ("Content-Length: 5",)),
    ("POST", "/b/x", ("Content-Type: a/b", "Content-Type: a/b")), ("POST", "/b/x", ("Expect: x",)),
    ("OPTIONS", "/b/x", ("Max-Forwards: 0", "X-Request-Timeout: z")),
    ("OPTIONS", "/b/x", ("Max-Forwards: 1", "X-Request-Timeout: z")),
    ("GET", "/ws/x", WEBSOCKET), ("GET", "/ws/x", (*WEBSOCKET, *KEY, "Content-Length: 1")),
    ("GET", "/ws/x", (*WEBSOCKET, *KEY, "X-Request-Timeout: z")),
    *[(method, path, ("Content-Type: " + kind, f"Idempotency-Key: {key}"))
      for method, path, kind in (("POST", "/docs/o/", "application/json"), ("DELETE", "/docs/o/1", "a/b"),
                                 ("PUT", "/docs/o/1", "application/json"),
                                 ("PATCH", "/docs/o/1", "application/merge-patch+json"),
                                 ("POST", "/docs/o/bulk", "application/x-ndjson"))
      for key in ('"', "k" * 300, "a,b")],
    ("POST", "/docs/o/import", ("Content-Type: application/x-ndjson", "Idempotency-Key: a")),
    ("PUT", "/docs/o/1", ("Content-Type: application/json", "If-Match: bad")),
    ("POST", "/docs/o/", ("Content-Type: application/json", "Content-Encoding: gzip")),
]  # fmt: skip


async def test_what_is_wrong_with_the_message_itself_is_told_too(tmp_path: Path) -> None:
    """The framing, the lengths, and the headers that only the target reads: one request after the other, of
    the same bytes."""
    via, differ = Via("here"), []
    async with Backend(always(answer())) as app:
        backends = {"b": {"kind": "http", "addresses": [app.address]}}
        data = harness.routing(WIRE_ROUTES, backends=backends)
        async with harness.running(tmp_path, data, via="here") as gateway:
            chain = gateway.authentication
            compiled = compile_data(data, lambda backend: gateway.documents, "/s", chain)
            for method, path, more in WIRE:
                lines = [f"Authorization: {harness.bearer(gateway)['Authorization']}", *more]
                if method in ("POST", "PUT", "PATCH") and not any("Content-Len" in line for line in more):
                    lines.append("Content-Length: 2")
                headers = parse_headers(lines, None)
                _, refused = await run.run(compiled, chain, method, path, headers, via)
                said = [line for line in lines if not line.startswith("Host:")]
                hosts = [line for line in lines if line.startswith("Host:")] or ["Host: localhost"]
                head = "\r\n".join([f"{method} {path} HTTP/1.1", *hosts, *said, "\r\n"])
                client = await RawClient.connect(harness.address(gateway))
                client.send(head.encode() + b"{}")
                status = int((await client.head()).split(" ")[1])
                client.close()
                if (refused.status if refused is not None else 200) != (status if status >= 400 else 200):
                    differ.append((method, path[:30], [line[:50] for line in more], refused, status))
    stored = {404, 412}  # that a document is not there, the store says
    assert [one for one in differ if one[3] is not None or one[4] not in stored] == []


@pytest.mark.parametrize("line", ["X-A: 1\r\nX-B: 2", "X-A: 1\nX-B: 2"])
async def test_a_header_with_a_line_break_is_not_taken_for_two(tmp_path: Path, line: str) -> None:
    compiled = compile_data(harness.routing([]), lambda backend: None, "/s")  # type: ignore[arg-type,return-value]
    with pytest.raises(ValueError, match="line break"):
        headers = parse_headers([line], None)
        await run.run(compiled, run.Asking(tmp_path / "none").chain, "GET", "/", headers)


async def test_it_shows_the_display_name_of_the_tenant(tmp_path: Path) -> None:
    tenants = {"acme": {"name": "Acme Corporation"}, "globex": {}}
    data = harness.routing([harness.route("own", "documents", scopes=OPEN)], tenants=tenants)
    async with harness.running(tmp_path, data) as gateway:
        for tenant, shown in (("acme", "acme (Acme Corporation)"), ("globex", "globex")):
            headers = CIMultiDictProxy(CIMultiDict(harness.bearer(gateway, tenant)))
            asked = gateway.live.current, gateway.authentication, "PATCH", "/own/", headers
            call, refused = await run.run(*asked)
            assert dict(explanation(call, refused))["tenant"] == shown


OPEN: dict[str, list[str]] = {"read": [], "write": [], "manage": []}


async def test_it_tells_which_issuer_key_rule_and_claim_let_a_token_in_or_kept_it_out(tmp_path: Path) -> None:
    async with IssuerServer() as server:
        issuers = {
            "shop": {
                "issuer": server.url,
                "audiences": ["api"],
                "discovery": True,
                "tenants": ["acme"],
                "claims": {"tenant": "org", "scopes": ["realm.roles"]},
            }
        }
        takes = {"issuers": ["shop"], "require": {"plan": ["pro"]}, "scopes": SCOPES | {"read": ["r"]}}
        data = harness.routing([harness.route("docs", "documents", **takes)], issuers=issuers)
        claims = {"org": "acme", "realm": {"roles": ["r"]}, "plan": "pro"}

        async def told(token: str) -> dict[str, str]:
            asking = run.Asking(tmp_path / "none")
            compiled = compile_data(data, lambda backend: NOWHERE, "/s", asking.chain)
            headers = parse_headers([], token)
            async with asking.of(None, compiled.issuers):
                call, refused = await run.run(compiled, asking.chain, "GET", "/docs/orders/1", headers)
            rows = dict(explanation(call, refused, asking.issuers))
            assert token not in str(rows) and token.split(".")[2] not in str(rows)
            return rows

        rows = await told(server.token(**claims))
        kid = next(iter(server.keys))
        assert rows["outcome"] == "passed on"
        assert rows["issuer"] == f"shop, {server.url}"
        assert rows["key"].startswith(f"kid '{kid}', 'EdDSA'; there are kid '{kid}' (EdDSA")
        assert rows["key"].endswith(f"from {server.url}/jwks")
        assert rows["claims"] == "tenant: org; subject: sub; scopes: realm.roles"
        assert rows["takes"] == "tokens of: shop; plan is pro"
        assert rows["fetched"].startswith("by this command just now; the running gateway may hold other keys")
        assert "differs" not in rows
        now, no_plan = int(time.time()), {name: claims[name] for name in ("org", "realm")}
        iss, kid_, may = "https://other.example", "names no key that is known here", "may not speak for the"
        for token, reason, differs in (
            (server.token(kid="other", **claims), kid_, ""),
            (server.token(**claims | {"org": "globex"}), may, "its `org` is 'globex', the issuer may speak"),
            (server.token(**claims | {"org": "globex"}), may, "speak for acme"),
            (server.token(**no_plan), "claim plan", "it has no `plan`, wanted is pro"),
            (server.token(**claims | {"plan": "fr\x1bee" + "x" * 200}), "claim plan", r"is 'fr\x1beexx"),
            (server.token(**claims | {"plan": "x" * 200}), "claim plan", "is '" + "x" * 99 + "..., wanted"),
            (server.token(**claims | {"plan": ["a", 1]}), "claim plan", "is a list of 'a', 1, wanted is pro"),
            (server.token(**claims | {"realm": {}}), "lacks the scope r", ""),
            (
                server.token(iss=iss, **claims),
                "`iss`",
                f"its `iss` is '{iss}', trusted are shop '{server.url}'",
            ),
            (server.token(aud="x", **claims), "audience", "its `aud` is 'x', wanted is 'api'"),
            (server.token(exp=now - 7300, **claims), "expired", "2 h ago"),
            (server.token(nbf=now + 200, **claims), "not valid yet", "in 3 min by the clock here"),
        ):
            rows = await told(token)
            assert reason in rows["outcome"]
            assert differs in rows["differs"] if differs else "differs" not in rows
        await server.stop()
        rows = await told(server.token(**claims))
        assert "503 issuer_unavailable" in rows["outcome"]
        assert rows["failure"].startswith("it cannot be reached")
        assert rows["fetched"].startswith("tried by this command just now, in vain; the running gateway may")
