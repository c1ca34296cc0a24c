"""Pick an address of a backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

A = TypeVar("A")


def least_used(addresses: Sequence[A], in_use: Callable[[A], int], turn: int) -> A:
    """The address with the fewest requests inside; `turn` breaks ties, so that equals take turns."""
    count = len(addresses)
    if count == 1:
        return addresses[0]
    start = turn % count
    return min((addresses[(start + i) % count] for i in range(count)), key=in_use)
