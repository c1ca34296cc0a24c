"""Tokens that only their issuer can read: asked about once, for as long as its word counts."""

from __future__ import annotations

import asyncio
import base64
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway.auth import introspection
from gateway.auth.credentials import Credentials
from gateway.auth.issuers import Issuers
from gateway.core.errors import IssuerUnavailable, Unauthenticated
from gateway.core.jwt.issuer import Introspection, Issuer, SecretReference, TenantRule
from gateway.core.model import Identity
from gateway.edge.backend.origin import Origins
from tests.eventually import eventually
from tests.support.issuer_server import IssuerServer

SECRET = "s3cr:t &/ü%"


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Site:
    """An issuer of opaque tokens, and what the gateway has of it."""

    def __init__(self, server: IssuerServer, secret: SecretReference) -> None:
        self.server = server
        self.clock, self.wall = Clock(1000.0), Clock(time.time())
        self.credentials = Credentials(self.wall)
        self.origins = Origins(timeout=30.0)
        self.issuers = Issuers(self.credentials, self.origins, now=self.clock, wall=self.wall)
        asks = Introspection(f"{server.url}/introspect", "api gateway", secret, keep=60.0)
        self.issuer = Issuer(
            "opaque", server.url, ("api",), asks, tenants=TenantRule(names=frozenset({"acme"}))
        )
        self.issuers.reconcile(None, {"opaque": self.issuer})

    async def verify(self, token: str) -> Identity:
        found = self.credentials.known(token) or self.issuers.try_verify(token, lambda name: True)
        found = found or await self.issuers.verify(token, lambda name: True)
        self.credentials.remember(token, found)
        return found

    def say(self, token: str, **claims: Any) -> None:
        self.server.active[token] = {"active": True, "tenant": "acme", "sub": "ann", "scope": "a b", **claims}

    @property
    def asked(self) -> int:
        return self.server.asked["/introspect"]


@asynccontextmanager
async def site(folder: Path, secret: SecretReference | None = None) -> AsyncIterator[Site]:
    (folder / "secret").write_text(f"{SECRET}\n")
    async with IssuerServer() as server:
        made = Site(server, secret or SecretReference(file=str(folder / "secret")))
        try:
            yield made
        finally:
            await made.issuers.close()
            await made.origins.close()


async def test_a_token_is_asked_about_once_while_the_answer_counts(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        here.say("opaque-1")
        who = await here.verify("opaque-1")
        assert (who.tenant.value, who.subject, who.scopes) == ("acme", "ann", {"a", "b"})
        here.wall.now += 59.9
        await here.verify("opaque-1")
        assert here.asked == 1
        here.wall.now += 0.2
        await here.verify("opaque-1")
        assert here.asked == 2


async def test_it_counts_no_longer_than_the_token(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        here.say("t", exp=int(here.wall.now) + 10)
        assert (await here.verify("t")).expires == int(here.wall.now) + 10
        here.wall.now += 71
        with pytest.raises(Unauthenticated, match="expired"):
            await here.verify("t")


async def test_the_client_says_who_it_is_as_rfc_6749_has_it_with_the_secret_of_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site(tmp_path, SecretReference(env="OPAQUE_SECRET")) as here:
        for number, secret in enumerate((SECRET, "rotated")):
            monkeypatch.setenv("OPAQUE_SECRET", secret)
            here.say(f"t{number}")
            await here.verify(f"t{number}")
    said = [base64.b64decode(one.removeprefix("Basic ")).decode() for one in here.server.credentials]
    assert said == ["api+gateway:s3cr%3At+%26%2F%C3%BC%25", "api+gateway:rotated"]


async def test_many_who_show_a_token_at_once_are_one_question(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        here.say("t")
        found = await asyncio.gather(*(here.verify("t") for _ in range(50)))
        assert {who.subject for who in found} == {"ann"}
        assert here.asked == 1


async def test_a_client_that_leaves_does_not_take_the_answer_with_it(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        gate = asyncio.Event()

        async def late(request: web.Request) -> web.StreamResponse:
            await gate.wait()
            return web.json_response(here.server.active["t"])

        here.server.answers["/introspect"] = late
        here.say("t")
        first, second = (asyncio.create_task(here.verify("t")) for _ in range(2))
        await eventually(lambda: here.asked)
        first.cancel()
        gate.set()
        assert (await second).subject == "ann"
        assert here.asked == 1


async def test_a_refused_token_is_refused_for_a_few_seconds_without_a_question(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        for _ in range(3):
            with pytest.raises(Unauthenticated, match="issuer says that it is not"):
                await here.verify("gone")
        assert here.asked == 1
        here.clock.now += introspection.KEPT
        here.say("gone")
        assert (await here.verify("gone")).subject == "ann"


async def test_what_is_remembered_of_refused_tokens_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(introspection, "MAX_REFUSED", 3)
    async with site(tmp_path) as here:
        for number in range(10):
            with pytest.raises(Unauthenticated):
                await here.verify(f"t{number}")
        with pytest.raises(Unauthenticated):
            await here.verify("t9")
        assert here.asked == 10
        with pytest.raises(Unauthenticated):
            await here.verify("t0")
        assert here.asked == 11


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"iss": "https://other.example"}, "issuer"), ({"aud": "other"}, "audience"), ({"exp": 1}, "expired"),
        ({"tenant": "globex"}, "may not speak"), ({"sub": ""}, "sub"), ({"nbf": 9999999999}, "not valid yet"),
    ],
)  # fmt: skip
async def test_what_the_issuer_says_is_checked_as_if_it_were_signed(
    tmp_path: Path, claims: dict[str, Any], reason: str
) -> None:
    async with site(tmp_path) as here:
        here.say("t", **claims)
        with pytest.raises(Unauthenticated, match=reason):
            await here.verify("t")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (web.Response(status=401), "it refuses the gateway's own client_id and client_secret (status 401)"),
        (web.Response(status=500), "it responded with status 500"),
        (web.Response(text="no JSON"), "its response is not a JSON object with `active`"),
        (web.Response(text='{"active": "yes"}'), "its response is not a JSON object with `active`"),
        (web.Response(text="[" * 50_000), "its response is not a JSON object with `active`"),
        (web.Response(text='{"active": true}' + " " * 65536), "its response is longer than 64 KiB"),
        (web.Response(status=307, headers={"Location": "/elsewhere"}), "it redirects, which is not followed"),
    ],
)
async def test_an_issuer_that_does_not_answer_is_503_and_known_tokens_go_on(
    tmp_path: Path, answer: web.Response, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(request: web.Request) -> web.StreamResponse:
        return web.Response(status=answer.status, body=answer.body, headers=answer.headers)

    async with site(tmp_path) as here:
        here.say("known")
        await here.verify("known")
        here.server.answers["/introspect"] = broken
        caplog.clear()
        for number in range(3):
            here.clock.now += 2.0
            with pytest.raises(IssuerUnavailable):
                await here.verify(f"t{number}")
        state = here.issuers.states()[0]
        assert state["last_failure"]["reason"].startswith(reason)
        assert (state["failures"], state["tokens"]["unavailable"]) == (3, 3)
        assert (await here.verify("known")).subject == "ann"
        del here.server.answers["/introspect"]
        here.clock.now += 2.0
        here.say("t0")
        assert (await here.verify("t0")).subject == "ann", "it was not taken for refused"
    (line,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert SECRET not in caplog.text and "t0" not in line.getMessage()


async def test_after_a_failure_nobody_waits_for_the_next_one(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.server.stop()
        for number in range(20):
            with pytest.raises(IssuerUnavailable):
                await here.verify(f"t{number}")
        assert here.issuers.states()[0]["failures"] == 1


async def test_at_most_so_many_are_asked_at_once(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        gate, inside = asyncio.Event(), 0

        async def counts(request: web.Request) -> web.StreamResponse:
            nonlocal inside
            inside += 1
            await gate.wait()
            return web.json_response({"active": False})

        here.server.answers["/introspect"] = counts
        asking = [asyncio.create_task(here.verify(f"t{number}")) for number in range(40)]
        await eventually(lambda: inside == introspection.AT_ONCE)
        gate.set()
        refused = await asyncio.gather(*asking, return_exceptions=True)
        assert all(isinstance(one, Unauthenticated) for one in refused)
        assert here.asked == 40


async def test_who_waited_for_a_seat_while_the_issuer_failed_asks_nothing_more(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def fails(request: web.Request) -> web.StreamResponse:
        await gate.wait()
        return web.Response(status=500)

    async with site(tmp_path) as here:
        here.server.answers["/introspect"] = fails
        asking = [asyncio.create_task(here.verify(f"t{number}")) for number in range(40)]
        await eventually(lambda: here.asked)
        gate.set()
        refused = await asyncio.gather(*asking, return_exceptions=True)
        assert all(isinstance(one, IssuerUnavailable) for one in refused)
        assert here.asked <= introspection.AT_ONCE


async def test_a_secret_that_is_not_there_is_named_by_its_place(tmp_path: Path) -> None:
    async with site(tmp_path, SecretReference(env="NO_SUCH_SECRET")) as here:
        with pytest.raises(IssuerUnavailable):
            await here.verify("t")
        reason = here.issuers.states()[0]["last_failure"]["reason"]
        assert reason.startswith("its client_secret is not there: the variable NO_SUCH_SECRET")
        assert not here.asked


async def test_a_token_is_shown_to_no_issuer_that_it_may_not_be_of(tmp_path: Path) -> None:
    async with site(tmp_path) as here, IssuerServer() as second:
        asks = Introspection(f"{second.url}/introspect", "x", SecretReference(file=str(tmp_path / "secret")))
        other = Issuer("other", second.url, ("api",), asks)
        here.issuers.reconcile(None, {"opaque": here.issuer, "other": other})
        here.say("t")
        with pytest.raises(Unauthenticated, match="does not say whose it is"):
            here.issuers.try_verify("t", lambda name: True)
        assert (await here.issuers.verify("t", lambda name: name == "opaque")).issuer == "opaque"
        assert not second.asked
