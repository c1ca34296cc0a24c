"""Whose a client's certificate is, by the names in it."""

from __future__ import annotations

import pytest

from gateway.core.errors import Unauthenticated
from gateway.core.model import Identity
from gateway.core.policy.certificates import Name, identify
from gateway.core.routing.compile import compile_data
from gateway.core.routing.problems import Problems

ROUTES = [{"name": "a", "path": "/a", "target": "documents", "auth": ["mtls"],
           "scopes": {"read": [], "write": [], "manage": []}}]  # fmt: skip


def rules(**entries: dict[str, object]):
    data = {"version": 1, "tenants": {"acme": {}, "globex": {}}, "certificates": entries, "routes": ROUTES}
    return compile_data(data, lambda of: None, "").certificates


def entry(*subjects: str, tenant: str = "acme", **more: object) -> dict[str, object]:
    return {"subjects": list(subjects), "tenant": tenant, **more}


def identity(found, *names: tuple[str, str], tls: str = "public") -> Identity:
    return identify(found, tls, [Name(*name) for name in names], "print", 1.0, 2.0)


def test_a_certificate_is_of_the_tenant_of_the_entry_that_has_its_name() -> None:
    found = rules(
        tills=entry("uri:spiffe://shop/till/*", scopes=["b", "a"]), ops=entry("cn:ops", tenant="globex")
    )
    known = identity(found, ("dns", "x"), ("uri", "spiffe://shop/till/7"))
    assert (str(known.tenant), known.subject, known.scope_text) == ("acme", "spiffe://shop/till/7", "a b")
    assert (known.kind, known.issuer, known.credential_id, known.issued, known.expires) == (
        *("mtls", "tills", "print"),
        *(1.0, 2.0),
    )
    assert str(identity(found, ("cn", "ops")).tenant) == "globex"


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        ("uri:spiffe://shop/till/*", ("uri", "spiffe://shop/till/")),
        ("uri:spiffe://shop/till/*", ("uri", "spiffe://other/till/7")),
        ("uri:spiffe://shop/till/*", ("cn", "spiffe://shop/till/7")),
        ("dns:*.shop.example", ("dns", "shop.example")),
        ("dns:*.shop.example", ("dns", "a.b.shop.example")),
        ("dns:*.shop.example", ("dns", "a.shop.example.evil")),
        ("email:*@shop.example", ("email", "a@b@shop.example")),
        ("email:*@shop.example", ("email", "a@evil.shop.example")),
        ("cn:till-7", ("cn", "till-70")),
        ("cn:till-7", ("cn", "TILL-7")),
        ("cn:*", ("cn", "with a space")),
        ("cn:*", ("cn", "line\nfeed")),
    ],
)
def test_what_no_entry_names_exactly_is_nobodys(subject: str, name: tuple[str, str]) -> None:
    with pytest.raises(Unauthenticated):
        identity(rules(tills=entry(subject)), name)


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        ("dns:*.shop.example", ("dns", "A.Shop.example")),
        ("email:*@shop.example", ("email", "a@shop.example")),
        ("cn:*", ("cn", "any")),
        ("cn:till-*", ("cn", "till-7")),
    ],
)
def test_a_star_stands_for_one_part(subject: str, name: tuple[str, str]) -> None:
    assert identity(rules(tills=entry(subject)), name).subject == name[1]


def test_a_certificate_that_two_entries_name_is_nobodys() -> None:
    found = rules(tills=entry("cn:till-*"), globex=entry("dns:*.globex.example", tenant="globex"))
    with pytest.raises(Unauthenticated):
        identity(found, ("cn", "till-7"), ("dns", "a.globex.example"))


def test_an_entry_with_tls_counts_for_that_section_alone() -> None:
    found = rules(till=entry("cn:x", tls="public"), partner=entry("cn:x", tls="partner", tenant="globex"))
    assert [str(identity(found, ("cn", "x"), tls=tls).tenant) for tls in ("public", "partner")] == [
        *("acme", "globex"),
    ]
    with pytest.raises(Unauthenticated):
        identity(found, ("cn", "x"), tls="other")


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"a": entry("cn:x", tenant="initech")}, "there is no tenant 'initech'"),
        ({"a": entry("cn:x"), "b": entry("cn:x")}, "'a' has it too"),
        ({"a": entry("cn:x", tls="one"), "b": entry("cn:x")}, "'a' has it too"),
        ({"a": entry("cn:x"), "b": entry("cn:x", tls="one")}, "'a' has it too"),
        ({"a": entry("cn:x", tls="one"), "b": entry("cn:x", tls="one")}, "'a' has it too"),
        ({"local": entry("cn:x")}, "an issuer has the name 'local' too"),
        ({"a": entry("uri:*://shop/")}, "* stands once"),
        ({"a": entry("dns:a.*.example")}, "* stands once"),
        ({"a": entry("spiffe://shop/x")}, "write uri:spiffe://shop/x"),
        ({}, "no certificate of a client is anybody's"),
    ],
)
def test_what_is_wrong_with_an_entry_is_said(entries: dict[str, dict[str, object]], said: str) -> None:
    with pytest.raises(Problems) as raised:
        rules(**entries)
    assert said in "; ".join(f"{one.reason}; {one.hint}" for one in raised.value.items)
