"""Leases of seats, seen from a node whose reports may not be heard: what it goes on with alone."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.core.shared.seats import Grant, Report

Pools = Mapping[str, Report]
_GONE: Grant = {"lease": {}, "part": 0, "reserve": 0, "scarce": False, "even": 1}


class Kept:
    """The leases that the keeper has written down at least, of each holder (a process of this node) and pool.

    A report that is under way may have been heard or not: from then on it counts, as it is never more than
    the lease before it.
    """

    def __init__(self) -> None:
        self._leases: dict[tuple[str, str], dict[str, int]] = {}
        self._left: dict[str, dict[str, Report]] = {}  # pools that were left, and nobody heard it; by holder

    def to_tell(self, holder: str, pools: Pools) -> dict[str, Report]:
        """What is sent: the reports, and what was not heard of pools that were left."""
        for key, report in pools.items():
            self._leases[holder, key] = dict(report["held"])
        return self._left.pop(holder, {}) | dict(pools)

    def granted(self, holder: str, grants: Mapping[str, Grant]) -> None:
        """The keeper has answered."""
        for key, grant in grants.items():
            if grant["lease"]:
                self._leases[holder, key] = dict(grant["lease"])
            else:
                self._leases.pop((holder, key), None)

    def lost(self, holder: str, told: Pools) -> None:
        """What was sent has no answer."""
        left = {key: report for key, report in told.items() if not report["seats"]}
        if left:
            self._left[holder] = left | self._left.get(holder, {})

    def alone(self, holder: str, pools: Pools, scale: float, *, late: bool) -> dict[str, Grant]:
        """The grants while the keeper is away. scale: the part of a pool that was not leased before, at least
        one seat at each address. late: the keeper may soon give the leases to others; so this node comes
        down to one seat at each address."""
        return {key: self._grant(holder, key, report, scale, late) for key, report in pools.items()}

    def _grant(self, holder: str, key: str, report: Report, scale: float, late: bool) -> Grant:
        seats, held = report["seats"], report["held"]
        if not seats:
            self._leases.pop((holder, key), None)
            self.lost(holder, {key: report})
            return _GONE
        each = {address: max(1, int(count * scale)) for address, count in seats.items() if count}
        kept = self._leases.setdefault((holder, key), each)
        if late:
            kept = dict.fromkeys(each, 1)
        lease = {a: max(kept.get(a, 0), held.get(a, 0)) for a in sorted({*kept, *held})}
        part = sum(kept.values())
        return {
            "lease": lease,
            "part": part,
            "reserve": min(report["reserve"], max(0, part - 1)),
            "scarce": late,
            "even": max(1, part),
        }
