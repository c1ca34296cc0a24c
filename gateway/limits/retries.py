"""The budget of retries of each backend; a reload resets nothing."""

from __future__ import annotations

from collections.abc import Collection

from gateway.core.openmetrics import Counter
from gateway.core.policy import retry


class Retries:
    """Budgets by the backend's name. counter: what became of each retry that was wanted."""

    def __init__(self) -> None:
        self._budgets: dict[str, int] = {}
        self.counter = Counter(
            "gateway_retries",
            "Requests tried a second time, or not, because the budget for it was used up.",
            ("backend", "result"),
        )

    def deposit(self, backend: str) -> None:
        """A request that might be tried again."""
        self._budgets[backend] = retry.deposit(self._budgets.get(backend, retry.START))

    def withdraw(self, backend: str) -> bool:
        """Whether one more try is within the budget; then it is paid."""
        left = retry.withdraw(self._budgets.get(backend, retry.START))
        self.counter.add(backend, "exhausted" if left is None else "tried")
        if left is None:
            return False
        self._budgets[backend] = left
        return True

    def refund(self, backend: str) -> None:
        """The retry that was paid for was not sent."""
        self._budgets[backend] = retry.refund(self._budgets.get(backend, retry.START))

    def reconcile(self, backends: Collection[str]) -> None:
        """Forget the backends that the config no longer has."""
        for name in self._budgets.keys() - set(backends):
            del self._budgets[name]
