"""When a request may be tried again, and the budget that keeps retries from becoming the load (pure values).

A budget is a number of tenths of a retry: each request pays one in, a retry costs ten, so that retries are
at most a tenth of the requests. It begins with ten retries in hand, for else a quiet service could make none,
and holds a hundred at most, for else a long good time would allow a storm.
"""

from __future__ import annotations

METHODS = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
START = 100
_MOST = 1000
_PRICE = 10


def deposit(budget: int) -> int:
    """The budget after one more request."""
    return min(budget + 1, _MOST)


def refund(budget: int) -> int:
    """The budget after a retry that was paid for and never sent."""
    return min(budget + _PRICE, _MOST)


def withdraw(budget: int) -> int | None:
    """The budget after one retry, None when it does not allow one."""
    return budget - _PRICE if budget >= _PRICE else None
