"""[operators] and [operators:issuer] of gateway.conf, and what somebody has who is given several roles."""

from __future__ import annotations

import pytest

from gateway.core.config.operator import Grant, Operator, Role, together
from gateway.core.jwt.issuer import Discovery, KeyFile, KeyUrl
from tests.core.process.test_settings import parse, problems

SSO = """
[operators:issuer]
issuer = https://sso.example.com
audience = gateway-admin
discovery = yes
claim = roles
"""


def test_without_sections_nobody_is_named_and_there_is_no_issuer() -> None:
    found = parse("").operators
    assert (found.named, found.issuer) == (None, None)


def test_an_empty_section_names_nobody() -> None:
    assert parse("[operators]").operators.named == {}


def test_each_name_has_a_role_and_an_editor_has_patterns_by_kind() -> None:
    text = "[operators]\nalice = owner\nbob = Editor routes=shop-*,cart tenants=acme routes=x\ncarol = viewer"
    assert parse(text).operators.named == {
        "alice": Grant(Role.OWNER),
        "bob": Grant(Role.EDITOR, (("routes", ("shop-*", "cart", "x")), ("tenants", ("acme",)))),
        "carol": Grant(Role.VIEWER),
    }


@pytest.mark.parametrize(
    ("line", "reason", "hint"),
    [
        ("alice =", "it is empty", "owner, viewer"),
        ("alice = admin", "'admin' is no role", "owner, viewer"),
        ("alice = ownr", "'ownr' is no role", "did you mean owner?"),
        ("alice = editor", "an editor of nothing", "routes=*"),
        ("alice = viewer routes=*", "viewer is not bound to names", "remove"),
        ("alice = owner tenants=acme", "owner is not bound to names", "make it an editor"),
        ("alice = editor route=a", "'route=a' does not say which objects", "did you mean routes?"),
        ("alice = editor issuers=a", "does not say which objects", "routes, backends, tenants"),
        ("alice = editor routes=", "no pattern of names", "commas"),
        ("alice = editor routes=a,,b", "no pattern of names", "commas"),
        ("alice = editor routes=[a-z]", "no pattern of names", "commas"),
        ("alice = editor routes=a, b", "no pattern of names", "commas"),
        ("alice = owner ; the boss", "a comment", "line of its own"),
        ("alice = owner\n  bob = viewer", "the line below it is indented", "first column"),
        ("jürgen = owner", "no `sub` of a token", "its tokens have"),
        ("a b = owner", "no `sub` of a token", "its tokens have"),
        ("system:ops = owner", "'ops' is no role", "owner, viewer"),
    ],
)
def test_what_is_no_grant_is_refused(line: str, reason: str, hint: str) -> None:
    (problem,) = problems(f"[operators]\n{line}")
    assert reason in problem.reason and hint in problem.hint, problem


def test_an_issuer_of_operators_is_read_whole() -> None:
    text = SSO + (
        'owner = gateway-owners "Platform Team"\n'
        "editor = shop-team routes=shop-*\n"
        "    cn=eu,ou=staff tenants=eu-*\n"
        "viewer = staff\n"
        "name = email\nalgorithms = ES256, RS256"
    )
    found = parse(text).operators.issuer
    assert found is not None
    issuer = found.issuer
    assert (issuer.issuer, issuer.audiences) == ("https://sso.example.com", ("gateway-admin",))
    assert (issuer.algorithms, issuer.claims.subject) == (("ES256", "RS256"), "email")
    assert (issuer.keys, found.claim) == (Discovery(), "roles")
    assert dict(found.groups) == {
        "gateway-owners": Grant(Role.OWNER),
        "Platform Team": Grant(Role.OWNER),
        "shop-team": Grant(Role.EDITOR, (("routes", ("shop-*",)),)),
        "cn=eu,ou=staff": Grant(Role.EDITOR, (("tenants", ("eu-*",)),)),
        "staff": Grant(Role.VIEWER),
    }


def test_its_keys_are_fetched_without_secrets_and_may_be_in_a_file_beside_gateway_conf() -> None:
    base = SSO.replace("discovery = yes", "{}") + "owner = ops"
    by_url = parse(base.format("jwks_uri = https://sso.example.com/jwks")).operators.issuer
    in_file = parse(base.format("keys = sso.jwks")).operators.issuer
    assert by_url is not None and in_file is not None
    assert by_url.issuer.keys == KeyUrl("https://sso.example.com/jwks")
    assert not any(name.startswith("HS") for name in by_url.issuer.algorithms)
    assert in_file.issuer.keys == KeyFile("/etc/gateway/sso.jwks")


@pytest.mark.parametrize(
    ("text", "key", "reason"),
    [
        (SSO, "", "gives nobody a role"),
        (SSO + "owner = ops\njwks_uri = https://a/jwks", "jwks_uri", "discovery says already"),
        (SSO.replace("discovery = yes", "") + "owner = ops", "", "where its keys are"),
        (SSO.replace("discovery = yes", "discovery = no") + "owner = ops", "discovery", "only be yes"),
        (SSO.replace("audience = gateway-admin", "") + "owner = ops", "", "lacks audience"),
        (SSO.replace("gateway-admin", "*") + "owner = ops", "audience", "stands for itself"),
        (SSO.replace("claim = roles", "claim = $.roles[*]") + "owner = ops", "claim", "where a claim is"),
        (SSO.replace("https://sso.example.com", "gateway") + "owner = ops", "issuer", "has this `iss` too"),
        (SSO.replace("https://sso.example.com", "sso") + "owner = ops", "issuer", "no URL"),
        (SSO.replace("https", "http") + "owner = ops", "issuer", "without TLS"),
        (SSO + "owner = ops\nalgorithms = HS256", "algorithms", "done with a secret"),
        (SSO + "owner = ops\nalgorithms = none", "algorithms", "no signature"),
        (SSO + "owner = ops, sre", "owner", "'ops,' is no group"),
        (SSO + 'owner = "ops', "owner", "quote is not closed"),
        (SSO + "editor = routes=shop-*", "editor", "names no group"),
        (SSO + "editor = shop", "editor", "an editor of nothing"),
        (SSO + "editor = shop route=a", "editor", "does not say which objects"),
        (SSO + "owner = ops\n  editor = shop routes=*", "owner", "indented"),
        (SSO + "owner = ops ; all", "owner", "a comment"),
        (SSO + "owner = ops\nrole = x", "role", "unknown"),
    ],
)
def test_what_is_wrong_with_the_issuer_is_said_where_it_stands(text: str, key: str, reason: str) -> None:
    found = problems(text)
    path = ("[operators:issuer]", key) if key else ("[operators:issuer]",)
    assert any(one.path == path and reason in one.reason for one in found), found


def test_a_line_that_is_indented_by_mistake_gives_its_groups_nothing() -> None:
    """It would make owners of whoever is in the groups `editor` or `shop`."""
    assert problems(SSO + "owner = ops\n  editor = shop routes=*")


def test_of_several_grants_the_highest_role_counts_and_the_patterns_are_joined() -> None:
    shop = Grant(Role.EDITOR, (("routes", ("shop-*",)),))
    more = Grant(Role.EDITOR, (("routes", ("cart",)), ("tenants", ("acme",))))
    assert together([]) is None
    assert together([Grant(Role.VIEWER)]) == Grant(Role.VIEWER)
    assert together([Grant(Role.VIEWER), shop, more]) == Grant(
        Role.EDITOR, (("routes", ("shop-*", "cart")), ("tenants", ("acme",)))
    )
    owner = together([shop, Grant(Role.OWNER)])
    assert owner is not None and owner.role is Role.OWNER


def test_an_editor_changes_what_the_patterns_name_and_nothing_of_another_kind() -> None:
    bob = Operator("bob", Role.EDITOR, (("routes", ("shop-*",)), ("tenants", ("acme",))))
    assert bob.may_change("routes", "shop-cart") and bob.may_change("tenants", "acme")
    for kind, name in (
        ("routes", "shop"), ("routes", "Shop-cart"), ("backends", "shop-a"), ("tenants", "acme-eu"),
        ("issuers", "shop-a"), ("settings", "shop-a"),
    ):  # fmt: skip
        assert not bob.may_change(kind, name)
    assert Operator("a", Role.OWNER).may_change("issuers", "x")
    assert not Operator("v", Role.VIEWER, bob.patterns).may_change("routes", "shop-cart")
