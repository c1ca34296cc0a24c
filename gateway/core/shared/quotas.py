"""The book of shared quotas: how many requests each tenant has made today, in all processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from gateway.core.shared.ports import Body

NAME = "quotas"
_MOST = 10**15


class Counted(NamedTuple):
    """What a member reports of a tenant. day: since the epoch, as it has it. new: requests not told yet, less
    those that were granted and not used. known: in all, of what was told. want: requests that wait to be
    counted, of a quota of so many."""

    day: int
    new: int
    known: int
    want: int = 0
    quota: int = 0


class Total(NamedTuple):
    """requests: today, in all, with those granted now."""

    requests: int
    granted: int


class Counts(Protocol):
    """Who counts (limits/quotas.py)."""

    def used(self, tenant: str) -> int: ...
    def count(self, tenant: str, requests: int) -> None: ...


class QuotaBook:
    """A Book. counts: where requests are counted, and kept."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def exchange(self, member: str, report: Body, now: float) -> Body:
        """See `Book`. A report is {tenant: Counted}; a grant {tenant: Total}."""
        found: dict[str, Total] = {}
        for tenant, given in report.items():
            counted = counted_of(given)
            used = self._counts.used(tenant) + counted.new  # asked first: it may begin a day
            granted = max(0, min(counted.want, counted.quota - used))
            if counted.new + granted:
                self._counts.count(tenant, counted.new + granted)
            found[tenant] = Total(used + granted, granted)
        return found

    def gone(self, member: str, now: float) -> None:
        """What it counted counts."""


def counted_of(given: object) -> Counted:
    """A member's report of a tenant, as it came. Raises ValueError."""
    if not isinstance(given, list | tuple) or len(given) != len(Counted._fields):
        raise ValueError("no count of a tenant")
    if not all(isinstance(number, int) and -_MOST < number < _MOST for number in given):
        raise ValueError("no count of a tenant")
    return Counted(*given)


def totals_of(grant: Mapping[str, object]) -> dict[str, Total]:
    """A grant, as it came. Raises ValueError."""
    return {tenant: _total_of(given) for tenant, given in grant.items()}


def _total_of(given: object) -> Total:
    if not isinstance(given, list | tuple) or len(given) != len(Total._fields):
        raise ValueError("no total of a tenant")
    if not all(isinstance(number, int) and -_MOST < number < _MOST for number in given):
        raise ValueError("no total of a tenant")
    return Total(*given)
