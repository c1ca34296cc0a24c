"""Writes of one tenant: planned on what is there, then done by compare-and-set, and tried again when another
write was faster.

On a replica set a write is one transaction. On a single server it is the same steps one after the other, of
which a failing one takes back those before it; what a killed gateway leaves half done there is a claim of a
unique value without a document that has it, which the next write that wants the value takes over, and
counters that are off by that write.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from gateway.core.errors import SchemaTooCostly, StoreUnavailable, UniqueConflict
from gateway.store.decide import Decision
from gateway.store.model import instants
from gateway.store.model.change import RETAINED_SECONDS
from gateway.store.model.document import new_id
from gateway.store.model.write import Create, Quota, Write, Written
from gateway.store.mongo import state as mongo_state
from gateway.store.mongo.driver import Driver, DuplicateKey, WriteConflict
from gateway.store.mongo.large import Rows
from gateway.store.mongo.rows import (
    CHANGES,
    CLAIMS,
    COLLECTIONS,
    DOCUMENTS,
    META,
    MOVED,
    TENANTS,
    Row,
    date,
    is_live,
    joined,
    new_tenant,
    one,
    own_row,
    scope,
)
from gateway.store.mongo.state import State
from gateway.store.mongo.write.ahead import NotPlannedYet, PlanAhead
from gateway.store.mongo.write.plan import Plan
from gateway.store.moving.port import HOLD_SECONDS
from gateway.store.port import Moved
from gateway.store.schema.checks import ATTEMPTS, OVERTAKEN, Checks, Postponed

T = TypeVar("T")
Undo = list[Callable[[], Awaitable[Any]]]

_ATTEMPTS = 60
_CLAIM_SECONDS = 10.0  # how long a claim counts while its document is not written yet
_COUNT_SECONDS = 10.0
_PAUSE, _LONGEST_PAUSE = 0.001, 0.1  # seconds
_HELD_PAUSE = HOLD_SECONDS / _ATTEMPTS


class _NewTenant(Exception):
    """The tenant has no row yet."""


class _Held(Exception):
    """The tenant is being moved to another store, and its writes wait for a moment."""


class BulkCounters:
    """What a transaction of many writes to one collection counts and records: stored once, at its end.

    state: of the collection. tenant: the tenant's row, which the transaction has written already, so that
    no other one can count meanwhile."""

    def __init__(self, state: State, tenant: Row, quota: Quota) -> None:
        self.state = state
        self.documents = 0
        self.bytes = 0
        self.changes: list[Row] = []
        self._tenant = tenant
        self._quota = quota

    def reserve(self, documents: int, size: int) -> int:
        """Count a write; the number of its change. Raises QuotaExceeded, and nothing was counted."""
        row = self._tenant
        held = row["documents"] + self.documents, row["bytes"] + self.bytes
        _check_quota(self._quota, *held, documents, size)
        self.documents += documents
        self.bytes += size
        return int(row["q"]) + len(self.changes) + 1


def _check_quota(quota: Quota, documents: int, size: int, more: int, larger: int) -> None:
    """Whether so much more fits into the quota. Raises QuotaExceeded."""
    too_many = more > 0 and quota.documents is not None and documents + more > quota.documents
    if too_many:
        raise quota.exceeded("documents")
    if larger > 0 and quota.bytes is not None and size + larger > quota.bytes:
        raise quota.exceeded("bytes")


class Writes:
    """The writes of one tenant, for one call. lock: the tenant's own, in this process, for transactions that
    meet in the server abort; None where there are no transactions. cost: the bytes of documents that were
    read and written so far. rows: reads and plans large ones. moved_too: whether a
    tenant that was moved to another store is written to all the same."""

    def __init__(
        self,
        driver: Driver,
        tenant: str,
        quota: Quota,
        lock: asyncio.Lock | None,
        rows: Rows,
        *,
        moved_too: bool = False,
    ) -> None:
        self._moved_too = moved_too
        self.driver = driver
        self.tenant = tenant
        self.cost = 0
        self._quota = quota
        self._lock = lock
        self.rows = rows
        self._checks = Checks()

    @property
    def transactions(self) -> bool:
        """Whether the server has transactions."""
        return self._lock is not None

    async def run(self, work: Callable[[Any, Undo], Awaitable[T]]) -> T:
        """Do `work(session, undo)` as a whole: in a transaction, or taking back what it put into `undo` when
        it fails. Tried again after WriteConflict and DuplicateKey. Raises what work raises, and
        StoreUnavailable."""
        make: Callable[[], Awaitable[None]] | None = None
        for attempt in range(_ATTEMPTS):
            if make is not None:  # not where it was asked for: what was read there is let go
                await make()
                make = None
            try:
                if self._lock is None:
                    return await self._alone(work)
                async with self._lock:
                    return await self.driver.transaction(lambda session: work(session, []))
            except _NewTenant:
                await self._make_tenant()
            except _Held:
                await asyncio.sleep(_HELD_PAUSE)
            except NotPlannedYet as ahead:
                make = ahead.make
            except (WriteConflict, DuplicateKey):
                longest = min(_LONGEST_PAUSE, _PAUSE * 2**attempt)
                await asyncio.sleep(longest * random.random())  # noqa: S311
        raise StoreUnavailable("Too many writes to the same documents at once. Nothing was changed.")

    async def _alone(self, work: Callable[[Any, Undo], Awaitable[T]]) -> T:
        undo: Undo = []
        try:
            return await work(None, undo)
        except BaseException:
            for step in reversed(undo):
                await step()
            raise

    async def _make_tenant(self) -> None:
        """The tenant's row, outside of any transaction: two that make it at once would abort each other.
        Raises Moved."""
        if not self._moved_too:
            everybody = await self.driver.find_one(META, {"_id": MOVED})
            if everybody is not None:
                raise Moved(self.tenant, everybody["to"])
        try:
            await self.driver.insert(TENANTS, new_tenant(self.tenant))
        except DuplicateKey:
            return  # another gateway was first

    async def state(self, collection: str, session: Any = None) -> State:
        """The state of a collection; a new one where there is none."""
        query = scope(self.tenant, collection, {"_id": joined(self.tenant, collection)})
        return mongo_state.read(collection, await self.driver.find_one(COLLECTIONS, query, session))

    async def row(self, collection: str, identifier: str, session: Any = None) -> Row | None:
        """A document's row, of a large one its head."""
        query = one(self.tenant, collection, identifier)
        return await self.driver.find_one(DOCUMENTS, query, session, raw=True)

    async def write(
        self,
        session: Any,
        undo: Undo,
        collection: str,
        write: Write,
        identifier: str = "",
        counters: BulkCounters | None = None,
        ahead: PlanAhead | None = None,
    ) -> Written | None:
        """One write. identifier: the new one for a Create. ahead: its plan may be made ahead of the
        transaction, which then is short, and not lost to what others wrote while a worker process was at a
        large document. In a transaction: whatever is raised but WriteConflict and StoreUnavailable is raised
        before anything was written."""
        identifier = (identifier or new_id()) if isinstance(write, Create) else write.id
        state = counters.state if counters else await self.state(collection, session)
        row = await self.row(collection, identifier, session)
        if row is not None and (ahead is None or not ahead.tries):  # else it was counted
            self.cost += row["s"]
        of = state, write, identifier, row
        plan = await (self.plan(*of) if ahead is None else ahead.plan(self, *of))
        self.cost += plan.size
        if plan.decision.documents > 0 and not state.stored and not (counters and counters.changes):
            await self.require_collection()
        await self.do(session, undo, state, plan, counters)
        return plan.decision.written

    async def plan(self, state: State, write: Write, identifier: str, row: Row | None) -> Plan:
        """The plan, once what is costly of it was checked."""
        for _ in range(ATTEMPTS):
            try:
                return await self.rows.plan(state, write, identifier, row, instants.now(), self._checks)
            except Postponed:
                await self._checks.settle(self.rows.jobs.pool, self.tenant)
        raise SchemaTooCostly(OVERTAKEN)

    async def begin(self, session: Any, collection: str) -> BulkCounters:
        """For many writes to one collection in this transaction; end() is called behind them."""
        own = own_row(self.tenant)
        row = await self.driver.modify(TENANTS, own, {"$inc": {"bulks": 1}}, session)
        if row is None:
            raise _NewTenant()
        self._check_here(row)
        return BulkCounters(await self.state(collection, session), row, self._quota)

    async def end(self, session: Any, counters: BulkCounters) -> None:
        """Store what was counted. See begin."""
        if not counters.changes:
            return
        own = own_row(self.tenant)
        counted = {"q": len(counters.changes), "documents": counters.documents, "bytes": counters.bytes}
        await self.driver.update(TENANTS, own, {"$inc": counted}, session)
        await self._count(session, counters.state, counters.documents, counters.bytes)
        await self.driver.insert_all(CHANGES, counters.changes, session)

    async def do(
        self, session: Any, undo: Undo, state: State, plan: Plan, counters: BulkCounters | None = None
    ) -> None:
        """Carry a plan out."""
        if plan.new is not None:
            self.driver.check_size(plan.new)
        decision = plan.decision
        stale = await self._check_claims(session, state, decision.id, plan.claims)
        if counters is not None:
            number = counters.reserve(decision.documents, decision.bytes)
        else:
            last = await self._reserve(session, undo, decision, len(plan.changes))
            number = last - len(plan.changes) + 1
        await self._take(session, undo, state, decision.id, plan.claims, stale)
        await self._store(session, undo, state, plan)
        if plan.dropped:
            query = scope(self.tenant, state.name, {"_id": {"$in": list(plan.dropped)}}, {"o": decision.id})
            await self.driver.delete(CLAIMS, query, session)
        if counters is not None:
            for at, (kind, etag) in enumerate(plan.changes, number):
                counters.changes.append(self._change(at, state.name, kind, decision.id, etag))
            return
        await self._count(session, state, decision.documents, decision.bytes, decision.id)
        for at, (kind, etag) in enumerate(plan.changes, number):
            await self.record(session, at, state.name, kind, decision.id, etag)

    async def record(
        self, session: Any, number: int, collection: str, kind: str, identifier: str = "", etag: str = ""
    ) -> None:
        """A change in the tenant's log; without transactions there is none, for its order would be a lie."""
        if session is not None:
            row = self._change(number, collection, kind, identifier, etag)
            await self.driver.insert(CHANGES, row, session)

    def _change(self, number: int, collection: str, kind: str, identifier: str, etag: str) -> Row:
        now = instants.now()
        row = {"_id": joined(self.tenant, f"{number:020d}"), "t": self.tenant, "c": collection, "q": number}
        row |= {"kind": kind, "id": identifier, "etag": etag, "at": now, "x": date(now + RETAINED_SECONDS)}
        return row

    async def reserve(self, session: Any, documents: int, size: int, changes: int = 1) -> int:
        """Count in the tenant's row, which also orders its transactions. Gives the number of the last change.
        Raises QuotaExceeded, and nothing was counted."""
        limits: list[Row] = []
        if documents > 0 and self._quota.documents is not None:
            limits.append({"documents": {"$lte": self._quota.documents - documents}})
        if size > 0 and self._quota.bytes is not None:
            limits.append({"bytes": {"$lte": self._quota.bytes - size}})
        own = own_row(self.tenant)
        change = {"$inc": {"q": changes, "documents": documents, "bytes": size}}
        row = await self.driver.modify(TENANTS, own_row(self.tenant, *limits), change, session)
        if row is not None:
            try:
                self._check_here(row)
            except (Moved, _Held):
                if session is None:
                    back = {"$inc": {"documents": -documents, "bytes": -size}}
                    await self.driver.update(TENANTS, own, back)
                raise
            return int(row["q"])
        row = await self.driver.find_one(TENANTS, own, session)
        if row is not None:
            _check_quota(self._quota, row["documents"], row["bytes"], documents, size)
            raise WriteConflict()  # it came, or there was room, a moment later
        raise _NewTenant()

    def _check_here(self, row: Row) -> None:
        """Whether the tenant may be written to, by its row. Raises Moved and _Held."""
        if not self._moved_too and row.get("moved"):
            raise Moved(self.tenant, row["moved"])
        if row.get("held", 0.0) > instants.now():
            raise _Held()

    async def require_bytes(self, more: int) -> None:
        """Whether so many bytes that are no document's fit. They are counted by hold; those that come at once
        may pass the quota by what they are, and then nothing more fits. Raises QuotaExceeded."""
        if self._quota.bytes is not None:
            row = await self.driver.find_one(TENANTS, own_row(self.tenant))
            if (0 if row is None else row["bytes"]) + more > self._quota.bytes:
                raise self._quota.exceeded("bytes")

    async def require_collection(self) -> None:
        """Whether there may be one collection more. Raises QuotaExceeded."""
        if self._quota.collections is not None:
            stored = {"$or": [{"documents": {"$gt": 0}}, {"settings": {"$gt": ""}}]}
            own = {"$and": [{"t": self.tenant}, stored]}
            if await self.driver.count(COLLECTIONS, own, _COUNT_SECONDS) >= self._quota.collections:
                raise self._quota.exceeded("collections")

    async def hold(self, session: Any, size: int) -> None:
        """Count bytes that are no document's, or count them off."""
        own = own_row(self.tenant)
        change = {"$inc": {"bytes": size, "beside": size}}
        if size and not await self.driver.update(TENANTS, own, change, session):
            await self._make_tenant()
            await self.driver.update(TENANTS, own, change, session)

    async def _reserve(self, session: Any, undo: Undo, decision: Decision, changes: int) -> int:
        documents, size = decision.documents, decision.bytes
        number = await self.reserve(session, documents, size, changes)
        own = own_row(self.tenant)
        back = {"$inc": {"documents": -documents, "bytes": -size}}
        undo.append(partial(self.driver.update, TENANTS, own, back))
        return number

    async def _check_claims(
        self, session: Any, state: State, identifier: str, claims: Mapping[str, str]
    ) -> Mapping[str, str]:
        """The owners of the wanted values that have no right to them. Raises UniqueConflict."""
        if not claims:
            return {}
        stale = {}
        query = scope(self.tenant, state.name, {"_id": {"$in": list(claims)}})
        found = [claim async for claim in self.driver.find(CLAIMS, query, session=session)]
        for claim in found:
            owner = claim["o"]
            if owner != identifier:
                await self._check_owner(session, state, claim, owner)
            stale[claim["_id"]] = owner
        return stale

    async def _check_owner(self, session: Any, state: State, claim: Row, owner: str) -> None:
        row = await self.row(state.name, owner, session)
        now = instants.now()
        has = claim["_id"] in await self.rows.claims(state, row)
        # Without transactions the document comes a moment after the claim.
        coming = session is None and not has and claim["at"] > now - _CLAIM_SECONDS
        if coming or (has and row is not None and is_live(row, now)):
            name = state.unique[claim["n"]].name
            detail = f"Another document has the same value in the unique index {name}."
            raise UniqueConflict(detail, extra={"index": name})

    async def claim(
        self, session: Any, undo: Undo, state: State, identifier: str, claims: Mapping[str, str]
    ) -> None:
        """Only take these values of unique indexes for a document. Raises UniqueConflict."""
        stale = await self._check_claims(session, state, identifier, claims)
        await self._take(session, undo, state, identifier, claims, stale)

    async def _take(
        self,
        session: Any,
        undo: Undo,
        state: State,
        identifier: str,
        claims: Mapping[str, str],
        stale: Mapping[str, str],
    ) -> None:
        for claim, token in claims.items():
            mine = scope(self.tenant, state.name, {"_id": claim}, {"o": identifier})
            if claim not in stale:
                row = {"_id": claim, "t": self.tenant, "c": state.name, "n": token, "o": identifier}
                await self.driver.insert(CLAIMS, {**row, "at": instants.now()}, session)
            elif stale[claim] != identifier:
                change = {"$set": {"o": identifier, "at": instants.now()}}
                theirs = scope(self.tenant, state.name, {"_id": claim}, {"o": stale[claim]})
                if not await self.driver.update(CLAIMS, theirs, change, session):
                    raise WriteConflict()
            undo.append(partial(self.driver.delete, CLAIMS, mine))

    async def _store(self, session: Any, undo: Undo, state: State, plan: Plan) -> None:
        """The compare-and-set."""
        if plan.old is None:
            assert plan.new is not None
            await self.driver.insert(DOCUMENTS, plan.new, session)
            done = True
        else:
            query = self._as_read(state.name, plan.old)
            if plan.new is None:
                done = bool(await self.driver.delete(DOCUMENTS, query, session))
            else:
                done = await self.driver.replace(DOCUMENTS, query, plan.new, session)
        if not done:
            raise WriteConflict()
        undo.clear()  # the document is as it shall be; what follows only counts

    async def _count(
        self, session: Any, state: State, documents: int, size: int, identifier: str = ""
    ) -> None:
        query = scope(self.tenant, state.name, {"_id": joined(self.tenant, state.name)})
        change = {"$inc": {"documents": documents, "bytes": size}}
        row = await self.driver.modify(COLLECTIONS, query, change, session)
        if row is None:
            try:
                await self.driver.insert(COLLECTIONS, mongo_state.new_row(self.tenant, state), session)
            except DuplicateKey:
                if session is not None:
                    raise
            row = await self.driver.modify(COLLECTIONS, query, change, session)
        if row is not None and row["documents"] <= 0 and row.get("settings") is None:
            gone = {"documents": {"$lte": 0}}, {"settings": None}  # it would stay, whatever it was called
            await self.driver.delete(COLLECTIONS, {"$and": [query, *gone]}, session)
        elif row is not None and row["v"] != state.version:
            if session is not None:
                raise WriteConflict()
            written = await self.row(state.name, identifier)
            await self.derive(mongo_state.read(state.name, row), written)

    async def derive(self, state: State, row: Row | None) -> None:
        """Update the entries of a document to settings that are newer than it. row: as it was read."""
        while row is not None and row["g"] != state.version:
            made, ends = await self.rows.derived(state, row)
            change: Row = {"$set": made}
            if not ends:
                change["$unset"] = {"x": ""}
            if await self.driver.update(DOCUMENTS, self._as_read(state.name, row), change):
                return
            row = await self.row(state.name, row["id"])

    def _as_read(self, collection: str, row: Row) -> Row:
        return one(self.tenant, collection, row["id"], {"v": row["v"]}, {"i": row["i"]})
