"""Rate limits of tenants: the live buckets; the limits themselves are in the snapshot."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from gateway.core.errors import TenantLimit
from gateway.core.limits import take
from gateway.core.model import Tenant


class TenantLimits:
    """One bucket per tenant that has a limit and has called: as many as the config has had at most."""

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._buckets: dict[str, float] = {}

    def take(self, tenant: Tenant) -> None:
        """Count one request of the tenant. Raises TenantLimit with the time to wait."""
        if tenant.rate is None:
            return
        name = tenant.id.value
        self._buckets[name], wait = take(self._buckets.get(name), self._now(), tenant.rate)
        if wait > 0:
            raise TenantLimit("The tenant's rate limit is used up for now.", retry_after=wait)
