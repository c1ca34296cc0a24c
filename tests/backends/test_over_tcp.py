"""The four example backends on TCP, where any neighbour can connect: what the gateway signs is believed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from time import monotonic, time
from typing import Any

import aiohttp
import pytest
from yarl import URL

from gateway.app import Gateway
from gateway.auth.keys import new_signing_key
from tests import harness
from tests.backends import signing
from tests.backends.servers import GUNICORN, UVICORN, Server, running
from tests.backends.signing import KEY, assertion

COMMANDS = {
    "catalog": (*GUNICORN, "--bind", "127.0.0.1:{port}", "backends.catalog.wsgi:application"),
    "reports": (*GUNICORN, "--bind", "127.0.0.1:{port}", "backends.reports.app:app"),
    "pricing": (*UVICORN, "--port", "{port}", "backends.pricing.app:app"),
    "events": ("-m", "backends.events", "--listen", "127.0.0.1:{port}"),
}
PATHS = {"catalog": "/products", "reports": "/reports", "pricing": "/prices", "events": "/events"}
ALL = pytest.mark.parametrize("name", COMMANDS)


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Server]]:
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(running(*command, GATEWAY_IDENTITY_AUDIENCE=name))
            for name, command in COMMANDS.items()
        }


def routing(servers: dict[str, Server], **more: Any) -> dict[str, Any]:
    """Each below its name, and below bound-NAME where its signature is for one request."""
    backends = {
        name: {"kind": "http", "addresses": [server.address], **more} for name, server in servers.items()
    }
    routes = [harness.route(name, name) for name in servers]
    if not more:
        routes += [harness.route(f"bound-{name}", name, bind="request") for name in servers]
    return harness.routing(routes, backends=backends)


async def status(
    session: aiohttp.ClientSession, gateway: Gateway, path: str, more: Mapping[str, str] = {}, **claims: Any
) -> int:
    headers = {**harness.bearer(gateway, **claims), **more}
    at = URL(harness.url(gateway, path), encoded=True)
    async with session.get(at, headers=headers) as response:
        await response.read()
        return response.status


SAID = {"X-Tenant": "acme", "X-Subject": "root", "X-Scopes": "all"}
CAME = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Host": "api.example", "X-Request-ID": "a" * 32}


def forgeries(name: str) -> dict[str, dict[str, str]]:
    """What a neighbour of the backend may send."""
    stranger = new_signing_key()
    made = {
        "not signed": assertion(aud=name).rpartition(".")[0] + ".",
        "signed by a stranger": assertion(aud=name, key=stranger),
        "signed by a stranger under a known kid": assertion(aud=name, key={**stranger, "kid": KEY["kid"]}),
        "for nobody": assertion(aud=None),
        "of another gateway": assertion(aud=name, iss="elsewhere"),
        "expired": assertion(aud=name, iat=1, exp=61),
        "without end": assertion(aud=name, exp=None),
        "a client's token": assertion(aud=name, typ="JWT"),
        "for half a request": assertion(aud=name, htm="GET"),
        "junk": "acme",
        "empty": "",
    }
    return {
        "nothing": {},
        "headers": SAID,
        "headers from this host": SAID | {"X-Forwarded-For": "127.0.0.1"},
        "headers that came through": SAID | CAME,
        "nobody's": CAME,
        **{what: {"X-Gateway-Identity": text} for what, text in made.items()},
        "headers beside it": SAID | CAME | {"X-Gateway-Identity": made["expired"]},
    }


@ALL
def test_a_direct_connection_with_forged_headers_is_refused(servers: dict[str, Server], name: str) -> None:
    for what, headers in forgeries(name).items():
        refused = servers[name].call("GET", PATHS[name], None, **headers)
        assert refused.is_problem(401), what
        assert not any(len(value) > 40 and value in str(refused.body) for value in headers.values()), what


@ALL
def test_what_was_signed_for_another_backend_is_refused(servers: dict[str, Server], name: str) -> None:
    for other in COMMANDS:
        headers = signing.caller(aud=other)
        answer = servers[name].call("GET", PATHS[name], None, **headers)
        assert answer.status == 200 if other == name else answer.is_problem(401)


@ALL
def test_what_is_bound_to_a_request_is_refused_with_another(servers: dict[str, Server], name: str) -> None:
    server, path = servers[name], PATHS[name] + "?limit=10&a=%C3%A9"
    bound = signing.caller(aud=name, htm="GET", target=path)
    assert server.call("GET", path, None, **bound).status == 200
    for method, other in [("GET", PATHS[name]), ("GET", path + "&b"), ("DELETE", path), ("GET", "/")]:
        assert server.call(method, other, None, **bound).is_problem(401)


@pytest.mark.asyncio
async def test_what_comes_through_the_gateway_is_accepted(tmp_path: Path, servers: dict[str, Server]) -> None:
    signing.use_key(tmp_path / "var")
    async with harness.running(tmp_path, routing(servers)) as gateway, aiohttp.ClientSession() as session:
        for name, path in PATHS.items():
            for start in (name, f"bound-{name}"):
                assert await status(session, gateway, f"/{start}{path}?limit=10&a=%C3%A9%20") == 200, start
                assert await status(session, gateway, f"/{start}{path}/%C3%A9") in (404, 422), start
            for what, headers in {**forgeries(name), "a good one": signing.caller(aud=name)}.items():
                assert await status(session, gateway, f"/{name}{path}", headers) == 200, what
            as_token = {"Authorization": f"Bearer {signing.assertion(aud=name)}"}
            assert await status(session, gateway, f"/{name}{path}", as_token) == 401


@pytest.mark.asyncio
async def test_headers_without_a_signature_are_refused_although_the_gateway_sends_them(
    tmp_path: Path, servers: dict[str, Server]
) -> None:
    signing.use_key(tmp_path / "var")
    for form, expected in (("headers", 401), ("both", 200)):
        async with (
            harness.running(tmp_path, routing(servers, identity=form)) as gateway,
            aiohttp.ClientSession() as session,
        ):
            for name, path in PATHS.items():
                assert await status(session, gateway, f"/{name}{path}") == expected, name


@pytest.mark.asyncio
async def test_a_rotation_of_the_keys_refuses_nobody(tmp_path: Path) -> None:
    """Each request is of another caller, so that each is signed anew; the overlap is that of a test."""
    keys = str(tmp_path / "var" / "identity-public.jwks")
    commands = {
        "flask": (*GUNICORN, "--bind", "127.0.0.1:{port}", "tests.backends.apps.flask_app:app"),
        "fastapi": (*UVICORN, "--port", "{port}", "tests.backends.apps.fastapi_app:app"),
    }
    found: Counter[int] = Counter()
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(
                running(*command, GATEWAY_IDENTITY_KEYS=keys, GATEWAY_IDENTITY_AUDIENCE=name)
            )
            for name, command in commands.items()
        }
        async with harness.running(tmp_path, routing(servers)) as gateway, aiohttp.ClientSession() as session:
            old = gateway.signer.keys.current(time()).kid
            new = gateway.signer.keys.rotate(time(), 2.0).kid
            ends, number = monotonic() + 4.0, 0

            async def client(name: str) -> None:
                nonlocal number
                while monotonic() < ends:
                    number += 1
                    found[await status(session, gateway, f"/{name}/mine", sub=f"caller-{number}")] += 1

            assert old != new
            await asyncio.gather(*(client(name) for name in servers for _ in range(4)))
            assert gateway.signer.keys.current(time()).kid == new
    assert found.keys() == {200}
    assert found[200] > 50


@pytest.mark.parametrize("name", ["reports", "events"])
def test_for_development_this_host_may_be_trusted(name: str) -> None:
    trusting = {"GATEWAY_IDENTITY_KEYS": "", "GATEWAY_IDENTITY_TRUST_HEADERS": "loopback"}
    with running(*COMMANDS[name], **trusting) as server:
        said = {"X-Tenant": "acme", "X-Subject": "me"}
        assert server.call("GET", PATHS[name], None, **said).status == 200
