"""The budget that keeps retries from becoming the load. (What may be tried again: `methods.IDEMPOTENT`.)

A budget is a number of tenths of a retry: each request pays one in, a retry costs ten, so that retries are
at most a tenth of the requests. It begins with ten retries in hand, for else a quiet service could make none,
and holds a hundred at most, for else a long good time would allow a storm.
"""

from __future__ import annotations

from collections.abc import Collection

from gateway.core.openmetrics import Counter

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


class RetryBudgets:
    """The budget of each backend, by its name; a reload resets nothing. counter: what became of each retry
    that was wanted."""

    def __init__(self) -> None:
        self._budgets: dict[str, int] = {}
        self.counter = Counter(
            "gateway_retries",
            "Requests tried a second time, or not, because the budget for it was used up.",
            ("backend", "result"),
        )

    def deposit(self, backend: str) -> None:
        """A request that might be tried again."""
        self._budgets[backend] = deposit(self._budgets.get(backend, START))

    def withdraw(self, backend: str) -> bool:
        """Whether one more try is within the budget; then it is paid."""
        left = withdraw(self._budgets.get(backend, START))
        self.counter.add(backend, "exhausted" if left is None else "tried")
        if left is None:
            return False
        self._budgets[backend] = left
        return True

    def refund(self, backend: str) -> None:
        """The retry that was paid for was not sent."""
        self._budgets[backend] = refund(self._budgets.get(backend, START))

    def reconcile(self, backends: Collection[str]) -> None:
        """Forget the backends that the config no longer has."""
        for name in self._budgets.keys() - set(backends):
            del self._budgets[name]
