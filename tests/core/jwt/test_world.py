"""Key sets and claims in the shapes of the world's issuers: the set loads, what is not for us is named, and a
token with that issuer's own claims is the identity that its rules say."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway.core.errors import Unauthenticated
from gateway.core.jwt.issuer import ANY_TENANT, ClaimRules, Issuer, KeyUrl, TenantRule
from gateway.core.jwt.keys import parse_keys
from gateway.core.jwt.verify import verify
from tests.support import key_sets

NOW = 1_800_000_000
STRANGER = rsa.generate_private_key(65537, 2048)
ALGORITHMS = ("RS256", "ES256")  # what is pinned for an issuer that publishes its keys


@dataclass(frozen=True)
class Provider:
    """A key set, the claims of an access token, the rules for them, and who it is then."""

    keys: Callable[[], key_sets.Issuer]
    iss: str
    claims: dict[str, Any]
    rules: ClaimRules
    who: tuple[str, str, str]  # tenant, subject, scopes
    tenants: TenantRule = ANY_TENANT
    header: dict[str, str] = field(default_factory=lambda: {"typ": "JWT"})


PROVIDERS = {
    "Keycloak": Provider(
        key_sets.keycloak,
        "https://sso.example/realms/acme",
        {
            "aud": ["orders", "account"], "typ": "Bearer", "azp": "shop", "sid": "f0", "acr": "1",
            "sub": "213a6490-ed62-46b9-960a-f66b86432c50", "scope": "openid profile email",
            "realm_access": {"roles": ["offline_access", "uma_authorization", "orders-admin"]},
            "resource_access": {"orders": {"roles": ["read"]}, "account": {"roles": ["manage-account"]}},
            "organization": ["acme"],
        },
        ClaimRules(
            "organization", "sub", ("scope", "realm_access.roles", "o:{resource_access.orders.roles}")
        ),
        (
            "acme",
            "213a6490-ed62-46b9-960a-f66b86432c50",
            "openid profile email offline_access uma_authorization orders-admin o:read",
        ),
    ),
    "Entra ID": Provider(
        key_sets.entra,
        "https://login.example/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0",
        {
            "aud": "orders", "ver": "2.0", "tid": "72f988bf-86f1-41af-91ab-2d7cd011db47", "azp": "6e74172b",
            "sub": "hKwS6n-3e_pE1Tt8iKDo", "oid": "690222be-ff1a-4d56-abd1-7e4f7d38e474",
            "scp": "Orders.Read Orders.Write", "roles": ["Orders.Admin", "Sales Team"], "uti": "x",
        },
        ClaimRules("tid", "oid", ("scp", "roles")),
        (
            "72f988bf-86f1-41af-91ab-2d7cd011db47",
            "690222be-ff1a-4d56-abd1-7e4f7d38e474",
            "Orders.Read Orders.Write Orders.Admin",
        ),
    ),
    "Auth0": Provider(
        key_sets.auth0,
        "https://acme.eu.auth0.example/",
        {
            "aud": ["orders", "https://acme.eu.auth0.example/userinfo"], "azp": "AbC", "gty": "password",
            "sub": "auth0|5f7c8ec7c33c6c004bbafe82", "scope": "openid", "permissions": ["read:orders"],
            "https://acme.example/tenant": "acme", "org_id": "org_9yBd",
        },
        ClaimRules("https://acme.example/tenant", "sub", ("scope", "permissions")),
        ("acme", "auth0|5f7c8ec7c33c6c004bbafe82", "openid read:orders"),
        header={"typ": "at+jwt"},
    ),
    "Google": Provider(
        key_sets.google,
        "https://accounts.google.example",
        {
            "aud": "orders", "azp": "orders", "sub": "110169484474386276334", "hd": "acme.example",
            "email": "ann@acme.example", "email_verified": True,
        },
        ClaimRules(subject="email"),
        ("acme", "ann@acme.example", ""),
        TenantRule(fixed="acme"),
    ),
    "Okta": Provider(
        key_sets.okta,
        "https://acme.okta.example/oauth2/default",
        {
            "ver": 1, "jti": "AT.0mP4JKAZX1iACIT4vbEDF7LpvDVjxyp", "aud": "orders", "cid": "nmdP1",
            "uid": "00ujmkLgagxeRrAg20g3", "scp": ["openid", "email"], "sub": "ann@acme.example",
            "groups": ["Everyone", "Order Admins", "ops"],
        },
        ClaimRules("tenant", "uid", ("scp", "group:{groups}")),
        ("acme", "00ujmkLgagxeRrAg20g3", "openid email group:Everyone group:ops"),
        TenantRule(fixed="acme"),
    ),
    "Dex": Provider(
        key_sets.dex,
        "https://dex.example",
        {
            "aud": "orders", "sub": "CgcyMzQyNzQ5EgZnaXRodWI", "at_hash": "x", "email": "ann@acme.example",
            "groups": ["acme:ops", "acme:dev"], "federated_claims": {"connector_id": "acme", "user_id": "2"},
        },
        ClaimRules("federated_claims.connector_id", "sub", ("groups",)),
        ("acme", "CgcyMzQyNzQ5EgZnaXRodWI", "acme:ops acme:dev"),
        TenantRule(names=frozenset({"acme"})),
        header={},
    ),
    "SeaCat": Provider(
        key_sets.seacat,
        "https://auth.example",
        {
            "aud": ["orders"], "azp": "orders", "sub": "mongodb:default:5f7c", "scope": "openid tenant",
            "resources": {"*": ["auth:access"], "acme": ["orders:read"]}, "tenant": "acme",
        },
        ClaimRules(scopes=("resources.acme", "any:{resources.*}")),
        ("acme", "mongodb:default:5f7c", "orders:read any:auth:access"),
        TenantRule(prefixes=("ac",)),
    ),
}  # fmt: skip


def issuer_of(provider: Provider) -> Issuer:
    keys = KeyUrl(f"{provider.iss}/keys")
    return Issuer("theirs", provider.iss, ("orders",), keys, ALGORITHMS, provider.rules, provider.tenants)


def token(provider: Provider, signer: tuple[Any, str, str | None]) -> str:
    key, algorithm, kid = signer
    claims = {"iss": provider.iss, "iat": NOW - 1, "nbf": NOW - 1, "exp": NOW + 300, **provider.claims}
    headers: dict[str, Any] = {"typ": None, **provider.header} | ({} if kid is None else {"kid": kid})
    return jwt.encode(claims, key, algorithm, headers=headers)


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_token_of_the_worlds_issuers_is_who_its_rules_say(name: str) -> None:
    provider = PROVIDERS[name]
    published = provider.keys()
    keys = parse_keys(published.text.decode(), ALGORITHMS, published=True)
    assert len(keys.warnings + keys.notes) == published.left_out
    for signer in published.signers:
        who = verify(token(provider, signer), keys, issuer_of(provider), NOW)
        assert (who.tenant.value, who.subject, who.scope_text) == provider.who
        assert (who.issuer, who.issued, who.good_until) == ("theirs", NOW - 1, NOW + 360)


@pytest.mark.parametrize("name", PROVIDERS)
def test_nobody_else_with_the_same_kid_is_believed(name: str) -> None:
    provider = PROVIDERS[name]
    published = provider.keys()
    keys = parse_keys(published.text.decode(), ALGORITHMS, published=True)
    stranger = (STRANGER, "RS256", published.signers[0][2])
    with pytest.raises(Unauthenticated) as caught:
        verify(token(provider, stranger), keys, issuer_of(provider), NOW)
    assert caught.value.reason in ("bad_signature", "unknown_key")


@pytest.mark.parametrize("make", key_sets.ISSUERS)
def test_a_set_loads_whatever_else_it_holds_and_each_key_that_is_left_out_is_named_once(
    make: Callable[[], key_sets.Issuer],
) -> None:
    """With a byte order mark, keys for encryption, of types to come, without kid or alg, or with one kid."""
    published = make()
    for prefix in (b"", b"\xef\xbb\xbf"):
        text = (prefix + published.text.removeprefix(b"\xef\xbb\xbf")).decode()
        keys = parse_keys(text, ALGORITHMS, published=True)
        places = [warning.split(" ")[0] for warning in keys.warnings + keys.notes]
        assert len(places) == len(set(places)) == published.left_out
        for key, algorithm, kid in published.signers:
            made = jwt.encode({"a": 1}, key, algorithm, headers=None if kid is None else {"kid": kid})
            message, _, signature = made.rpartition(".")
            candidates = keys.candidates(kid, algorithm) or []
            raw = base64.urlsafe_b64decode(signature + "==")
            assert any(tried.verifies(algorithm, message.encode(), raw) for tried in candidates)
