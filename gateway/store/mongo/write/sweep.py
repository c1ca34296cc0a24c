"""Removing what has ended: documents through the same writes as a client's, so that counters, unique values
and feeds agree; and changes beyond those that are kept."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any

from gateway.core.errors import GatewayError, StoreUnavailable
from gateway.runtime.periodic import Boundary, PeriodicTask
from gateway.store.model import instants
from gateway.store.model.change import RETAINED_CHANGES
from gateway.store.mongo import state as mongo_state
from gateway.store.mongo.driver import Driver, DuplicateKey
from gateway.store.mongo.rows import (
    CHANGES,
    COLLECTIONS,
    DOCUMENTS,
    IDEMPOTENCY,
    META,
    TENANTS,
    Row,
    is_live,
    joined,
    scope,
)
from gateway.store.mongo.write import plan
from gateway.store.mongo.write.writes import Undo, Writes
from gateway.store.port import Moved

SWEEP_SECONDS = 15.0
_SWEEP = "sweep"  # the _id in META: until when no other sweep begins
_STEP = 500  # documents of one collection in one sweep


class Sweeper(PeriodicTask):
    """writes(tenant): the writes of a tenant, without a quota."""

    def __init__(self, driver: Driver, writes: Callable[[str], Writes]) -> None:
        super().__init__("clearing away old documents", SWEEP_SECONDS, self._sweep_or_report)
        self._driver = driver
        self._writes = writes
        self._moved: dict[str, str] = {}
        self._each = Boundary(self.boundary.what, reraises=(StoreUnavailable,))

    async def _sweep_or_report(self) -> None:
        with suppress(GatewayError):  # reported already; the next sweep tries again
            await self._look_who_moved()
            if await self._is_due():
                await self.sweep()

    async def _look_who_moved(self) -> None:
        moved = self._driver.find(TENANTS, {"moved": {"$gt": ""}}, fields=["t", "moved"])
        self._moved = {row["t"]: row["moved"] async for row in moved}

    async def _is_due(self) -> bool:
        """Whether nobody else has begun a sweep of the database lately: one sweeps for all gateways."""
        now = instants.now()
        begun = {"$set": {"until": now + SWEEP_SECONDS * 0.9}}
        due = {"$and": [{"_id": _SWEEP}, {"until": {"$lte": now}}]}
        if await self._driver.modify(META, due, begun) is not None:
            return True
        try:
            await self._driver.insert(META, {"_id": _SWEEP, **begun["$set"]})
        except DuplicateKey:
            return False
        return True

    def check_here(self, tenant: str) -> None:
        """Raises Moved for a tenant that was in another store at the last sweep."""
        if tenant in self._moved:
            raise Moved(tenant, self._moved[tenant])

    async def sweep(self) -> None:
        """Remove some of everything that has ended. Raises StoreUnavailable."""
        async for row in self._driver.find(COLLECTIONS, {"sweep": True}, fields=["t", "c"]):
            await self._one(self._sweep_collection(self._writes(row["t"]), row["c"]))
        ended = self._driver.find(IDEMPOTENCY, {"until": {"$lte": instants.now()}}, limit=_STEP)
        async with aclosing(ended):
            keys = [row async for row in ended if "n" in row]
        for row in keys:
            await self._one(_forget_key(self._writes(row["t"]), row))
        crowded = {"q": {"$gt": RETAINED_CHANGES}}
        async for row in self._driver.find(TENANTS, crowded, fields=["t", "q"]):
            await self._one(self._forget_changes(row["t"], row["q"]))

    async def _one(self, work: Awaitable[None]) -> None:
        """One of many, which keeps the others from nothing. Raises StoreUnavailable: there all would fail."""
        with self._each:
            try:
                await work
            except StoreUnavailable:
                raise
            except GatewayError:
                return  # reported already; the next sweep tries again

    async def _forget_changes(self, tenant: str, last: int) -> None:
        first = joined(tenant, f"{last - RETAINED_CHANGES:020d}")
        own = {"t": tenant}, {"_id": {"$gte": joined(tenant, ""), "$lt": first}}
        await self._driver.delete(CHANGES, {"$and": list(own)})

    async def _sweep_collection(self, writes: Writes, collection: str) -> None:
        ended = scope(writes.tenant, collection, {"x": {"$lte": instants.now()}})
        rows = self._driver.find(DOCUMENTS, ended, fields=["id"], limit=_STEP)
        async with aclosing(rows):
            identifiers = [row["id"] async for row in rows]
        for identifier in identifiers:
            await remove_ended(writes, collection, identifier)


async def _forget_key(writes: Writes, row: Row) -> None:
    """Remove a remembered write and count it off. The server does not remove these: it could not count."""

    async def work(session: Any, undo: Undo) -> None:
        own = {"$and": [{"_id": row["_id"]}, {"t": writes.tenant}, {"lease": row["lease"]}]}
        if await writes.driver.delete(IDEMPOTENCY, own, session):
            await writes.hold(session, -row["n"])

    await writes.run(work)


async def remove_ended(writes: Writes, collection: str, identifier: str) -> None:
    """Delete a document if it has ended."""

    async def work(session: Any, undo: Undo) -> None:
        row: Row | None = await writes.row(collection, identifier, session)
        if row is None or is_live(row, instants.now()):
            return
        query = scope(writes.tenant, collection, {"_id": joined(writes.tenant, collection)})
        known = await writes.driver.find_one(COLLECTIONS, query, session)
        state = mongo_state.read(collection, known)
        had = await writes.rows.claims(state, row)
        await writes.do(session, undo, state, plan.removal(row, had))

    await writes.run(work)
