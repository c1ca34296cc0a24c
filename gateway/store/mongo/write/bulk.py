"""Many writes at once: in one transaction where there are transactions, also when each stands for itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.core.errors import GatewayError, StoreUnavailable, forget_traces
from gateway.store.bulk import AtomicFailure, BulkOutcomes
from gateway.store.model.document import new_id
from gateway.store.model.write import BulkBudget, Outcome, Write, failed, id_of, succeeded
from gateway.store.mongo.write.ahead import PlanAhead
from gateway.store.mongo.write.idempotency import Finish
from gateway.store.mongo.write.writes import Undo, Writes

# Each operation asks the server a few times; and the server ends a transaction after a minute.
BULK_SECONDS = 20.0


class Bulk:
    """The writes of one bulk, `items`, to one collection."""

    def __init__(self, writes: Writes, collection: str, items: Sequence[Write]) -> None:
        self._writes = writes
        self._collection = collection
        self._items = items
        self._new_ids = [new_id() for _ in items]  # one for all attempts

    async def run(self, finish: Finish | None, *, atomic: bool) -> tuple[Outcome, ...]:
        """See port.TenantStore.bulk. finish: called with the outcomes of what was written."""
        budget = BulkBudget(atomic=atomic, seconds=BULK_SECONDS)  # one for all attempts
        before = self._writes.cost
        try:
            if self._writes.transactions:
                return await self._writes.run(
                    lambda session, undo: self._together(session, finish, budget, atomic)
                )
            outcomes = [await self._alone(index, budget, before) for index in range(len(self._items))]
            if finish is not None:
                await finish(None, tuple(outcomes))
            return tuple(outcomes)
        except AtomicFailure as failure:
            forget_traces(failure)
            return failure.outcomes

    async def _together(
        self, session: Any, finish: Finish | None, budget: BulkBudget, atomic: bool
    ) -> tuple[Outcome, ...]:
        found = BulkOutcomes(self._items, budget, atomic=atomic)
        before = self._writes.cost
        counters = await self._writes.begin(session, self._collection)
        for item, new in zip(self._items, self._new_ids, strict=True):
            try:
                found.check(self._writes.cost - before)
                # What fails by itself fails before it has written anything.
                written = await self._writes.write(session, [], self._collection, item, new, counters)
            except StoreUnavailable:
                raise
            except GatewayError as error:
                found.failed(error)
            else:
                found.succeeded(written)
        await self._writes.end(session, counters)
        if finish is not None:
            await finish(session, found.outcomes)
        return found.outcomes

    async def _alone(self, index: int, budget: BulkBudget, before: int) -> Outcome:
        item, ahead = self._items[index], PlanAhead()

        async def work(session: Any, undo: Undo) -> Outcome:
            of = self._collection, item, self._new_ids[index]
            written = await self._writes.write(session, undo, *of, ahead=ahead)
            return succeeded(written, id_of(item))

        try:
            budget.check(self._writes.cost - before)
            return await self._writes.run(work)
        except GatewayError as error:
            forget_traces(error)
            return failed(error, id_of(item))
        finally:
            ahead.close()
