"""The book of shared quotas: how many requests each tenant has made today, in all processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from gateway.core.shared.ports import Body

NAME = "quotas"
_MOST = 10**15


class Counted(NamedTuple):
    """What a member reports of a tenant. day: since the epoch, as it has it. new: requests not told yet.
    known: in all, of what was told."""

    day: int
    new: int
    known: int


class Counts(Protocol):
    """Who counts (limits/quotas.py)."""

    def used(self, tenant: str) -> int: ...
    def count(self, tenant: str, requests: int) -> None: ...


class QuotaBook:
    """A Book. counts: where requests are counted, and kept."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def exchange(self, member: str, report: Body, now: float) -> Body:
        """See `Book`. A report is {tenant: Counted}; a grant {tenant: requests today, in all}."""
        found: dict[str, int] = {}
        for tenant, given in report.items():
            counted = counted_of(given)
            self._counts.used(tenant)  # may begin a day
            self._counts.count(tenant, counted.new)
            found[tenant] = self._counts.used(tenant)
        return found

    def gone(self, member: str, now: float) -> None:
        """What it counted counts."""


def counted_of(given: object) -> Counted:
    """A member's report of a tenant, as it came. Raises ValueError."""
    if not isinstance(given, list | tuple) or len(given) != len(Counted._fields):
        raise ValueError("no count of a tenant")
    if not all(isinstance(number, int) and 0 <= number < _MOST for number in given):
        raise ValueError("no count of a tenant")
    return Counted(*given)


def totals_of(grant: Mapping[str, object]) -> dict[str, int]:
    """A grant, as it came. Raises ValueError."""
    if not all(isinstance(total, int) and 0 <= total < _MOST for total in grant.values()):
        raise ValueError("no totals of tenants")
    return {tenant: int(str(total)) for tenant, total in grant.items()}
