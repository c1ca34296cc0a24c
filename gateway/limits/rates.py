"""The limits on requests, live: rates of tenants, of tenants on a route, of client addresses; daily quotas.

The buckets are here and not in the snapshot, so a reload resets nothing. Where several processes share the
rates, limits/shared_rates.py takes the place of this.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from time import monotonic

from gateway.call import Call
from gateway.core.policy.limits import limit_status, take
from gateway.limits.checks import Check, Checks, DailyCounts, LimitError


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


class Limits(Checks[Buckets]):
    """All limits of a process that shares none. chance: random, 0 to 1."""

    def __init__(
        self,
        quotas: DailyCounts,
        now: Callable[[], float] = monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(lambda prefix, capacity: Buckets(capacity), quotas, now, chance)

    async def take_later(self, call: Call) -> None:
        """Nothing: `take` can always tell."""

    async def take_client_later(self, call: Call) -> None:
        """Nothing: `take_client` can always tell."""

    def _take(
        self,
        call: Call,
        checks: Sequence[Check[Buckets]],
        error: LimitError,
        tenant: str = "",
        quota: int = 0,
        waits: bool = True,
    ) -> bool:
        now, taken = self._now(), []
        for buckets, key, rate, name, detail in checks:
            bucket, wait = take(buckets.get(key), now, rate)
            if wait > 0:
                buckets.put(key, bucket, now)  # nothing is taken, but a raised rate counts from now on
                self._refuse(call, error, detail, limit_status(name, bucket, now, rate), wait)
            taken.append((buckets, key, bucket, rate, name))
        used = 0
        if quota:
            used = self._quotas.used(tenant)
            if used >= quota:
                self._refuse_quota(call, error, quota)
            self._quotas.count(tenant)
        for buckets, key, bucket, _, _ in taken:
            buckets.put(key, bucket, now)
        if call.snapshot.limits.fields != "none":
            statuses = [limit_status(name, bucket, now, rate) for _, _, bucket, rate, name in taken]
            self._show(call, statuses, quota, used)
        return True
