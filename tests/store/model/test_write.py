"""What one bulk may cost."""

import pytest

from gateway.core.errors import BodyTooLarge, TenantLimit
from gateway.store.model.write import MAX_BULK_COST, BulkBudget


def test_a_bulk_ends_at_its_time_whatever_it_has_read_but_the_first_operation_is_done() -> None:
    now = 10.0
    budget = BulkBudget(atomic=False, seconds=3.0, clock=lambda: now)
    now = 100.0
    budget.check(0)
    now = 12.9
    budget.check(1)
    now = 13.0
    with pytest.raises(TenantLimit):
        budget.check(2)
    now = 10.0
    with pytest.raises(TenantLimit):  # once over, nothing behind it is done
        budget.check(0)


def test_what_is_atomic_is_told_that_it_is_too_large_for_it_would_fail_again() -> None:
    budget = BulkBudget(atomic=True, clock=lambda: 0.0)
    budget.check(MAX_BULK_COST - 1)
    with pytest.raises(BodyTooLarge):
        budget.check(MAX_BULK_COST)
