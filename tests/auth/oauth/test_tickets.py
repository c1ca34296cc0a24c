"""Tickets: good once, for half a minute, on one path; and neither a backend nor a log sees one."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.app import Gateway
from gateway.auth.api_keys import new_key
from gateway.auth.keys import ensure_signing_key
from gateway.auth.oauth.tickets import LIFE, Tickets
from gateway.core.errors import TenantLimit
from tests import harness
from tests.eventually import eventually
from tests.fakes import Backend, RawClient, always, answer
from tests.support.sockets import connect, echo, request, websocket

pytestmark = pytest.mark.asyncio
PAGE = "https://shop.example"
BACKEND = {"kind": "http", "identity": "headers"}


def routing(backend: Backend) -> dict[str, Any]:
    routes = [
        harness.route("events", "app", scopes={"read": ["events"], "write": ["w"]}, cors={"origins": [PAGE]}),
        harness.route("ws", "app", websocket={"origins": ["https://chat.example"]}),
        harness.route("plain", "app"),
        harness.route("open", "app", public=True),
        {"name": "of", "path": "/of/{tenant}/{rest*}", "target": "app"},
    ]
    return harness.routing(routes, backends={"app": BACKEND | {"addresses": [backend.address]}})


@asynccontextmanager
async def site(folder: Path, **more: Any) -> AsyncIterator[tuple[Gateway, Backend]]:
    async with Backend(always(answer(b"ok"))) as backend:
        async with harness.running(folder, routing(backend), **more) as gateway:
            yield gateway, backend


async def ask(
    gateway: Gateway, path: Any, *, scope: str = "events", **more: Any
) -> tuple[int, dict[str, Any]]:
    headers = more.pop("headers", None) or harness.bearer(gateway, scope=scope)
    sent = more or {"json": {"path": path}}
    async with aiohttp.ClientSession() as session:
        async with session.post(harness.url(gateway, "/oauth/ticket"), headers=headers, **sent) as response:
            assert response.headers["Cache-Control"] == "no-store"
            return response.status, await response.json()


async def ticket(gateway: Gateway, path: str = "/events/stream", **claims: Any) -> str:
    status, body = await ask(gateway, path, headers=harness.bearer(gateway, scope="events", **claims))
    assert status == 200 and body["expires_in"] == LIFE, body
    return str(body["ticket"])


async def get(
    gateway: Gateway, target: str, method: str = "GET", **headers: str
) -> tuple[int, dict[str, Any]]:
    async with aiohttp.ClientSession() as session:
        async with session.request(method, harness.url(gateway, target), headers=headers) as response:
            text = await response.text()
            return response.status, json.loads(text) if text.startswith("{") else {}


async def test_a_ticket_opens_its_path_once_and_the_backend_sees_who_calls_and_no_ticket(
    tmp_path: Path,
) -> None:
    async with site(tmp_path, log_query="all") as (gateway, backend):
        given = await ticket(gateway)
        assert (await get(gateway, f"/events/stream?a=1&ticket={given}&b=2"))[0] == 200
        status, problem = await get(gateway, f"/events/stream?ticket={given}")
        assert (status, problem["code"]) == (401, "unauthenticated") and given not in str(problem)
        assert [heard.line for heard in backend.heard] == ["GET /stream?a=1&b=2 HTTP/1.1"]
        assert backend.heard[0].one("X-Tenant") == "acme" and backend.heard[0].one("X-Subject") == "alice"
        assert (await get(gateway, f"/events/stream;ticket={await ticket(gateway)}"))[0] == 401
    log = Path(gateway.config.access_log).read_text()
    assert "a=1&b=2" in log and "gwt_" not in log


@pytest.mark.parametrize(
    "target", ["/events/stream/", "/events/other", "/plain/stream", "/ws/stream", "/of/acme/stream"]
)
async def test_on_another_path_it_is_refused_and_used_up(tmp_path: Path, target: str) -> None:
    async with site(tmp_path) as (gateway, backend):
        given = await ticket(gateway)
        assert (await get(gateway, f"{target}?ticket={given}"))[0] == 401
        assert (await get(gateway, f"/events/stream?ticket={given}"))[0] == 401
        assert not backend.heard


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
async def test_only_a_get_takes_one(tmp_path: Path, method: str) -> None:
    async with site(tmp_path) as (gateway, backend):
        given = await ticket(gateway)
        assert (await get(gateway, f"/events/stream?ticket={given}", method))[0] == 401
        assert not backend.heard


async def test_it_expires(tmp_path: Path) -> None:
    now = 1000.0
    async with site(tmp_path, now=lambda: now) as (gateway, _):
        first, second = await ticket(gateway), await ticket(gateway)
        now += LIFE - 0.01
        assert (await get(gateway, f"/events/stream?ticket={first}"))[0] == 200
        now += 0.01
        assert (await get(gateway, f"/events/stream?ticket={second}"))[0] == 401
        assert not len(gateway.tickets)


async def test_of_fifty_connections_with_one_ticket_exactly_one_wins(tmp_path: Path) -> None:
    async with site(tmp_path) as (gateway, backend):
        given = await ticket(gateway)
        clients = [await RawClient.connect(harness.address(gateway)) for _ in range(50)]
        for client in clients:
            client.send(f"GET /events/stream?ticket={given} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        heads = [(await client.answer())[0] for client in clients]
        assert sorted(head.split()[1] for head in heads) == ["200"] + ["401"] * 49
        assert len(backend.heard) == 1
        for client in clients:
            client.close()


async def test_the_next_request_of_the_connection_has_to_say_who_it_is(tmp_path: Path) -> None:
    """The header lines are the same, and read once."""
    async with site(tmp_path) as (gateway, backend):
        client = await RawClient.connect(harness.address(gateway))
        client.send(f"GET /events/stream?ticket={await ticket(gateway)} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert (await client.head()).startswith("HTTP/1.1 200 ")
        await client.reader.readexactly(2)
        client.send(b"GET /events/stream HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await client.head()).startswith("HTTP/1.1 401 ")
        client.close()
        assert len(backend.heard) == 1


@pytest.mark.parametrize("extra", ["token", "another ticket", "subprotocol"])
async def test_with_another_credential_it_is_an_invalid_request(tmp_path: Path, extra: str) -> None:
    async with site(tmp_path) as (gateway, backend):
        one, two = await ticket(gateway, "/ws/chat"), await ticket(gateway, "/ws/chat")
        token = harness.token(gateway)
        target = f"/ws/chat?ticket={one}" + (f"&ticket={two}" if extra == "another ticket" else "")
        lines = {
            "token": [f"Authorization: Bearer {token}"],
            "another ticket": [],
            "subprotocol": [f"Sec-WebSocket-Protocol: gateway.bearer, {token}"],
        }
        client = await RawClient.connect(harness.address(gateway))
        client.send(request(target, "a", *lines[extra]))
        head, _ = await client.answer()
        assert head.startswith("HTTP/1.1 401 ") and 'error="invalid_request"' in head
        client.close()
        assert not backend.heard


async def test_the_backend_of_a_public_route_gets_no_ticket_that_it_could_use(tmp_path: Path) -> None:
    async with site(tmp_path) as (gateway, backend):
        given = await ticket(gateway)
        assert (await get(gateway, f"/open/x?a=1&ticket={given}"))[0] == 200
        assert [heard.line for heard in backend.heard] == ["GET /x?a=1 HTTP/1.1"]


async def test_what_is_no_ticket_of_ours_is_a_parameter_as_any_other(tmp_path: Path) -> None:
    async with site(tmp_path) as (gateway, backend):
        assert (await get(gateway, "/plain/x?ticket=4711"))[0] == 401
        assert (await get(gateway, "/plain/x?ticket=4711&access_token=a", **harness.bearer(gateway)))[
            0
        ] == 200
        token = harness.token(gateway)
        for query in (f"access_token={token}", f"token={token}", f"ticket={token}"):
            assert (await get(gateway, f"/plain/x?{query}"))[0] == 401, "a token in a URL is no credential"
        assert [heard.line for heard in backend.heard] == ["GET /x?ticket=4711&access_token=a HTTP/1.1"]


async def test_it_is_given_for_what_the_token_may_do(tmp_path: Path) -> None:
    async with site(tmp_path) as (gateway, _):
        for path, scope, status, code in (
            ("/events/stream", "", 403, "forbidden"),
            ("/of/globex/x", "", 403, "forbidden"),
            ("/of/acme/x", "", 200, None),
            ("/open/x", "", 400, "bad_request"),
            ("/nothing", "", 400, "bad_request"),
            ("/oauth/ticket", "", 400, "bad_request"),
            ("events", "", 400, "bad_request"),
            ("/events/../x", "", 400, "bad_request"),
            (7, "", 400, "bad_request"),
        ):
            assert (await ask(gateway, path, scope=scope))[0] == status, path
            assert (await ask(gateway, path, scope=scope))[1].get("code") == code, path


async def test_it_is_asked_for_as_json_or_as_a_form(tmp_path: Path) -> None:
    async with site(tmp_path) as (gateway, _):
        json_type, form = (
            {"Content-Type": "application/json"},
            {"Content-Type": "application/x-www-form-urlencoded"},
        )
        who = harness.bearer(gateway, scope="events")
        for data, kind, status in (
            (b"path=%2Fevents%2Fstream%3Fa%3D1", form, 200),
            (b"path=/a&path=/b", form, 400),
            (b"", form, 400),
            (b'{"path": "/events/stream"}', json_type, 200),
            (b'{"path": "/events/stream"', json_type, 400),
            (b"[" * 9000, json_type, 400),
            (b"\xff", json_type, 400),
            (b"\xff=1", form, 400),
            (b"x", {"Content-Type": "text/plain"}, 415),
            (b"x" * 40_000, json_type, 413),
        ):
            assert (await ask(gateway, "", data=data, headers={**who, **kind}))[0] == status, data[:40]
        status, _ = await ask(gateway, "", data=b"", headers={"X": "y"})
        assert status == 401


async def test_a_page_may_ask_where_its_route_lets_it_read(tmp_path: Path) -> None:
    """The preflight does not say for which path, so it is allowed to the pages of all routes."""
    async with site(tmp_path) as (gateway, _):
        async with aiohttp.ClientSession() as session:

            async def send(method: str, origin: str, **more: Any) -> tuple[int, str | None]:
                headers = {"Origin": origin, **more.pop("headers", {})}
                url = harness.url(gateway, "/oauth/ticket")
                async with session.request(method, url, headers=headers, **more) as response:
                    return response.status, response.headers.get("Access-Control-Allow-Origin")

            asks = {
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization,content-type",
            }
            for origin in (PAGE, "https://chat.example"):
                assert await send("OPTIONS", origin, headers=asks) == (204, origin)
            assert await send("OPTIONS", "https://stranger.example", headers=asks) == (403, None)
            who = harness.bearer(gateway, scope="events")
            wanted = {"path": "/events/stream"}
            assert await send("POST", PAGE, headers=who, json=wanted) == (200, PAGE)
            assert await send("POST", "https://chat.example", headers=who, json=wanted) == (200, None)
            assert await send("POST", PAGE, json=wanted) == (401, PAGE), "a page can read why it is refused"


async def test_a_tenant_has_so_many_and_leaves_room_for_the_others() -> None:
    tickets = Tickets(lambda: now)
    now = 0.0
    for _ in range(1000):
        tickets.give("token", "acme", "r", "/p")
    with pytest.raises(TenantLimit):
        tickets.give("token", "acme", "r", "/p")
    tickets.give("token", "globex", "r", "/p")
    now = LIFE
    tickets.give("token", "acme", "r", "/p")
    assert len(tickets) == 1


async def test_an_api_key_gets_one_and_it_dies_with_the_key(tmp_path: Path) -> None:
    async with Backend(websocket(echo)) as backend:
        async with harness.running(tmp_path, routing(backend)) as gateway:
            store, now = gateway.stored.store, time.time()
            key, text = new_key("acme", "etl", "events", "", 1e6, "test", now)
            await gateway.stored.change(store.create_key, key)
            status, used = await ask(gateway, "/ws/chat", headers={"X-API-Key": text})
            _, unused = await ask(gateway, "/ws/chat", headers={"Authorization": f"Bearer {text}"})
            assert status == 200
            peer = await connect(harness.address(gateway), f"/ws/chat?ticket={used['ticket']}", {})
            await gateway.stored.change(store.revoke_key, key.id, "test", now)
            assert (await peer.closed())[0] == 1008
            assert (await get(gateway, f"/ws/chat?ticket={unused['ticket']}"))[0] == 401
            peer.cut()


async def test_a_websocket_by_ticket_ends_with_its_token(tmp_path: Path) -> None:
    async with Backend(websocket(echo)) as backend:
        async with harness.running(tmp_path, routing(backend)) as gateway:
            given = await ticket(gateway, "/ws/chat")
            peer = await connect(harness.address(gateway), f"/ws/chat?ticket={given}", {})
            assert backend.heard[0].line == "GET /chat HTTP/1.1"
            gateway.lifetimes.doubt()
            await gateway.lifetimes.reask()
            await eventually(lambda: len(gateway.lifetimes) == 1)
            Path(gateway.config.keys).unlink()
            ensure_signing_key(Path(gateway.config.keys))
            await gateway.reload()
            assert (await peer.closed())[0] == 1008
            peer.cut()
