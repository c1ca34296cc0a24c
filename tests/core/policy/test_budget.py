"""The memory of bodies: each tenant's, and all together, never more than they may have."""

from __future__ import annotations

import random

import pytest

from gateway.core.errors import BodyTooLarge, GatewayError, StoreSaturated, TenantLimit
from gateway.core.policy.budget import Budget, Held


def test_a_tenant_has_so_much_and_others_are_not_affected() -> None:
    budget = Budget(1000)
    first, second, other = Held(budget, "a", 100), Held(budget, "a", 100), Held(budget, "b", 100)
    first.grow(60)
    with pytest.raises(TenantLimit) as raised:
        second.grow(41)
    assert raised.value.close
    assert raised.value.headers["Retry-After"] == "1"
    assert (second.size, budget.used) == (0, 60)
    second.grow(40)
    other.grow(100)
    assert (budget.held("a"), budget.held("b"), budget.used) == (100, 100, 200)


def test_all_together_have_so_much() -> None:
    budget = Budget(100)
    Held(budget, "a", 100).grow(60)
    with pytest.raises(StoreSaturated):
        Held(budget, "b", 100).grow(41)
    assert (budget.held("b"), budget.used) == (0, 60)


@pytest.mark.parametrize(("total", "most"), [(1000, 100), (100, 1000)])
def test_what_never_fits_is_too_large_and_nobody_is_told_to_come_back(total: int, most: int) -> None:
    budget = Budget(total)
    held = Held(budget, "a", most)
    held.grow(90)
    with pytest.raises(BodyTooLarge):
        held.grow(11)  # the same body, that comes bit by bit
    assert held.size == 90


def test_what_was_handed_over_is_given_back_by_who_has_it() -> None:
    budget = Budget(100)
    held = Held(budget, "a", 100)
    held.grow(70)
    give_back = held.hand_over()
    held.shrink(0)
    assert (held.size, budget.used) == (0, 70)
    give_back()
    assert budget.used == 0


@pytest.mark.parametrize("seed", range(20))
def test_what_is_held_is_what_is_counted_whatever_happens(seed: int) -> None:
    dice = random.Random(seed)
    budget = Budget(500)
    calls = [Held(budget, tenant, 200) for tenant in "abcd" for _ in range(5)]
    later: list[tuple[int, object]] = []
    for _ in range(2000):
        held, act = dice.choice(calls), dice.random()
        try:
            if act < 0.6:
                held.grow(dice.randrange(60))
            elif act < 0.9:
                held.shrink(dice.randrange(100))
            else:
                later.append((held.size, held.hand_over()))
        except GatewayError:
            pass
        if later and dice.random() < 0.2:
            _, give_back = later.pop()
            give_back()  # type: ignore[operator]
        assert budget.used == sum(held.size for held in calls) + sum(size for size, _ in later) <= 500
        assert all(budget.held(tenant) <= 200 for tenant in "abcd")
    for held in calls:
        held.shrink(0)
    for _, give_back in later:
        give_back()  # type: ignore[operator]
    assert budget.used == 0
    assert not any(budget.held(tenant) for tenant in "abcd")


def test_a_holder_may_have_as_much_as_is_then_free_for_others() -> None:
    budget = Budget(300)
    assert all(budget.count("a", 10) for _ in range(15))
    assert not budget.count("a", 10), "half of all"
    assert all(budget.count("b", 5) for _ in range(15))
    assert not budget.count("b", 5), "half of the rest"
    assert budget.count("c", 5), "who holds nothing finds room"
    assert (budget.held("a"), budget.held("b"), budget.held("c"), budget.used) == (150, 75, 5, 230)
    budget.give_back("a", 150)
    assert budget.count("b", 65)
    for name, size in (("b", 140), ("c", 5)):
        budget.give_back(name, size)
    assert (budget.used, budget.held("a")) == (0, 0)
