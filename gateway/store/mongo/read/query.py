"""Lists and exports: the server finds candidates in order, the reference matcher decides."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

from gateway.runtime.fair_seats import Seat
from gateway.store.filter import parse as filters
from gateway.store.filter.matcher import matches
from gateway.store.filter.nodes import EVERYTHING, ID, Node, Path
from gateway.store.json.large import Jobs
from gateway.store.model.document import Document
from gateway.store.model.projection import WHOLE, Projection
from gateway.store.model.query import PAGE_BYTES
from gateway.store.model.sort import ID_KEY, SortKey, with_tie_breaker
from gateway.store.mongo import server_errors
from gateway.store.mongo.driver import Driver
from gateway.store.mongo.large import Rows, light_document
from gateway.store.mongo.raw import RAW
from gateway.store.mongo.read import filter as mongo_filter
from gateway.store.mongo.read import order as mongo_order
from gateway.store.mongo.read.order import OWN, First, Position, is_behind, is_cut, member
from gateway.store.mongo.rows import DOCUMENTS, Row, ids, is_live, joined, not_ended, one, scope
from gateway.store.mongo.state import State

T = TypeVar("T")

_META = ("id", "v", "i", "cr", "mo", "x")
STEP = 0.002  # seconds of the event loop
_FETCHED = 100  # documents that are read together by their ids


class LargeFound(Exception):
    """A large document was found by a list that may hold none."""


class Turn:
    """What a list may have of the event loop: STEP seconds, then all else goes first, and where other lists
    wait for a seat, they too. seat: set while it has one. holds_large: it may hold large documents."""

    def __init__(
        self,
        seat: Seat | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        holds_large: bool = False,
    ) -> None:
        self.holds_large = holds_large
        self._clock = clock
        self._over = 0.0
        self.sit(seat)

    def sit(self, seat: Seat | None) -> None:
        """A turn begins, with this seat; None: without one."""
        self._seat = seat
        self._over = self._clock() + STEP

    @property
    def is_over(self) -> bool:
        """Whether STEP seconds have passed."""
        return self._clock() > self._over

    async def let_others(self) -> None:
        """Give way to other lists and the event loop; then the next turn begins."""
        await (self._seat.turn() if self._seat is not None else asyncio.sleep(0))
        self._over = self._clock() + STEP

    async def in_worker(self, work: Awaitable[T]) -> T:
        """What comes from another process. Others have the seat meanwhile."""
        if self._seat is None:
            return await work
        self._seat.release()
        found = await work
        await self._seat.reacquire()
        self._over = self._clock() + STEP
        return found


@dataclass(frozen=True, slots=True)
class Listed:
    """Which documents, in which order, as of when. deadline: when it is given up (monotonic clock). rows:
    reads those of the tenant. fields: what is given of the documents."""

    tenant: str
    state: State
    node: Node
    sort: tuple[SortKey, ...]
    now: float
    deadline: float
    turn: Turn = dataclasses.field(default_factory=Turn)
    rows: Rows = dataclasses.field(default_factory=lambda: Rows(Jobs(), ""))
    fields: Projection = WHOLE

    @property
    def keys(self) -> tuple[SortKey, ...]:
        """Those of the order, the last of which is the id."""
        return with_tie_breaker(self.sort)

    def query(self, *conditions: Row) -> Row:
        """The query for candidates: of the collection, and what indexes and these conditions narrow."""
        narrowed = mongo_filter.narrow(self.node, self.state.usable)
        own = [{"_id": ids(self.tenant, self.state.name)}] if not conditions else []
        return scope(
            self.tenant, self.state.name, *own, *conditions, *([narrowed] if narrowed is not None else [])
        )

    async def holds(self, row: Row) -> bool:
        """Whether a row is of the list."""
        if not is_live(row, self.now):
            return False
        if RAW in row and self._asks_members:
            return await self.in_time(self.rows.position(row, self.node)) is not None
        return matches(self.node, row["id"], row.get("d", {}), row["cr"], row["mo"])

    def require_time(self) -> None:
        """Raises QueryTooSlow past the deadline."""
        if time.monotonic() > self.deadline:
            raise server_errors.too_slow()

    async def in_time(self, work: Coroutine[Any, Any, T]) -> T:
        """What work in a worker process gives. Raises QueryTooSlow past the deadline, and LargeFound."""
        if not self.turn.holds_large:
            work.close()
            raise LargeFound
        try:
            async with asyncio.timeout(self.seconds if self.deadline < math.inf else None):
                return await self.turn.in_worker(work)
        except TimeoutError:
            raise server_errors.too_slow() from None

    async def position(self, row: Row, keys: Sequence[SortKey]) -> Position:
        """Where a row stands in these keys."""
        if RAW in row and any(key.path not in OWN for key in keys):
            found = await self.in_time(self.rows.position(row, EVERYTHING, keys))
            assert found is not None
            return found
        return [member(key, row) for key in keys]

    async def document(self, row: Row) -> Document:
        """The document of a row, with the fields that are asked for. Raises QueryTooSlow, and LargeFound."""
        if RAW in row:
            return await self.in_time(self.rows.document(row, self.fields))
        return light_document(row, self.fields)

    @property
    def seconds(self) -> float:
        """Those left until the deadline."""
        return self.deadline - time.monotonic()

    @property
    def _asks_members(self) -> bool:
        return any(condition.path not in OWN for condition in filters.conditions(self.node))


async def read_page(
    driver: Driver, listed: Listed, limit: int, held: list[Any] | None
) -> tuple[list[Document], list[Any] | None]:
    """A page and the position of its end, as a cursor holds it; None at the end of the list. held: of an
    earlier page."""
    position = None
    if held is not None:
        of = listed.tenant, listed.state.name

        async def read(sort_key: SortKey, name: str) -> Any:
            row = await driver.find_one(DOCUMENTS, one(*of, name), raw=True)
            return None if row is None else (await listed.position(row, [sort_key]))[0]

        position = await mongo_order.from_cursor(listed.keys, held, read)
    fields = _server_fields(listed)
    if fields is None:
        documents, end = await _sorted_here(driver, listed, limit, position)
    else:
        documents, end = await _sorted_there(driver, listed, fields, limit, position)
    return documents, None if end is None else mongo_order.to_cursor(listed.keys, end)


async def _sorted_there(
    driver: Driver, listed: Listed, fields: list[str], limit: int, position: Position | None
) -> tuple[list[Document], Position | None]:
    """As read_page, in an order that the server has of these fields."""
    order = [(field, -1 if k.descending else 1) for field, k in zip(fields, listed.keys, strict=True)]
    conditions = [{field: {"$gte": ""}} for field in fields if field.startswith("o.")]
    if position is not None:
        conditions.append(_after(order, position))
    if order[0][0] == "_id":
        # One range of _id, so that the server begins where the page does.
        conditions = [{"_id": _id_range(listed, order[0][1], position)}]
    # Where all that is read is of the page, no more is read than that.
    batch = listed.state.batch if listed.node != EVERYTHING else min(listed.state.batch, limit + 1)
    more: Any = {"seconds": listed.seconds, "raw": True, "batch": batch}
    rows = driver.find(DOCUMENTS, listed.query(*conditions), sort=order, **more)
    documents: list[Document] = []
    size, end = 0, None
    async with aclosing(rows), aclosing(_in_order(rows, listed, fields, position, limit + 1)) as found:
        async for here, bytes_, item in found:
            if len(documents) == limit or size > PAGE_BYTES:
                return documents, end
            documents.append(item)
            size += bytes_
            end = here
    return documents, None


async def _in_order(
    rows: AsyncGenerator[Row, None], listed: Listed, fields: list[str], position: Position | None, most: int
) -> AsyncGenerator[tuple[Position, int, Document], None]:
    """What is of the list, as it comes from the server. Of texts that the index knows the beginning of only,
    all that begin so are read, and put in order by the whole texts; of these, `most` are given."""
    tied: First[Document] | None = None
    begin = ""
    async for row in _held(rows, listed):
        here = [_field(row, field) for field in fields]
        if tied is not None and here[0] != begin:
            for found in tied.in_order():
                yield found
            tied = None
        if not (fields[0].startswith("o.") and is_cut(here[0])):
            yield here, row["s"], await listed.document(row)
            continue
        if tied is None:
            tied, begin = First(listed.keys, most, PAGE_BYTES), here[0]
        here[:1] = await listed.position(row, listed.keys[:1])
        if tied.takes(here) and (position is None or is_behind(listed.keys, here, position)):
            tied.add(here, row["s"], await listed.document(row))
    for found in tied.in_order() if tied is not None else ():
        yield found


async def _held(rows: AsyncGenerator[Row, None], listed: Listed) -> AsyncGenerator[Row, None]:
    """Those rows that are of the list. Raises QueryTooSlow."""
    everything = listed.node == EVERYTHING
    async for row in rows:
        if listed.turn.is_over:
            await listed.turn.let_others()
        listed.require_time()
        if (everything and is_live(row, listed.now)) or await listed.holds(row):
            yield row


async def count(driver: Driver, listed: Listed) -> int:
    """How many documents match. Raises QueryTooSlow."""
    if listed.node == EVERYTHING:
        conditions = [] if listed.state.settings.ttl is None else [not_ended(listed.now)]
        return await driver.count(
            DOCUMENTS, scope(listed.tenant, listed.state.name, *conditions), listed.seconds
        )
    needed = {f"d.{path[0]}" for path in _members_of(listed.node)}
    fields = [*_META, *sorted(needed)]
    rows = driver.find(DOCUMENTS, listed.query(), fields=fields, seconds=listed.seconds, raw=True)
    async with aclosing(rows), aclosing(_held(rows, listed)) as held:
        return sum([1 async for _ in held])


async def scan(driver: Driver, listed: Listed) -> AsyncGenerator[Document, None]:
    """Every document of the list, by id; in steps of what is read ahead, so that no cursor waits in the
    server for slow readers."""
    step = listed.state.batch
    after: str | None = None
    while True:
        here = {"_id": ids(listed.tenant, listed.state.name, after=after)}
        more: Any = {"limit": step, "raw": True, "batch": step}
        rows = driver.find(DOCUMENTS, listed.query(here), sort=[("_id", 1)], **more)
        read = 0
        async with aclosing(rows):
            async for row in rows:
                read, after = read + 1, row["id"]
                if listed.turn.is_over:
                    await listed.turn.let_others()
                if await listed.holds(row):
                    yield await listed.document(row)
        if read < step:
            return


def _members_of(node: Node) -> set[Path]:
    """The paths into the client's members that a filter asks for."""
    return {condition.path for condition in filters.conditions(node) if condition.path not in {(), *OWN}}


def _server_fields(listed: Listed) -> list[str] | None:
    """The fields that the server has an index of in this order; None when it has none."""
    fields = []
    usable = listed.state.usable
    if len(listed.keys) > 2:
        return None
    if listed.keys == (ID_KEY,) or listed.keys == (SortKey(ID, True),):
        return ["_id"]
    for sort_key in listed.keys:
        if sort_key.path in OWN:
            fields.append(OWN[sort_key.path])
        elif sort_key.path in usable:
            fields.append(f"o.{usable[sort_key.path].slot}")
        else:
            return None
    return fields


def _field(row: Row, field: str) -> Any:
    if field == "_id":
        return row["id"]
    return row["o"][field[2:]] if field.startswith("o.") else row[field]


def _id_range(listed: Listed, direction: int, position: Position | None) -> Row:
    if position is None:
        return ids(listed.tenant, listed.state.name)
    if direction > 0:
        return ids(listed.tenant, listed.state.name, after=position[0])
    return ids(listed.tenant, listed.state.name, before=position[0])


def _after(order: Sequence[tuple[str, int]], position: Position) -> Row:
    """Whether a row stands behind a position: beyond it in the first field that differs. Or may stand there,
    where the field has the beginning of a text only."""
    steps = []
    for index, ((field, direction), member_) in enumerate(zip(order, position, strict=False)):
        same = [{before: {"$eq": value}} for (before, _), value in zip(order[:index], position, strict=False)]
        value, cut = member_, field.startswith("o.") and is_cut(mongo_order.indexed(member_))
        sign = "$gt" if direction > 0 else "$lt"
        if cut:
            value, sign = mongo_order.indexed(member_), sign + "e"
        steps.append({"$and": [*same, {field: {sign: value}}]})
        if cut:
            break
    return {"$or": steps}


async def _sorted_here(
    driver: Driver, listed: Listed, limit: int, position: Position | None
) -> tuple[list[Document], Position | None]:
    """As read_page, for an order that no declared index has: of each candidate only what the filter and the
    sort ask for is read, and the first ones are kept."""
    paths = _members_of(listed.node) | {k.path for k in listed.keys if k.path not in OWN}
    fields = [*_META, *sorted({f"d.{path[0]}" for path in paths})]
    rows = driver.find(DOCUMENTS, listed.query(), fields=fields, seconds=listed.seconds, raw=True)
    first: First[None] = First(listed.keys, limit + 1, PAGE_BYTES)
    async with aclosing(rows), aclosing(_held(rows, listed)) as held:
        async for row in held:
            here = await listed.position(row, listed.keys)
            if first.takes(here) and (position is None or is_behind(listed.keys, here, position)):
                first.add(here, max(len(part) for part in here if isinstance(part, str)), None)
    best = [here for here, _, _ in first.in_order()]
    return await _fetch(driver, listed, best, limit, is_all=first.is_all)


async def _fetch(
    driver: Driver, listed: Listed, best: list[Position], limit: int, *, is_all: bool
) -> tuple[list[Document], Position | None]:
    """The documents of positions, whose last member is the id. is_all: behind them is nothing more."""
    at = next(index for index, k in enumerate(listed.keys) if k.path == ID)
    documents: list[Document] = []
    size = 0
    for begin in range(0, min(len(best), limit), _FETCHED):
        part = best[begin : min(begin + _FETCHED, limit)]
        wanted = [joined(listed.tenant, listed.state.name, here[at]) for here in part]
        query = scope(listed.tenant, listed.state.name, {"_id": {"$in": wanted}})
        sizes = {row["id"]: row["s"] async for row in driver.find(DOCUMENTS, query, fields=["id", "s"])}
        taken = []
        for here in part:
            if size > PAGE_BYTES:
                break
            taken.append(here)
            size += sizes.get(here[at], 0)
        found = await _read(driver, listed, [here[at] for here in taken])
        # One that was changed or deleted meanwhile is left out, as if the list had been read after it.
        documents += [found[here[at]] for here in taken if here[at] in found]
        if len(taken) < len(part) or begin + len(part) == min(len(best), limit):
            done = begin + len(taken)
            return documents, None if done == len(best) and is_all else best[done - 1]
    return documents, None


async def _read(driver: Driver, listed: Listed, wanted: Sequence[str]) -> Mapping[str, Document]:
    names = [joined(listed.tenant, listed.state.name, identifier) for identifier in wanted]
    query = scope(listed.tenant, listed.state.name, {"_id": {"$in": names}})
    found = {}
    rows = driver.find(DOCUMENTS, query, raw=True, batch=listed.state.batch)
    async with aclosing(rows), aclosing(_held(rows, listed)) as held:
        async for row in held:
            found[row["id"]] = await listed.document(row)
    return found
