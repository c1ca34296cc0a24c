"""Limits of tenants, routes and client addresses, live."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest

from gateway.call import Call
from gateway.core.errors import ClientLimit, TenantLimit
from gateway.core.http.head import Head
from gateway.core.model import Route, Tenant, TenantId, TrustedProxies
from gateway.core.policy.limits import FieldsForm, LimitRules, Rate
from gateway.core.routing.snapshot import Snapshot
from gateway.limits.checks import CLIENTS
from gateway.limits.quotas import Quotas
from gateway.limits.rates import Buckets, Limits

NOON = 1_800_000_000 // 86400 * 86400 + 43200


class Clock:
    now = 50.0
    chance = 0.0

    def __call__(self) -> float:
        return self.now


class Limited:
    """Limits with a clock, a wall clock and a chance that a test sets."""

    def __init__(self, client: Rate | None = None, fields: FieldsForm = "none") -> None:
        self.clock = Clock()
        self.wall = Clock()
        self.wall.now = NOON
        self.chance = 0.0
        self.limits = Limits(Quotas(Path("never-read"), self.wall), self.clock, lambda: self.chance)
        self._snapshot = Snapshot(1, 0.0, "", None, {}, {}, TrustedProxies(), LimitRules(client, fields))  # type: ignore[arg-type]

    def take(self, tenant: Tenant, route: Rate | None = None, name: str = "r") -> Call:
        call = self._call(Route(name, "/", "t", None, rate=route))
        call.tenant = tenant
        self.limits.take(call)
        return call

    def take_client(self, peer: str, route: Rate | None = None, *, public: bool = True) -> Call:
        call = self._call(Route("r", "/", "t", None, rate=route, public=public), peer)
        self.limits.take_client(call)
        return call

    def _call(self, route: Any, peer: str = "192.0.2.1") -> Call:
        call = Call("GET", "/", Head(), peer, self._snapshot)
        call.route = route
        return call


def tenant(name: str, rate: Rate | None = None, quota: int = 0) -> Tenant:
    return Tenant(TenantId(name), name, rate, quota=quota)


def test_past_its_burst_a_tenant_is_told_when_to_come_back() -> None:
    limited, acme = Limited(), tenant("acme", Rate(0.1, 2))
    limited.take(acme)
    limited.take(acme)
    with pytest.raises(TenantLimit) as caught:
        limited.take(acme)
    assert caught.value.headers["Retry-After"] == "10"
    assert caught.value.status == 429
    limited.clock.now += 10
    limited.take(acme)


def test_refused_requests_do_not_push_the_next_one_further_away() -> None:
    limited, acme = Limited(), tenant("acme", Rate(1, 1))
    limited.take(acme)
    for _ in range(100):
        with pytest.raises(TenantLimit):
            limited.take(acme)
    limited.clock.now += 1
    limited.take(acme)


def test_one_tenants_requests_are_not_anothers() -> None:
    limited = Limited()
    for name in ("acme", "globex"):
        limited.take(tenant(name, Rate(1, 1)), Rate(1, 1))


def test_what_has_no_limit_is_not_limited() -> None:
    limited = Limited()
    for _ in range(1000):
        limited.take(tenant("acme"))
        limited.take_client("192.0.2.1")


def test_a_limit_that_was_raised_by_a_reload_counts_at_once_and_the_bucket_lives_on() -> None:
    limited = Limited()
    limited.take(tenant("acme", Rate(1 / 3600, 1)))
    with pytest.raises(TenantLimit):
        limited.take(tenant("acme", Rate(1 / 3600, 1)))
    with pytest.raises(TenantLimit) as caught:
        limited.take(tenant("acme", Rate(1000, 10)))
    assert caught.value.headers["Retry-After"] == "1"
    limited.clock.now += 0.002
    limited.take(tenant("acme", Rate(1000, 10)))


def test_a_routes_limit_is_for_each_tenant_on_that_route_alone() -> None:
    limited, acme, globex = Limited(), tenant("acme"), tenant("globex")
    limited.take(acme, Rate(1, 1), "a")
    with pytest.raises(TenantLimit, match="on this route"):
        limited.take(acme, Rate(1, 1), "a")
    limited.take(acme, Rate(1, 1), "b")
    limited.take(globex, Rate(1, 1), "a")


def test_what_one_limit_refuses_no_other_counts() -> None:
    limited, acme = Limited(), tenant("acme", Rate(1, 3), quota=3)
    limited.take(acme, Rate(0.01, 1))
    for _ in range(10):
        with pytest.raises(TenantLimit, match="on this route"):
            limited.take(acme, Rate(0.01, 1))
    limited.take(acme)
    limited.take(acme)
    limited.clock.now += 10
    with pytest.raises(TenantLimit, match="quota"):
        limited.take(acme)


def test_a_quota_begins_anew_at_midnight_utc_and_says_when_that_is() -> None:
    limited, acme = Limited(), tenant("acme", quota=2)
    limited.take(acme)
    limited.take(acme)
    with pytest.raises(TenantLimit, match="quota") as caught:
        limited.take(acme)
    assert caught.value.headers["Retry-After"] == "43200"
    limited.wall.now += 43199
    with pytest.raises(TenantLimit):
        limited.take(acme)
    limited.wall.now += 1
    limited.take(acme)
    limited.wall.now -= 2 * 86400  # a clock that is set back does not fill it
    limited.take(acme)
    with pytest.raises(TenantLimit):
        limited.take(acme)


def test_those_who_were_refused_together_are_told_different_times() -> None:
    limited, acme = Limited(), tenant("acme", Rate(0.01, 1))
    limited.take(acme)
    told = []
    for limited.chance in (0.0, 0.5, 1.0):
        with pytest.raises(TenantLimit) as caught:
            limited.take(acme)
        told.append(int(caught.value.headers["Retry-After"]))
    assert told == [100, 113, 125]


def test_client_addresses_are_limited_apart_and_ipv6_by_its_network() -> None:
    limited = Limited(client=Rate(1, 1))
    limited.take_client("192.0.2.1")
    limited.take_client("192.0.2.2")
    limited.take_client("2001:db8::1")
    for peer in ("192.0.2.1", "2001:db8::ffff:ffff"):
        with pytest.raises(ClientLimit) as caught:
            limited.take_client(peer)
        assert (caught.value.status, caught.value.code) == (429, "client_limit")
    limited.take_client("2001:db8:0:1::1")


def test_the_limit_of_a_public_route_is_for_each_client_address() -> None:
    limited = Limited()
    limited.take_client("192.0.2.1", Rate(1, 1))
    with pytest.raises(ClientLimit, match="this route"):
        limited.take_client("192.0.2.1", Rate(1, 1))
    limited.take_client("192.0.2.2", Rate(1, 1))
    limited.take_client("192.0.2.1", Rate(1, 1), public=False)  # there it is the tenants'


def test_a_flood_of_addresses_takes_bounded_memory_and_the_last_ones_are_remembered() -> None:
    buckets = Buckets(100)
    for number in range(10_000):
        buckets.put(f"a{number}", 1000.0, 1.0)
    assert len(buckets) == 100
    assert buckets.get("a9999") == 1000.0
    assert CLIENTS <= 100_000


def test_full_buckets_are_forgotten_in_passing() -> None:
    buckets = Buckets()
    for number in range(10_000):
        buckets.put(f"a{number}", number + 1.0, float(number))
    assert len(buckets) < 10


def test_a_key_in_use_outlives_a_flood() -> None:
    buckets = Buckets(10)
    for number in range(1000):
        buckets.put("mine", 5000.0, 1.0)
        buckets.put(f"a{number}", 5000.0, 1.0)
    assert buckets.get("mine") == 5000.0


def test_the_draft_fields_tell_of_every_limit() -> None:
    limited = Limited(fields="draft")
    call = limited.take(tenant("acme", Rate(10, 20), quota=100), Rate(1, 5))
    assert call.limit_fields == (
        ("RateLimit-Policy", '"tenant";q=20;w=2, "route";q=5;w=5, "quota";q=100;w=86400'),
        ("RateLimit", '"tenant";r=19;t=1, "route";r=4;t=1, "quota";r=99;t=43200'),
    )


def test_the_legacy_fields_tell_of_the_limit_with_the_least_left() -> None:
    limited = Limited(fields="legacy")
    call = limited.take(tenant("acme", Rate(10, 20), quota=100), Rate(1, 5))
    assert call.limit_fields == (
        ("X-RateLimit-Limit", "5"),
        ("X-RateLimit-Remaining", "4"),
        ("X-RateLimit-Reset", "1"),
    )


def test_a_refusal_tells_of_its_limit_and_its_reset_is_retry_after() -> None:
    limited, acme = Limited(fields="draft"), tenant("acme", Rate(0.1, 1))
    limited.take(acme)
    limited.chance = 1.0
    call = limited._call(Route("r", "/", "t", None))
    call.tenant = acme
    with pytest.raises(TenantLimit) as caught:
        limited.limits.take(call)
    assert caught.value.headers["Retry-After"] == "13"
    assert call.limit_fields == (
        ("RateLimit-Policy", '"tenant";q=1;w=10'),
        ("RateLimit", '"tenant";r=0;t=13'),
    )


@pytest.mark.parametrize("form", ["draft", "legacy"])
@pytest.mark.parametrize("rate", [Rate(1 / 60, 2), Rate(1 / 3, 2), Rate(1 / 86400, 2), Rate(0.1, 2)])
def test_a_whole_reset_is_told_as_that_at_every_moment_of_the_clock(form: FieldsForm, rate: Rate) -> None:
    """A sum of doubles is off by some nanoseconds, on which no rounding up to a whole second may hang."""
    seconds = round(1 / rate.per_second)
    random = Random(7)
    for _ in range(500):
        limited, acme = Limited(fields=form), tenant("acme", rate)
        limited.clock.now = random.random() * 10 ** random.randrange(8)
        for taken in (1, 2):
            fields = dict(limited.take(acme).limit_fields)
            if form == "draft":
                assert fields["RateLimit-Policy"] == f'"tenant";q=2;w={2 * seconds}'
                assert fields["RateLimit"] == f'"tenant";r={2 - taken};t={taken * seconds}'
            else:
                assert fields["X-RateLimit-Reset"] == str(taken * seconds)
        with pytest.raises(TenantLimit) as caught:
            limited.take(acme)
        assert caught.value.headers["Retry-After"] == str(seconds)


def test_without_a_form_there_are_no_fields() -> None:
    assert Limited().take(tenant("acme", Rate(1, 5))).limit_fields == ()
