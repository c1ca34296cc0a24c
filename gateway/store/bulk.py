"""Many writes at once: their outcomes in order, and what ends an atomic bulk. The same for all engines, which
do the writes."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.errors import BadRequest, GatewayError, RolledBack
from gateway.store.model.write import BulkBudget, Outcome, Write, Written, failed, id_of, succeeded


def check_count(writes: Sequence[Write], most: int) -> None:
    """Raises BadRequest for more writes than that."""
    if len(writes) > most:
        raise BadRequest(f"A bulk has at most {most} operations.")


class AtomicFailure(GatewayError):
    """Ends the transaction of an atomic bulk, and carries its outcomes out of it: that of the write that
    failed, and of all others that they were rolled back."""

    def __init__(self, writes: Sequence[Write], at: int, error: GatewayError) -> None:
        super().__init__()
        others = RolledBack(f"Operation {at} of the bulk failed, so nothing was written.")
        self.outcomes = tuple(
            failed(error if index == at else others, id_of(write)) for index, write in enumerate(writes)
        )


class BulkOutcomes:
    """The outcomes of the writes of one transaction, added in the order of the writes. budget: asked before
    each of them."""

    def __init__(self, writes: Sequence[Write], budget: BulkBudget, *, atomic: bool) -> None:
        self._writes = writes
        self._budget = budget
        self._atomic = atomic
        self._outcomes: list[Outcome] = []

    def check(self, cost: int) -> None:
        """See BulkBudget.check."""
        self._budget.check(cost)

    def succeeded(self, written: Written | None) -> None:
        """The next write was done; None: it was a deletion."""
        self._outcomes.append(succeeded(written, id_of(self._writes[len(self._outcomes)])))

    def failed(self, error: GatewayError, *, final: bool = True) -> None:
        """The next write failed. Raises AtomicFailure in an atomic bulk, unless it is not final: the bulk is
        to be tried once more."""
        at = len(self._outcomes)
        if self._atomic and final:
            raise AtomicFailure(self._writes, at, error) from None
        self._outcomes.append(failed(error, id_of(self._writes[at])))

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """Those so far."""
        return tuple(self._outcomes)
