"""Tokens in the words of the world's issuers, whose key sets come from a real HTTP server: each is mapped to
tenant, subject and scopes, and no issuer speaks for another."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import pytest

from gateway.app import Gateway
from tests import harness
from tests.eventually import eventually_await
from tests.fakes import Backend, Heard, RawClient, Script, always, answer
from tests.support import key_sets

TID = "72f988bf-86f1-41af-91ab-2d7cd011db47"


@dataclass(frozen=True)
class Known:
    """An issuer as it shows itself. path: of its `iss`, below its host. claims: what its tokens say besides
    the times. rule: how routing.yaml reads them. says: tenant, subject and scopes, as the backend hears
    them. by: where its metadata are, "" where its keys alone are known."""

    name: str
    path: str
    keys: Callable[[], key_sets.Issuer]
    claims: dict[str, Any]
    rule: dict[str, Any]
    says: tuple[str, str, str]
    by: str = "/.well-known/openid-configuration"


KNOWN = [
    Known(
        "keycloak", "/realms/acme", key_sets.keycloak,
        {"aud": ["gateway", "account"], "azp": "shop", "typ": "Bearer", "acr": "1",
         "sub": "f3a8e1b2-0c7d-4c0e-9a54-9e2f0a6f6a11", "scope": "openid profile", "sid": "b3",
         "realm_access": {"roles": ["orders-read", "offline_access"]},
         "resource_access": {"gateway": {"roles": ["orders-write"]}}, "preferred_username": "alice"},
        {"tenant": "acme", "claims": {"scopes": ["realm_access.roles", "resource_access.gateway.roles"]}},
        ("acme", "f3a8e1b2-0c7d-4c0e-9a54-9e2f0a6f6a11", "orders-read offline_access orders-write"),
    ),
    Known(
        "entra", f"/{TID}/v2.0", key_sets.entra,
        {"aud": "6e74172b-be56-4843-9ff4-e66a39bb12e3", "azp": "0f3b", "ver": "2.0", "tid": TID,
         "oid": "690222be-ff1a-4d56-abd1-7e4f7d38e474", "sub": "HKZpfaHyWadeOouYlitjrI-KffTm222X5rrV3xDqfKQ",
         "scp": "orders.read orders.write", "roles": ["Admin"], "uti": "x", "rh": "0.A", "nbf": 0},
        {"tenants": [TID], "claims": {"tenant": "tid", "subject": "oid", "scopes": ["scp", "roles"]}},
        (TID, "690222be-ff1a-4d56-abd1-7e4f7d38e474", "orders.read orders.write Admin"),
    ),
    Known(
        "auth0", "/", key_sets.auth0,
        {"aud": ["https://api.acme.example", "https://acme.eu.auth0.com/userinfo"], "azp": "my_client_id",
         "sub": "auth0|64f1c0ffee", "scope": "openid read:orders", "permissions": ["read:orders"],
         "https://acme.example/tenant": "acme"},
        {"tenants": ["acme"], "claims": {"tenant": "https://acme.example/tenant", "scopes": "scope"}},
        ("acme", "auth0|64f1c0ffee", "openid read:orders"),
    ),
    Known(
        "google", "", key_sets.google,
        {"aud": "407408718192.apps.googleusercontent.com", "azp": "407408718192.apps.googleusercontent.com",
         "sub": "110169484474386276334", "hd": "acme.example", "email": "alice@acme.example",
         "email_verified": True, "at_hash": "HK6E"},
        {"tenant": "acme", "claims": {"subject": "email", "scopes": "domain:{hd}"}},
        ("acme", "alice@acme.example", "domain:acme.example"), by="",
    ),
    Known(
        "okta", "/oauth2/default", key_sets.okta,
        {"aud": "api://default", "ver": 1, "cid": "0oa1", "uid": "00u1", "scp": ["openid", "orders:read"],
         "sub": "alice@acme.example", "org": "eu-acme"},
        {"tenants": ["eu-*"], "claims": {"tenant": "org", "scopes": "scp"}},
        ("eu-acme", "alice@acme.example", "openid orders:read"),
        by="/.well-known/oauth-authorization-server",
    ),
    Known(
        "dex", "/dex", key_sets.dex,
        {"aud": "gateway", "sub": "CgNib2ISBWxvY2Fs", "groups": ["admins", "readers"], "name": "bob",
         "federated_claims": {"connector_id": "ldap", "user_id": "bob"}},
        {"tenant": "acme", "claims": {"scopes": "group:{groups}", "subject": "dex:{name}"}},
        ("acme", "dex:bob", "group:admins group:readers"),
    ),
    Known(
        "seacat", "/api", key_sets.seacat,
        {"aud": "gateway", "azp": "shop", "sub": "mongodb:default:64f1", "tenant": "acme",
         "resources": {"*": ["authz:login"], "acme": ["orders:read", "orders:write"]}},
        {"tenants": ["acme", "globex"], "claims": {"scopes": ["resources.acme"]}},
        ("acme", "mongodb:default:64f1", "orders:read orders:write"),
    ),
    Known(
        "curves", "/curves", key_sets.curves,
        {"aud": "gateway", "sub": "etl", "tenant": "acme", "scope": "orders:read"},
        {"tenants": ["*"], "algorithms": ["ES256", "ES384", "ES512", "EdDSA", "PS256", "RS512"]},
        ("acme", "etl", "orders:read"), by="",
    ),
    Known(
        "by-hand", "/by-hand", key_sets.by_hand,
        {"aud": "gateway", "sub": "etl", "tenant": "acme"}, {"tenants": ["acme"]}, ("acme", "etl", ""), by="",
    ),
    Known(
        "everything", "/everything", key_sets.everything,
        {"aud": "gateway", "sub": "etl", "tenant": "acme"}, {"tenants": ["acme"]}, ("acme", "etl", ""), by="",
    ),
]  # fmt: skip


class World:
    """All issuers on one port, each with its metadata and its key set, and a gateway that trusts them all."""

    def __init__(self, issuers: Backend, app: Backend) -> None:
        self.issuers = issuers
        self.app = app
        self.gateway: Gateway | None = None

    def iss(self, known: Known) -> str:
        return self.issuers.address + known.path

    def settings(self, known: Known) -> dict[str, Any]:
        where = {"discovery": True} if known.by else {"jwks_uri": f"{self.issuers.address}/keys/{known.name}"}
        audience = known.claims["aud"]
        audiences = audience[:1] if isinstance(audience, list) else [audience]
        return {"issuer": self.iss(known), "audiences": audiences, **where, **known.rule}

    def token(self, known: Known, signer: tuple[Any, str, str | None], **claims: Any) -> str:
        now = int(time.time())
        made = {"iss": self.iss(known), "iat": now, "exp": now + 600, **known.claims, **claims}
        key, algorithm, kid = signer
        return jwt.encode(made, key, algorithm, headers={"kid": kid} if kid else None)

    async def status(self, token: str) -> int:
        assert self.gateway is not None
        client = await RawClient.connect(harness.address(self.gateway))
        try:
            client.send(f"GET /svc/x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
            return int((await client.head()).split(" ")[1])
        finally:
            client.close()


def published(by_path: dict[str, bytes]) -> Script:
    """Serves these documents."""

    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = by_path.get(heard.line.split(" ")[1])
        kind = "Content-Type: application/json; charset=utf-8\r\nCache-Control: public, max-age=21600\r\n"
        writer.write(answer(b"{}", "404 Not Found") if body is None else answer(body, headers=kind))

    return script


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    documents: dict[str, bytes] = {}
    async with Backend(published(documents)) as issuers, Backend(always(answer())) as app:
        made = World(issuers, app)
        for known in KNOWN:
            jwks = f"{issuers.address}/keys/{known.name}"
            documents[f"/keys/{known.name}"] = known.keys().text
            metadata = {"issuer": made.iss(known), "jwks_uri": jwks, "response_types_supported": ["code"]}
            if known.by == "/.well-known/oauth-authorization-server":  # RFC 8414: before the issuer's path
                documents[known.by + known.path] = json.dumps(metadata).encode()
            elif known.by:
                documents[known.path.rstrip("/") + known.by] = json.dumps(metadata).encode()
        config = harness.routing(
            [harness.route("svc", "app")],
            backends={"app": {"kind": "http", "addresses": [app.address], "identity": "headers"}},
            tenants={"acme": {}, "globex": {}, "eu-acme": {}, TID: {}},
            issuers={known.name: made.settings(known) for known in KNOWN},
        )
        async with harness.running(folder, config) as made.gateway:
            yield made


@pytest.mark.asyncio
async def test_tokens_of_each_issuer_say_tenant_subject_and_scopes_in_its_own_words(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with world(tmp_path) as there:
        for known in KNOWN:
            published = known.keys()
            first = there.token(known, published.signers[0])

            async def taken(token: str = first) -> bool:
                return await there.status(token) == 200

            await eventually_await(taken, lambda name=known.name: name)  # type: ignore[misc]
            for signer in published.signers:
                there.app.heard.clear()
                assert await there.status(there.token(known, signer)) == 200, (known.name, signer[1:])
                (heard,) = there.app.heard
                says = heard.one("X-Tenant"), heard.one("X-Subject"), heard.one("X-Scopes")
                assert (says[:2], sorted(says[2].split())) == (  # type: ignore[union-attr]
                    known.says[:2], sorted(known.says[2].split()),
                ), known.name  # fmt: skip
            told = {r.getMessage() for r in caplog.records}
            left_out = {text for text in told if text.startswith(f"issuer {known.name}: keys[")}
            assert len(left_out) == published.left_out, (known.name, told)


@pytest.mark.asyncio
async def test_no_issuer_speaks_for_another_or_for_a_tenant_that_is_not_its_own(tmp_path: Path) -> None:
    async with world(tmp_path) as there:
        for known in KNOWN:

            async def taken(token: str = there.token(known, known.keys().signers[0])) -> bool:
                return await there.status(token) == 200

            await eventually_await(taken, lambda name=known.name: name)  # type: ignore[misc]
        # Some of the keys are the same here, and what names no key is tried with all: so not those.
        named = [known for known in KNOWN if known.name != "by-hand"]
        for known in named:
            for other in named:
                if other is not known:
                    forged = there.token(known, other.keys().signers[0])
                    assert await there.status(forged) == 401, (known.name, "signed by", other.name)
        other_tenants: dict[str, dict[str, Any]] = {
            "entra": {"tid": "acme"}, "auth0": {"https://acme.example/tenant": "globex"},
            "okta": {"org": "us-acme"}, "seacat": {"tenant": "eu-acme"}, "by-hand": {"tenant": "globex"},
        }  # fmt: skip
        for known in KNOWN:
            if known.name in other_tenants:
                token = there.token(known, known.keys().signers[0], **other_tenants[known.name])
                assert await there.status(token) == 401, known.name
