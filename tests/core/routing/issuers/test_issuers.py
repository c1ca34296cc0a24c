"""Issuers in the routing config, and which callers a route takes: each mistake has its hint."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from gateway.core.jwt.issuer import (
    ClaimRules,
    Discovery,
    Introspection,
    Issuer,
    KeyFile,
    KeyUrl,
    SecretReference,
    TenantRule,
)
from gateway.core.model import CallerRule
from gateway.core.routing.compile import compile_data
from gateway.core.routing.problems import Problem, Problems
from gateway.core.routing.settings import json_schema
from gateway.core.routing.snapshot import Snapshot

SCHEMA = jsonschema.Draft202012Validator(json_schema())
GOOD: dict[str, Any] = {
    "issuer": "https://id.example/realms/shop",
    "audiences": ["gateway"],
    "discovery": True,
    "tenants": ["acme"],
}
ASKED = {"url": "https://id.example/ask", "client_id": "gw", "client_secret": {"env": "GW_SECRET"}}
BACKENDS = {
    "signed": {"kind": "asab", "addresses": ["unix:a"], "identity": "signed"},
    "plain": {"kind": "asab", "addresses": ["unix:b"], "identity": "headers"},
}
SECRET = "hunter2/Swordfish"  # must never be told


def without(*names: str, **more: Any) -> dict[str, Any]:
    return {name: value for name, value in GOOD.items() if name not in names} | more


def opaque(**more: Any) -> dict[str, Any]:
    return without("discovery", introspection={**ASKED, **more})


def route(**more: Any) -> dict[str, Any]:
    return {"name": "r", "path": "/r", "target": "signed", **more}


def config(*routes: dict[str, Any], **issuers: Any) -> dict[str, Any]:
    tenants: dict[str, Any] = {"acme": {}, "eu-one": {}, "eu-two": {}}
    top = {"version": 1, "backends": BACKENDS, "tenants": tenants, "routes": list(routes)}
    return {**top, "issuers": issuers} if issuers else top


def compiled(data: Any, local: str = "gateway") -> Snapshot[str, None]:
    assert SCHEMA.is_valid(data)
    return compile_data(data, lambda backend: "", "/sockets", folder="/conf", local=local)


def problems(data: Any, local: str = "gateway") -> dict[str, Problem]:
    with pytest.raises(Problems) as caught:
        compile_data(data, lambda backend: "", "/sockets", folder="/conf", local=local)
    found = {problem.where: problem for problem in caught.value.items}
    assert len(found) == len(caught.value.items)
    return found


# --- what a good one means -------------------------------------------------------------------------


def test_an_issuer_is_compiled_with_the_defaults_of_what_is_not_written() -> None:
    made = compiled(config(shop=GOOD))
    tenants = TenantRule(names=frozenset({"acme"}))
    public = ("RS256", "ES256", "EdDSA")  # what a public key verifies
    name = "https://id.example/realms/shop"
    assert made.issuers == {"shop": Issuer("shop", name, ("gateway",), Discovery(), public, tenants=tenants)}
    assert made.local_issuer


def test_all_of_an_issuer_is_compiled() -> None:
    claims = {"tenant": "org", "subject": "azp", "scopes": ["scp", "role:{realm_access.roles}"]}
    written = without(
        "discovery", audiences="api://x", keys="sub/a.jwks", algorithms=["PS256", "HS512"], claims=claims,
        leeway=5, tenants=["acme", "eu-*"],
    )  # fmt: skip
    (made,) = compiled(config(shop=written)).issuers.values()
    assert made == Issuer(
        "shop", "https://id.example/realms/shop", ("api://x",), KeyFile("/conf/sub/a.jwks"),
        ("PS256", "HS512"),
        ClaimRules("org", "azp", ("scp", "role:{realm_access.roles}")),
        TenantRule(names=frozenset({"acme"}), prefixes=("eu-",)), 5.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("written", "source"),
    [
        ({"keys": "/abs/a.jwks"}, KeyFile("/abs/a.jwks")),
        ({"jwks_uri": "https://h:8443/keys?x=1"}, KeyUrl("https://h:8443/keys?x=1")),
        ({"jwks_uri": "http://127.0.0.1:8000/k"}, KeyUrl("http://127.0.0.1:8000/k")),
        ({"jwks_uri": "http://keycloak:8080/k", "allow_http": True}, KeyUrl("http://keycloak:8080/k")),
        (
            {"introspection": ASKED},
            Introspection("https://id.example/ask", "gw", SecretReference("GW_SECRET")),
        ),
        (
            {"introspection": {**ASKED, "client_secret": {"file": "s"}, "keep": "5s"}},
            Introspection("https://id.example/ask", "gw", SecretReference(file="/conf/s"), 5.0),
        ),
    ],
)
def test_keys_are_in_a_file_at_a_url_or_each_token_is_asked_about(written: Any, source: Any) -> None:
    assert compiled(config(shop=without("discovery", **written))).issuers["shop"].keys == source


def test_a_secrets_algorithm_is_taken_by_itself_only_from_a_file() -> None:
    def algorithms(**source: Any) -> tuple[str, ...]:
        return compiled(config(a=without("discovery", **source))).issuers["a"].algorithms

    assert "HS256" in algorithms(keys="a.jwks")
    assert "HS256" not in algorithms(jwks_uri="https://h/k")


@pytest.mark.parametrize(
    ("written", "rule"),
    [
        ({"tenants": ["*"]}, TenantRule(any=True)),
        ({"tenants": ["eu-*"]}, TenantRule(prefixes=("eu-",))),
        ({"tenant": "acme"}, TenantRule(fixed="acme")),
    ],
)
def test_whom_an_issuer_may_speak_for_is_written(written: dict[str, Any], rule: TenantRule) -> None:
    assert compiled(config(shop=without("tenants", **written))).issuers["shop"].tenants == rule


def test_the_issuer_of_the_process_can_be_switched_off() -> None:
    made = compiled(config(local=False))
    assert (made.local_issuer, dict(made.issuers)) == (False, {})


@pytest.mark.parametrize(
    ("written", "rule"),
    [
        ({}, None),
        ({"auth": ["jwt", "api_key"]}, None),
        ({"auth": ["api_key"]}, CallerRule(frozenset({"api_key"}))),
        ({"issuers": ["shop", "local"]}, CallerRule(issuers=frozenset({"shop", "local"}))),
        (
            {"require": {"plan": "pro", "org.level": [3, True, "x y"], "https://a.example/r": ["z"]}},
            CallerRule(
                claims={
                    "plan": frozenset({"pro"}),
                    "org.level": frozenset({"3", "true", "x y"}),
                    "https://a.example/r": frozenset({"z"}),
                }
            ),
        ),
    ],
)
def test_a_route_says_which_callers_it_takes_or_costs_nothing(
    written: dict[str, Any], rule: CallerRule | None
) -> None:
    (made,) = compiled(config(route(**written), shop=GOOD)).table.routes
    assert made.callers == rule
    assert not made.bind


def test_a_signed_identity_is_bound_to_the_request_where_the_route_says_so() -> None:
    (made,) = compiled(config(route(bind="request"))).table.routes
    assert made.bind


# --- each mistake ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "where", "reason", "hint"),
    [
        (without("discovery"), "", "does not say where its keys are", "discovery: true"),
        ({**GOOD, "keys": "a"}, "discovery", "says with keys where its keys are", "one of the two"),
        (without("issuer"), "issuer", "'issuer' is missing", "write issuer:"),
        ({**GOOD, "issuer": ""}, "issuer", "not what tokens have as `iss`", "slash at its end"),
        ({**GOOD, "issuer": "https://h/{tenantid}/v2.0"}, "issuer", "a template", "`iss` that its tokens"),
        ({**GOOD, "issuer": "https://h/r/.well-known/openid-configuration"}, "issuer", "its metadata",
         "write issuer: https://h/r;"),
        ({**GOOD, "issuer": "https://login.microsoftonline.com/common/v2.0"}, "issuer", "any directory",
         "directory's own ID"),
        ({**GOOD, "issuer": "shop"}, "issuer", "no URL, so its metadata cannot be found", "jwks_uri"),
        (without("audiences"), "audiences", "'audiences' is missing", "write audiences: [gateway]"),
        ({**GOOD, "audiences": []}, "audiences", "an empty list", "write audiences: [gateway]"),
        ({**GOOD, "audiences": ["*"]}, "audiences[0]", "not for any", "each value"),
        ({**GOOD, "audiences": ["{{ .Values.AUD }}"]}, "audiences[0]", "a template", "render the file"),
        ({**GOOD, "audience": "x"}, "audience", "unknown", "did you mean 'audiences'?"),
        ({**GOOD, "algorithms": ["rs-256"]}, "algorithms[0]", "'rs-256' is not", "write RS256;"),
        ({**GOOD, "algorithms": ["none"]}, "algorithms[0]", "anybody could write", "RS256"),
        ({**GOOD, "algorithms": ["RS256", "HS256"]}, "algorithms[1]", "whoever can read", "write keys:"),
        ({**opaque(), "algorithms": ["RS256"]}, "algorithms", "no signature is looked at", "remove it"),
        (without("discovery", jwks_uri="http://keycloak:8080/k"), "jwks_uri", "without TLS",
         "allow_http: true"),
        ({**GOOD, "issuer": "http://keycloak/r"}, "issuer", "without TLS", "allow_http: true"),
        (opaque(url="http://h/ask"), "introspection.url", "without TLS", "https://"),
        (without("discovery", keys="a", allow_http=True), "allow_http", "nothing is asked", "remove it"),
        (without("discovery", jwks_uri="https://h/r/.well-known/openid-configuration"), "jwks_uri",
         "the URL of the issuer's metadata", "discovery: true in its place"),
        (without("discovery", jwks_uri="file:///a.jwks"), "jwks_uri", "written as keys", "write jwks_uri: "),
        (without("discovery", jwks_uri="h.example/keys"), "jwks_uri", "https://", "https://h.example/keys;"),
        (without("discovery", jwks_uri="https://h/k#x"), "jwks_uri", "never sees", "https://h/k;"),
        ({**GOOD, "discovery": "https://h/.well-known/openid-configuration"}, "discovery", "none is needed",
         "write discovery: true; what it leads to is looked up below the issuer, here issuer: https://h"),
        ({**GOOD, "discovery": False}, "discovery", "false is not true", "write discovery: true"),
        (without("discovery", keys="https://h/k"), "keys", "a URL", "jwks_uri"),
        (without("discovery", keys="~/a.jwks"), "keys", "not the path of a file", "from this file's folder"),
        (without("tenants"), "tenants", "which tenants it may speak for", "for every tenant"),
        ({**GOOD, "tenants": "acme"}, "tenants", "'acme' is not a list", "write tenants: [acme]"),
        ({**GOOD, "tenants": ["acmee"]}, "tenants[0]", "no tenant 'acmee'", "did you mean acme?"),
        ({**GOOD, "tenants": ["us-*"]}, "tenants[0]", "no tenant's name begins with 'us-'", "tenants:"),
        ({**GOOD, "tenants": ["*-one"]}, "tenants[0]", "'*-one' is not a tenant's name", "eu-*"),
        ({**GOOD, "tenants": ["*", "acme"]}, "tenants", "takes every tenant", "remove"),
        (without("tenants", tenant="globex"), "tenant", "no tenant 'globex'", "tenants:"),
        ({**GOOD, "tenant": "acme"}, "tenants", "all its tokens are of `tenant`", "one of the two"),
        (without("tenants", tenant="acme", claims={"tenant": "org"}), "claims.tenant", "whatever a claim",
         "remove it"),
        ({**GOOD, "claims": {"scopes": "$.realm_access['roles'][*]"}}, "claims.scopes", "not where a claim",
         "write scopes: realm_access.roles;"),
        ({**GOOD, "claims": {"scopes": "scp roles"}}, "claims.scopes", "not where a claim",
         "write scopes: [scp, roles];"),
        ({**GOOD, "claims": {"scopes": ["/realm_access/roles"]}}, "claims.scopes[0]", "not where a claim",
         "write realm_access.roles;"),
        ({**GOOD, "claims": {"subject": "{azp"}}, "claims.subject", "not where a claim is", "role:{groups}"),
        ({**GOOD, "leeway": "1h"}, "leeway", "at most 10m", "write leeway: 10m"),
        (opaque(client_secret={"env": "A", "file": "b"}), "introspection.client_secret",
         "not where the secret is", "write client_secret: { env: CLIENT_SECRET };"),
        (opaque(client_secret="${KC_SECRET}"), "introspection.client_secret", "not where the secret is",
         "write client_secret: { env: KC_SECRET };"),
        (True, "", "true is not an issuer", "local"),
        (None, "", "an empty value is not an issuer", "local"),
    ],
)  # fmt: skip
def test_each_mistake_in_an_issuer_has_its_path_reason_and_hint(
    written: Any, where: str, reason: str, hint: str
) -> None:
    found = problems(config(shop=written))
    problem = found[f"issuers.shop.{where}".rstrip(".")]
    assert reason in problem.reason
    assert hint in problem.hint


@pytest.mark.parametrize(
    "secret",
    [
        opaque(client_secret=SECRET),
        opaque(client_secret={"env": SECRET}),
        opaque(client_secret={"env": 12345678}),
        opaque(client_secret={"value": SECRET}),
        opaque(client_secret=[SECRET]),
        opaque(client_secret={"file": f"-----BEGIN {SECRET}"}),
        without("discovery", keys=f'{{"keys": [{{"kty": "oct", "k": "{SECRET}"}}]}}'),
        without("discovery", keys=[{"k": SECRET}]),
        without("discovery", jwks_uri=f"https://user:{SECRET.replace('/', '')}@h/k"),
    ],
)
def test_a_secret_that_was_written_into_the_file_is_refused_and_never_told(secret: dict[str, Any]) -> None:
    data = config(shop=secret)
    told = "".join(f"{problem.where} {problem.reason} {problem.hint}" for problem in problems(data).values())
    assert "hunter2" not in told
    assert "12345678" not in told
    assert not SCHEMA.is_valid(data)


def test_two_issuers_never_share_an_iss() -> None:
    found = problems(config(a=GOOD, b=GOOD))
    assert found.keys() == {"issuers.b.issuer"}
    assert "the issuer 'a' has this `iss` too" in found["issuers.b.issuer"].reason
    same = without("discovery", issuer="gateway", keys="a")
    found = problems(config(a=same))
    assert "that of gateway.conf" in found["issuers.a.issuer"].reason
    assert "local: false" in found["issuers.a.issuer"].hint
    assert not compiled(config(a=same, local=False)).local_issuer


@pytest.mark.parametrize("written", [True, {}, GOOD, {"tenants": ["acme"]}, {"issuer": 1, "zzz": 2}, "no"])
def test_the_issuer_of_the_process_is_set_in_its_own_file(written: Any) -> None:
    data = config(local=written)
    (problem,) = problems(data).values()
    assert (problem.where, "[tokens]" in problem.reason) == ("issuers.local", True)
    assert "local: false" in problem.hint
    assert not SCHEMA.is_valid(data)


def test_no_other_issuer_is_switched_off() -> None:
    assert problems(config(shop=False)).keys() == {"issuers.shop"}


@pytest.mark.parametrize(
    ("written", "where", "reason", "hint"),
    [
        ({"public": True, "auth": ["jwt"]}, "auth", "looks at no credentials", "remove auth, or public"),
        ({"public": True, "issuers": ["shop"]}, "issuers", "looks at no credentials", "or public"),
        ({"public": True, "require": {"plan": "pro"}}, "require", "looks at no credentials", "or public"),
        ({"public": True, "bind": "request"}, "bind", "looks at no credentials", "or public"),
        ({"auth": ["JWT"]}, "auth[0]", "'JWT' is not one of jwt, api_key", "write jwt; or api_key"),
        ({"auth": "api_key"}, "auth", "not a list", "write auth: [api_key]"),
        ({"auth": []}, "auth", "an empty list", "write auth: [jwt]"),
        ({"issuers": ["shopp"]}, "issuers[0]", "no issuer 'shopp'", "did you mean shop? known: local, shop"),
        ({"auth": ["api_key"], "issuers": ["shop"]}, "issuers", "takes no tokens", "add jwt to auth"),
        ({"auth": ["api_key"], "require": {"plan": "pro"}}, "require", "takes no tokens", "add jwt"),
        ({"auth": ["jwt", "api_key"], "require": {"plan": "pro"}}, "auth", "no claims", "remove api_key"),
        ({"require": {"plan": []}}, "require.plan", "an empty list", "write plan: [pro]"),
        ({"require": {"role:{x}": "a"}}, "require.role:{x}", "not where a claim is", "plan"),
        ({"require": {"scope": "orders:read"}}, "require.scope", "many names in one text", "write scopes:"),
        ({"require": {"iss": "https://a"}}, "require.iss", "known by name", "write issuers:"),
        ({"bind": "request", "target": "plain"}, "bind", "not signed", "identity: signed"),
        ({"bind": "request", "target": "documents"}, "bind", "no identity is sent", "remove it"),
        ({"bind": True}, "bind", "true is not request", "write bind: request"),
    ],
)
def test_each_mistake_in_what_a_route_takes_has_its_path_reason_and_hint(
    written: dict[str, Any], where: str, reason: str, hint: str
) -> None:
    (problem,) = problems(config(route(**written), shop=GOOD)).values()
    assert problem.where == f"routes[0].{where}"
    assert reason in problem.reason
    assert hint in problem.hint


def test_a_route_cannot_take_the_issuer_that_is_switched_off() -> None:
    (problem,) = problems(config(route(issuers=["local"]), local=False, shop=GOOD)).values()
    assert "switched off" in problem.reason


def test_a_token_that_does_not_say_whose_it_is_is_asked_about_of_one_issuer_only() -> None:
    two = {"a": opaque(), "b": {**opaque(), "issuer": "b"}}
    found = problems(config(route(), route(name="s", path="/s"), **two))
    assert found.keys() == {"routes[0]"}
    assert "a and b" in found["routes[0]"].reason
    assert "1 other" in found["routes[0]"].reason
    open_one = route(name="o", path="/o", public=True)
    keys_only = route(name="k", path="/k", auth=["api_key"])
    assert compiled(config(route(issuers=["a", "local"]), open_one, keys_only, **two))


def test_one_mistake_in_an_issuer_is_not_reported_at_the_routes_and_tenants_that_are_right() -> None:
    assert problems(config(route(issuers=["shop"]), shop={**GOOD, "zzz": 1})).keys() == {"issuers.shop.zzz"}
    whole = {**config(route(issuers=["shop"])), "issuers": [1]}
    assert problems(whole).keys() == {"issuers"}
    for tenants in ({"acme": {"zzz": 1}}, ["acme"]):
        (where,) = problems({**config(shop=GOOD), "tenants": tenants})
        assert where.startswith("tenants")
    broken = {**BACKENDS, "signed": {"kind": "asab", "identity": "signed"}}
    assert problems({**config(route(bind="request")), "backends": broken}).keys() == {
        "backends.signed.addresses"
    }
