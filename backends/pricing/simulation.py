"""A Monte Carlo search for the discount that earns most. Pure, and busy for as long as it runs."""

from __future__ import annotations

import random
from collections.abc import Sequence
from statistics import fmean


def profits(
    price: float,
    cost: float,
    demand: float,
    deviation: float,
    elasticity: float,
    discount: int,
    runs: int,
    seed: int,
) -> list[float]:
    """The profit of each run, ascending. The same seed gives the same demand to every discount, so that
    discounts are compared and not luck."""
    draw = random.Random(seed).gauss  # noqa: S311 (a simulation, not a secret)
    margin = price * (1 - discount / 100) - cost
    lift = 1 + elasticity * discount / 100
    return sorted(max(draw(demand, deviation), 0.0) * lift * margin for _ in range(runs))


def summary(ascending: Sequence[float]) -> tuple[float, float, float]:
    """Mean, 5th and 95th percentile."""
    last = len(ascending) - 1
    return fmean(ascending), ascending[round(last * 0.05)], ascending[round(last * 0.95)]
