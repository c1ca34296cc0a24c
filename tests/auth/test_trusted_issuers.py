"""Issuers of the live config, before a running gateway: who is let in, what is told, what outlives what."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from gateway.app import Gateway
from tests import harness
from tests.edge.test_drain_streams import EVENTS, chunk
from tests.eventually import eventually, eventually_await
from tests.fakes import Backend, Heard, RawClient
from tests.support.issuer_server import IssuerServer
from tests.support.key_sets import public

pytestmark = pytest.mark.asyncio


def issuer(server: IssuerServer, **more: Any) -> dict[str, Any]:
    return {"issuer": server.url, "audiences": ["api"], "discovery": True, "tenants": ["acme"], **more}


async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    if "/events" in heard.line:
        writer.write(EVENTS.format("").encode() + chunk(b"data: 1\n\n"))
        await asyncio.Event().wait()
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


@asynccontextmanager
async def site(folder: Path, issuers: dict[str, Any], **more: Any) -> AsyncIterator[Gateway]:
    async with Backend(script) as backend:
        backends = {"app": {"kind": "http", "addresses": [backend.address], "identity": "headers"}}
        routes = [harness.route("svc", "app"), harness.route("one", "app", issuers=["one"])]
        data = harness.routing(routes, backends=backends, issuers=issuers)
        async with harness.running(folder, data, **more) as gateway:
            yield gateway


async def get(gateway: Gateway, token: str, path: str = "/svc/x") -> tuple[int, Any, Any]:
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:
        async with session.get(harness.url(gateway, path)) as response:
            body = await response.text()
            return response.status, json.loads(body)["code"] if body.startswith("{") else "", response.headers


def edit(gateway: Gateway, **sections: Any) -> None:
    path = Path(gateway.config.routing)
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **sections}))


async def test_each_issuers_tokens_pass_where_a_route_takes_them(tmp_path: Path) -> None:
    async with IssuerServer() as one, IssuerServer() as two:
        async with site(tmp_path, {"one": issuer(one), "two": issuer(two)}) as gateway:
            tokens = one.token(), two.token(), harness.token(gateway)
            assert [(await get(gateway, token))[0] for token in tokens] == [200, 200, 200]
            assert [(await get(gateway, token, "/one/x"))[0] for token in tokens] == [200, 401, 401]
            status, code, _ = await get(gateway, one.token(tenant="globex"))
            assert (status, code) == (401, "unauthenticated"), "it may not speak for that tenant"
            text = gateway.metrics.render()
            assert 'gateway_tokens_verified_total{issuer="one",result="cached"} 1\n' in text
            assert 'gateway_tokens_verified_total{issuer="one",result="refused"} 1\n' in text
            assert 'gateway_issuer_fetches_total{issuer="two",result="ok"} 1\n' in text
            assert 'gateway_issuer_keys_age_seconds{issuer="one"} ' in text


async def test_an_issuer_that_is_away_at_the_start_is_503_until_it_is_there(tmp_path: Path) -> None:
    server = IssuerServer()
    await server.start()
    port = await server.stop()
    async with site(tmp_path, {"one": issuer(server)}) as gateway:
        await eventually(lambda: gateway.issuers.states()[1]["failures"])
        status, code, headers = await get(gateway, server.token())
        assert (status, code) == (503, "issuer_unavailable")
        assert int(headers["Retry-After"]) >= 1
        assert (await get(gateway, harness.token(gateway)))[0] == 200
        await server.start(port)

        async def served() -> bool:
            return (await get(gateway, server.token()))[0] == 200

        await eventually_await(served)
        await server.stop()
        assert await served(), "and its keys go on"


async def test_a_stream_ends_when_its_issuer_is_taken_out_of_the_config(tmp_path: Path) -> None:
    async with IssuerServer() as one, IssuerServer() as two:
        async with site(tmp_path, {"one": issuer(one), "two": issuer(two)}) as gateway:
            clients = []
            for server in (one, two):
                client = await RawClient.connect(harness.address(gateway))
                lines = f"Host: a\r\nAuthorization: Bearer {server.token()}\r\n\r\n"
                client.send(f"GET /svc/events HTTP/1.1\r\n{lines}".encode())
                assert " 200 " in await client.head()
                clients.append(client)
            edit(gateway, issuers={"one": issuer(one)}, routes=[harness.route("svc", "app")])
            await gateway.live.reload_when_quiet()
            await eventually(lambda: len(gateway.lifetimes) == 1)
            assert one.asked["/jwks"] == 1, "the other one is as it was"
            for client in clients:
                client.close()


async def test_a_stream_that_its_issuer_may_not_open_any_more_ends_once_its_keys_are_here(
    tmp_path: Path,
) -> None:
    async with IssuerServer() as server:
        async with site(tmp_path, {"one": issuer(server)}) as gateway:
            client = await RawClient.connect(harness.address(gateway))
            lines = f"Host: a\r\nAuthorization: Bearer {server.token()}\r\n\r\n"
            client.send(f"GET /svc/events HTTP/1.1\r\n{lines}".encode())
            assert " 200 " in await client.head()
            port = await server.stop()
            # Other algorithms make other keys of the same set, so it is to be had again.
            other = issuer(server, tenants=["globex"], algorithms=["EdDSA", "RS256"])
            edit(gateway, issuers={"one": other})
            await gateway.live.reload_when_quiet()
            await eventually(lambda: gateway.issuers.states()[1]["failures"] > 1)
            assert len(gateway.lifetimes) == 1, "its token may be good"
            await server.start(port)
            await gateway.reload()  # and not when the next attempt is due
            await eventually(lambda: not len(gateway.lifetimes))
            client.close()


async def test_a_stream_ends_soon_after_its_token_ended_at_an_issuer_that_is_asked(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    async with IssuerServer() as server:
        asks = {"url": f"{server.url}/introspect", "client_id": "x", "client_secret": {"file": "secret"}}
        kind = {"issuer": server.url, "audiences": ["api"], "tenants": ["acme"]}
        issuers = {"one": {**kind, "introspection": {**asks, "keep": "1s"}}}
        async with site(tmp_path, issuers) as gateway:
            server.active["t"] = {"active": True, "tenant": "acme", "sub": "ann", "exp": 9_999_999_999}
            client = await RawClient.connect(harness.address(gateway))
            client.send(b"GET /svc/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer t\r\n\r\n")
            assert " 200 " in await client.head()
            await eventually(lambda: server.asked["/introspect"] > 1)
            assert len(gateway.lifetimes) == 1, "it was good"
            server.active.clear()
            await eventually(lambda: not len(gateway.lifetimes))
            client.close()


async def test_the_admin_listener_tells_of_issuers_and_of_no_secret(tmp_path: Path) -> None:
    async with IssuerServer() as one:
        async with site(tmp_path, {"one": issuer(one)}) as gateway:
            token = one.token()
            assert (await get(gateway, token))[0] == 200
            local, other = gateway.issuers.states()
            assert (local["name"], local["source"], local["where"]) == ("local", "file", gateway.config.keys)
            assert (other["source"], other["where"], other["failures"]) == ("discovery", f"{one.url}/jwks", 0)
            assert other["keys"] == [{"kid": next(iter(one.keys)), "algorithms": ["EdDSA", "Ed25519"]}]
            assert other["tokens"] == {
                "cached": 1, "hits": 0, "verified": 1, "refused": 0, "unavailable": 0
            }  # fmt: skip
            assert other["age_seconds"] >= 0 and 300 < other["next_fetch_seconds"] <= 600
            text = json.dumps(gateway.issuers.states())
            assert token not in text and '"d"' not in text


async def test_a_reload_asks_the_issuers_again_though_nothing_is_due(tmp_path: Path) -> None:
    async with IssuerServer() as one:
        async with site(tmp_path, {"one": issuer(one)}) as gateway:
            old = one.token()
            assert (await get(gateway, old))[0] == 200
            one.rotate(keep=False)
            await gateway.reload()
            await eventually(lambda: one.asked["/jwks"] == 2)

            async def refused() -> bool:
                return (await get(gateway, old))[0] == 401

            await eventually_await(refused)


async def test_without_the_local_issuer_its_tokens_are_refused(tmp_path: Path) -> None:
    async with IssuerServer() as one:
        async with site(tmp_path, {"one": issuer(one)}) as gateway:
            own = harness.token(gateway)
            assert (await get(gateway, own))[0] == 200
            edit(gateway, issuers={"local": False, "one": issuer(one)})
            await gateway.reload()
            assert (await get(gateway, own))[0] == 401
            assert (await get(gateway, one.token()))[0] == 200


async def test_keys_in_a_file_beside_the_config_are_followed(tmp_path: Path) -> None:
    server = IssuerServer()

    def publish() -> None:
        keys = [{"kid": kid, **public(key)} for kid, key in server.keys.items()]
        (tmp_path / "theirs.jwks").write_text(json.dumps({"keys": keys}))

    publish()
    settings = {"issuer": "theirs", "audiences": ["api"], "keys": "theirs.jwks", "tenants": ["acme"]}
    async with site(tmp_path, {"one": settings}) as gateway:
        old = server.token(iss="theirs")
        assert (await get(gateway, old))[0] == 200
        server.rotate(keep=False)
        publish()

        async def served() -> bool:
            return (await get(gateway, server.token(iss="theirs")))[0] == 200

        await eventually_await(served)
        assert (await get(gateway, old))[0] == 401
