"""Which limits hold for a call: of its tenant, of its tenant on its route, of its client's address, and the
tenant's quota of the day. A request that one limit refuses is counted by none.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Generic, NoReturn, Protocol, TypeVar

from gateway.call import Call
from gateway.core.errors import ClientLimit, GatewayError, TenantLimit
from gateway.core.policy.forwarding import client_key
from gateway.core.policy.limits import LimitStatus, Rate, fields, with_jitter
from gateway.edge.response.cors import is_preflight

CLIENTS = 65_536  # addresses at most; a flood of them forgets the one that called longest ago
DAY = 86400
_TENANT = "The tenant's rate limit is used up for now."
_ROUTE = "The tenant's rate limit on this route is used up for now."
_QUOTA = "The tenant's quota of requests is used up for today; the day ends at 00:00 UTC."
_CLIENT = "Too many requests without a known token came from this address."
_PREFLIGHT = "Too many preflight requests came from this address."
_CLIENT_ROUTE = "Too many requests came from this address to this route."

Kind = TypeVar("Kind")
# One limit that holds for a call: where its bucket is, its rate, its name and the detail for the client. A
# plain tuple: a named one costs a request 0.3 µs more.
Check = tuple[Kind, str, Rate, str, str]
LimitError = type[TenantLimit | ClientLimit]


class DailyCounts(Protocol):
    """The requests of tenants in a day (limits/quotas.py)."""

    def used(self, tenant: str) -> int: ...
    def count(self, tenant: str) -> None: ...
    @property
    def left_today(self) -> float: ...


class Checks(ABC, Generic[Kind]):
    """Finds the limits of a call; `_take` counts it. The limits themselves are in the snapshot. kind(prefix,
    capacity): makes what has the buckets of one kind of key."""

    def __init__(
        self,
        kind: Callable[[str, int], Kind],
        quotas: DailyCounts,
        now: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self._quotas = quotas
        self._now = now
        self._chance = chance
        self._tenants, self._routes = kind("tenant", 0), kind("route", 0)
        self._clients, self._preflights = kind("client", CLIENTS), kind("preflight", CLIENTS)
        self._client_routes = kind("client-route", CLIENTS)

    @abstractmethod
    def _take(
        self,
        call: Call,
        checks: Sequence[Check[Kind]],
        error: LimitError,
        tenant: str = "",
        quota: int = 0,
        waits: bool = True,
    ) -> bool:
        """All of them, or none and the error. False, where the call may wait: it does, for others to say."""

    def take(self, call: Call) -> bool:
        """Count a call of a tenant. False: only `take_later` can tell. Raises TenantLimit with the time to
        wait."""
        tenant, route = call.tenant, call.route
        assert tenant is not None and route is not None
        if tenant.rate is None and route.rate is None and not tenant.quota:
            return True
        name = tenant.id.value
        checks: list[Check[Kind]] = []
        if tenant.rate is not None:
            checks.append((self._tenants, name, tenant.rate, "tenant", _TENANT))
        if route.rate is not None:
            checks.append((self._routes, f"{name} {route.name}", route.rate, "route", _ROUTE))
        return self._take(call, checks, TenantLimit, name, tenant.quota)

    def take_client(self, call: Call) -> bool:
        """Count a call of nobody known (a public route, a token that was not verified before) against the
        client's address. False: only `take_client_later` can tell. Raises ClientLimit."""
        checks = self._of_client(call)
        return not checks or self._take(call, checks, ClientLimit)

    def take_client_now(self, call: Call) -> None:
        """The same for a call that cannot wait: a preflight, or one that is refused anyway. Raises
        ClientLimit."""
        if checks := self._of_client(call):
            self._take(call, checks, ClientLimit, waits=False)

    def _of_client(self, call: Call) -> list[Check[Kind]]:
        """The limits of the client's address.

        Preflights have a bucket of their own: the browsers behind one address send one before most calls,
        and must neither use up what a first call with a token needs, nor wait because of calls without."""
        rate, route = call.snapshot.limits.client, call.route
        asks = is_preflight(call)
        route_rate = route.rate if route is not None and route.public and not asks else None
        if rate is None and route_rate is None:
            return []
        key = client_key(call.peer, call.head.forwarded, call.snapshot.trusted)
        checks: list[Check[Kind]] = []
        if rate is not None:
            buckets, detail = (self._preflights, _PREFLIGHT) if asks else (self._clients, _CLIENT)
            checks.append((buckets, key, rate, "client", detail))
        if route is not None and route_rate is not None:
            where = f"{key} {route.name}"
            checks.append((self._client_routes, where, route_rate, "route", _CLIENT_ROUTE))
        return checks

    def _show(self, call: Call, statuses: list[LimitStatus], quota: int, used: int) -> None:
        """Tell the client of its limits. statuses: of those by rate. used: of the quota, without this call;
        counts where there is a quota (0: none)."""
        if quota:
            statuses.append(LimitStatus("quota", quota, DAY, quota - used - 1, self._quotas.left_today))
        call.limit_fields = fields(call.snapshot.limits.fields, statuses)

    def _refuse(
        self,
        call: Call,
        error: LimitError,
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

    def _refuse_quota(self, call: Call, error: LimitError, quota: int) -> NoReturn:
        wait = self._quotas.left_today
        self._refuse(call, error, _QUOTA, LimitStatus("quota", quota, DAY, 0, wait), wait)
