"""Keys from the network: had in time, once for all, never too often, and never lost when their issuer is."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jwt
import pytest
from aiohttp import web

from gateway.auth import issuers as issuers_module
from gateway.auth.credentials import Credentials
from gateway.auth.issuers import Issuers
from gateway.auth.key_source import COOLDOWN, DEFAULT
from gateway.core.errors import IssuerUnavailable, Unauthenticated
from gateway.core.jwt.issuer import Discovery, Issuer, KeyUrl, TenantRule
from gateway.core.model import Identity
from gateway.edge.backend.origin import Origins, Response
from tests.eventually import eventually
from tests.support.issuer_server import OAUTH, OIDC, IssuerServer
from tests.support.key_sets import b64, public

A_TEST = "name"


class Clock:
    """Monotonic, and moved by the test alone."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Site:
    """An issuer on the network, and what the gateway has of it."""

    def __init__(self, server: IssuerServer, timeout: float) -> None:
        self.server = server
        self.clock = Clock()
        self.credentials = Credentials()
        self.origins = Origins(timeout=timeout)
        self.issuers = Issuers(self.credentials, self.origins, now=self.clock)

    def trust(self, *others: Issuer, discovery: bool = False, **more: Any) -> None:
        keys = Discovery() if discovery else KeyUrl(f"{self.server.url}/jwks")
        values = {"name": A_TEST, "issuer": self.server.url, "audiences": ("api",), "keys": keys, **more}
        made = [Issuer(**values), *others]
        self.issuers.reconcile(None, {issuer.name: issuer for issuer in made})

    async def known(self) -> None:
        """Until the first keys are here."""
        await eventually(lambda: self.state["keys"])

    async def later(self, seconds: float) -> None:
        """What is due by then is fetched, or has failed."""
        before = self.attempts
        self.clock.now += seconds
        due = self.state["next_fetch_seconds"] == 0.0
        await self.issuers.refresh()
        if due:
            await eventually(lambda: self.attempts > before)

    async def verify(self, token: str) -> Identity:
        """As the chain does."""
        found = self.credentials.known(token) or self.issuers.try_verify(token, lambda name: True)
        found = found or await self.issuers.verify(token, lambda name: True)
        self.credentials.remember(token, found)
        return found

    @property
    def state(self) -> dict[str, Any]:
        return self.issuers.states()[0]

    @property
    def attempts(self) -> int:
        return self.state["fetches"] + self.state["failures"]

    @property
    def asked(self) -> int:
        return self.server.asked["/jwks"]


@asynccontextmanager
async def site(timeout: float = 30.0) -> AsyncIterator[Site]:
    async with IssuerServer() as server:
        made = Site(server, timeout)
        try:
            yield made
        finally:
            await made.issuers.close()
            await made.origins.close()


# --- when keys are fetched -------------------------------------------------------------------------


async def test_the_first_token_waits_for_the_first_keys() -> None:
    async with site() as here:
        here.trust()
        assert (await here.verify(here.server.token())).subject == "ann"
        assert here.asked == 1


@pytest.mark.parametrize(
    ("cache_control", "seconds"),
    [
        ("", 600), ("public, max-age=100", 100), ("max-age=1", 60), ("max-age=9999999", 86_400),
        ("no-store", 60), ("max-age=100, no-cache", 60), ('max-age="200"', 200), ("s-maxage=7, private", 600),
        ("max-age=-5", 600),
    ],
)  # fmt: skip
async def test_keys_are_fetched_again_before_they_are_stale(cache_control: str, seconds: float) -> None:
    async with site() as here:
        here.server.headers = {"Cache-Control": cache_control}
        here.trust()
        await here.known()
        await here.later(0.74 * seconds)
        assert here.asked == 1
        await here.later(0.17 * seconds)
        assert here.asked == 2


async def test_a_token_of_a_key_that_was_published_in_time_never_waits() -> None:
    async with site() as here:
        here.trust()
        await here.known()
        here.server.rotate()
        await here.later(600)
        assert here.issuers.try_verify(here.server.token(), lambda name: True) is not None


@pytest.mark.parametrize("same_name", [False, True], ids=["under a new kid", "under the old kid"])
async def test_a_token_of_a_new_key_waits_for_one_fetch_however_many_there_are(same_name: bool) -> None:
    """spring-security 11621, envoyproxy/gateway 4180; under the old kid: OidcProxy.Net 242,
    node-jwks-rsa 110."""
    async with site() as here:
        here.server.rotate("a")
        here.trust()
        await here.known()
        here.server.rotate("a" if same_name else "b")
        tokens = [here.server.token(sub=f"u{number}") for number in range(50)]
        found = await asyncio.gather(*map(here.verify, tokens))
        assert [one.subject for one in found] == [f"u{number}" for number in range(50)]
        assert here.asked == 2


async def test_no_new_key_is_refused_between_two_rotations_that_are_a_cooldown_apart() -> None:
    """istio 51581: some of them were."""
    async with site() as here:
        here.trust()
        for _ in range(4):
            here.server.rotate()
            for _ in range(5):
                await here.verify(here.server.token(sub=f"u{secrets.token_hex(4)}"))
            here.clock.now += COOLDOWN
        assert here.asked == 4


async def test_what_is_refused_for_another_reason_makes_no_fetch() -> None:
    async with site() as here:
        here.trust()
        await here.known()
        for claims in ({"exp": 1}, {"aud": "other"}, {"tenant": "-"}, {"iss": "https://other.example"}):
            with pytest.raises(Unauthenticated):
                await here.verify(here.server.token(**claims))
        with pytest.raises(Unauthenticated):
            await here.verify(jwt.encode({"iss": here.server.url}, "x" * 32, "HS256", headers={"kid": "new"}))
        assert here.asked <= 2


# --- floods ----------------------------------------------------------------------------------------


async def test_ten_thousand_forged_tokens_make_one_fetch_in_a_cooldown_and_known_clients_none() -> None:
    """lua-resty-openidc 468, fastapi-zitadel-auth 149: a fetch for each, and the good keys thrown away."""
    async with site() as here:
        here.trust()
        await here.known()
        good = here.server.token()
        await here.verify(good)
        rest = good.partition(".")[2]
        refused = 0
        for number in range(10_000):
            here.clock.now += 0.001  # all of them within 10 s
            forged = b64(json.dumps({"alg": "EdDSA", "kid": secrets.token_hex(8)}).encode())
            try:
                await here.verify(f"{forged}.{rest}")
            except Unauthenticated:
                refused += 1
            if not number % 100:
                assert (await here.verify(good)).subject == "ann"
                await here.issuers.refresh()
        assert refused == 10_000
        assert here.asked == 2, "the first one, and one for all of them"
        here.clock.now += COOLDOWN
        with pytest.raises(Unauthenticated):
            await here.verify(here.server.token(kid="again"))
        assert here.asked == 3
        assert here.state["tokens"]["refused"] == 10_001


async def test_at_most_so_many_wait_and_no_longer_than_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issuers_module, "PATIENCE", 0.5)
    async with site() as here:
        here.trust()
        await here.known()
        gate = asyncio.Event()

        async def hangs(request: web.Request) -> web.StreamResponse:
            await gate.wait()
            return web.Response(status=500)

        here.server.answers["/jwks"] = hangs
        waiting = [
            asyncio.create_task(here.verify(here.server.token(kid="new", sub=f"u{n}")))
            for n in range(issuers_module.MAX_WAITING)
        ]
        await eventually(lambda: here.asked == 2)
        for _ in range(10):  # at once: nothing was awaited
            with pytest.raises(Unauthenticated, match="names no key"):
                here.issuers.try_verify(here.server.token(kid="new", sub="one-more"), lambda name: True)
        assert not any(task.done() for task in waiting)
        for task in waiting:  # the fetch still hangs
            with pytest.raises(Unauthenticated, match="names no key"):
                await task
        assert here.asked == 2
        gate.set()


# --- an issuer that is away ------------------------------------------------------------------------


async def test_it_starts_without_the_issuer_whose_tokens_may_be_good_until_it_comes() -> None:
    """oauth2-proxy 3487 did not start; istio 30261 and 27097 never tried again."""
    async with site() as here:
        port = await here.server.stop()
        here.trust()
        await eventually(lambda: here.state["failures"] == 1)
        token = here.server.token()
        with pytest.raises(IssuerUnavailable) as caught:
            await here.verify(token)
        assert 1 <= int(caught.value.headers["Retry-After"]) <= 2
        for failures in range(2, 8):
            await here.later(121.0)
            assert here.state["failures"] == failures
        assert int(here.state["next_fetch_seconds"]) in range(15, 31), "it is tried less and less often"
        await here.server.start(port)
        await here.later(121.0)
        assert (await here.verify(token)).subject == "ann"
        assert here.state["tokens"]["unavailable"] == 1


async def _status_500(request: web.Request) -> web.StreamResponse:
    return web.json_response({"keys": []}, status=500)


async def _garbage(request: web.Request) -> web.StreamResponse:
    return web.Response(text="<html>Maintenance</html>")


async def _no_keys(request: web.Request) -> web.StreamResponse:
    return web.json_response({"keys": []})


async def _too_long(request: web.Request) -> web.StreamResponse:
    return web.Response(body=b" " * (1024 * 1024 + 1))


async def _endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" " * 65536)


async def _bomb(request: web.Request) -> web.StreamResponse:
    response = web.Response(body=b" " * (8 * 1024 * 1024))
    response.enable_compression(web.ContentCoding.gzip)
    return response


async def _another_origin(request: web.Request) -> web.StreamResponse:
    raise web.HTTPFound(f"http://localhost:{request.url.port}/jwks")


async def _in_circles(request: web.Request) -> web.StreamResponse:
    raise web.HTTPFound("/jwks")


async def _hangs(request: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def _cut_off(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "100"})
    await response.prepare(request)
    await response.write(b'{"keys": [')
    assert request.transport is not None
    request.transport.abort()
    return response


async def _reset(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


BROKEN = {
    _status_500: "it responded with status 500",
    _garbage: "it is not a JWK set",
    _no_keys: "it holds no usable key",
    _too_long: "its response is longer than 1024 KiB",
    _endless: "its response is longer than 1024 KiB",
    _bomb: "its response is longer than 1024 KiB",
    _another_origin: "it redirects to another origin",
    _in_circles: "it redirects more than 3 times",
    _hangs: "it did not respond within 2 s",
    _cut_off: "its response is broken",
    _reset: "it closed the connection without a response",
}


@pytest.mark.parametrize("answer", BROKEN, ids=lambda answer: answer.__name__)
async def test_the_last_good_keys_go_on_whatever_their_issuer_says(
    answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """pyjwt 1162, istio 58101, nextcloud-oidc-login 152: an outage of it became one of everybody."""
    caplog.set_level(logging.INFO)
    async with site(timeout=2.0 if answer is _hangs else 30.0) as here:
        here.trust()
        await here.known()
        caplog.clear()
        here.server.answers["/jwks"] = answer
        for _ in range(3):
            await here.later(600.0)
        assert (await here.verify(here.server.token())).subject == "ann"
        assert here.state["failures"] == 3
        assert here.state["age_seconds"] == 1800.0
        assert here.state["last_failure"]["reason"].startswith(BROKEN[answer])
        del here.server.answers["/jwks"]
        await here.later(600.0)
        assert here.state["last_failure"]["over"] is True
        assert here.state["age_seconds"] == 0.0
    lines = [record for record in caplog.records if record.name.startswith("gateway")]
    assert [record.levelno for record in lines] == [logging.WARNING, logging.INFO], "one for each change"
    assert "the last good ones go on" in lines[0].getMessage()


async def test_one_issuer_that_is_away_keeps_no_other_from_being_fetched() -> None:
    """istio 51636."""
    async with site() as here:
        away = Issuer("away", "http://127.0.0.1:9", ("api",), KeyUrl("http://127.0.0.1:9/jwks"))
        here.trust(away)
        await here.known()
        here.server.rotate()
        for _ in range(12):
            await here.later(60.0)
        assert here.issuers.try_verify(here.server.token(), lambda name: True) is not None
        await eventually(lambda: here.issuers.states()[1]["failures"])


async def test_redirects_within_the_origin_are_followed() -> None:
    async def moved(request: web.Request) -> web.StreamResponse:
        raise web.HTTPPermanentRedirect("/keys")

    async def here_now(request: web.Request) -> web.StreamResponse:
        return web.json_response({"keys": keys})

    async with site() as here:
        keys = [{"kid": kid, **public(key)} for kid, key in here.server.keys.items()]
        here.server.answers = {"/jwks": moved, "/keys": here_now}
        here.trust()
        assert (await here.verify(here.server.token())).subject == "ann"


# --- what is in a set ------------------------------------------------------------------------------


async def test_a_key_that_is_gone_takes_its_tokens_with_it_though_there_is_no_other() -> None:
    """spring-security 5853, pyjwt 1051: they stayed for ever."""
    async with site() as here:
        here.server.rotate("old")
        here.trust()
        await here.known()
        old = here.server.token()
        await here.verify(old)
        await here.later(600.0)
        assert here.credentials.known(old) is not None, "another fetch of the same set changes nothing"
        assert await here.issuers.refresh() is False
        here.server.rotate("new")
        await here.later(600.0)
        assert here.credentials.known(old) is not None, "nor does a key that is added"
        del here.server.keys["old"]
        await here.later(600.0)
        assert here.credentials.known(old) is None
        assert await here.issuers.refresh() is True
        with pytest.raises(Unauthenticated):
            await here.verify(old)


async def test_a_secret_in_a_set_that_everybody_can_read_signs_nothing() -> None:
    async def with_secret(request: web.Request) -> web.StreamResponse:
        return web.json_response({"keys": [{"kty": "oct", "kid": "s", "k": "c" * 43, "alg": "HS256"}]})

    async with site() as here:
        here.server.answers["/jwks"] = with_secret
        here.trust()
        await eventually(lambda: here.state["failures"])
        assert not here.state["keys"]


# --- metadata --------------------------------------------------------------------------------------


async def test_the_metadata_name_where_the_keys_are() -> None:
    async with site() as here:
        here.trust(discovery=True)
        assert (await here.verify(here.server.token())).subject == "ann"
        assert here.server.asked == {OIDC: 1, "/jwks": 1}
        here.server.rotate()
        await here.verify(here.server.token())
        assert here.server.asked == {OIDC: 1, "/jwks": 2}, "a token that waits does not wait for them again"
        await here.later(600.0)
        assert here.server.asked == {OIDC: 2, "/jwks": 3}


async def test_metadata_as_rfc_8414_places_them() -> None:
    async with site() as here:
        issuer = f"{here.server.url}/realms/one"

        async def metadata(request: web.Request) -> web.StreamResponse:
            return web.json_response({"issuer": issuer, "jwks_uri": f"{here.server.url}/jwks"})

        here.server.answers[f"{OAUTH}/realms/one"] = metadata
        here.trust(issuer=issuer, discovery=True)
        assert (await here.verify(here.server.token(iss=issuer))).subject == "ann"
        assert here.server.asked[f"/realms/one{OIDC}"] == 1


async def test_an_issuer_that_ends_with_a_slash_is_asked_without_it_and_compared_with_it() -> None:
    async with site() as here:
        issuer = f"{here.server.url}/"
        here.server.metadata = {"issuer": issuer}
        here.trust(issuer=issuer, discovery=True)
        assert (await here.verify(here.server.token(iss=issuer))).subject == "ann"


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        (
            {"issuer": "https://identity.example/"},
            "its metadata are of the issuer 'https://identity.example/'",
        ),
        ({"jwks_uri": "http://keys.example/jwks"}, "the `jwks_uri` of its metadata is not https"),
        ({"jwks_uri": "file:///etc/passwd"}, "the `jwks_uri` of its metadata is not https"),
        ({"jwks_uri": None}, "its metadata are not a JSON object with"),
        ({"jwks_uri": "https://[::1"}, "its metadata are not a JSON object with"),
    ],
)
async def test_metadata_that_lead_elsewhere_are_refused(metadata: dict[str, Any], reason: str) -> None:
    """oauth2-proxy 449: the issuer of another."""
    async with site() as here:
        here.server.metadata = metadata
        here.trust(discovery=True)
        await eventually(lambda: here.state["failures"])
        assert here.state["last_failure"]["reason"].startswith(reason)
        assert not here.asked


async def test_an_issuer_on_the_network_names_no_address_of_this_host() -> None:
    class Metadata(Origins):
        async def get(self, url: str) -> Response:
            body = b'{"issuer": "https://id.example", "jwks_uri": "http://127.0.0.1:8081/admin/auth"}'
            return Response(200, {}, body)

    here = Issuers(Credentials(), Metadata())
    here.reconcile(None, {"one": Issuer("one", "https://id.example", ("api",), Discovery())})
    await eventually(lambda: here.states()[0]["failures"])
    assert here.states()[0]["last_failure"]["reason"] == "the `jwks_uri` of its metadata is not https"
    await here.close()


# --- another config --------------------------------------------------------------------------------


async def test_an_issuer_whose_config_is_the_same_keeps_its_keys_and_its_tokens() -> None:
    async with site() as here:
        here.trust()
        token = here.server.token()
        await here.verify(token)
        other = Issuer("other", "https://other.example", ("api",), KeyUrl("http://127.0.0.1:9/jwks"))
        here.trust(other)
        assert here.credentials.known(token) is not None
        assert here.asked == 1


@pytest.mark.parametrize("change", ["other audiences", "gone"])
async def test_an_issuer_that_is_changed_or_gone_lets_nobody_in_by_what_was_true_before(change: str) -> None:
    async with site() as here:
        here.trust()
        token = here.server.token()
        await here.verify(token)
        if change == "gone":
            here.issuers.reconcile(None, {})
        else:
            here.trust(audiences=("other",))
        assert here.credentials.known(token) is None
        assert await here.issuers.refresh() is True
        with pytest.raises(Unauthenticated):
            await here.verify(token)


async def test_an_issuer_that_is_away_may_be_told_other_tenants_and_keeps_its_keys() -> None:
    async with site() as here:
        here.trust()
        token = here.server.token()
        await here.verify(token)
        here.server.answers["/jwks"] = _status_500
        here.trust(tenants=TenantRule(names=frozenset({"globex"})))
        assert here.credentials.known(token) is None
        with pytest.raises(Unauthenticated, match="may not speak for"):
            await here.verify(token)
        assert (await here.verify(here.server.token(tenant="globex"))).tenant.value == "globex"
        await here.later(DEFAULT)
        assert (here.asked, here.state["failures"]) == (2, 1), "they are still fetched when they are stale"


async def test_a_token_that_waits_while_its_issuer_goes_is_refused() -> None:
    async with site() as here:
        gate = asyncio.Event()

        async def late(request: web.Request) -> web.StreamResponse:
            await gate.wait()
            raise web.HTTPFound("/none")

        here.server.answers["/jwks"] = late
        here.trust()
        waits = asyncio.create_task(here.verify(here.server.token()))
        await eventually(lambda: here.asked == 1)
        here.issuers.reconcile(None, {})
        with pytest.raises((Unauthenticated, IssuerUnavailable)):
            await waits
        assert not len(here.credentials)
        gate.set()


async def test_two_issuers_never_speak_for_each_other() -> None:
    async with site() as here, IssuerServer() as second:
        other = Issuer("other", second.url, ("api",), KeyUrl(f"{second.url}/jwks"))
        here.trust(other)
        assert (await here.verify(here.server.token())).issuer == A_TEST
        assert (await here.verify(second.token())).issuer == "other"
        for forged in (second.token(iss=here.server.url), here.server.token(iss=second.url)):
            with pytest.raises(Unauthenticated):
                await here.verify(forged)
        kid = list(here.server.keys)[-1]
        with pytest.raises(Unauthenticated, match="signature"):
            await here.verify(second.token(kid=kid, iss=here.server.url))
