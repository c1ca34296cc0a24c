"""The budget of temporary files: no tenant gets all of it, and whoever comes still finds room."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.policy.disk_budget import DiskBudget, DiskUse


def filled(budget: DiskBudget, *keys: str) -> dict[str, int]:
    """What each of them holds when all take what they can, in turn."""
    going = [True]
    while any(going):
        going = [budget.try_take(key, 1) for key in keys]
    return {key: budget.held(key) for key in keys}


@pytest.mark.parametrize("tenants", [1, 2, 5, 20])
def test_who_take_all_they_can_leave_as_much_free_as_each_of_them_has(tenants: int) -> None:
    budget = DiskBudget(10_000)
    held = filled(budget, *map(str, range(tenants)))
    share = 10_000 // (tenants + 1)
    assert all(abs(one - share) <= 1 for one in held.values())
    assert budget.try_take("late", share // 3)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 60)), max_size=50))
def test_what_is_used_is_what_all_hold_and_never_more_than_the_total(grown: list[tuple[str, int]]) -> None:
    refused: list[None] = []
    budget = DiskBudget(100, lambda: refused.append(None))
    uses = {key: DiskUse(budget, key) for key in "abc"}
    no = 0
    for key, size in grown:
        before = uses[key].size
        if uses[key].try_grow(size):
            assert uses[key].size == max(before, size)
        else:
            no += 1
            assert uses[key].size == before < size
        assert budget.used == sum(use.size for use in uses.values()) <= 100
    assert len(refused) == no
    for use in uses.values():
        use.close()
        use.close()
    assert budget.used == 0


def test_the_lack_of_room_is_the_doing_of_who_holds_most() -> None:
    budget = DiskBudget(100)
    noisy, small, late = (DiskUse(budget, key) for key in ("noisy", "small", "late"))
    assert noisy.try_grow(50)
    assert small.try_grow(5)
    assert not noisy.try_grow(60) and noisy.is_own_doing
    assert not small.try_grow(60) and not small.is_own_doing
    assert not late.try_grow(60) and not late.is_own_doing
