"""What an issuer's claims become: the tenant, the subject and the scopes, by the rules for that issuer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.core.errors import Unauthenticated
from gateway.core.jwt.claims import claim, claim_texts, template
from gateway.core.jwt.issuer import ClaimRules, Introspection, Issuer, KeyUrl, SecretReference, TenantRule
from gateway.core.jwt.verify import MAX_SCOPES, identity_of
from gateway.core.model import Identity
from gateway.core.routing.issuers.words import check_template
from gateway.core.routing.problems import Wrong

NOW = 1_800_000_000.0
ISSUER = Issuer("partner", "https://id.example/", ("orders", "billing"), KeyUrl("https://id.example/keys"))
CLAIMS: dict[str, Any] = {
    "iss": "https://id.example/", "aud": "orders", "exp": NOW + 60, "iat": NOW - 10, "jti": "t-1",
    "tenant": "acme", "sub": "alice",
}  # fmt: skip


def identity(rules: ClaimRules = ISSUER.claims, tenants: TenantRule | None = None, **claims: Any) -> Identity:
    issuer = replace(ISSUER, claims=rules, tenants=tenants or ISSUER.tenants)
    return identity_of(_with(claims), issuer, NOW)


def _with(claims: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**CLAIMS, **claims}.items() if value is not None}


def scopes(*rules: str, **claims: Any) -> str:
    return identity(ClaimRules(scopes=rules), **claims).scope_text


def refusal(rules: ClaimRules = ISSUER.claims, tenants: TenantRule | None = None, **claims: Any) -> str:
    with pytest.raises(Unauthenticated) as caught:
        identity(rules, tenants, **claims)
    assert "canary" not in caught.value.detail
    return caught.value.detail


# --- an identity ------------------------------------------------------------------------------------


def test_an_identity_says_who_issued_it_when_and_for_how_long() -> None:
    who = identity(scope="a b")
    assert (who.tenant.value, who.subject, who.scopes, who.scope_text) == ("acme", "alice", {"a", "b"}, "a b")
    assert (who.issuer, who.kind, who.credential_id) == ("partner", "jwt", "t-1")
    assert (who.issued, who.expires, who.good_until) == (NOW - 10, NOW + 60, NOW + 120)
    assert who.claims == _with({"scope": "a b"})


@pytest.mark.parametrize("jti", [None, 7, "", "x" * 201, "a\nb", ["a"], "é"])
def test_an_identifier_that_could_not_be_written_in_a_list_is_none(jti: Any) -> None:
    assert identity(jti=jti).credential_id == ""


def test_a_token_that_does_not_say_when_it_was_issued_is_older_than_all() -> None:
    assert identity(iat=None).issued == 0.0


# --- where a claim is -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("a", {"b.c": 1, "b": {"c": 2}, "d": {"e": 5}}), ("a.b", {"c": 2}), ("a.b.c", 1), ("a.d.e", 5),
        ("https://e.x/c.tenant", "t"), ("https://e.x/c.z", None), ("https://e.x/z.tenant", None),
        ("r.shop.example.roles", 6), ("r.shop.roles", 7), ("r.shop", {"roles": 7, "example": 8}),
        ("x.y", 3), ("https://e.x/y", 4),
        ("a.b.d", None), ("a.z", None), ("z", None), ("list.0", None), ("list.a", None), ("", None),
    ],
)  # fmt: skip
def test_a_path_is_a_whole_name_or_leads_through_members(path: str, found: Any) -> None:
    claims = {
        "a": {"b.c": 1, "b": {"c": 2}, "d": {"e": 5}}, "x.y": 3, "x": {"y": 9}, "https://e.x/y": 4,
        "list": [{"a": 1}],
        "https://e.x/c": {"tenant": "t"},
        "r": {"shop.example": {"roles": 6}, "shop": {"roles": 7, "example": 8}},
    }  # fmt: skip
    assert claim(claims, path) == found


def test_texts_are_one_or_those_of_a_list() -> None:
    claims = {"a": "x", "b": ["x", 7, True, None, {"c": 1}, "", ["y"]], "c": 1.5}
    assert [claim_texts(claims, name) for name in "abcd"] == [["x"], ["x", "7", "true"], ["1.5"], []]


@pytest.mark.parametrize(
    ("rule", "parts"),
    [
        ("sub", ("", "sub", "")), ("https://e.x/t", ("", "https://e.x/t", "")),
        ("role:{a.b}", ("role:", "a.b", "")), ("{a}-x", ("", "a", "-x")), ("a}", None), ("{a", None),
        ("{}", None), ("x{}", None), ("{a}{b}", None), ("{{a}}", None), ("}a{", None), ("", None),
    ],
)  # fmt: skip
def test_a_template_holds_one_claim(rule: str, parts: tuple[str, str, str] | None) -> None:
    if parts is None:
        with pytest.raises(ValueError, match="one claim in braces"):
            template(rule)
    else:
        assert template(rule) == parts


@pytest.mark.parametrize(
    "rule",
    ["sub", "a.b", "https://e.x/t", "role:{a.b}", "{a}-x", "{a}-{b}", "{a", "a}", "{}", "{{a}}", "", "a b"],
)
def test_the_config_takes_the_rules_that_can_be_read_and_no_other(rule: str) -> None:
    def readable() -> bool:
        try:
            return bool(template(rule)) and " " not in rule
        except ValueError:
            return False

    def taken() -> bool:
        try:
            return check_template(rule) == rule
        except Wrong:
            return False

    assert readable() == taken()


# --- scopes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "claims", "text"),
    [
        ("scope", {"scope": "a b"}, "a b"),
        ("scope", {"scope": ["a", "b"]}, "a b"),
        ("scope", {"scope": ""}, ""),
        ("scope", {"scope": []}, ""),
        ("scope", {}, ""),
        ("realm_access.roles", {"realm_access": {"roles": ["a", "b"]}}, "a b"),
        ("https://e.x/roles", {"https://e.x/roles": ["a"]}, "a"),
        ("role:{groups}", {"groups": ["ops", "dev"]}, "role:ops role:dev"),
        ("role:{groups}", {"groups": "ops dev"}, "role:ops role:dev"),
        ("role:{groups}", {}, ""),
        ("{plan}:use", {"plan": "pro"}, "pro:use"),
        ("group:{groups}", {"groups": [7, "a/b"]}, "group:7 group:a/b"),
        ("scope", {"scope": "a b a"}, "a b"),
    ],
)
def test_scopes_are_read_as_a_text_a_list_or_a_template(rule: str, claims: dict[str, Any], text: str) -> None:
    assert scopes(rule, **claims) == text


def test_scopes_of_several_claims_count_together_and_each_once() -> None:
    found = scopes(
        "scp", "role:{roles}", "permissions", scp="read write", roles=["ops"], permissions=["read"]
    )
    assert found == "read write role:ops"


@pytest.mark.parametrize("name", ["two words", "é", "", " ", 'a"b', "a\\b", "a\nb", "\x7f", None, {}, ["x"]])
def test_an_entry_of_a_list_that_is_no_scope_is_left_out_and_never_read_as_two(name: Any) -> None:
    assert scopes("groups", groups=["before", name, "after"]) == "before after"
    assert scopes("role:{groups}", groups=[name, "after"]) == "role:after"


@pytest.mark.parametrize("value", ["a  b", " a", "a ", "a\tb", 'a"b', "é", 7, True, {"a": 1}])
def test_scopes_that_are_no_names_are_refused_with_the_claim(value: Any) -> None:
    assert "`realm.canonical`" in refusal(ClaimRules(scopes=("realm.canonical",)), realm={"canonical": value})


def test_scopes_that_no_header_could_carry_are_refused_and_said() -> None:
    fits = ["x" * 63] * 127 + ["y" * 64]  # with the spaces between them
    names = [f"{name[:-3]}{number:03}" for number, name in enumerate(fits)]
    assert len(scopes("groups", groups=names)) == MAX_SCOPES
    detail = refusal(ClaimRules(scopes=("groups",)), groups=[*names, "z"])
    assert "more than 8 KiB" in detail


# --- the subject ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "claims", "subject"),
    [
        ("sub", {}, "alice"), ("azp", {"azp": "etl"}, "etl"), ("client:{azp}", {"azp": "etl"}, "client:etl"),
        ("user.id", {"user": {"id": 42}}, "42"), ("sub", {"sub": "auth0|5f7c"}, "auth0|5f7c"),
        ("email", {"email": "a@b.example"}, "a@b.example"),
    ],
)  # fmt: skip
def test_the_subject_may_be_in_any_claim(rule: str, claims: dict[str, Any], subject: str) -> None:
    assert identity(ClaimRules(subject=rule), **claims).subject == subject


def test_a_subject_that_is_missing_or_unfit_is_named_by_its_claim() -> None:
    rules = ClaimRules(subject="client:{azp}")
    assert refusal(rules) == "The token has no `azp`."
    assert refusal(rules, azp="") == "The token has no `azp`."
    assert refusal(rules, azp="the canary") == "The token's `azp` must be 1 to 200 visible ASCII characters."
    assert refusal(rules, azp="x" * 194) == refusal(rules, azp="the canary")
    for value in (True, 1.5, {"canary": 1}, ["canary", "b"]):
        assert refusal(rules, azp=value) == "The token's `azp` must be one text."


# --- the tenant -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "claims"),
    [
        ("tenant", {}), ("org.slug", {"org": {"slug": "acme"}}), ("organization", {"organization": ["acme"]}),
        ("https://acme.example/tenant", {"https://acme.example/tenant": "acme"}), ("ac{t}", {"t": "me"}),
    ],
)  # fmt: skip
def test_the_tenant_may_be_in_any_claim(rule: str, claims: dict[str, Any]) -> None:
    assert identity(ClaimRules(tenant=rule), **claims).tenant.value == "acme"


@pytest.mark.parametrize("value", ["ACME Corp", "acme canary", "Acme", "-acme", "a.b", "a" * 64, "é"])
def test_a_tenant_that_is_no_name_is_refused_with_what_was_expected(value: str) -> None:
    detail = refusal(ClaimRules(tenant="https://e.x/tenant"), **{"https://e.x/tenant": value})
    assert detail == (
        "The token's `https://e.x/tenant` is not a tenant's name: 1 to 63 of a-z, 0-9 and -, the first no -."
    )


@pytest.mark.parametrize("value", [["acme", "globex"], [], {"acme": {}}, True, 1.0])
def test_a_token_speaks_for_one_tenant(value: Any) -> None:
    assert "`tenant` must be one text" in refusal(tenant=value)


TENANTS = ("acme", "globex", "acme-eu", "acmeeu")


@pytest.mark.parametrize(
    ("rule", "allowed"),
    [
        (TenantRule(any=True), TENANTS),
        (TenantRule(names=frozenset({"acme", "globex"})), ("acme", "globex")),
        (TenantRule(prefixes=("acme-",)), ("acme-eu",)),
        (TenantRule(prefixes=("acme-", "glo")), ("acme-eu", "globex")),
        (TenantRule(names=frozenset({"acme"}), prefixes=("acme-",)), ("acme", "acme-eu")),
        (TenantRule(), ()),
    ],
)
def test_an_issuer_speaks_for_its_tenants_alone(rule: TenantRule, allowed: tuple[str, ...]) -> None:
    for tenant in TENANTS:
        if tenant in allowed:
            assert identity(tenants=rule, tenant=tenant).tenant.value == tenant
        else:
            detail = refusal(tenants=rule, tenant=tenant)
            assert detail == "The token's issuer may not speak for the tenant in its `tenant`."


@pytest.mark.parametrize("value", ["globex", "ACME Corp", None, 7])
def test_an_issuer_of_one_tenant_speaks_for_it_whatever_its_tokens_say(value: Any) -> None:
    assert identity(tenants=TenantRule(fixed="acme"), tenant=value).tenant.value == "acme"


# --- introspection (RFC 7662) -----------------------------------------------------------------------

ASKED = replace(
    ISSUER, keys=Introspection("https://id.example/introspect", "gw", SecretReference(env="S"), keep=30.0)
)


def test_an_introspected_token_may_leave_out_issuer_audience_and_expiry() -> None:
    claims = {"active": True, "tenant": "acme", "sub": "alice", "scope": "a"}
    who = identity_of(claims, ASKED, NOW)
    assert (who.good_until, who.scope_text) == (NOW + 30, "a")
    assert who.expires > NOW + 1e9, "its issuer is asked again, and says when it is over"
    assert who.issuer == "partner"


def test_an_introspected_token_counts_until_it_expires_and_is_asked_about_again_before() -> None:
    assert identity_of(_with({"exp": NOW + 600}), ASKED, NOW).good_until == NOW + 30
    assert identity_of(_with({"exp": NOW + 600}), ASKED, NOW).expires == NOW + 600
    assert identity_of(_with({"exp": NOW - 50}), ASKED, NOW).good_until == NOW + 10


@pytest.mark.parametrize(
    "claims", [{"iss": "https://other.example/"}, {"aud": "other"}, {"exp": NOW - 61}, {"nbf": NOW + 61},
               {"aud": []}, {"iss": ""}]
)  # fmt: skip
def test_what_an_introspection_says_counts(claims: dict[str, Any]) -> None:
    with pytest.raises(Unauthenticated):
        identity_of(_with(claims), ASKED, NOW)
