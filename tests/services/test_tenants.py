"""Rate limits of tenants, live."""

from __future__ import annotations

import pytest

from gateway.core.errors import TenantLimit
from gateway.core.limits import Rate
from gateway.core.model import Tenant, TenantId
from gateway.services.tenants import TenantLimits


class Clock:
    now = 50.0

    def __call__(self) -> float:
        return self.now


def tenant(name: str, rate: Rate | None) -> Tenant:
    return Tenant(TenantId(name), name, rate)


def test_past_its_burst_a_tenant_is_told_when_to_come_back() -> None:
    clock = Clock()
    limits, acme = TenantLimits(clock), tenant("acme", Rate(0.1, 2))
    limits.take(acme)
    limits.take(acme)
    with pytest.raises(TenantLimit) as caught:
        limits.take(acme)
    assert caught.value.headers["Retry-After"] == "10"
    assert caught.value.status == 429
    clock.now += 10
    limits.take(acme)


def test_refused_requests_do_not_push_the_next_one_further_away() -> None:
    clock = Clock()
    limits, acme = TenantLimits(clock), tenant("acme", Rate(1, 1))
    limits.take(acme)
    for _ in range(100):
        with pytest.raises(TenantLimit):
            limits.take(acme)
    clock.now += 1
    limits.take(acme)


def test_one_tenants_requests_are_not_anothers() -> None:
    limits = TenantLimits(Clock())
    limits.take(tenant("acme", Rate(1, 1)))
    limits.take(tenant("globex", Rate(1, 1)))


def test_a_tenant_without_a_rate_is_not_limited() -> None:
    limits = TenantLimits(Clock())
    for _ in range(1000):
        limits.take(tenant("acme", None))


def test_a_limit_that_was_raised_by_a_reload_counts_at_once_and_the_bucket_lives_on() -> None:
    clock = Clock()
    limits = TenantLimits(clock)
    limits.take(tenant("acme", Rate(1 / 3600, 1)))
    with pytest.raises(TenantLimit):
        limits.take(tenant("acme", Rate(1 / 3600, 1)))
    with pytest.raises(TenantLimit) as caught:
        limits.take(tenant("acme", Rate(1000, 10)))
    assert caught.value.headers["Retry-After"] == "1"
    clock.now += 0.002
    limits.take(tenant("acme", Rate(1000, 10)))
