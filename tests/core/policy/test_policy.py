"""Tenancy, scopes, rates, balance: small policies as plain functions."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import Forbidden
from gateway.core.model import Backend, Identity, Route, Tenant, TenantId
from gateway.core.policy import access
from gateway.core.policy.limits import Rate, take

ACME = TenantId("acme")
TENANTS = {"acme": Tenant(ACME, "Acme"), "off": Tenant(TenantId("off"), "Off", disabled=True)}


def who(tenant: str = "acme", *scopes: str) -> Identity:
    return Identity(TenantId(tenant), "alice", frozenset(scopes), 0.0)


# --- tenancy ---------------------------------------------------------------------------------------


def test_the_token_says_which_tenant() -> None:
    assert access.resolve_tenant(who(), TENANTS, []) is TENANTS["acme"]
    assert access.resolve_tenant(who(), TENANTS, ["acme", "acme"]) is TENANTS["acme"]


@pytest.mark.parametrize("named", [["globex"], ["acme", "globex"], [""], ["ACME"], ["acme "], ["acme,acme"]])
def test_a_tenant_named_elsewhere_must_agree(named: list[str]) -> None:
    with pytest.raises(Forbidden, match="another tenant"):
        access.resolve_tenant(who(), TENANTS, named)


def test_an_unknown_and_a_disabled_tenant_get_the_same_answer() -> None:
    answers = set()
    for name in ("off", "nobody"):
        with pytest.raises(Forbidden) as caught:
            access.resolve_tenant(who(name), TENANTS, [])
        answers.add((caught.value.detail, tuple(caught.value.headers)))
    assert len(answers) == 1


@pytest.mark.parametrize("name", ["a", "0", "a-b-", "a" * 63])
def test_a_tenants_name(name: str) -> None:
    assert str(TenantId(name)) == name


@pytest.mark.parametrize("name", ["", "-a", "A", "a_b", "a.b", "a\n", "a" * 64, "é", "../a"])
def test_a_bad_tenants_name_is_no_value(name: str) -> None:
    with pytest.raises(ValueError, match="tenant's name"):
        TenantId(name)


# --- access ----------------------------------------------------------------------------------------

ROUTE = Route(
    "r", "/", "t", None, read_scopes=frozenset({"r"}), write_scopes=frozenset({"w", "x"}),
    method_scopes={"DELETE": frozenset({"d"}), "GET": frozenset({"g"}), "PURGE": frozenset()},
)  # fmt: skip


@pytest.mark.parametrize(
    ("method", "needed"),
    [("OPTIONS", {"r"}), ("QUERY", {"r"}), ("GET", {"g"}), ("HEAD", {"g"}), ("POST", {"w", "x"}),
     ("DELETE", {"d"}), ("BREW", {"w", "x"}), ("PURGE", set())],
)  # fmt: skip
def test_a_methods_own_scopes_then_read_or_write_and_unknown_methods_write(
    method: str, needed: set[str]
) -> None:
    assert ROUTE.scopes_for(method) == needed
    access.require(ROUTE, method, who("acme", *needed))


def test_head_has_its_own_scopes_where_they_are_written() -> None:
    route = Route("r", "/", "t", None, method_scopes={"GET": frozenset({"g"}), "HEAD": frozenset({"h"})})
    assert route.scopes_for("HEAD") == {"h"}


def test_all_scopes_are_needed_and_the_missing_ones_are_named() -> None:
    with pytest.raises(Forbidden, match=r"lacks the scope x\.") as caught:
        access.require(ROUTE, "POST", who("acme", "w", "other"))
    assert caught.value.headers["WWW-Authenticate"] == 'Bearer error="insufficient_scope", scope="x"'


def test_no_scope_is_part_of_another() -> None:
    with pytest.raises(Forbidden):
        access.require(ROUTE, "GET", who("acme", "gg", "G", "g:read"))


BY_COLLECTION = replace(ROUTE, by_collection=True, manage_scopes=frozenset({"m"}))


def test_where_scopes_count_by_collection_the_target_asks() -> None:
    access.require(BY_COLLECTION, "POST", who("acme"))


@pytest.mark.parametrize(
    ("action", "scopes", "may"),
    [("GET", "g", True), ("GET", "g:orders", True), ("GET", "g:order", False), ("GET", "g:orders2", False),
     ("GET", "g:", False), ("POST", "w x:orders", True), ("POST", "w", False), ("DELETE", "d:orders", True),
     ("PUT", "w:orders x:orders", True), ("manage", "m", True), ("manage", "m:orders", True),
     ("manage", "g w x d", False), ("PURGE", "", True)],
)  # fmt: skip
def test_a_scope_counts_for_all_collections_or_with_a_name_for_one(
    action: str, scopes: str, may: bool
) -> None:
    identity = who("acme", *scopes.split())
    assert access.allows(BY_COLLECTION, action, "orders", identity) is may
    if may:
        access.require_in(BY_COLLECTION, [action], "orders", identity)
        return
    with pytest.raises(Forbidden):
        access.require_in(BY_COLLECTION, [action], "orders", identity)


def test_several_actions_need_the_scopes_of_each() -> None:
    identity = who("acme", "g", "w", "x:orders")
    access.require_in(BY_COLLECTION, ["GET", "POST"], "orders", identity)
    with pytest.raises(Forbidden, match=r"lacks the scope d\."):
        access.require_in(BY_COLLECTION, ["GET", "POST", "DELETE"], "orders", identity)


# --- rates -----------------------------------------------------------------------------------------

RATES = st.builds(Rate, st.floats(0.01, 10_000), st.integers(1, 1000))


def test_a_full_bucket_gives_its_burst_and_then_one_per_interval() -> None:
    rate, bucket = Rate(10, 3), None
    for _ in range(3):
        bucket, wait = take(bucket, 100.0, rate)
        assert wait == 0
    after, wait = take(bucket, 100.0, rate)
    assert wait == pytest.approx(0.1)
    assert after == bucket
    assert take(bucket, 100.1, rate)[1] == 0


@given(RATES, st.lists(st.floats(0, 10), max_size=200), st.floats(0, 1e6))
def test_never_more_than_burst_plus_rate_times_time(rate: Rate, gaps: list[float], start: float) -> None:
    now, bucket, taken = start, None, []
    for gap in gaps:
        now += gap / rate.per_second
        bucket, wait = take(bucket, now, rate)
        if wait == 0:
            taken.append(now)
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            most = rate.burst + rate.per_second * (taken[last] - taken[first]) + 1e-3
            assert last - first + 1 <= most


@given(RATES, st.integers(1, 50))
def test_after_the_wait_there_is_one(rate: Rate, tries: int) -> None:
    bucket = None
    for _ in range(rate.burst + tries):
        bucket, wait = take(bucket, 5.0, rate)
    assert wait > 0
    assert wait <= 1 / rate.per_second + 1e-6
    assert take(bucket, 5.0 + wait, rate)[1] == 0


def test_a_raised_rate_counts_at_once() -> None:
    slow, fast = Rate(1 / 3600, 1), Rate(1000, 10)
    bucket, _ = take(None, 0.0, slow)
    assert take(bucket, 0.0, slow)[1] == pytest.approx(3600)
    assert take(bucket, 0.0, fast)[1] <= 0.001


# --- balance ---------------------------------------------------------------------------------------


def test_a_backend_is_threaded_when_it_has_threads() -> None:
    assert Backend("b", "gunicorn", (), 8).threaded
    assert not Backend("b", "uvicorn", ()).threaded


def test_a_warm_connection_is_let_go_before_the_server_closes_it() -> None:
    closes_after = {"gunicorn": 2.0, "uvicorn": 5.0, "asab": 75.0, "http": 5.0}
    for kind, seconds in closes_after.items():
        assert Backend("b", kind, ()).reuse_idle < seconds
