"""How long the body of a request may keep us waiting."""

from __future__ import annotations

import pytest

from gateway.core.policy.deadline import BODY_GRACE, BodyAllowance


def seconds_until_refused(patience: float, rate: int, *pieces: tuple[int, float]) -> float:
    """How long a body is waited for that comes in these pieces (bytes, seconds before them), again and again;
    -1.0: it is never refused in so many pieces."""
    allowance, passed = BodyAllowance(patience, rate), 0.0
    for turn in range(10_000):
        size, waited = pieces[turn % len(pieces)]
        if waited > allowance.left:
            return passed + allowance.left
        passed += waited
        allowance.came(size, waited)
    return -1.0


def test_a_byte_every_now_and_then_is_refused_when_the_grace_is_over() -> None:
    assert seconds_until_refused(30.0, 1024, (1, 4.0)) == pytest.approx(BODY_GRACE, abs=0.1)
    assert seconds_until_refused(30.0, 1024, (1, 10.0)) == pytest.approx(BODY_GRACE, abs=0.1)
    assert seconds_until_refused(30.0, 1024, (512, 1.0)) == pytest.approx(2 * BODY_GRACE, abs=2.0)


@pytest.mark.parametrize(
    "pieces",
    [
        [(5 * 1024, 1.0)],  # a telephone on a bad line
        [(1400, 0.3), (1400, 0.3), (1400, 0.3), (40 * 1024, 20.0)],  # one that is silent in a tunnel
        [(1024, 1.0)],
        [(256 * 1024, 29.0)],
    ],
)
def test_a_slow_and_honest_client_sends_for_hours(pieces: list[tuple[int, float]]) -> None:
    first = BodyAllowance(30.0, 1024)
    assert first.left == BODY_GRACE
    assert seconds_until_refused(30.0, 1024, (64 * 1024, 0.1)) == -1.0
    allowance = BodyAllowance(30.0, 1024)
    allowance.came(64 * 1024, 0.1)
    for _ in range(1000):
        for size, waited in pieces:
            assert waited <= allowance.left
            allowance.came(size, waited)


def test_a_fast_beginning_pays_for_no_more_than_the_patience() -> None:
    allowance = BodyAllowance(30.0, 1024)
    allowance.came(8 * 1024 * 1024, 0.1)
    assert allowance.left == 30.0
    for _ in range(3):
        allowance.came(1, 9.9)
    assert allowance.left < 1.0


def test_what_stands_still_is_told_apart_from_what_drips() -> None:
    allowance = BodyAllowance(5.0, 1024)
    assert allowance.left == 5.0
    assert "No byte of the body came for 5 s" in allowance.too_slow()
    allowance.came(1, 4.0)
    assert "less than 1024 bytes a second" in allowance.too_slow()


def test_without_a_rate_only_standing_still_counts() -> None:
    assert seconds_until_refused(30.0, 0, (1, 29.0)) == -1.0
    assert BodyAllowance(30.0, 0).left == 30.0
