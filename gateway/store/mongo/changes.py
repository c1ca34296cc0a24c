"""The log of changes in MongoDB. What other gateways commit is seen in the tenants' rows, which are polled
with one query for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import ClassVar

from gateway.core.errors import NotSupportedByStore, StoreUnavailable
from gateway.runtime.periodic import Boundary
from gateway.store.feeds import BATCH, BATCH_BYTES, POSITION_SECONDS, Batch, Entry, EventIds, Position, gone
from gateway.store.json.large import Jobs
from gateway.store.model import instants
from gateway.store.model.change import RETAINED_CHANGES, RETAINED_SECONDS
from gateway.store.model.document import Document
from gateway.store.mongo.driver import Driver, DuplicateKey
from gateway.store.mongo.large import LargeDocuments, Rows
from gateway.store.mongo.rows import CHANGES, DOCUMENTS, TENANTS, Row, joined, new_tenant, one, own_row, scope

AWAY_SECONDS = 1.0  # between two polls of a server that is away


class MongoChangeLog:
    """See feeds.ChangeLog. jobs, large: for large documents. supported: whether the server has the
    transactions that keep the log in order."""

    POLL_NAME: ClassVar[str] = "looking for what other gateways wrote"
    POLL_SECONDS: ClassVar[float] = 0.05

    def __init__(self, driver: Driver, jobs: Jobs, large: LargeDocuments, *, supported: bool) -> None:
        self._driver = driver
        self._jobs, self._large = jobs, large
        self._supported = supported

    def watch(self) -> None:
        """See feeds.ChangeLog."""

    def rest(self) -> None:
        """See feeds.ChangeLog."""

    async def begin(self, tenant: str, ids: EventIds, after: str | None) -> Position:
        """See feeds.ChangeLog."""
        if not self._supported:
            raise NotSupportedByStore(
                "The MongoDB server is no replica set, so there is no feed of changes. Make it one (a single "
                "member is enough), and restart the gateway."
            )
        last = await self._last(tenant)
        if after is None:
            return last
        position = ids.open(after)
        if _instant(position) < _instant(last) - RETAINED_SECONDS:
            raise gone()
        _check_kept(position, last)
        return position

    async def read(self, tenant: str, collection: str, position: Position) -> Batch:
        """See feeds.ChangeLog."""
        last = await self._last(tenant)
        _check_kept(position, last)
        if position.number == last.number:
            return Batch((), last, False)
        between = {"q": {"$gt": position.number, "$lte": last.number}}
        rows = self._driver.find(CHANGES, scope(tenant, collection, between), sort=[("q", 1)], limit=BATCH)
        entries: list[Entry] = []
        size = number = 0
        async with aclosing(rows):
            async for row in rows:
                number = row["q"]
                found = await self._document(tenant, collection, row)
                size += 0 if found is None else found.size
                at = Position(last.epoch, number, row["at"])
                entries.append(Entry(at, row["kind"], row["id"], row["etag"], row["at"], found))
                if size > BATCH_BYTES:
                    break
        more = size > BATCH_BYTES or len(entries) == BATCH
        return Batch(entries, Position(last.epoch, number, last.at) if more else last, more)

    async def poll(
        self, tenants: Sequence[str], boundary: Boundary, on_version: Callable[[str, int], None]
    ) -> None:
        """See feeds.ChangeLog."""
        own = {"$and": [{"_id": {"$in": list(tenants)}}, {"t": {"$in": list(tenants)}}]}
        try:
            async for row in self._driver.find(TENANTS, own, fields=["t", "q"]):
                with boundary:
                    on_version(row["t"], row["q"])
        except StoreUnavailable:
            await asyncio.sleep(AWAY_SECONDS)

    def wait_seconds(self, tenant: str) -> float:
        """See feeds.ChangeLog."""
        return POSITION_SECONDS

    async def _last(self, tenant: str) -> Position:
        """The end of a tenant's log."""
        now = instants.now()
        while True:
            row = await self._driver.find_one(TENANTS, own_row(tenant))
            if row is not None:
                return Position(row["epoch"], row["q"], now)
            try:
                await self._driver.insert(TENANTS, new_tenant(tenant))
            except DuplicateKey:
                continue

    async def _document(self, tenant: str, collection: str, change: Row) -> Document | None:
        """A changed document as it is now."""
        if change["kind"] not in ("created", "updated"):
            return None
        query = one(tenant, collection, change["id"])

        def find() -> Awaitable[Row | None]:
            return self._driver.find_one(DOCUMENTS, query, raw=True)

        key = joined(tenant, collection, change["id"])
        return await Rows(self._jobs, tenant, self._large).read(key, find)


def _instant(position: Position) -> float:
    return position.at or 0.0


def _check_kept(position: Position, last: Position) -> None:
    behind = last.number - position.number
    if position.epoch != last.epoch or not 0 <= behind <= RETAINED_CHANGES:
        raise gone()
