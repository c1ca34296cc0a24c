"""Which address the next request goes to."""

from __future__ import annotations

import random

import pytest

from gateway.core.fairness.balance import ramped, two_choices, weighted_choice


def test_of_two_addresses_drawn_by_lot_the_less_used_is_taken() -> None:
    used = {"a": 2, "b": 1, "c": 3}
    lots = random.Random(1)
    taken = [two_choices("abc", used.__getitem__, lots.random, 0) for _ in range(300)]
    assert set(taken) == {"a", "b"}, "the most used of three is never the less used of two"
    assert taken.count("b") > taken.count("a")
    assert two_choices("a", lambda a: 99, lots.random, 5) == "a"
    assert {two_choices("ab", used.__getitem__, lots.random, turn) for turn in range(20)} == {"b"}
    assert [two_choices("ab", lambda a: 0, lots.random, turn) for turn in range(4)] == ["a", "b", "a", "b"]


def parts(weights: dict[str, float], under_way: int, requests: int = 20_000) -> dict[str, float]:
    """The part of the requests that each address gets, where so many are always under way, which end at
    random."""
    lots = random.Random(3)
    inside = dict.fromkeys(weights, 0)
    taken = dict.fromkeys(weights, 0)
    running: list[str] = []
    for _ in range(requests):
        if len(running) >= under_way:
            ended = running.pop(int(lots.random() * len(running)))
            inside[ended] -= 1
        address = weighted_choice(list(weights), inside.__getitem__, weights.__getitem__, lots.random)
        inside[address] += 1
        taken[address] += 1
        running.append(address)
    return {address: count / requests for address, count in taken.items()}


@pytest.mark.parametrize("under_way", [1, 2, 4, 32])
@pytest.mark.parametrize(
    "weights",
    [
        {"a": 3.0, "b": 1.0},
        {"a": 1.0, "b": 1.0},
        {"a": 0.1, "b": 1.0, "c": 1.0},
        {"a": 100.0, "b": 10.0},
    ],
)
def test_addresses_get_their_weights_part_of_the_requests_however_many_come(
    weights: dict[str, float], under_way: int
) -> None:
    total = sum(weights.values())
    for address, part in parts(weights, under_way).items():
        assert part == pytest.approx(weights[address] / total, abs=0.1)
        assert part > weights[address] / total / 4  # none is left without


def test_a_heavy_address_that_is_busy_leaves_requests_to_a_light_one() -> None:
    used = {"a": 30, "b": 1}
    weights = {"a": 3.0, "b": 1.0}
    lots = random.Random(5)
    for _ in range(50):
        assert weighted_choice("ab", used.__getitem__, weights.__getitem__, lots.random) == "b"


def test_a_light_address_has_its_part_from_the_first_requests_on() -> None:
    lots = random.Random(7)
    weights = {"a": 100.0, "b": 10.0}
    taken = [weighted_choice("ab", lambda a: 0, weights.__getitem__, lots.random) for _ in range(100)]
    assert 0 < taken.index("b") < 50


def test_a_new_address_begins_with_a_tenth_of_its_weight_and_grows_in_a_line() -> None:
    assert [ramped(2.0, age, 30.0) for age in (0.0, 1.0, 15.0, 30.0, 99.0)] == [0.2, 0.2, 1.0, 2.0, 2.0]
    assert ramped(2.0, 0.0, 0.0) == 2.0
