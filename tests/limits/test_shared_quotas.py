"""Quotas that several processes count together: the last requests of a day are given as one process would.

Each member is the part of one process; the book and the time are in the test.
"""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.shared.quotas import QuotaBook
from gateway.limits.shared_quotas import SharedQuotas

NOON = 20_000 * 86_400.0 + 43_200.0


class Counts:
    """What the file of a host has."""

    def __init__(self) -> None:
        self.all: Counter[str] = Counter()

    def used(self, tenant: str) -> int:
        return self.all[tenant]

    def count(self, tenant: str, requests: int) -> None:
        self.all[tenant] += requests


class Member:
    """One process. down: its exchange does not respond."""

    def __init__(self, book: QuotaBook) -> None:
        self.book, self.down = book, False
        self.part = SharedQuotas(lambda: NOON)

    def exchange(self) -> None:
        report = self.part.report(0.0)
        if report is not None and self.down:
            self.part.lost(0.0)
        elif report is not None:
            self.part.granted(self.book.exchange("a", report, 0.0), 0.0)

    def take(self, quota: int) -> bool:
        """Whether a call is let through, after a wait if need be."""
        for _ in range(3):
            if self.part.used("acme") >= quota:
                return False
            if not self.part.asks("acme", quota):
                self.part.count("acme")
                return True
            self.part.ask("acme", quota)
            self.exchange()
        raise AssertionError("the book could not tell")


def fleet(size: int) -> tuple[Counts, list[Member]]:
    counts = Counts()
    book = QuotaBook(counts)
    return counts, [Member(book) for _ in range(size)]


@given(
    st.integers(1, 64),
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 30), st.booleans()), max_size=20),
)
def test_of_a_small_quota_each_call_gets_what_one_process_would_have_said(
    quota: int, steps: list[tuple[int, int, bool]]
) -> None:
    counts, members = fleet(3)
    taken = 0
    for number, calls, exchanges in steps:
        for _ in range(calls):
            assert members[number].take(quota) == (taken < quota)
            taken = min(quota, taken + 1)
        if exchanges:
            members[number].exchange()
    assert counts.all["acme"] == taken


def test_the_end_of_a_large_quota_is_given_once() -> None:
    counts, members = fleet(2)
    taken = 0
    for number in range(12_000):
        taken += members[number % 2].take(10_000)
        if number % 50 == 0:
            members[number // 50 % 2].exchange()
    assert taken == counts.all["acme"] == 10_000


def test_a_process_that_is_new_asks_first_what_the_others_have_counted() -> None:
    counts, (one, other) = fleet(2)
    assert all(one.take(1000) for _ in range(1000))
    one.exchange()
    assert not other.take(1000)
    assert counts.all["acme"] == 1000


def test_far_from_its_end_nothing_is_asked() -> None:
    _, members = fleet(1)
    assert members[0].take(10_000)
    for _ in range(100):
        assert members[0].part.used("acme") < 10_000
        assert not members[0].part.asks("acme", 10_000)
        members[0].part.count("acme")


def test_what_was_granted_and_not_used_goes_back() -> None:
    counts, (one, other) = fleet(2)
    one.part.used("acme")
    one.part.ask("acme", 1)  # its client leaves
    for _ in range(3):
        one.exchange()
    assert counts.all["acme"] == 0
    assert other.take(1)
    assert not one.take(1)


def test_while_the_book_is_away_requests_are_served_and_told_later() -> None:
    counts, (one, other) = fleet(2)
    one.down = True
    assert [one.take(5) for _ in range(4)] == [True] * 4
    one.down = False
    one.exchange()
    assert counts.all["acme"] == 4
    assert [other.take(5), other.take(5)] == [True, False]
