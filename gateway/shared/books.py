"""The books of a process that keeps them itself: the master of a host, or a node while Redis is away."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic

from gateway.core.shared.ports import Body, Book


class Books:
    """All books of one process, by the name of their part. Pure but for the clock."""

    def __init__(self, books: Mapping[str, Book], now: Callable[[], float] = monotonic) -> None:
        self._books = dict(books)
        self._now = now

    def settle(self, member: str, reports: Mapping[str, Body]) -> dict[str, Body]:
        """The grants for the reports of a member. Raises ValueError for what is no report."""
        now, books = self._now(), self._books
        return {
            name: books[name].exchange(member, body, now) for name, body in reports.items() if name in books
        }

    def gone(self, member: str) -> None:
        """A member has ended."""
        now = self._now()
        for book in self._books.values():
            book.gone(member, now)
