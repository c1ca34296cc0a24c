"""Tokens of a real OpenID provider before a running gateway, which finds its keys by discovery: they pass
when the provider changes its keys, and when it is away."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gateway.app import Gateway
from tests import harness
from tests.eventually import eventually, eventually_await
from tests.fakes import Backend, RawClient, always, answer
from tests.support.openid_provider import GATEWAY_SECRET, Provider, new_key, openid_provider

RS, ES = "urn:jwt:RS256", "urn:jwt:ES256"


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Provider]:
    with openid_provider(tmp_path, new_key("rsa-1", "RS256"), new_key("ec-1", "ES256")) as made:
        yield made


def trusted(provider: Provider, **more: Any) -> dict[str, Any]:
    """The provider as an issuer of routing.yaml."""
    return {
        "issuer": provider.issuer,
        "audiences": ["gateway"],
        "claims": {"tenant": "organization.name"},
        "tenants": ["acme"],
        **more,
    }


@dataclass
class Site:
    """A gateway that trusts the provider, before a backend that hears who calls."""

    gateway: Gateway
    backend: Backend

    async def get(self, token: str) -> tuple[int, dict[str, Any]]:
        """The status, and the problem where there is one."""
        client = await RawClient.connect(harness.address(self.gateway))
        try:
            client.send(_get(token))
            head, body = await client.answer()
        finally:
            client.close()
        status = int(head.split(" ")[1])
        return status, {} if status == 200 else {**json.loads(body), "head": head}

    def state(self) -> dict[str, Any]:
        """What operators see of the provider's keys."""
        (found,) = (state for state in self.gateway.issuers.states() if state["name"] == "provider")
        return found

    def heard(self) -> tuple[str | None, str | None, str | None]:
        """Who called, as the backend heard last."""
        last = self.backend.heard[-1]
        return last.one("X-Tenant"), last.one("X-Subject"), last.one("X-Scopes")


@asynccontextmanager
async def site(
    folder: Path, issuer: dict[str, Any], now: Callable[[], float] = time.monotonic
) -> AsyncIterator[Site]:
    async with Backend(always(answer())) as backend:
        backends = {"app": {"kind": "http", "addresses": [backend.address], "identity": "headers"}}
        scopes = {"read": ["orders:read"], "write": ["orders:write"]}
        routes = [harness.route("svc", "app", scopes=scopes, require={"plan": ["pro", "enterprise"]})]
        config = harness.routing(routes, backends=backends, issuers={"provider": issuer})
        async with harness.running(folder, config, now=now) as gateway:
            yield Site(gateway, backend)


class Clock:
    """The monotonic clock, `later` seconds fast."""

    later = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.later


def _get(token: str) -> bytes:
    return f"GET /svc/x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n".encode()


@dataclass
class Load:
    """Clients that send one request after the other; `token` makes the next one's."""

    statuses: Counter[int] = field(default_factory=Counter)
    stopped: bool = False

    async def client(self, gateway: Gateway, token: Callable[[], str]) -> None:
        client = await RawClient.connect(harness.address(gateway))
        try:
            while not self.stopped:
                client.send(_get(token()))
                head, _ = await client.answer()
                self.statuses[int(head.split(" ")[1])] += 1
        finally:
            client.close()

    async def more(self, count: int) -> None:
        """Until that many more requests have had their response."""
        until = self.statuses.total() + count
        await eventually(lambda: self.statuses.total() >= until)


@asynccontextmanager
async def load(gateway: Gateway, *tokens: Callable[[], str]) -> AsyncIterator[Load]:
    """One client for each of `tokens`, all through the block."""
    made = Load()
    async with asyncio.TaskGroup() as clients:
        for token in tokens:
            clients.create_task(made.client(gateway, token))
        try:
            yield made
        finally:
            made.stopped = True


@pytest.mark.asyncio
async def test_tokens_of_a_login_and_of_a_machine_verify_with_the_keys_that_discovery_finds(
    provider: Provider, tmp_path: Path
) -> None:
    provider.start()
    async with site(tmp_path, trusted(provider, discovery=True, algorithms=["RS256", "ES256"])) as there:
        for resource in (RS, ES):
            machine = await asyncio.to_thread(provider.machine_token, resource)
            assert (await there.get(machine))[0] == 200
            assert there.heard() == ("acme", "etl", "orders:read")
        person = await asyncio.to_thread(provider.page_token, "alice", RS, "openid orders:read orders:write")
        assert (await there.get(person))[0] == 200
        assert there.heard() == ("acme", "alice", "orders:read orders:write")
        weak = await asyncio.to_thread(provider.machine_token, RS, "orders:write")
        assert (await there.get(weak))[0] == 403


@pytest.mark.asyncio
async def test_a_token_that_the_provider_signs_is_still_refused_for_what_it_says(
    provider: Provider, tmp_path: Path
) -> None:
    provider.start()
    key = provider.keys[0]
    async with site(tmp_path, trusted(provider, discovery=True, algorithms=["RS256"])) as there:
        assert (await there.get(provider.forge(key)))[0] == 200
        for claims in (
            {"aud": "page"}, {"iss": "http://127.0.0.1:1"}, {"organization": {"name": "globex"}}, {"exp": 1},
        ):  # fmt: skip
            status, problem = await there.get(provider.forge(key, **claims))
            assert (status, problem["code"]) == (401, "unauthenticated"), claims
        assert (await there.get(provider.forge(key, plan="free")))[0] == 403
        assert (await there.get(provider.forge(provider.keys[1])))[0] == 401, "ES256 is not pinned"


@pytest.mark.asyncio
async def test_no_good_token_is_refused_while_the_provider_changes_its_keys_under_load(
    provider: Provider, tmp_path: Path
) -> None:
    provider.start()
    old, new = provider.keys[0], new_key("rsa-2", "RS256")
    async with site(tmp_path, trusted(provider, discovery=True, algorithms=["RS256"])) as there:
        known = await asyncio.to_thread(provider.machine_token, RS)
        tokens = [lambda: known, lambda: provider.forge(old)]
        async with load(there.gateway, *tokens) as before:
            await before.more(50)
            provider.kill()
            provider.keys = [new, old]
            await asyncio.to_thread(provider.start)
            first = await asyncio.to_thread(provider.machine_token, RS)
            # All at once, so that most of them wait for the fetch that the first one starts.
            tokens += [lambda: first, *[lambda: provider.forge(new)] * 6]
            async with load(there.gateway, *tokens) as after:
                await after.more(200)
        assert set(before.statuses) == set(after.statuses) == {200}


@pytest.mark.asyncio
async def test_tokens_of_known_keys_pass_while_the_provider_is_away(
    provider: Provider, tmp_path: Path
) -> None:
    provider.start()
    key, clock = provider.keys[0], Clock()
    async with site(tmp_path, trusted(provider, discovery=True, algorithms=["RS256"]), clock) as there:
        known = await asyncio.to_thread(provider.machine_token, RS)
        assert (await there.get(known))[0] == 200
        provider.kill()
        async with load(there.gateway, lambda: known, lambda: provider.forge(key)) as load_:
            stranger = provider.forge(new_key("not-published", "RS256"))
            for _ in range(2):  # the first one makes the gateway ask the provider, in vain
                assert (await there.get(stranger))[0] == 401
            clock.later += 3600  # the keys are to be fetched again, in vain
            await eventually(lambda: there.state()["failures"] >= 2)
            assert there.state()["age_seconds"] >= 3600
            await load_.more(50)
            await asyncio.to_thread(provider.start)
            await eventually(lambda: there.state()["last_failure"]["over"])
            assert there.state()["age_seconds"] < 3600
            await load_.more(50)
        assert set(load_.statuses) == {200}


@pytest.mark.asyncio
async def test_a_gateway_starts_without_the_provider_and_takes_its_tokens_once_it_is_there(
    provider: Provider, tmp_path: Path
) -> None:
    async with site(tmp_path, trusted(provider, discovery=True, algorithms=["RS256"])) as there:
        token = provider.forge(provider.keys[0])
        status, problem = await there.get(token)
        assert (status, problem["code"]) == (503, "issuer_unavailable")
        assert "\r\nRetry-After: " in problem["head"]
        own = harness.token(there.gateway, scope="orders:read", plan="pro")
        assert (await there.get(own))[0] == 200, "other issuers do not wait for it"
        await asyncio.to_thread(provider.start)

        async def taken() -> bool:
            return (await there.get(token))[0] == 200

        await eventually_await(taken)


@pytest.mark.asyncio
async def test_tokens_that_say_nothing_by_themselves_are_asked_about(
    provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROVIDER_SECRET", GATEWAY_SECRET)
    provider.start()
    asking = {
        "url": f"{provider.issuer}/token/introspection",
        "client_id": "gateway",
        "client_secret": {"env": "PROVIDER_SECRET"},
    }
    async with site(tmp_path, trusted(provider, introspection=asking)) as there:
        person = await asyncio.to_thread(provider.page_token, "bob", "urn:opaque")
        machine = await asyncio.to_thread(provider.machine_token, "urn:opaque")
        assert (await there.get(person))[0] == 200
        assert there.heard() == ("acme", "bob", "orders:read")
        assert (await there.get(machine))[0] == 401, "it has no `sub` in introspection"
        status, problem = await there.get("nobody-has-issued-this")
        assert (status, problem["code"]) == (401, "unauthenticated")
        provider.kill()
        assert (await there.get(person))[0] == 200, "what was said of it counts for a while"
        status, problem = await there.get("nobody-has-issued-this-either")
        assert (status, problem["code"]) == (503, "issuer_unavailable")
        assert "nobody" not in json.dumps(problem)
