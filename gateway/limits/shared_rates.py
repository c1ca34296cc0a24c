"""The limits on requests where several processes share them: out of what this one has leased."""

from __future__ import annotations

import random
from asyncio import Future
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Protocol

from gateway.call import Call
from gateway.core.errors import ClientLimit, TenantLimit
from gateway.core.policy.limits import limit_status
from gateway.limits.checks import Check, Checks, DailyCounts, LimitError
from gateway.limits.leases import Lease, Leases, SharedRates

_ASKS = 3  # exchanges that a call waits for: what it asks for may go to another one that waits
_RETRY = 1.0  # seconds, where nobody could tell


class Exchange(Protocol):
    """See shared/exchange.py."""

    def wait(self) -> Future[None]: ...


class SharedCounts(DailyCounts, Protocol):
    """See limits/shared_quotas.py."""

    def asks(self, tenant: str, quota: int) -> bool: ...
    def ask(self, tenant: str, quota: int) -> None: ...


class SharedLimits(Checks[Leases]):
    """All limits of one of several processes. chance: random, 0 to 1.

    A call for which nothing is left here, although the book may have some, waits for its answer. One that
    cannot, or while the book does not answer, has its part of the burst on credit instead, or leased ahead.
    """

    def __init__(
        self,
        exchange: Exchange,
        rates: SharedRates,
        quotas: SharedCounts,
        now: Callable[[], float] = monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._exchange = exchange
        self._rates = rates
        self._shared_quotas = quotas

        def kind(prefix: str, capacity: int) -> Leases:
            return Leases(rates, prefix, capacity)

        super().__init__(kind, quotas, now, chance)

    async def take_later(self, call: Call) -> None:
        """What `take` does, after the book was asked. Raises TenantLimit."""
        if not await self._later(call, self.take):
            raise TenantLimit("The tenant's rate limit could not be asked for in time.", retry_after=_RETRY)

    async def take_client_later(self, call: Call) -> None:
        """What `take_client` does, after the book was asked. Raises ClientLimit."""
        if not await self._later(call, self.take_client):
            raise ClientLimit("The limit of this address could not be asked for in time.", retry_after=_RETRY)

    async def _later(self, call: Call, take: Callable[[Call], bool]) -> bool:
        for _ in range(_ASKS):
            await self._exchange.wait()
            if take(call):
                return True
        return False

    def _take(
        self,
        call: Call,
        checks: Sequence[Check[Leases]],
        error: LimitError,
        tenant: str = "",
        quota: int = 0,
        waits: bool = True,
    ) -> bool:
        now = self._now()
        waits = waits and self._rates.answered
        taken: list[Lease] = []
        short: list[Lease] = []
        for leases, key, rate, name, detail in checks:
            lease = leases.take(key, rate, now, waits)
            taken.append(lease)
            if lease.left > 0:
                continue
            wait = lease.wait(now)
            if wait == 0.0 and not waits:
                wait = _RETRY
            if wait > 0.0:
                self._refuse(call, error, detail, limit_status(name, lease.bucket(now), now, rate), wait)
            short.append(lease)
        used, asks = 0, False
        if quota:
            used = self._quotas.used(tenant)
            if used >= quota:
                self._refuse_quota(call, error, quota)
            asks = self._shared_quotas.asks(tenant, quota)
        if short or asks:
            for lease in short:
                self._rates.ask(lease)
            if asks:
                self._shared_quotas.ask(tenant, quota)
            return False
        if quota:
            self._quotas.count(tenant)
        for lease in taken:
            if lease.take():
                self._rates.short(lease)
        if call.snapshot.limits.fields != "none":
            statuses = [
                limit_status(check[3], lease.bucket(now), now, check[2])
                for check, lease in zip(checks, taken, strict=True)
            ]
            self._show(call, statuses, quota, used)
        return True
