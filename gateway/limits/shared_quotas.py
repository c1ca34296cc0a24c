"""Quotas of a day where several processes count together: what all have used, as of the last exchange, and
what this process has counted since.

Far from its end nothing is asked for, once it is known here how far that is. The last requests of a quota are
asked for one by one, so that all processes together give what one would.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from gateway.core.shared.ports import Body
from gateway.core.shared.quotas import NAME, Counted, totals_of
from gateway.limits.checks import DAY
from gateway.limits.leases import TICK

_LAST = 64  # requests of a quota that are asked for, and
_OTHERS = 8  # times as many as this process has counted since the last word: others may have, too


class SharedQuotas:
    """A Part (core/shared/ports.py). now: since the epoch."""

    name = NAME

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._day = 0
        self._away = False  # the last report had no answer: requests are counted and told later
        self._totals: dict[str, int] = {}  # as was told
        self._new: Counter[str] = Counter()
        self._told: Counter[str] = Counter()  # in the report that is under way,
        self._told_day = 0  # of that day
        self._wanted: dict[str, tuple[int, int]] = {}  # requests that wait, and the quota
        self._held: Counter[str] = Counter()  # granted, and not used yet: they are in the totals
        self._held_before: Counter[str] = Counter()  # at the last report

    def used(self, tenant: str) -> int:
        """Requests of the tenant today, in all processes."""
        day = int(self._now() // DAY)
        if day > self._day:
            self._day = day
            self._totals, self._wanted = {}, {}
            self._new, self._told = Counter(), Counter()
            self._held, self._held_before = Counter(), Counter()
        return self._totals.get(tenant, 0) + self._since(tenant) - self._held.get(tenant, 0)

    def asks(self, tenant: str, quota: int) -> bool:
        """Whether the book is to be asked before one more is counted; `used` was called before it."""
        if self._away or self._held.get(tenant, 0) > 0:
            return False
        total = self._totals.get(tenant)
        since = self._since(tenant)
        return total is None or quota - total - since <= _LAST + _OTHERS * since

    def ask(self, tenant: str, quota: int) -> None:
        """A call waits for the next grant."""
        waiting, _ = self._wanted.get(tenant, (0, 0))
        self._wanted[tenant] = waiting + 1, quota

    def count(self, tenant: str) -> None:
        """One request more; `used` was called before it."""
        if self._held.get(tenant, 0) > 0:
            self._held[tenant] -= 1
            return
        self._new[tenant] += 1

    @property
    def left_today(self) -> float:
        """Seconds until the next day begins."""
        return (self._day + 1) * DAY - self._now()

    def _since(self, tenant: str) -> int:
        """What was counted here since the last word."""
        return self._told.get(tenant, 0) + self._new.get(tenant, 0)

    # --- Part ---

    def due(self, now: float) -> float | None:
        """See `Part`."""
        return TICK if self._new or +self._held else None

    def report(self, now: float) -> Body | None:
        """See `Part`. What was held at the last report already goes back: its call has left, or was refused
        by another limit."""
        back = +(self._held & self._held_before)
        self._held -= back
        self._held_before = Counter(self._held)
        self._new.subtract(back)
        if not self._new and not self._wanted:
            return None
        self._told, self._new, self._told_day = self._new, Counter(), self._day
        wanted, self._wanted = self._wanted, {}
        return {
            tenant: Counted(
                self._day, self._told[tenant], self._totals.get(tenant, 0), *wanted.get(tenant, (0, 0))
            )
            for tenant in {**self._told, **wanted}
        }

    def granted(self, grant: Body, now: float) -> None:
        """See `Part`."""
        self._away = False
        self._told = Counter()
        for tenant, total in totals_of(grant).items():
            if self._told_day == self._day:  # else that day is over
                self._totals[tenant] = total.requests
                self._held[tenant] += total.granted

    def lost(self, now: float) -> None:
        """See `Part`. It may have been counted all the same: then it is counted twice, never not at all."""
        self._away = True
        self._new.update(self._told)
        self._told = Counter()
