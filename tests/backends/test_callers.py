"""Who calls, from where, and nobody: one application of each framework behind a real gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from gateway.app import Gateway
from tests import harness
from tests.backends import signing
from tests.backends.servers import GUNICORN, UVICORN, Server, UnixConnection, running
from tests.fakes import RawClient

APPS = "tests.backends.apps"
COMMANDS: dict[str, tuple[str, ...]] = {
    **{
        name: (*GUNICORN, "--bind", "unix:{socket}", f"{APPS}.{name}_app:app")
        for name in ("flask", "wsgi", "django")
    },
    "django-asgi": (*UVICORN, "--uds", "{socket}", f"{APPS}.django_app:asgi"),
    "fastapi": (*UVICORN, "--uds", "{socket}", f"{APPS}.fastapi_app:app"),
    "aiohttp": ("-m", f"{APPS}.aiohttp_app", "{socket}"),
}
KINDS = pytest.mark.parametrize("kind", COMMANDS)


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Server]]:
    with ExitStack() as stack:
        yield {
            kind: stack.enter_context(running(*command, GATEWAY_IDENTITY_AUDIENCE=kind))
            for kind, command in COMMANDS.items()
        }


def routing(servers: dict[str, Server]) -> dict[str, Any]:
    """Each application below /svc-KIND, and below /open-KIND for everybody."""
    routes, backends = [], {}
    for kind, server in servers.items():
        backends[kind] = {"kind": "http", "addresses": [f"unix:{server.socket_path}"]}
        routes += [
            harness.route(f"svc-{kind}", kind, websocket=True),
            harness.route(f"open-{kind}", kind, public=True, websocket=True),
        ]
    return harness.routing(routes, backends=backends, trusted_proxies=["127.0.0.0/8"])


async def get(gateway: Gateway, path: str, headers: dict[str, str]) -> tuple[int, str, Any]:
    """Status, Location, and the JSON of the body."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(harness.url(gateway, path), headers=headers, allow_redirects=False) as response,
    ):
        raw = await response.read()
        location = response.headers.get("Location", "")
        return response.status, location, None if location else json.loads(raw)


PROXIED = {
    "X-Forwarded-For": "6.6.6.6, 203.0.113.9", "X-Forwarded-Proto": "https, http",
    "X-Forwarded-Host": "api.example:8443", "X-Forwarded-Prefix": "/v1",
}  # fmt: skip


@pytest.mark.asyncio
async def test_each_framework_sees_the_client_and_the_public_address(
    tmp_path: Path, servers: dict[str, Server]
) -> None:
    signing.use_key(tmp_path / "var")
    async with harness.running(tmp_path, routing(servers)) as gateway:
        for kind in COMMANDS:
            headers = {**harness.bearer(gateway), **PROXIED}
            start = f"/v1/svc-{kind}"
            assert await get(gateway, f"/svc-{kind}/open", headers) == (
                200,
                "",
                {
                    "tenant": "acme",
                    "client": "203.0.113.9",
                    "url": f"https://api.example:8443{start}/open",
                    "port": "8443",
                },
            )
            assert (await get(gateway, f"/svc-{kind}/go", headers))[:2] == (302, f"{start}/open")
            _, _, found = await get(gateway, f"/svc-{kind}/open", harness.bearer(gateway))
            assert found["client"] == "127.0.0.1", kind


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("prefix", "host"), [("/caf%C3%A9", "a"), ("/it's", "a"), ("/a%20b", "a"), ("/v1", "my_service:8080")]
)
async def test_each_framework_works_under_any_prefix_and_host_that_the_gateway_takes(
    tmp_path: Path, servers: dict[str, Server], prefix: str, host: str
) -> None:
    routes, backends = [], {}
    for kind, server in servers.items():
        if "_" in host and kind in ("django", "django-asgi", "flask"):
            continue  # RFC 1034 knows no such host, and these neither
        backends[kind] = {"kind": "http", "addresses": [f"unix:{server.socket_path}"]}
        start = f"{prefix}-{kind}"
        routes.append({"name": kind, "path": f"{start}/{{rest*}}", "strip": start, "target": kind})
    signing.use_key(tmp_path / "var")
    async with harness.running(tmp_path, harness.routing(routes, backends=backends)) as gateway:
        for kind in backends:
            headers = {**harness.bearer(gateway), "Host": host}
            start = f"{prefix}-{kind}"
            status, _, found = await get(gateway, f"{start}/open", headers)
            # Flask leaves it to the browser to encode what it did not encode itself.
            url = quote(found["url"], safe="/:%'")
            assert (status, url) == (200, f"http://{host}{start}/open"), kind
            assert (await get(gateway, f"{start}/go", headers))[:2] == (302, f"{start}/open")


@pytest.mark.asyncio
@pytest.mark.parametrize("request_line", ["HTTP/1.1\r\nHost:", "HTTP/1.0"])
async def test_an_address_is_one_also_where_the_client_names_no_host(
    tmp_path: Path, servers: dict[str, Server], request_line: str
) -> None:
    signing.use_key(tmp_path / "var")
    async with harness.running(tmp_path, routing(servers)) as gateway:
        for kind in COMMANDS:
            client = await RawClient.connect(harness.address(gateway))
            client.send(f"GET /open-{kind}/open {request_line}\r\nConnection: close\r\n\r\n".encode())
            assert (await client.head()).startswith("HTTP/1.1 200 "), kind
            assert f'"http://localhost/open-{kind}/open"'.encode() in await client.rest()
            client.close()


@pytest.mark.parametrize(
    ("kind", "chunked"),
    [("flask", False), ("flask", True), ("wsgi", False), ("wsgi", True), ("django", False)],
)
def test_an_answer_may_be_made_while_the_body_is_read_and_what_is_left_of_it_disturbs_nobody(
    servers: dict[str, Server], kind: str, chunked: bool
) -> None:
    body = b"hello " * 10_000  # it fits in the socket's buffer: this client sends all before it reads
    client = UnixConnection(servers[kind].socket_path)
    try:
        for path, status, expected in [("/upper", 200, body.upper()), ("/ignore", 204, b"")] * 2:
            sent = iter([body]) if chunked else body
            client.request("POST", path, sent, signing.nobody(aud=kind), encode_chunked=chunked)
            response = client.getresponse()
            assert (response.status, response.read()) == (status, expected), path
    finally:
        client.close()


@pytest.mark.asyncio
async def test_a_public_route_passes_nobody_on_and_what_needs_an_identity_is_401(
    tmp_path: Path, servers: dict[str, Server]
) -> None:
    signing.use_key(tmp_path / "var")
    async with harness.running(tmp_path, routing(servers)) as gateway:
        for kind in COMMANDS:
            status, _, found = await get(gateway, f"/open-{kind}/open", {})
            assert (status, found["tenant"], found["client"]) == (200, None, "127.0.0.1"), kind
            assert (await get(gateway, f"/open-{kind}/go", {}))[:2] == (302, f"/open-{kind}/open")
            forged = {"X-Tenant": "acme", "X-Subject": "root"}
            for headers in ({}, forged, harness.bearer(gateway)):
                status, _, found = await get(gateway, f"/open-{kind}/mine", headers)
                assert (status, found["status"]) == (401, 401), kind
            assert (await get(gateway, f"/svc-{kind}/mine", harness.bearer(gateway)))[2] == {"tenant": "acme"}


@KINDS
def test_what_comes_around_the_gateway_is_refused_everywhere(servers: dict[str, Server], kind: str) -> None:
    server = servers[kind]
    forged = {"X-Tenant": "acme", "X-Subject": "root", "X-Forwarded-For": "203.0.113.9"}
    for path in ("/open", "/mine", "/go", "/nowhere"):
        for headers in ({}, forged):
            assert server.call("GET", path, tenant=None, **headers).is_problem(401)


@KINDS
def test_a_refusal_says_how_to_identify_oneself(servers: dict[str, Server], kind: str) -> None:
    for tenant in (None, ""):
        answer = servers[kind].call("GET", "/mine", tenant)
        assert answer.is_problem(401)
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="gateway"'


@KINDS
@pytest.mark.parametrize("said", [("acme", None), (None, "ann"), ("", "")])
def test_half_an_identity_is_nobody_s(servers: dict[str, Server], kind: str, said: tuple[str, str]) -> None:
    headers = signing.caller(*said, aud=kind)
    assert servers[kind].call("GET", "/open", tenant=None, **headers).is_problem(401)


@KINDS
@pytest.mark.parametrize(
    ("chain", "client"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8::1, 10.0.0.1", "2001:db8::1"),
        ("203.0.113.9,10.0.0.1", "203.0.113.9"),
    ],
)
def test_the_client_is_the_first_of_the_chain(
    servers: dict[str, Server], kind: str, chain: str, client: str
) -> None:
    assert servers[kind].call("GET", "/open", **{"X-Forwarded-For": chain}).json["client"] == client


@KINDS
@pytest.mark.parametrize("chain", ["a", "203.0.113.9:80", "<script>", "1.2.3"])
def test_a_junk_chain_is_refused(servers: dict[str, Server], kind: str, chain: str) -> None:
    assert servers[kind].call("GET", "/open", **{"X-Forwarded-For": chain}).is_problem(400)


def test_a_body_is_read_as_ever_where_the_client_is_known(servers: dict[str, Server]) -> None:
    answer = servers["aiohttp"].call("POST", "/echo", body=b"x" * 300_000)
    assert (answer.status, answer.body) == (200, b"x" * 300_000)


@pytest.mark.asyncio
async def test_a_websocket_that_needs_an_identity_is_refused_before_it_opens(
    tmp_path: Path, servers: dict[str, Server]
) -> None:
    handshake = (
        "Host: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    signing.use_key(tmp_path / "var")
    async with harness.running(tmp_path, routing(servers)) as gateway:
        client = await RawClient.connect(harness.address(gateway))
        client.send(f"GET /open-fastapi/socket HTTP/1.1\r\n{handshake}".encode())
        assert (await client.head()).startswith("HTTP/1.1 403 ")
        client.close()
        headers = harness.bearer(gateway)
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(harness.url(gateway, "/svc-fastapi/socket"), headers=headers) as socket,
        ):
            async with asyncio.timeout(30):
                assert await socket.receive_str() == "acme"
