"""Plans of writes of large documents, made while there is no transaction: it would hold up the tenant's other
writes for as long as a worker process takes, and be lost to what other gateways write meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from gateway.runtime.fair_seats import Seat
from gateway.store.model.write import Write
from gateway.store.mongo.large import Rows
from gateway.store.mongo.raw import RAW
from gateway.store.mongo.rows import Row, joined
from gateway.store.mongo.state import State
from gateway.store.mongo.write.plan import Plan

_TRIES = 3


class Planner(Protocol):
    """What is asked of a tenant's writes."""

    tenant: str
    rows: Rows

    async def state(self, collection: str) -> State:
        """The state of a collection as it is now."""
        ...

    async def row(self, collection: str, identifier: str) -> Row | None:
        """A document's row as it is now, of a large one its head."""
        ...

    async def plan(self, state: State, write: Write, identifier: str, row: Row | None) -> Plan:
        """See Writes.plan."""
        ...


class NotPlannedYet(Exception):
    """A plan takes so long that it is made while there is no transaction, by `make`. Nothing of this one was
    done."""

    def __init__(self, make: Callable[[], Awaitable[None]]) -> None:
        super().__init__()
        self.make = make


class PlanAhead:
    """Of one write. It holds large documents, for which it has a seat: close() it."""

    def __init__(self) -> None:
        self.tries = 0
        self._plan: Plan | None = None
        self._of: Any = None
        self._seat: Seat | None = None

    def close(self) -> None:
        """Let go of the plan and release the seat."""
        self._plan = None
        if self._seat is not None:
            self._seat.release()

    async def plan(
        self, planner: Planner, state: State, write: Write, identifier: str, row: Row | None
    ) -> Plan:
        """The plan that was made ahead, if it is one of what is there still; or one that needs no worker
        process. Raises NotPlannedYet, and what the planner raises."""
        if not planner.rows.is_planned_in_worker(state, write, row):
            return await planner.plan(state, write, identifier, row)
        if self._plan is not None and self._of == _of(state, row):
            return self._plan
        if self.tries >= _TRIES:  # what is changed all the time is planned where nobody else changes it
            return await planner.plan(state, write, identifier, row)
        raise NotPlannedYet(partial(self._make, planner, state.name, write, identifier))

    async def _make(self, planner: Planner, collection: str, write: Write, identifier: str) -> None:
        self.tries += 1
        self._plan = None
        self._seat = self._seat or await planner.rows.seat()
        state, row = await planner.state(collection), await planner.row(collection, identifier)
        plan = await planner.plan(state, write, identifier, row)
        key = joined(planner.tenant, collection, identifier)
        planner.rows.large.learn(key, large=isinstance(plan.new, bytes))
        old = None if row is None else {name: row[name] for name in row if name not in (RAW, "d")}
        self._plan, self._of = replace(plan, old=old), _of(state, row)


def _of(state: State, row: Row | None) -> Any:
    """What a plan depends on."""
    return state.version, state.settings_text, state.tokens, row and (row["v"], row["i"])
