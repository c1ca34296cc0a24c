"""The book of shared rates: whatever members do, together they get no more than one bucket has."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.policy.limits import Rate, take
from gateway.core.shared.rates import Asked, Granted, RateBook, asked_of, granted_of, room_of, settle

RATES = st.sampled_from([0.01, 0.5, 1.0, 7.0, 100.0, 5000.0])
BURSTS = st.sampled_from([1, 2, 10, 300])
STEPS = st.lists(
    st.tuples(
        st.integers(0, 3),  # the member
        st.sampled_from([0.0, 0.001, 0.03, 0.1, 0.7, 4.0]),  # seconds later
        st.integers(0, 400),  # wanted
        st.integers(0, 3),  # of four parts of what it has, it gives back so many
    ),
    max_size=40,
)


def exchange(book: RateBook, member: str, asked: Asked, now: float) -> Granted:
    return granted_of(book.exchange(member, {"k": asked}, now)["keys"]["k"])


@given(RATES, BURSTS, STEPS)
def test_all_members_together_are_granted_the_burst_and_what_came_since(
    rate: float, burst: int, steps: list[tuple[int, float, int, int]]
) -> None:
    book, now, out, held = RateBook(), 1000.0, 0.0, dict.fromkeys(range(4), 0)
    room = room_of(rate, burst)
    for member, later, want, quarters in steps:
        now += later
        back = held[member] * quarters // 4
        asked = Asked(rate, burst, 0, back, want)
        granted = exchange(book, str(member), asked, now)
        held[member] += granted.tokens - back
        out += granted.tokens - back
        assert 0 <= granted.tokens <= want
        assert out <= room + rate * (now - 1000.0) + 1e-3
        assert (granted.wait > 0) == (granted.owed * rate > room - 1 + 1e-6) or granted.wait * rate < 1e-3


@given(RATES, BURSTS, st.lists(st.sampled_from([0.0, 0.01, 0.3, 2.0, 50.0]), max_size=30))
def test_one_at_a_time_is_what_one_process_does_alone(rate: float, burst: int, pauses: list[float]) -> None:
    """Where a burst is no less than what comes in a moment."""
    burst = max(burst, math.ceil(room_of(rate, burst)))
    book, alone, now = RateBook(), None, 1000.0
    for pause in pauses:
        now += pause
        granted = exchange(book, "a", Asked(rate, burst, want=1), now)
        alone, wait = take(alone, now, Rate(rate, burst))
        assert granted.tokens == (wait == 0.0)
        assert granted.owed == pytest.approx(alone - now, abs=1e-6)
        if wait:
            assert granted.wait == pytest.approx(wait, abs=1e-6)


def test_what_was_taken_on_credit_is_counted_whatever_the_bucket_holds() -> None:
    book = RateBook()
    assert exchange(book, "a", Asked(10, 10, want=10), 5.0).tokens == 10
    for member in "bcd":
        exchange(book, member, Asked(10, 10, credit=1), 5.0)
    granted = exchange(book, "a", Asked(10, 10, want=1), 5.3)
    assert granted.tokens == 0
    assert granted.wait == pytest.approx(0.1)


def test_credit_has_a_bound_so_that_a_raised_rate_counts() -> None:
    arrival, _ = settle(0.0, 0.0, Asked(1 / 3600, 1, credit=5))
    arrival, granted = settle(arrival, 1.0, Asked(1000, 10, want=1))
    assert granted.owed < 2.0


def test_what_is_given_back_is_there_for_the_others() -> None:
    book = RateBook()
    assert exchange(book, "a", Asked(1, 5, want=5), 5.0).tokens == 5
    assert exchange(book, "b", Asked(1, 5, want=1), 5.0).tokens == 0
    exchange(book, "a", Asked(1, 5, back=3), 5.0)
    assert exchange(book, "b", Asked(1, 5, want=5), 5.0).tokens == 3


def test_more_than_there_is_comes_back_from_nobody() -> None:
    book = RateBook()
    exchange(book, "a", Asked(1, 5, back=1000), 5.0)
    assert exchange(book, "a", Asked(1, 5, want=1000), 5.0).tokens == 5


def test_a_book_that_lost_a_bucket_takes_the_members_word_for_what_is_owed() -> None:
    book = RateBook()
    assert exchange(book, "a", Asked(1, 5, want=5, owed=4.0), 5.0).tokens == 1


def test_who_has_a_part_of_the_rates_grants_that_part() -> None:
    book = RateBook(scale=0.25)
    assert exchange(book, "a", Asked(100, 40, want=100), 5.0).tokens == 10
    assert exchange(book, "a", Asked(100, 40, want=100), 5.2).tokens == 5


def test_full_buckets_are_forgotten_in_passing() -> None:
    book = RateBook()
    for number in range(1000):
        book.exchange("a", {str(number): Asked(10, 10, want=1)}, number * 1.0)
    assert len(book) < 5


@pytest.mark.parametrize(
    "given",
    [None, "x", [], [1, 2, 3], [0, 1, 0, 0, 0, 0], [1, -1, 0, 0, 0, 0], [1, float("nan"), 0, 0, 0, 0]],
)
def test_what_is_no_report_is_refused(given: object) -> None:
    with pytest.raises(ValueError, match="no report"):
        asked_of(given)
    with pytest.raises(ValueError, match="no grant"):
        granted_of([1, float("inf"), 0] if given is None else given[:2])  # type: ignore[index]
