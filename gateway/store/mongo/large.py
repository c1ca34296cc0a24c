"""What is in the rows of documents. Of light ones it is at hand; large ones are decoded, patched, checked and
encoded by worker processes, and the process that serves holds their bytes alone (mongo/raw.py, large.py)."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from gateway.runtime.fair_seats import FairSeats, Seat
from gateway.store.decide import Decision
from gateway.store.filter.matcher import matches
from gateway.store.filter.nodes import Node
from gateway.store.json.large import LIGHT_BYTES, Jobs, no_collector
from gateway.store.json.strict import dumps
from gateway.store.model import instants
from gateway.store.model.document import Document, LargeMembers
from gateway.store.model.indexing import EntryBudget, other_entries
from gateway.store.model.patch import BeyondBounds, LargePatch
from gateway.store.model.projection import WHOLE, Projection
from gateway.store.model.sort import SortKey
from gateway.store.model.write import Delete, Update, Write, is_large
from gateway.store.mongo import raw as mongo_raw
from gateway.store.mongo.raw import RAW
from gateway.store.mongo.read.order import member
from gateway.store.mongo.rows import Row, derived, document, heading, is_live
from gateway.store.mongo.state import State
from gateway.store.mongo.write import plan as mongo_plan
from gateway.store.mongo.write.plan import Plan
from gateway.store.schema import checks as schema_checks
from gateway.store.schema.checks import Checks

SEATS = 3  # works on large documents that hold some at once: each has its bytes more than once
_WAIT = 30.0  # seconds to wait for such a seat, as it would for a worker process
_KNOWN = 10_000  # documents


class LargeDocuments:
    """Which documents are known to be large, and the seats for work that holds some, of all tenants of a
    store. Work that waits for a seat holds none, and reads again what it has seen to be large."""

    def __init__(self, seats: int = SEATS) -> None:
        self.seats = FairSeats("seats for large documents", seats, reserve=1, wait=_WAIT)
        self._known: OrderedDict[str, None] = OrderedDict()

    def knows(self, key: str) -> bool:
        """Whether a document was large when it was last seen. key: its _id."""
        return key in self._known

    def learn(self, key: str, *, large: bool) -> None:
        """Remember whether a document was large. key: its _id."""
        if not large:
            self._known.pop(key, None)
            return
        self._known[key] = None
        if len(self._known) > _KNOWN:
            self._known.popitem(last=False)


class Rows:
    """One tenant's rows. Every method raises what Jobs.run raises. large: which it shares with others."""

    def __init__(self, jobs: Jobs, tenant: str, large: LargeDocuments | None = None) -> None:
        self.jobs = jobs
        self.large = large or LargeDocuments()
        self._tenant = tenant

    async def seat(self) -> Seat:
        """The right to hold a large document; release it. Raises what FairSeats.take raises."""
        return await self.large.seats.take(self._tenant)

    async def read(self, key: str, find: Callable[[], Awaitable[Row | None]]) -> Document | None:
        """The document of a row that has not expired. key: its _id. find: asks for the row, of a large one
        again when others are at large ones."""
        seat = await self.seat() if self.large.knows(key) else None
        try:
            row = await find()
            if row is None or not is_live(row, instants.now()):
                return None
            self.large.learn(key, large=RAW in row)
            if RAW in row and seat is None:
                seat = self.large.seats.try_take(self._tenant)
                if seat is None:
                    row = None
                    seat = await self.seat()
                    row = await find()
            if row is None or not is_live(row, instants.now()):
                return None
            return await self.document(row)
        finally:
            if seat is not None:
                seat.release()

    async def document(self, row: Row, fields: Projection = WHOLE) -> Document:
        """The document, with these members of it."""
        if RAW not in row:
            return light_document(row, fields)
        text = await self.jobs.run(self._tenant, text_of, row[RAW], fields)
        return _with_text(heading(row), text)

    async def position(self, row: Row, node: Node, keys: Sequence[SortKey] = ()) -> list[Any] | None:
        """Where the document stands in the keys of an order; None: it does not match."""
        if RAW in row:
            return await self.jobs.run(self._tenant, position_of, row[RAW], node, tuple(keys))
        return _position(row, node, keys)

    async def claims(self, state: State, row: Row | None) -> Mapping[str, str]:
        """The document's values in unique indexes; see mongo_plan.claims."""
        if row is None or not state.unique:
            return {}
        if RAW in row:
            return await self.jobs.run(self._tenant, claims_of, row[RAW], self._tenant, state.for_worker)
        return mongo_plan.claims(self._tenant, state, row["d"])

    async def derived(self, state: State, row: Row) -> tuple[Row | bytes, bool]:
        """What the settings make of the document (`ix`, `o`, `x`) and their version (`g`), to be set; and
        whether it has an end."""
        if RAW in row:
            return await self.jobs.run(self._tenant, derived_of, row[RAW], state.for_worker)
        return _derived(state, row)

    async def check_fits(self, state: State, row: Row, tokens: frozenset[str]) -> None:
        """Whether the indexes of these tokens can hold the document. Raises Unprocessable."""
        if not tokens:
            return
        if RAW in row:
            await self.jobs.run(self._tenant, check_fits_of, row[RAW], state.for_worker, tokens)
        else:
            _check_fits(state, row, tokens)

    async def plan(
        self, state: State, write: Write, identifier: str, row: Row | None, now: float, checks: Checks
    ) -> Plan:
        """See mongo_plan.plan; raises also what the checks raise."""
        mongo_plan.require(state, write, row, now)
        if not _is_light(write, row):
            return await self._plan_in_worker(state, write, identifier, row, now)
        had = await self.claims(state, row)
        schema = state.schema

        def check(data: Mapping[str, Any], text: str) -> None:
            assert schema is not None
            checks.check(schema, data, text)

        asked = None if schema is None else check
        try:
            return mongo_plan.plan(self._tenant, state, write, identifier, row, had, now, asked)
        except BeyondBounds:
            return await self._plan_in_worker(state, write, identifier, row, now)

    def is_planned_in_worker(self, state: State, write: Write, row: Row | None) -> bool:
        """Whether a worker process has a part in the plan."""
        has_claims = row is not None and RAW in row and bool(state.unique)
        return has_claims or not _is_light(write, row)

    async def _plan_in_worker(
        self, state: State, write: Write, identifier: str, row: Row | None, now: float
    ) -> Plan:
        small, text = _cut(write)
        old = None if row is None else _needed(state, write, row)
        schema = None if state.schema is None else state.schema.text
        of = self._tenant, state.for_worker, schema
        plan, text, new = await self.jobs.run(self._tenant, plan_of, *of, small, text, identifier, old, now)
        return dataclasses.replace(plan, decision=_with_document(plan.decision, text), old=row, new=new)


def light_document(row: Row, fields: Projection = WHOLE) -> Document:
    """See Rows.document, of a light row."""
    if fields is WHOLE or fields == WHOLE:
        return document(row)
    return dataclasses.replace(heading(row), text=dumps(fields.members(row["d"])))


def _is_light(write: Write, row: Row | None) -> bool:
    """Whether a write is planned here. What it replaces or deletes is not parsed, but for claims."""
    if is_large(write):
        return False
    if not isinstance(write, Update) or row is None:
        return True
    return RAW not in row


def _with_text(made: Document, text: bytes) -> Document:
    if len(text) > LIGHT_BYTES:
        return dataclasses.replace(made, encoded=text)
    return dataclasses.replace(made, text=text.decode())


def _with_document(decision: Decision, text: bytes) -> Decision:
    """The decision with this text in the document that it makes."""
    written = decision.written
    assert written is not None
    made = dataclasses.replace(written, document=_with_text(written.document, text))
    return dataclasses.replace(decision, written=made)


def _cut(write: Write) -> tuple[Write, bytes]:
    """A write without its large text, which travels apart."""
    if isinstance(write, Update):
        patch = write.patch
        if not isinstance(patch, LargePatch):
            return write, b""
        return dataclasses.replace(write, patch=LargePatch(patch.array, b"")), patch.text
    assert not isinstance(write, Delete) and isinstance(write.data, LargeMembers)
    return dataclasses.replace(write, data=LargeMembers(b"")), write.data.text


def _needed(state: State, write: Write, row: Row) -> bytes:
    """What a plan must know of the row that is there: its members, where they are needed."""
    if state.unique or isinstance(write, Update):
        raw: bytes = row.get(RAW) or mongo_raw.encode(row)
        return raw
    return mongo_raw.encode({name: row[name] for name in row if name not in (RAW, "d", "ix", "o")})


def _position(row: Row, node: Node, keys: Sequence[SortKey]) -> list[Any] | None:
    if not matches(node, row["id"], row.get("d", {}), row["cr"], row["mo"]):
        return None
    return [member(key, row) for key in keys]


def _derived(state: State, row: Row) -> tuple[Row, bool]:
    made = derived(state.ordered, state.settings.ttl, row["mo"], row["d"])
    return {**made, "g": state.version}, "x" in made


def _check_fits(state: State, row: Row, tokens: frozenset[str]) -> None:
    budget = EntryBudget(row["id"])
    for index in state.ordered:
        if index.token in tokens:
            other_entries(index.path, row["d"], budget)


# --- jobs: these run in a worker process ---


@no_collector()
def text_of(raw: bytes, fields: Projection) -> bytes:
    """The text of a document's members, or of these of them."""
    data = mongo_raw.decode(raw)["d"]
    return dumps(data if fields == WHOLE else fields.members(data)).encode()


@no_collector()
def position_of(raw: bytes, node: Node, keys: tuple[SortKey, ...]) -> list[Any] | None:
    """See Rows.position."""
    return _position(mongo_raw.decode(raw), node, keys)


@no_collector()
def claims_of(raw: bytes, tenant: str, state: State) -> dict[str, str]:
    """See Rows.claims."""
    return mongo_plan.claims(tenant, state, mongo_raw.decode(raw)["d"])


@no_collector()
def derived_of(raw: bytes, state: State) -> tuple[bytes, bool]:
    """See Rows.derived. As bytes: what was stored under older rules may have any number of entries."""
    made, ends = _derived(state, mongo_raw.decode(raw))
    return mongo_raw.encode(made), ends


@no_collector()
def check_fits_of(raw: bytes, state: State, tokens: frozenset[str]) -> None:
    """See Rows.check_fits."""
    _check_fits(state, mongo_raw.decode(raw), tokens)


@no_collector()
def plan_of(
    tenant: str,
    state: State,
    schema: str | None,
    write: Write,
    text: bytes,
    identifier: str,
    old: bytes | None,
    now: float,
) -> tuple[Plan, bytes, bytes]:
    """The plan of a write that is not a deletion, the text of the document that it makes, and the row. The
    plan itself has neither, nor what is there. text: of the write."""
    had: Mapping[str, str] = {}
    row = None if old is None else mongo_raw.decode(old)
    if row is not None and "d" in row:
        had = mongo_plan.claims(tenant, state, row["d"])
        if not isinstance(write, Update):
            del row["d"]  # there is no memory for two large documents
    if isinstance(write, Update):
        if isinstance(write.patch, LargePatch):
            write = dataclasses.replace(write, patch=LargePatch(write.patch.array, text))
    elif not isinstance(write, Delete):
        write = dataclasses.replace(write, data=LargeMembers(text))

    def check(data: Mapping[str, Any], text: str) -> None:
        assert schema is not None
        schema_checks.check_whole(schema, data, len(text.encode()))

    asked = None if schema is None else check
    plan = mongo_plan.plan(tenant, state, write, identifier, row, had, now, asked, own=True)
    written, new = plan.decision.written, plan.new
    assert written is not None and isinstance(new, dict)
    made = written.document.text.encode()
    del written
    plan = dataclasses.replace(plan, decision=_with_document(plan.decision, b""), old=None, new=None)
    return plan, made, mongo_raw.encode(new)
