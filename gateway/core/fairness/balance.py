"""Pick an address of a backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

A = TypeVar("A")


def two_choices(
    addresses: Sequence[A], inside: Callable[[A], int], random: Callable[[], float], turn: int
) -> A:
    """The one with fewer requests inside of two that are drawn by lot (Mitzenmacher, "The Power of Two
    Choices in Randomized Load Balancing", 1996). random: gives a number in [0, 1). turn: a number that counts
    up, so that equals take turns."""
    count = len(addresses)
    if count == 1:
        return addresses[0]
    first = int(random() * count)
    second = int(random() * (count - 1))
    second += second >= first
    one, other = addresses[min(first, second)], addresses[max(first, second)]
    more = inside(one) - inside(other)
    return other if more > 0 or (more == 0 and turn % 2) else one
