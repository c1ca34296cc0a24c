"""client_limit counts every call of nobody known, whatever becomes of it; and no call of somebody known."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.app import Gateway
from tests import harness
from tests.fakes import Backend, RawClient, always, answer

pytestmark = pytest.mark.asyncio
BURST = 3
ORIGIN = "Origin: http://page.example"
PREFLIGHT = [
    "OPTIONS /svc/x HTTP/1.1", "Host: a", ORIGIN, "Access-Control-Request-Method: PUT",
    "Access-Control-Request-Headers: authorization",
]  # fmt: skip

# What no token comes with: the request, and the status while the limit is not reached.
STRANGERS = {
    "without a token": (["GET /svc/x HTTP/1.1", "Host: a"], 401),
    "with half a token": (["GET /svc/x HTTP/1.1", "Host: a", "Authorization: Bearer"], 401),
    "with a token that is none": (["GET /svc/x HTTP/1.1", "Host: a", "Authorization: Bearer a.b.c"], 401),
    "to a public route": (["GET /open/x HTTP/1.1", "Host: a"], 200),
    "that match no route": (["GET /nowhere HTTP/1.1", "Host: a"], 404),
    "by another method": (["POST /read/x HTTP/1.1", "Host: a", "Content-Length: 0"], 405),
    "of all options": (["OPTIONS * HTTP/1.1", "Host: a"], 204),
    "with a path that climbs": (["GET /svc/%2e%2e/x HTTP/1.1", "Host: a"], 400),
    "with an encoded slash": (["GET /svc/a%2Fb HTTP/1.1", "Host: a"], 400),
    "that trace": (["TRACE /svc/x HTTP/1.1", "Host: a"], 405),
}
# What is refused before it is a request at all: there the next one that is a request shows that it counted.
BROKEN = {
    "no version": b"GET /svc/x\r\n\r\n",
    "a header without a name": b"GET /svc/x HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
    "two hosts": b"GET /svc/x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "a name of two meanings": b"GET /svc/x HTTP/1.1\r\nHost: a\r\nX_Tenant: b\r\n\r\n",
    "an unknown coding": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    "an old version with a coding": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
}


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Gateway]:
    """With a clock that stands still: no bucket fills again."""
    async with Backend(always(answer())) as backend:
        backends = {"app": {"kind": "http", "addresses": [backend.address]}}
        cors = {"origins": ["http://page.example"], "headers": ["authorization"]}
        routes = [
            harness.route("svc", "app", cors=cors),
            harness.route("open", "app", public=True),
            harness.route("read", "app", methods=["GET"]),
        ]
        limit = {"rate": "1/m", "burst": BURST}
        routing = harness.routing(routes, backends=backends, client_limit=limit)
        async with harness.running(folder, routing, now=lambda: 1000.0) as gateway:
            yield gateway


async def ask(gateway: Gateway, request: list[str] | bytes, *more: str) -> tuple[int, str]:
    """Status and code of the answer, on a connection of its own."""
    client = await RawClient.connect(harness.address(gateway))
    raw = request if isinstance(request, bytes) else "\r\n".join([*request, *more, "", ""]).encode()
    client.send(raw)
    head, body = await client.answer()
    client.close()
    problem = json.loads(body) if b'"code"' in body else {}
    return int(head.split(" ")[1]), problem.get("code", "")


@pytest.mark.parametrize(("request_lines", "status"), STRANGERS.values(), ids=STRANGERS.keys())
async def test_calls_of_nobody_known_count(tmp_path: Path, request_lines: list[str], status: int) -> None:
    async with serving(tmp_path) as gateway:
        for _ in range(BURST):
            assert (await ask(gateway, request_lines))[0] == status
        assert await ask(gateway, request_lines) == (429, "client_limit")


@pytest.mark.parametrize("raw", BROKEN.values(), ids=BROKEN.keys())
async def test_what_is_no_request_counts_for_the_next_one(tmp_path: Path, raw: bytes) -> None:
    async with serving(tmp_path) as gateway:
        for _ in range(BURST):
            assert (await ask(gateway, raw))[0] == 400
        assert await ask(gateway, ["GET /nowhere HTTP/1.1", "Host: a"]) == (429, "client_limit")


async def test_who_is_known_pays_for_nothing_of_all_this(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        token = f"Authorization: Bearer {harness.token(gateway)}"
        assert (await ask(gateway, ["GET /svc/x HTTP/1.1", "Host: a"], token))[0] == 200  # now it is known
        for path, status in (("/nowhere", 404), ("/svc/%2e%2e/x", 400), ("/svc/x", 200)) * 3:
            assert (await ask(gateway, [f"GET {path} HTTP/1.1", "Host: a"], token))[0] == status
        for _ in range(BURST + 2):
            await ask(gateway, ["GET /nowhere HTTP/1.1", "Host: a"])
        for path, status in (("/nowhere", 404), ("/svc/x", 200)):
            assert (await ask(gateway, [f"GET {path} HTTP/1.1", "Host: a"], token))[0] == status


@pytest.mark.parametrize("path", ["/svc/x", "/nowhere", "/open/x"])
async def test_preflights_count_wherever_they_ask(tmp_path: Path, path: str) -> None:
    async with serving(tmp_path) as gateway:
        preflight = [f"OPTIONS {path} HTTP/1.1", *PREFLIGHT[1:]]
        for _ in range(BURST):
            assert (await ask(gateway, preflight))[0] in (204, 403, 404)
        assert await ask(gateway, preflight) == (429, "client_limit")


async def test_preflights_and_calls_without_a_token_do_not_use_up_each_others(tmp_path: Path) -> None:
    """A browser sends one before most calls: else its first call with a token would be refused."""
    async with serving(tmp_path) as gateway:
        for _ in range(BURST + 1):
            status, _ = await ask(gateway, PREFLIGHT)
        assert status == 429
        token = f"Authorization: Bearer {harness.token(gateway)}"
        put = ["PUT /svc/x HTTP/1.1", "Host: a", ORIGIN, "Content-Length: 0"]
        assert (await ask(gateway, put, token))[0] == 200
    (tmp_path / "other").mkdir()
    async with serving(tmp_path / "other") as gateway:
        for _ in range(BURST + 1):
            status, _ = await ask(gateway, ["GET /svc/x HTTP/1.1", "Host: a"])
        assert status == 429
        assert await ask(gateway, PREFLIGHT) == (204, "")
