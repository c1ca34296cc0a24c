"""The ports between what is shared (rates, seats, ...) and whoever keeps the books of it.

A *part* is one kind of shared state, seen from a process that uses it: it takes at once from what it holds,
and tells in a report what it used and wants. A *book* is the same kind, seen from whoever decides: it turns
the report of a member into a grant. Reports and grants are JSON, and hold no absolute time: clocks differ.
"""

from __future__ import annotations

from typing import Any, Protocol

Body = dict[str, Any]


class Part(Protocol):
    """One kind of shared state in a process that uses it. name: of its part of a report."""

    name: str

    def report(self, now: float) -> Body | None:
        """What is to be told at `now`; None for nothing. Exactly one of `granted` and `lost` follows."""
        ...

    def granted(self, grant: Body, now: float) -> None:
        """What the book says to the last report. Checks what it gets: another version may have made it."""
        ...

    def lost(self, now: float) -> None:
        """The last report has no answer, and may or may not have been counted."""
        ...

    def due(self, now: float) -> float | None:
        """In how many seconds the next exchange is wanted at the latest; None while nothing is in use."""
        ...


class Book(Protocol):
    """Who holds what of one kind of shared state."""

    def exchange(self, member: str, report: Body, now: float) -> Body:
        """The grant for a member's report. now: any monotonic clock, the same for all calls."""
        ...

    def gone(self, member: str, now: float) -> None:
        """The member has ended (or was killed), and will report no more."""
        ...


class Away(Exception):
    """Whoever keeps the books does not respond: the reason, for people, without secrets."""
