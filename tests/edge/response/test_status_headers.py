"""The headers that a status needs to be of use, over the wire: one table (RFC 9110 section 15, RFC 6750, RFC
6455, RFC 5789)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.app import Gateway
from tests import harness
from tests.fakes import Backend, RawClient, always, answer

pytestmark = pytest.mark.asyncio


@dataclass(frozen=True)
class Case:
    """request: its line. headers: its header lines; GOOD stands for a token. has: what the answer says, None
    for anything; lacks: what it must not say."""

    request: str
    status: int
    headers: tuple[str, ...] = ()
    body: bytes = b""
    has: dict[str, str | None] = field(default_factory=dict)
    lacks: tuple[str, ...] = ()


DOCUMENTS = {"read": ["documents:read"], "write": ["documents:write"], "manage": ["documents:manage"]}
GOOD = "Authorization: Bearer GOOD"
NARROW = "Authorization: Bearer NARROW"
JSON = "Content-Type: application/json"
NO_TOKEN = {"WWW-Authenticate": 'Bearer realm="gateway"'}
BAD_TOKEN = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
HANDSHAKE = (GOOD, "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")
CASES = {
    "no credentials": Case("GET /svc/x", 401, has=NO_TOKEN),
    "another scheme": Case("GET /svc/x", 401, ("Authorization: Basic YTpi",), has=NO_TOKEN),
    "a scheme without a token": Case("GET /svc/x", 401, ("Authorization: Bearer",), has=NO_TOKEN),
    "an empty Authorization": Case("GET /svc/x", 401, ("Authorization:",), has=NO_TOKEN),
    "a token without a scheme": Case("GET /svc/x", 401, ("Authorization: a.b.c",), has=NO_TOKEN),
    "no token of a document": Case("GET /documents/orders/x", 401, has=NO_TOKEN),
    "a bad token": Case("GET /svc/x", 401, ("Authorization: Bearer a.b.c",), has=BAD_TOKEN),
    "a token with spaces": Case("GET /svc/x", 401, ("Authorization: Bearer a b",), has=BAD_TOKEN),
    "credentials twice": Case(
        "GET /svc/x", 401, (GOOD, GOOD), has={"WWW-Authenticate": 'Bearer error="invalid_request"'}
    ),
    "a scope is missing": Case(
        "GET /svc/x", 403, (NARROW,),
        has={"WWW-Authenticate": 'Bearer error="insufficient_scope", scope="svc:read svc:see"'},
    ),
    "a scope of the documents is missing": Case(
        "PUT /documents/orders/x", 403, (NARROW, JSON), b"{}",
        has={"WWW-Authenticate": 'Bearer error="insufficient_scope", scope="documents:write"'},
    ),
    "another tenant": Case("GET /svc/x", 403, (GOOD, "X-Tenant: globex"), lacks=("WWW-Authenticate",)),
    "no route": Case("GET /nowhere", 404, lacks=("Allow", "WWW-Authenticate")),
    "another method": Case("DELETE /svc/x", 405, (GOOD,), has={"Allow": "GET, HEAD, POST"}),
    "TRACE": Case("TRACE /svc/x", 405, (GOOD,), has={"Allow": None}),
    "another method of a document": Case(
        "POST /documents/orders/x", 405, (GOOD, JSON), b"{}",
        has={"Allow": "GET, HEAD, PUT, PATCH, DELETE, OPTIONS", "Accept-Patch": None},
    ),
    "a body that is too large": Case(
        "POST /svc/x", 413, (GOOD, "Content-Length: 2000"), has={"Connection": "close"}
    ),
    "a media type": Case(
        "POST /documents/orders/", 415, (GOOD, "Content-Type: text/plain"), b"x",
        has={"Accept": "application/json", "Accept-Post": "application/json"}, lacks=("Accept-Encoding",),
    ),
    "a media type of a patch": Case(
        "PATCH /documents/orders/x", 415, (GOOD, "Content-Type: text/plain"), b"x",
        has={"Accept-Patch": "application/merge-patch+json, application/json-patch+json, application/json"},
        lacks=("Accept-Encoding", "Accept-Post"),
    ),
    "a content coding": Case(
        "PUT /documents/orders/x", 415, (GOOD, JSON, "Content-Encoding: gzip"), b"x",
        has={"Accept-Encoding": "identity", "Accept": "application/json"},
    ),
    "a content coding of an import": Case(
        "POST /documents/orders/import", 415,
        (GOOD, "Content-Type: application/x-ndjson", "Content-Encoding: br"), b"x",
        has={"Accept-Encoding": "identity", "Accept-Post": None},
    ),
    "an expectation": Case("POST /svc/x", 417, (GOOD, "Expect: a-miracle"), b"x"),
    "another version of WebSocket": Case(
        "GET /svc/x", 426, (*HANDSHAKE, "Sec-WebSocket-Version: 8"),
        has={"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"},
    ),
    "another version of WebSocket, at last": Case(
        "GET /svc/x", 426, (*HANDSHAKE, "Sec-WebSocket-Version: 8", "Connection: close"),
        has={"Connection": "Upgrade, close", "Upgrade": "websocket"},
    ),
    "the tenant's rate": Case("GET /slow/x", 429, (GOOD,), has={"Retry-After": None}),
    "CONNECT": Case("CONNECT a:1", 501, (GOOD,), has={"Connection": "close"}),
    "an address that refuses": Case("GET /gone/x", 503, (GOOD,), has={"Retry-After": None}),
}  # fmt: skip


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    scopes = {"read": ["svc:read", "svc:see"], "write": ["svc:write"]}
    async with Backend(always(answer())) as backend:
        routes = [
            harness.route(
                "svc", "app", scopes=scopes, methods=["GET", "POST"], body_limit="1KiB", websocket=True
            ),
            harness.route("slow", "app", rate_limit={"rate": "1/m", "burst": 1}),
            harness.route("gone", "gone"),
            harness.route("documents", "documents", scopes=DOCUMENTS),
        ]
        backends = {
            "app": {"kind": "http", "addresses": [backend.address]},
            "gone": {"kind": "http", "addresses": ["http://127.0.0.1:1"]},
        }
        async with harness.running(tmp_path, harness.routing(routes, backends=backends)) as made:
            yield made


async def ask(gateway: Gateway, case: Case, more: str) -> tuple[int, dict[str, list[str]], bytes]:
    good = harness.token(gateway, scope="svc:read svc:see svc:write documents:read documents:write")
    headers = "".join(f"{line}\r\n" for line in case.headers)
    headers = headers.replace("GOOD", good).replace("NARROW", harness.token(gateway, scope="other"))
    if "Content-Length" not in headers and (case.body or case.status == 415):
        headers += f"Content-Length: {len(case.body)}\r\n"
    client = await RawClient.connect(harness.address(gateway))
    client.send(f"{case.request} HTTP/1.1\r\nHost: a\r\n{headers}{more}\r\n".encode() + case.body)
    head, body = await client.answer()
    client.close()
    found: dict[str, list[str]] = {}
    for line in head.split("\r\n")[1:-2]:
        name, _, value = line.partition(": ")
        found.setdefault(name.lower(), []).append(value)
    return int(head.split(" ")[1]), found, body


def wrong(case: Case, status: int, found: dict[str, list[str]], body: bytes) -> list[str]:
    """What is not as the table says."""
    problems = []
    if status != case.status or json.loads(body)["status"] != status:
        problems.append(f"status {status}: {body!r}")
    wanted = {"Content-Type": "application/problem+json", "Cache-Control": "no-store", **case.has}
    for header, value in wanted.items():
        said = found.get(header.lower(), [])
        if len(said) != 1 or value not in (None, said[0]):
            problems.append(f"{header}: {said}")
    lacks = case.lacks if "WWW-Authenticate" in case.has else (*case.lacks, "WWW-Authenticate")
    return problems + [f"{header} is there" for header in lacks if header.lower() in found]


@pytest.mark.parametrize("more", ["", "TE: trailers\r\nConnection: TE\r\n"], ids=["simple", "not simple"])
async def test_each_status_comes_with_the_headers_that_it_needs(gateway: Gateway, more: str) -> None:
    await ask(gateway, CASES["the tenant's rate"], more)  # the one that it may send
    problems = {name: wrong(case, *await ask(gateway, case, more)) for name, case in CASES.items()}
    assert {name: found for name, found in problems.items() if found} == {}
