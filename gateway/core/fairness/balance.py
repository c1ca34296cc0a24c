"""Which of a backend's addresses the next request goes to: the less busy one, by its weight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

A = TypeVar("A")
_LEAST = 0.1  # of its weight, which a new address has from its first moment on


def two_choices(
    addresses: Sequence[A], inside: Callable[[A], int], random: Callable[[], float], turn: int
) -> A:
    """Of two addresses drawn at random, the one with fewer requests inside (Mitzenmacher, "The Power of Two
    Choices in Randomized Load Balancing", 1996). random: gives a number in [0, 1). turn: a number that counts
    up, so that equally busy ones take turns."""
    count = len(addresses)
    if count == 1:
        return addresses[0]
    first = int(random() * count)
    second = int(random() * (count - 1))
    second += second >= first
    one, other = addresses[min(first, second)], addresses[max(first, second)]
    more = inside(one) - inside(other)
    return other if more > 0 or (more == 0 and turn % 2) else one


def weighted_choice(
    addresses: Sequence[A],
    inside: Callable[[A], int],
    weight: Callable[[A], float],
    random: Callable[[], float],
) -> A:
    """The same where addresses have weights (above 0): two are drawn by them, and taken is the one with fewer
    requests inside for its weight. While both have none, it is the first drawn: so the parts of the requests
    are those of the weights also where hardly any come.

    Numbers inside are small, and the part of a light address is less than one: they are rounded by chance, or
    an address with a tenth of another's weight would have nothing until that one has five (measured)."""
    if len(addresses) == 1:
        return addresses[0]
    weights = [weight(address) for address in addresses]
    first = _drawn(weights, random())
    second = _drawn([0.0 if n == first else w for n, w in enumerate(weights)], random())
    one, other = addresses[first], addresses[second]
    if not (inside_one := inside(one)) and not inside(other):
        return one
    rounding = random()
    busy = (inside_one + rounding) * weights[second]
    return one if busy <= (inside(other) + rounding) * weights[first] else other


def _drawn(weights: Sequence[float], chance: float) -> int:
    """The position of a weight, by chance in [0, 1)."""
    left = chance * sum(weights)
    last = 0
    for position, weight in enumerate(weights):
        if weight:
            last = position
            if left < weight:
                break
            left -= weight
    return last


def ramped(weight: float, age: float, slow_start: float) -> float:
    """The weight of an address that has been healthy for `age` seconds: it grows in a line to its full weight
    within `slow_start` seconds, from a tenth."""
    return weight if age >= slow_start else weight * max(_LEAST, age / slow_start)
