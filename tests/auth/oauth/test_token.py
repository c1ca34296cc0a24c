"""The token endpoint: API keys become tokens of a quarter of an hour, and each refusal is RFC 6749's."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, urlencode

import aiohttp
import pytest
import requests

from gateway.app import Gateway
from gateway.auth.api_keys import new_key
from gateway.auth.keys import new_signing_key
from gateway.auth.oauth.assertions import LEEWAY, LONGEST, TYPE
from gateway.core.jwt.keys import parse_keys, sign
from gateway.core.jwt.verify import parse
from tests import harness
from tests.fakes import Backend, always, answer

pytestmark = pytest.mark.asyncio
FORM = {"grant_type": "client_credentials"}
ISSUER = "https://api.example"


@asynccontextmanager
async def site(folder: Path, **more: Any) -> AsyncIterator[Gateway]:
    async with Backend(always(answer(b"ok"))) as backend:
        routes = [harness.route("app", "app", scopes={"read": ["r"], "write": ["w"]})]
        backends = {"app": {"kind": "http", "addresses": [backend.address]}}
        config = harness.routing(routes, backends=backends, **more.pop("routing", {}))
        async with harness.running(folder, config, **more) as gateway:
            yield gateway


async def client(
    gateway: Gateway, scopes: str = "r w", tenant: str = "acme", lasts: float = 1e6
) -> tuple[str, str]:
    """The id and the text of a new API key."""
    key, text = new_key(tenant, "etl", scopes, "", lasts, "test", time.time())
    await gateway.stored.change(gateway.stored.store.create_key, key)
    return key.id, text


def basic(name: str, secret: str) -> dict[str, str]:
    text = f"{quote_plus(name)}:{quote_plus(secret)}"
    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


async def ask(
    gateway: Gateway, form: Any, headers: Mapping[str, str] = {}, path: str = "/oauth/token"
) -> tuple[int, dict[str, Any], Mapping[str, str]]:
    async with aiohttp.ClientSession() as session:
        async with session.post(harness.url(gateway, path), data=form, headers=headers) as response:
            return response.status, await response.json(), response.headers


async def use(gateway: Gateway, token: str, method: str = "GET") -> int:
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:
        async with session.request(method, harness.url(gateway, "/app/x")) as response:
            return response.status


@pytest.mark.parametrize("way", ["basic", "basic, the secret alone", "post", "post, the secret alone"])
async def test_a_client_gets_a_token_that_works(tmp_path: Path, way: str) -> None:
    async with site(tmp_path) as gateway:
        id_, text = await client(gateway)
        secret = text.rpartition("_")[2] if "alone" in way else text
        by_header = way.startswith("basic")
        form = FORM if by_header else {**FORM, "client_id": id_, "client_secret": secret}
        status, made, headers = await ask(gateway, form, basic(id_, secret) if by_header else {})
        assert status == 200 and headers["Cache-Control"] == "no-store" and headers["Pragma"] == "no-cache"
        assert made["token_type"] == "Bearer" and made["expires_in"] == 900 and made["scope"] == "r w"
        claims = parse(made["access_token"]).claims
        assert (claims["tenant"], claims["sub"], claims["client_id"]) == ("acme", "etl", id_)
        assert claims["exp"] - claims["iat"] == 900 and len(claims["jti"]) >= 16
        assert (
            await use(gateway, made["access_token"]) == await use(gateway, made["access_token"], "PUT") == 200
        )


async def test_with_requests_as_scripts_have_it(tmp_path: Path) -> None:
    async with site(tmp_path) as gateway:
        id_, text = await client(gateway)
        url = harness.url(gateway, "/oauth/token")
        response = await asyncio.to_thread(requests.post, url, data=FORM, auth=(id_, text), timeout=10)
        assert response.status_code == 200 and await use(gateway, response.json()["access_token"]) == 200


async def test_scope_narrows_and_never_widens(tmp_path: Path) -> None:
    async with site(tmp_path) as gateway:
        who = basic(*await client(gateway))
        status, made, _ = await ask(gateway, {**FORM, "scope": "r"}, who)
        assert (status, made["scope"]) == (200, "r")
        assert (
            await use(gateway, made["access_token"]),
            await use(gateway, made["access_token"], "PUT"),
        ) == (200, 403)
        assert (await ask(gateway, {**FORM, "scope": "r r"}, who))[1]["scope"] == "r"
        assert (await ask(gateway, {**FORM, "scope": ""}, who))[1]["scope"] == "r w", "an empty one is none"
        for scope in ("x", "r x", "r  w", " r", "r\tw", "*", "gateway:admin"):
            assert (await ask(gateway, {**FORM, "scope": scope}, who))[1]["error"] == "invalid_scope", scope


async def test_a_token_ends_with_its_key_and_never_later(tmp_path: Path) -> None:
    async with site(tmp_path) as gateway:
        id_, text = await client(gateway, lasts=100)
        _, made, _ = await ask(gateway, FORM, basic(id_, text))
        assert 97 <= made["expires_in"] <= 100
        assert await use(gateway, made["access_token"]) == 200
        await gateway.stored.change(gateway.stored.store.revoke_key, id_, "test", time.time())
        status, refused, _ = await ask(gateway, FORM, basic(id_, text))
        assert (status, refused["error"]) == (401, "invalid_client")


async def test_what_clients_of_other_servers_send_is_understood(tmp_path: Path) -> None:
    """Lower case in the scheme, a charset, the client_id in the body too, an empty parameter, chunks."""
    async with site(tmp_path) as gateway:
        id_, text = await client(gateway)
        known = basic(id_, text)
        lower = {"Authorization": known["Authorization"].replace("Basic ", "basic ")}
        charset = {"Content-Type": "application/x-www-form-urlencoded; charset=UTF-8"}
        encoded = base64.b64encode(f"%{ord(id_[0]):02X}{id_[1:]}:{text}".encode()).decode()

        async def chunks() -> AsyncIterator[bytes]:
            yield b"grant_type=client_"
            yield b"credentials"

        for form, headers in (
            (FORM, lower),
            (b"grant_type=client_credentials", {**known, **charset}),
            ({**FORM, "client_id": id_}, known),
            ({**FORM, "scope": "", "client_secret": "", "client_assertion": ""}, known),
            ({**FORM, "resource": "https://x.example", "audience": "x"}, known),
            (FORM, {"Authorization": f"Basic {encoded}"}),
            (chunks(), {**known, **charset}),
        ):
            status, made, _ = await ask(gateway, form, headers)
            assert status == 200, made


async def refusals(gateway: Gateway) -> list[tuple[str, Any, dict[str, str], int, str]]:
    id_, text = await client(gateway)
    other, _ = await client(gateway)
    known, form_type = basic(id_, text), {"Content-Type": "application/x-www-form-urlencoded"}
    wrong = text[:-8] + ("a" if text[-8] != "a" else "b") + text[-7:]
    gone, _ = new_key("acme", "x", "", "", 10.0, "t", time.time())
    body = urlencode({**FORM, "client_id": id_, "client_secret": text})
    raw, signed = base64.b64encode, {**FORM, "client_assertion_type": TYPE}
    return [
        ("no grant", {"scope": "r"}, known, 400, "invalid_request"),
        ("no body", b"", {**known, **form_type}, 400, "invalid_request"),
        ("a parameter twice", f"{body}&scope=r&scope=r".encode(), form_type, 400, "invalid_request"),
        ("no form", b"{}", {**known, "Content-Type": "application/json"}, 400, "invalid_request"),
        ("JSON said to be a form", json.dumps(FORM).encode(), {**known, **form_type}, 400, "invalid_request"),
        ("not UTF-8", b"grant_type=%ff", {**known, **form_type}, 400, "invalid_request"),
        ("two ways", {**FORM, "client_id": id_, "client_secret": text}, known, 400, "invalid_request"),
        ("another id", {**FORM, "client_id": other}, known, 400, "invalid_request"),
        ("an assertion without its type", {**FORM, "client_assertion": "x"}, {}, 400, "invalid_request"),
        ("nobody", FORM, {}, 401, "invalid_client"),
        ("an id alone", {**FORM, "client_id": id_}, {}, 401, "invalid_client"),
        ("a wrong secret", FORM, basic(id_, wrong), 401, "invalid_client"),
        ("another client's secret", FORM, basic(other, text), 401, "invalid_client"),
        ("its secret with another id", FORM, basic(other, text.rpartition("_")[2]), 401, "invalid_client"),
        ("unknown", FORM, basic(gone.id, text.rpartition("_")[2]), 401, "invalid_client"),
        ("a bearer token", FORM, harness.bearer(gateway), 401, "invalid_client"),
        ("no base64", FORM, {"Authorization": "Basic !"}, 401, "invalid_client"),
        ("no colon", FORM, {"Authorization": f"Basic {raw(b'abc').decode()}"}, 401, "invalid_client"),
        ("not UTF-8", FORM, {"Authorization": f"Basic {raw(bytes([255])).decode()}"}, 401, "invalid_client"),
        ("no assertion", {**signed, "client_assertion": "x"}, {}, 401, "invalid_client"),
        ("a password", {**FORM, "grant_type": "password"}, known, 400, "unsupported_grant_type"),
        ("a code", {**FORM, "grant_type": "authorization_code"}, known, 400, "unsupported_grant_type"),
        ("a scope", {**FORM, "scope": "admin"}, known, 400, "invalid_scope"),
    ]  # fmt: skip


async def test_each_refusal_is_that_of_rfc_6749(tmp_path: Path) -> None:
    async with site(tmp_path) as gateway:
        for about, form, headers, status, error in await refusals(gateway):
            seen, body, answered = await ask(gateway, form, headers)
            assert (seen, body.get("error")) == (status, error), (about, body)
            assert set(body) == {"error", "error_description"} and answered["Cache-Control"] == "no-store", (
                about
            )
            assert answered["Content-Type"].startswith("application/json")
            assert ("WWW-Authenticate" in answered) == (status == 401), about
            assert "gw_" not in body["error_description"] and answered["X-Request-ID"]
        assert (await ask(gateway, FORM, {}, "/oauth/token?scope=r"))[1]["error"] == "invalid_request"
        logged = Path(gateway.config.access_log)
    codes = {json.loads(line)["code"] for line in logged.read_text().splitlines()}
    assert {"invalid_request", "invalid_client", "invalid_scope"} <= codes and "gw_" not in logged.read_text()


async def test_a_tenant_that_is_not_served_gets_none(tmp_path: Path) -> None:
    routing = {"tenants": {"acme": {}, "closed": {"disabled": True}}}
    async with site(tmp_path, routing=routing) as gateway:
        for tenant in ("closed", "unknown"):
            who = basic(*await client(gateway, tenant=tenant))
            status, refused, _ = await ask(gateway, FORM, who)
            assert (status, refused["error"]) == (400, "unauthorized_client")


async def test_those_who_ask_count_against_the_limit_of_their_address(tmp_path: Path) -> None:
    async with site(tmp_path, routing={"client_limit": {"rate": "1/h", "burst": 2}}) as gateway:
        seen = [(await ask(gateway, FORM, basic("a", "b"))) for _ in range(3)]
        assert [status for status, *_ in seen] == [401, 401, 429]
        assert seen[2][1]["code"] == "client_limit" and seen[2][2]["Retry-After"]


async def test_only_a_post_is_taken_and_a_route_of_the_config_goes_first(tmp_path: Path) -> None:
    async with site(tmp_path) as gateway:
        async with aiohttp.ClientSession() as session:
            for method, status in (("GET", 405), ("PUT", 405), ("OPTIONS", 204)):
                async with session.request(method, harness.url(gateway, "/oauth/token")) as response:
                    assert (response.status, response.headers["Allow"]) == (status, "OPTIONS, POST")
    async with Backend(
        always(answer(b'{"mine": 1}', headers="Content-Type: application/json\r\n"))
    ) as backend:
        routes = [{"name": "mine", "path": "/oauth/{rest*}", "target": "app", "public": True}]
        backends = {"app": {"kind": "http", "addresses": [backend.address]}}
        async with harness.running(tmp_path, harness.routing(routes, backends=backends)) as gateway:
            assert (await ask(gateway, FORM))[1] == {"mine": 1}


async def test_without_a_local_issuer_there_are_no_tokens(tmp_path: Path) -> None:
    async with site(tmp_path, routing={"issuers": {"local": False}}) as gateway:
        assert (await ask(gateway, FORM))[1]["code"] == "no_route"


async def test_without_a_private_key_there_are_none_either(tmp_path: Path) -> None:
    keys = tmp_path / "var" / "keys.jwks"
    keys.parent.mkdir(mode=0o700)
    public = {name: value for name, value in new_signing_key().items() if name != "d"}
    keys.write_text(json.dumps({"keys": [public]}))
    async with site(tmp_path) as gateway:
        assert (await ask(gateway, FORM, basic(*await client(gateway))))[1]["code"] == "no_route"
        async with aiohttp.ClientSession() as session:
            async with session.get(harness.url(gateway, "/.well-known/jwks.json")) as response:
                assert public["kid"] not in await response.text(), (
                    "somebody else's keys are not ours to publish"
                )


# --- private_key_jwt ---


class Machine:
    """A client that signs."""

    def __init__(self, id_: str) -> None:
        self.id = id_
        self.jwk = new_signing_key()
        (self.key,) = parse_keys(json.dumps({"keys": [self.jwk]}))
        self.public = {name: value for name, value in self.jwk.items() if name != "d"}
        self._count = 0

    def form(self, **claims: Any) -> dict[str, str]:
        self._count += 1
        now = time.time()
        stated = {
            "iss": self.id,
            "sub": self.id,
            "aud": ISSUER,
            "jti": f"{self._count}",
            "exp": now + 60,
            **claims,
        }
        text = sign({name: value for name, value in stated.items() if value is not None}, self.key)
        return {**FORM, "client_assertion_type": TYPE, "client_assertion": text}


@asynccontextmanager
async def signing(folder: Path) -> AsyncIterator[tuple[Gateway, Machine]]:
    tokens = replace(harness.process_config(folder).tokens, issuer=ISSUER)
    async with site(folder, tokens=tokens) as gateway:
        machine = Machine((await client(gateway))[0])
        jwks = json.dumps({"keys": [machine.public]})
        await gateway.stored.change(gateway.stored.store.register_keys, machine.id, jwks, "test", time.time())
        yield gateway, machine


async def test_a_client_that_signs_gets_a_token_once(tmp_path: Path) -> None:
    async with signing(tmp_path) as (gateway, machine):
        for audience in (ISSUER, f"{ISSUER}/oauth/token", [ISSUER]):
            form = machine.form(aud=audience)
            status, made, _ = await ask(gateway, form)
            assert status == 200 and parse(made["access_token"]).claims["client_id"] == machine.id
            assert await use(gateway, made["access_token"]) == 200
            status, refused, _ = await ask(gateway, form)
            assert (status, refused["error"]) == (401, "invalid_client") and "used before" in str(refused)
        assert (await ask(gateway, {**machine.form(), "client_id": machine.id, "scope": "r"}))[1][
            "scope"
        ] == "r"


async def test_an_assertion_that_is_not_for_us_not_now_or_not_the_clients_is_refused(tmp_path: Path) -> None:
    async with signing(tmp_path) as (gateway, machine):
        now = time.time()
        stranger, other = Machine(machine.id), Machine((await client(gateway))[0])
        forms = {
            "another audience": machine.form(aud="https://other.example"),
            "ours among others": machine.form(aud=[ISSUER, "https://other.example"]),
            "no audience": machine.form(aud=None),
            "expired": machine.form(exp=now - LEEWAY - 1),
            "no expiry": machine.form(exp=None),
            "an expiry beyond all dates": machine.form(exp=10**400),
            "good for too long": machine.form(exp=now + LONGEST + LEEWAY + 5),
            "not yet": machine.form(nbf=now + LEEWAY + 5),
            "from the future": machine.form(iat=now + LEEWAY + 5),
            "no jti": machine.form(jti=None),
            "an empty jti": machine.form(jti=""),
            "another issuer": machine.form(iss="x"),
            "another subject": machine.form(sub="x"),
            "another key": stranger.form(),
            "a client without keys": other.form(),
            "a token of ours": {**machine.form(), "client_assertion": harness.token(gateway)},
            "cut off": {**machine.form(), "client_assertion": machine.form()["client_assertion"][:-3]},
        }
        for about, form in forms.items():
            status, refused, _ = await ask(gateway, form)
            assert (status, refused["error"]) == (401, "invalid_client"), (about, refused)
        assert (await ask(gateway, {**machine.form(), "client_id": other.id}))[1][
            "error"
        ] == "invalid_request"
        await gateway.stored.change(gateway.stored.store.revoke_key, machine.id, "test", time.time())
        assert (await ask(gateway, machine.form()))[1]["error"] == "invalid_client"


async def test_of_fifty_with_one_assertion_one_gets_a_token(tmp_path: Path) -> None:
    async with signing(tmp_path) as (gateway, machine):
        form = machine.form()
        seen = await asyncio.gather(*(ask(gateway, form) for _ in range(50)))
        assert sorted(status for status, *_ in seen) == [200] + [401] * 49
