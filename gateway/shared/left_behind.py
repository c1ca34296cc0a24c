"""What a worker that is gone has left inside backends, where the book of seats is kept elsewhere: whoever
keeps it is told in the worker's place, and again as it gets less."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.core.shared.seats import Busy, Pool, Report


class LeftBehind:
    """keys: of the pools that the worker had a part of. busy: by key, what may be inside, see Pool.lost.

    pools: what is still inside of each, as orphans.
    """

    def __init__(self, keys: Iterable[str], busy: Mapping[str, Busy]) -> None:
        self.pools = {key: Pool() for key in keys}
        for key, pool in self.pools.items():
            pool.lost("", busy.get(key, {}))
        self._known: dict[str, dict[str, int]] = {}  # to whoever keeps the book, by key and address

    def expire(self, now: float) -> None:
        """Free what is over at its deadline."""
        for pool in self.pools.values():
            pool.expire(now)

    def reports(self, now: float) -> dict[str, Report]:
        """By key, those that say something new: each in place of the one before, and never more than it."""
        return {
            key: _report(pool, now) for key, pool in self.pools.items() if _held(pool) != self._known.get(key)
        }

    def heard(self, reports: Mapping[str, Report]) -> None:
        """Whoever keeps the book knows these."""
        self._known.update({key: report["held"] for key, report in reports.items()})

    @property
    def is_over(self) -> bool:
        """Whether nothing is inside, and that is known."""
        return all(self._known.get(key) == {} for key in self.pools)


def _held(pool: Pool) -> dict[str, int]:
    return {one.address: one.count for one in pool.orphans}


def _report(pool: Pool, now: float) -> Report:
    lasts = max((one.until - now for one in pool.orphans), default=0.0)
    return {"seats": {}, "reserve": 0, "held": _held(pool), "demand": [], "lasts": max(0.0, lasts)}
