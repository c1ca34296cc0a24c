"""The limits on requests, live: rates of tenants, of tenants on a route, of client addresses; daily quotas.

The limits themselves are in the snapshot; the buckets are here, so a reload resets nothing. A request that
one limit refuses is counted by none.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from time import monotonic
from typing import NoReturn

from gateway.call import Call
from gateway.core.errors import ClientLimit, GatewayError, TenantLimit
from gateway.core.policy.forwarding import client_key
from gateway.core.policy.limits import LimitStatus, Rate, fields, limit_status, take, with_jitter
from gateway.edge.response.cors import is_preflight
from gateway.limits.quotas import DAY, Quotas

CLIENTS = 65_536  # addresses at most; a flood of them forgets the one that called longest ago
_TENANT = "The tenant's rate limit is used up for now."
_ROUTE = "The tenant's rate limit on this route is used up for now."
_QUOTA = "The tenant's quota of requests is used up for today; the day ends at 00:00 UTC."
_CLIENT = "Too many requests without a known token came from this address."
_PREFLIGHT = "Too many preflight requests came from this address."
_CLIENT_ROUTE = "Too many requests came from this address to this route."


class Buckets:
    """Buckets by key. One that is full again is as good as absent, so idle keys are forgotten in passing.

    capacity: above it, the key that was taken from longest ago is forgotten; 0 is no bound.
    """

    def __init__(self, capacity: int = 0) -> None:
        self._capacity = capacity
        self._buckets: dict[str, float] = {}  # the one that was taken from last stands last

    def __len__(self) -> int:
        return len(self._buckets)

    def get(self, key: str) -> float | None:
        """The bucket of a key, None for a full one."""
        return self._buckets.get(key)

    def put(self, key: str, bucket: float, now: float) -> None:
        """Keep the bucket of a key that was taken from at `now`."""
        buckets = self._buckets
        if buckets.pop(key, None) is None:
            self._forget(now)
        buckets[key] = bucket

    def _forget(self, now: float) -> None:
        """Checks two old keys for each new one: more than enough to keep up with them."""
        for _ in range(2):
            oldest = next(iter(self._buckets), None)
            if oldest is None:
                return
            if self._buckets[oldest] > now and (not self._capacity or len(self._buckets) < self._capacity):
                return
            del self._buckets[oldest]


# One limit that holds for a call: where its bucket is, its rate, its name and the detail for the client. A
# plain tuple: a named one costs a request 0.3 µs more.
_Check = tuple[Buckets, str, Rate, str, str]


class Limits:
    """All limits of the process. chance: random, 0 to 1."""

    def __init__(
        self,
        quotas: Quotas,
        now: Callable[[], float] = monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._quotas = quotas
        self._now = now
        self._chance = chance
        self._tenants = Buckets()
        self._routes = Buckets()
        self._clients = Buckets(CLIENTS)
        self._preflights = Buckets(CLIENTS)
        self._client_routes = Buckets(CLIENTS)

    def take(self, call: Call) -> None:
        """Count a call of a tenant. Raises TenantLimit with the time to wait."""
        tenant, route = call.tenant, call.route
        assert tenant is not None and route is not None
        if tenant.rate is None and route.rate is None and not tenant.quota:
            return
        name = tenant.id.value
        checks: list[_Check] = []
        if tenant.rate is not None:
            checks.append((self._tenants, name, tenant.rate, "tenant", _TENANT))
        if route.rate is not None:
            checks.append((self._routes, f"{name} {route.name}", route.rate, "route", _ROUTE))
        self._take(call, checks, TenantLimit, name, tenant.quota)

    def take_client(self, call: Call) -> None:
        """Count a call of nobody known (a public route, a token that was not verified before, no route at
        all) against the client's address. Raises ClientLimit.

        Preflights have a bucket of their own: the browsers behind one address send one before most calls,
        and must neither use up what a first call with a token needs, nor wait because of calls without."""
        rate, route = call.snapshot.limits.client, call.route
        asks = is_preflight(call)
        route_rate = route.rate if route is not None and route.public and not asks else None
        if rate is None and route_rate is None:
            return
        key = client_key(call.peer, call.head.forwarded, call.snapshot.trusted)
        checks: list[_Check] = []
        if rate is not None:
            buckets, detail = (self._preflights, _PREFLIGHT) if asks else (self._clients, _CLIENT)
            checks.append((buckets, key, rate, "client", detail))
        if route is not None and route_rate is not None:
            where = f"{key} {route.name}"
            checks.append((self._client_routes, where, route_rate, "route", _CLIENT_ROUTE))
        self._take(call, checks, ClientLimit)

    def _take(
        self,
        call: Call,
        checks: Sequence[_Check],
        error: type[TenantLimit | ClientLimit],
        tenant: str = "",
        quota: int = 0,
    ) -> None:
        """All of them, or none and the error."""
        now, taken = self._now(), []
        for buckets, key, rate, name, detail in checks:
            bucket, wait = take(buckets.get(key), now, rate)
            if wait > 0:
                buckets.put(key, bucket, now)  # nothing is taken, but a raised rate counts from now on
                self._refuse(call, error, detail, limit_status(name, bucket, now, rate), wait)
            taken.append((buckets, key, bucket, rate, name))
        if quota:
            used = self._quotas.used(tenant)
            if used >= quota:
                wait = self._quotas.left_today
                self._refuse(call, error, _QUOTA, LimitStatus("quota", quota, DAY, 0, wait), wait)
            self._quotas.count(tenant)
        for buckets, key, bucket, _, _ in taken:
            buckets.put(key, bucket, now)
        form = call.snapshot.limits.fields
        if form != "none":
            statuses = [limit_status(name, bucket, now, rate) for _, _, bucket, rate, name in taken]
            if quota:
                statuses.append(LimitStatus("quota", quota, DAY, quota - used - 1, self._quotas.left_today))
            call.limit_fields = fields(form, statuses)

    def _refuse(
        self,
        call: Call,
        error: type[TenantLimit | ClientLimit],
        detail: str,
        status: LimitStatus,
        wait: float,
    ) -> NoReturn:
        """The error, with the status of its limit: the reset is the moment that Retry-After names."""
        wait = with_jitter(wait, self._chance())
        refusal: GatewayError = error(detail, retry_after=wait)
        reset = float(refusal.headers["Retry-After"])
        call.limit_fields = fields(call.snapshot.limits.fields, [status._replace(left=0, reset=reset)])
        raise refusal
