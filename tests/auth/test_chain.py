"""Authentication that may wait: the same policies in the same order, whether it does or not."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.app import Gateway
from gateway.auth.chain import AuthenticationChain
from gateway.call import Call
from gateway.core.api_keys import FOREVER, ApiKey, KeySecret, compose, split
from gateway.core.jwt.verify import bearer
from gateway.core.model import Identity
from gateway.limits.rates import Limits
from tests import harness
from tests.eventually import eventually
from tests.fakes import Backend, RawClient, always, answer

pytestmark = pytest.mark.asyncio
LARGE = "Content-Length: 101\r\n"


class WaitingChain(AuthenticationChain):
    """Stands for an issuer on the network: what is not known yet is asked there, which takes until it
    answers."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.asked, self.answers = asyncio.Event(), asyncio.Event()

    def try_authenticate(self, call: Call) -> Identity | None:
        call.head.remember_token(bearer(call.head.authorization))
        known = self._credentials.known(call.head.token)
        if known is None:
            self._clients.take_client_now(call)
        return known

    async def authenticate(self, call: Call) -> Identity:
        self.asked.set()
        await self.answers.wait()
        return await super().authenticate(call)


class WaitingLimits(Limits):
    """Stands for limits that several processes share, of which nothing is held ahead."""

    def take(self, call: Call) -> bool:
        return False

    async def take_later(self, call: Call) -> None:
        super().take(call)

    def take_client(self, call: Call) -> bool:
        return False

    async def take_client_later(self, call: Call) -> None:
        super().take_client(call)


def routing(backend: Backend, **more: Any) -> dict[str, Any]:
    limited = {"rate_limit": {"rate": "1/m", "burst": 1}}
    routes = [
        harness.route(name, "app", body_limit=100, scopes={"read": ["r"], "write": ["r"]}, **rate)
        for name, rate in (("free", {}), ("limited", limited))
    ]
    return harness.routing(routes, backends={"app": {"kind": "http", "addresses": [backend.address]}}, **more)


def request(gateway: Gateway, path: str = "/free/x", headers: str = "", **claims: Any) -> bytes:
    """With a token that was never seen before."""
    token = harness.token(gateway, **{"scope": "r", "sub": f"u{next(_numbers)}", **claims})
    method = "POST" if "Content-Length" in headers else "GET"
    return f"{method} {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n{headers}\r\n".encode()


_numbers = iter(range(1_000_000))


def waiting(gateway: Gateway) -> WaitingChain:
    assert isinstance(gateway.authentication, WaitingChain)
    return gateway.authentication


@pytest.fixture
def _waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.planes.callers.AuthenticationChain", WaitingChain)


@pytest.mark.usefixtures("_waits")
async def test_a_request_is_served_after_the_wait_and_the_next_one_does_not_wait(tmp_path: Path) -> None:
    async with Backend(always(answer(b"ok"))) as backend:
        async with harness.running(tmp_path, routing(backend)) as gateway:
            chain = waiting(gateway)
            client = await RawClient.connect(harness.address(gateway))
            raw = request(gateway, headers="Content-Length: 2\r\n") + b"hi"
            client.send(raw)
            await chain.asked.wait()
            assert not backend.heard and client.reader.at_eof() is False
            chain.answers.set()
            head, body = await client.answer()
            assert head.startswith("HTTP/1.1 200 ") and body == b"ok"
            chain.asked.clear()
            client.send(raw)
            assert (await client.answer())[1] == b"ok"
            assert not chain.asked.is_set()
            client.close()
        assert [heard.body for heard in backend.heard] == [b"hi", b"hi"]


@pytest.mark.parametrize(("waits", "limits_wait"), [(False, False), (True, False), (False, True)])
async def test_the_policies_come_in_one_order_whether_it_waits_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: bool, limits_wait: bool
) -> None:
    """A request that all of them refuse, and then one that is refused by one less each time."""
    if limits_wait:
        monkeypatch.setattr("gateway.planes.shared.sharing.Limits", WaitingLimits)
    if waits:
        monkeypatch.setattr("gateway.planes.callers.AuthenticationChain", WaitingChain)
    seen = []
    async with Backend(always(answer())) as backend:
        limit = {"rate": "1/h", "burst": 7}
        async with harness.running(tmp_path, routing(backend, client_limit=limit)) as gateway:
            if waits:
                waiting(gateway).answers.set()

            async def send(**more: Any) -> None:
                client = await RawClient.connect(harness.address(gateway))
                client.send(request(gateway, **more))
                head, body = await client.answer()
                problem = json.loads(body) if body.startswith(b"{") else {}
                seen.append((int(head.split()[1]), problem.get("code"), problem.get("detail", "")))
                client.close()

            other, path = LARGE + "X-Tenant: globex\r\n", "/limited/x"
            await send(path=path)  # takes the one request that the route's rate allows
            await send(path=path, headers=other, scope="", exp=1)
            await send(path=path, headers=other, scope="")
            await send(path=path, headers=LARGE, scope="")
            await send(path=path, headers=LARGE)
            await send(headers=LARGE)
            await send()
            if waits:
                waiting(gateway).asked.clear()
            await send(exp=1)  # the client's limit, before anything is verified
            assert not waits or not waiting(gateway).asked.is_set()
    assert [status for status, _, _ in seen] == [200, 401, 403, 403, 429, 413, 200, 429]
    assert ["scope" in detail for _, _, detail in seen[2:4]] == [False, True], "the tenant, then the access"
    assert [code for _, code, _ in seen[4:]] == ["tenant_limit", "body_too_large", None, "client_limit"]


@pytest.mark.usefixtures("_waits")
async def test_a_client_that_leaves_while_it_waits_is_499(tmp_path: Path) -> None:
    log = tmp_path / "var" / "access.log"
    async with Backend(always(answer())) as backend:
        async with harness.running(tmp_path, routing(backend)) as gateway:
            client = await RawClient.connect(harness.address(gateway))
            client.send(request(gateway))
            await waiting(gateway).asked.wait()
            assert len(gateway.life.inside) == 1
            client.close()
            await eventually(lambda: not gateway.life.inside)
        assert not backend.heard
    (line,) = map(json.loads, log.read_text().splitlines())
    assert (line["status"], line["code"], line["tenant"]) == (499, None, None)


@pytest.mark.usefixtures("_waits")
async def test_a_drain_meanwhile_ends_with_503(tmp_path: Path) -> None:
    async with Backend(always(answer())) as backend:
        async with harness.running(tmp_path, routing(backend), drain=0.3) as gateway:
            client = await RawClient.connect(harness.address(gateway))
            client.send(request(gateway))
            await waiting(gateway).asked.wait()
            draining = asyncio.create_task(gateway.drain())
            head, body = await client.answer()
            assert head.startswith("HTTP/1.1 503 ") and json.loads(body)["code"] == "draining"
            await draining
            client.close()
        assert not backend.heard


# --- API keys, and what was revoked ----------------------------------------------------------------


def api_key(number: int) -> tuple[ApiKey, str]:
    text = compose("7Kq0ZmP3xA", number)
    secret = KeySecret(split(text)[1], time.time() - 60, FOREVER)
    return ApiKey("7Kq0ZmP3xA", "acme", "etl", "r", "nightly", time.time() - 60, "ann", (secret,)), text


async def sent(gateway: Gateway, *lines: str) -> tuple[int, str]:
    client = await RawClient.connect(harness.address(gateway))
    client.send("".join(f"{line}\r\n" for line in ("GET /free/x HTTP/1.1", "Host: a", *lines, "")).encode())
    head, body = await client.answer()
    client.close()
    return int(head.split()[1]), json.loads(body)["detail"] if body.startswith(b"{") else ""


async def test_an_api_key_is_a_credential_until_it_is_revoked(tmp_path: Path) -> None:
    async with Backend(always(answer())) as backend, harness.running(tmp_path, routing(backend)) as gateway:
        store = gateway.stored.store
        key, text = api_key(1)
        await gateway.stored.change(store.create_key, key)
        token = harness.bearer(gateway, scope="r")["Authorization"].removeprefix("Bearer ")
        for line in (f"X-API-Key: {text}", f"Authorization: Bearer {text}"):
            assert await sent(gateway, line) == (200, "")
            assert await sent(gateway, line) == (200, ""), "from memory"
        status, detail = await sent(gateway, f"X-API-Key: {text}", f"Authorization: Bearer {token}")
        assert (status, detail) == (401, "Send one credential, and not several.")
        assert (await sent(gateway, f"X-API-Key: {text[:-1]}{'y' if text.endswith('x') else 'x'}"))[0] == 401
        assert (await sent(gateway, f"X-API-Key: {api_key(2)[1]}"))[0] == 401
        counts = gateway.credentials.counts("")
        assert (counts["verified"], counts["hits"], counts["refused"]) == (1, 3, 2)
        await gateway.stored.change(store.revoke_key, key.id, "ann", time.time())
        assert (await sent(gateway, f"X-API-Key: {text}"))[0] == 401
        assert backend.heard and not [heard for heard in backend.heard if text in str(heard)]
