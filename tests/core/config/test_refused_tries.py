"""Refused tries in the audit: those of somebody known in full, a flood as a number."""

from __future__ import annotations

from gateway.core.config.audit import Entry
from gateway.core.config.refused_tries import KNOWN, UNKNOWN, WINDOW, RefusedTries


def tries(author: str = "", address: str = "192.0.2.1") -> Entry:
    return Entry("refused", "refused", author=author, role="viewer", address=address)


def test_of_a_flood_by_nobody_known_the_first_are_lines_and_the_others_a_number() -> None:
    bound = RefusedTries()
    admitted = [bound.admit(tries(("", "loopback")[n % 2], f"192.0.2.{n % 3}"), 0.0) for n in range(1000)]
    assert admitted == [True] * UNKNOWN + [False] * (1000 - UNKNOWN)
    assert bound.over(WINDOW - 1) == []
    (entry,) = bound.over(WINDOW)
    said = f"{1000 - UNKNOWN} more refused tries by callers whom nobody knows within a minute"
    assert entry.detail == f"{said}, from 3 addresses"
    assert entry.outcome == "refused" and not entry.author and not entry.address
    assert bound.over(WINDOW) == [] and bound.admit(tries(), WINDOW)


def test_a_flood_does_not_hide_the_tries_of_an_operator() -> None:
    bound = RefusedTries()
    for _ in range(1000):
        bound.admit(tries(), 0.0)
    assert [bound.admit(tries("bob"), 0.0) for _ in range(KNOWN + 2)] == [True] * KNOWN + [False] * 2
    assert bound.admit(tries("carol"), 0.0)
    entry = bound.over(WINDOW)[1]
    assert (entry.author, entry.address) == ("bob", "192.0.2.1")
    assert entry.detail == "2 more refused tries within a minute"
    assert bound.over(WINDOW) == []


def test_it_remembers_no_more_authors_than_its_bound() -> None:
    bound = RefusedTries()
    admitted = sum(bound.admit(tries(f"a{n}"), 0.0) for n in range(3000))
    assert admitted < 1100
