"""The budget of retries: at most a tenth of the requests, and a few for a quiet service."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.policy import retry


def test_a_quiet_service_may_try_ten_again_and_then_no_more() -> None:
    budget, tried = retry.START, 0
    while (left := retry.withdraw(budget)) is not None:
        budget, tried = left, tried + 1
    assert tried == 10


@given(st.lists(st.booleans(), max_size=3000))
def test_retries_are_at_most_a_tenth_of_the_requests_and_ten(wants: list[bool]) -> None:
    budget, tried = retry.START, 0
    for wanted in wants:
        budget = retry.deposit(budget)
        left = retry.withdraw(budget) if wanted else None
        if left is not None:
            budget, tried = left, tried + 1
    assert tried <= 10 + len(wants) / 10


def test_a_long_good_time_allows_no_storm() -> None:
    budget, tried = retry.START, 0
    for _ in range(100_000):
        budget = retry.deposit(budget)
    while (left := retry.withdraw(budget)) is not None:
        budget, tried = left, tried + 1
    assert tried == 100


def test_one_in_ten_can_be_tried_again_for_ever() -> None:
    budget = 0
    for _ in range(1000):
        for _ in range(10):
            budget = retry.deposit(budget)
        left = retry.withdraw(budget)
        assert left is not None
        budget = left
