"""The limits on requests where several processes share them: out of what this one has leased."""

from __future__ import annotations

import random
from asyncio import Future
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Protocol

from gateway.call import Call
from gateway.core.errors import ClientLimit, TenantLimit
from gateway.core.policy.limits import LimitStatus, Rate, fields, limit_status
from gateway.core.shared.rates import ahead_of
from gateway.limits.checks import DAY, Check, Checks, DailyCounts, LimitError
from gateway.limits.leases import Lease, Leases, SharedRates

_ASKS = 3  # exchanges that a call waits for: what it asks for may go to another one that waits
_RETRY = 1.0  # seconds, where nobody could tell


class Exchange(Protocol):
    """See shared/exchange.py."""

    def wait(self) -> Future[None]: ...


class SharedLimits(Checks[Leases]):
    """All limits of one of several processes. chance: random, 0 to 1.

    A call of a tenant for which nothing is left here, although the book may have some, waits for its answer.
    One of a client's address never does: it may have its part of the burst on credit instead.
    """

    def __init__(
        self,
        exchange: Exchange,
        rates: SharedRates,
        quotas: DailyCounts,
        now: Callable[[], float] = monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._exchange = exchange
        self._rates = rates

        def kind(prefix: str, capacity: int) -> Leases:
            return Leases(rates, prefix, _part_of_burst if capacity else _ahead, capacity)

        super().__init__(kind, quotas, now, chance)

    async def take_later(self, call: Call) -> None:
        """What `take` does, after the book was asked. Raises TenantLimit."""
        for _ in range(_ASKS):
            await self._exchange.wait()
            if self.take(call):
                return
        raise TenantLimit("The tenant's rate limit could not be asked for in time.", retry_after=_RETRY)

    def _take(
        self,
        call: Call,
        checks: Sequence[Check[Leases]],
        error: LimitError,
        tenant: str = "",
        quota: int = 0,
    ) -> bool:
        now = self._now()
        taken: list[Lease] = []
        short: list[Lease] = []
        for leases, key, rate, name, detail in checks:
            lease = leases.take(key, rate, now)
            taken.append(lease)
            if lease.left > 0:
                continue
            wait = lease.wait(now)
            if wait == 0.0 and error is ClientLimit:
                wait = _RETRY
            if wait > 0.0:
                self._refuse(call, error, detail, limit_status(name, lease.bucket(now), now, rate), wait)
            short.append(lease)
        if quota:
            used = self._quotas.used(tenant)
            if used >= quota:
                self._refuse_quota(call, error, quota)
        if short:
            for lease in short:
                self._rates.ask(lease)
            return False
        if quota:
            self._quotas.count(tenant)
        for lease in taken:
            if lease.take():
                self._rates.short(lease)
        form = call.snapshot.limits.fields
        if form != "none":
            statuses = [
                limit_status(check[3], lease.bucket(now), now, check[2])
                for check, lease in zip(checks, taken, strict=True)
            ]
            if quota:
                statuses.append(LimitStatus("quota", quota, DAY, quota - used - 1, self._quotas.left_today))
            call.limit_fields = fields(form, statuses)
        return True


def _ahead(rate: Rate, members: int) -> int:
    return ahead_of(rate.per_second, rate.burst)


def _part_of_burst(rate: Rate, members: int) -> int:
    """Those of all members together are one burst."""
    return max(1, rate.burst // members)
