"""Quotas of a day where several processes count together: what all have used, as of the last exchange, and
what this process has counted since."""

from __future__ import annotations

import time
from collections.abc import Callable

from gateway.core.shared.ports import Body
from gateway.core.shared.quotas import NAME, Counted, totals_of
from gateway.limits.checks import DAY
from gateway.limits.leases import TICK


class SharedQuotas:
    """A Part (core/shared/ports.py). kick: asks for an exchange soon. now: since the epoch."""

    name = NAME

    def __init__(self, kick: Callable[[], None], now: Callable[[], float] = time.time) -> None:
        self._kick = kick
        self._now = now
        self._day = 0
        self._totals: dict[str, int] = {}  # as was told
        self._new: dict[str, int] = {}
        self._told: dict[str, int] = {}  # in the report that is under way

    def used(self, tenant: str) -> int:
        """Requests of the tenant today, in all processes."""
        day = int(self._now() // DAY)
        if day > self._day:
            self._day = day
            self._totals, self._new, self._told = {}, {}, {}
        return self._totals.get(tenant, 0) + self._told.get(tenant, 0) + self._new.get(tenant, 0)

    def count(self, tenant: str) -> None:
        """One request more; `used` was called before it."""
        new = self._new
        if tenant in new:
            new[tenant] += 1
        else:
            new[tenant] = 1
            if tenant not in self._totals:
                self._kick()  # so that it is soon known what the others have counted

    @property
    def left_today(self) -> float:
        """Seconds until the next day begins."""
        return (self._day + 1) * DAY - self._now()

    # --- Part ---

    def due(self, now: float) -> float | None:
        """See `Part`."""
        return TICK if self._new else None

    def report(self, now: float) -> Body | None:
        """See `Part`."""
        if not self._new:
            return None
        self._told, self._new = self._new, {}
        day, totals = self._day, self._totals
        return {tenant: Counted(day, new, totals.get(tenant, 0)) for tenant, new in self._told.items()}

    def granted(self, grant: Body, now: float) -> None:
        """See `Part`."""
        told, self._told = self._told, {}
        if told:  # else the day is over
            self._totals.update(totals_of(grant))

    def lost(self, now: float) -> None:
        """See `Part`. It may have been counted all the same: then it is counted twice, never not at all."""
        for tenant, requests in self._told.items():
            self._new[tenant] = self._new.get(tenant, 0) + requests
        self._told = {}
