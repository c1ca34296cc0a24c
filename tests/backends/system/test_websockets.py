"""The WebSockets of events (ASAB) and pricing (FastAPI): through the whole system, and alone."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.backends.servers import UVICORN, running
from tests.backends.signing import caller
from tests.backends.system.whole import Whole
from tests.eventually import AT_ONCE

pytestmark = [pytest.mark.asyncio, pytest.mark.whole]

EVENTS, PRICES = "/events/events/socket", "/pricing/prices/socket"


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


class Sockets:
    """Opens WebSockets of the whole system."""

    def __init__(self, system: Whole, session: aiohttp.ClientSession) -> None:
        self.system, self.session = system, session

    def open(self, path: str, tenant: str = "acme", **token: str) -> Any:
        return self.session.ws_connect(self.system.url(path), headers=self.system.bearer(tenant, **token))


@pytest.fixture
def sockets(system: Whole, session: aiohttp.ClientSession) -> Sockets:
    return Sockets(system, session)


async def test_an_event_sent_on_a_websocket_reaches_all_of_its_tenant_and_nobody_else(
    sockets: Sockets,
) -> None:
    canary = uuid.uuid4().hex
    async with (
        sockets.open(EVENTS) as one,
        sockets.open(EVENTS) as two,
        sockets.open(EVENTS, "globex") as other,
    ):
        await one.send_json({"type": "order", "data": {"n": canary}})
        for reader in (one, two):
            event = await reader.receive_json(timeout=30)
            assert (event["type"], event["data"]) == ("order", {"n": canary})
        await other.send_json({"type": "theirs"})
        assert (await other.receive_json(timeout=30))["type"] == "theirs"
    headers = sockets.system.bearer("acme")
    async with sockets.session.get(sockets.system.url("/events/events"), headers=headers) as response:
        assert canary in await response.text()


async def test_an_event_that_was_posted_comes_on_the_websocket(sockets: Sockets) -> None:
    canary = uuid.uuid4().hex
    async with sockets.open(EVENTS) as socket:
        url, headers = sockets.system.url("/events/events"), sockets.system.bearer("acme")
        async with sockets.session.post(url, json={"type": canary}, headers=headers) as response:
            assert response.status == 201
        assert (await socket.receive_json(timeout=30))["type"] == canary


async def test_a_draft_that_is_wrong_is_told_and_the_websocket_goes_on(sockets: Sockets) -> None:
    async with sockets.open(EVENTS) as socket:
        for text, part in (("{", "JSON"), ('{"type": 1}', "type"), ("[]", "1 to 100")):
            await socket.send_str(text)
            assert part in (await socket.receive_json(timeout=30))["error"]
        await socket.send_bytes(b"{}")
        assert "text" in (await socket.receive_json(timeout=30))["error"]
        await socket.send_json({"type": "good"})
        assert (await socket.receive_json(timeout=30))["type"] == "good"


async def test_who_may_only_read_events_publishes_none(sockets: Sockets) -> None:
    async with sockets.open(EVENTS, scope="events:read") as socket:
        await socket.send_json({"type": "forbidden"})
        assert "events:write" in (await socket.receive_json(timeout=30))["error"]


async def test_a_line_gets_its_quote_and_tenants_have_their_own_prices(sockets: Sockets) -> None:
    sku = uuid.uuid4().hex
    rule = {"unit_price": "9.50", "tiers": [{"min_quantity": 10, "discount_percent": "5"}]}
    url, headers = sockets.system.url(f"/pricing/prices/{sku}"), sockets.system.bearer("acme")
    async with sockets.session.put(url, json=rule, headers=headers) as response:
        assert response.status == 201
    async with sockets.open(PRICES) as socket, sockets.open(PRICES, "globex") as other:
        for quantity, total in ((1, "9.50"), (10, "90.25")):
            await socket.send_json({"sku": sku, "quantity": quantity})
            quote = await socket.receive_json(timeout=30)
            assert (quote["total"], quote["currency"]) == (total, "EUR")
        await other.send_json({"sku": sku, "quantity": 1})
        assert await other.receive_json(timeout=30) == {"error": "There is no price for this sku."}
        await socket.send_json({"sku": sku, "quantity": 0})
        assert "error" in await socket.receive_json(timeout=30)
        await socket.send_bytes(b"x")
        assert (await socket.receive(timeout=30)).data == 1003


@pytest.mark.parametrize("path", [EVENTS, PRICES])
async def test_a_message_above_the_limit_of_the_route_closes_with_1009(sockets: Sockets, path: str) -> None:
    async with sockets.open(path) as socket:
        await socket.send_str("x" * (1024 * 1024 + 1))
        await socket.receive(timeout=30)
        assert socket.close_code == 1009


@pytest.mark.parametrize("path", [EVENTS, PRICES])
@pytest.mark.parametrize(
    ("scope", "status"), [("documents:read", 403), (None, 401)], ids=["another scope", "no token"]
)
async def test_without_the_right_token_none_is_opened(
    sockets: Sockets, path: str, scope: str | None, status: int
) -> None:
    headers = sockets.system.bearer(scope=scope) if scope else {}
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await sockets.session.ws_connect(sockets.system.url(path), headers=headers)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("command", "path", "status"),
    [
        (("-m", "backends.events", "--socket", "{socket}"), "/events/socket", 401),
        ((*UVICORN, "--uds", "{socket}", "backends.pricing.app:app"), "/prices/socket", 403),
    ],
    ids=["events", "pricing"],
)
async def test_a_backend_refuses_one_without_an_identity_before_it_opens(
    command: tuple[str, ...], path: str, status: int
) -> None:
    with running(*command) as server:
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(server.socket_path)) as session:
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await session.ws_connect(f"http://backend{path}")
            assert caught.value.status == status
            forged = {"X-Tenant": "acme", "X-Subject": "ann", "X-Forwarded-For": "127.0.0.1"}
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await session.ws_connect(f"http://backend{path}", headers=forged)
            assert caught.value.status == status
            async with session.ws_connect(f"http://backend{path}", headers=caller()) as socket:
                await socket.send_str("no JSON")
                assert "error" in await socket.receive_json(timeout=30)
            assert socket.close_code == 1000
        assert server.stop() < AT_ONCE
        assert "Warning" not in server.log.read_text()
