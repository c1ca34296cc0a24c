"""Feeds of changes: each reads its tenant's log behind the last number that it has seen.

A commit of this process wakes its tenant's feeds at once. What other gateways commit is seen in the tenants'
rows, which one query for all of them asks every POLL_SECONDS.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from dataclasses import dataclass

from gateway.core.errors import BadRequest, Gone, NotSupportedByStore, StoreUnavailable
from gateway.runtime.periodic import PeriodicTask
from gateway.store.json.large import Jobs
from gateway.store.model import instants
from gateway.store.model.change import RETAINED_CHANGES, RETAINED_SECONDS, Change, Changes
from gateway.store.model.cursor import Cursors
from gateway.store.model.document import Document
from gateway.store.mongo.driver import Driver, Taken
from gateway.store.mongo.large import Few, Rows
from gateway.store.mongo.rows import CHANGES, DOCUMENTS, TENANTS, Row, joined, new_tenant, one, scope
from gateway.store.wakes import Wakes

POLL_SECONDS = 0.05
AWAY_SECONDS = 1.0  # between two looks at a server that is away
POSITION_SECONDS = 60.0  # after so long without a change, a feed tells how far it has come
BATCH = 200
BATCH_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a feed is: behind a change's number, as of an instant."""

    epoch: str
    number: int
    at: float


_Found = tuple[
    Changes, _Place, bool
]  # what came behind a place, the place behind that, whether there is more


class Feeds:
    """The feeds of a store. jobs, few: on large documents. supported: whether the server has the transactions
    that keep the log in order."""

    def __init__(self, driver: Driver, jobs: Jobs, few: Few, *, supported: bool) -> None:
        self._driver = driver
        self._jobs, self._few = jobs, few
        self._supported = supported
        self._wakes: Wakes[_Found] = Wakes()
        self._numbers: dict[str, int] = {}
        self._poller = PeriodicTask("looking for what other gateways wrote", POLL_SECONDS, self._poll)
        self._closed = False

    def notify(self, tenant: str) -> None:
        """Wake the feeds of a tenant."""
        self._wakes.notify(tenant)

    async def close(self) -> None:
        """End every feed, with StoreUnavailable."""
        self._closed = True
        self._wakes.wake_all()
        await self._wakes.finish()
        await self._poller.stop()

    async def changes(
        self, tenant: str, collection: str, cursors: Cursors, after: str | None
    ) -> AsyncGenerator[Changes, None]:
        """See port.TenantStore.changes."""
        if not self._supported:
            raise NotSupportedByStore(
                "The MongoDB server is no replica set, so there is no feed of changes. Make it one (a single "
                "member is enough), and restart the gateway."
            )
        seal = _Seal(cursors, ("changes", collection))
        place = await self._begin(tenant, seal, after)
        yield Changes((), seal.place(place))
        event = self._join(tenant)
        try:
            told = time.monotonic()
            while True:
                event.clear()
                here = collection, place.epoch, place.number
                work = self._read(tenant, collection, seal, place)
                changes, place, more = await self._wakes.read(tenant, here, work)
                if changes.items or time.monotonic() - told > POSITION_SECONDS:
                    yield changes
                    told = time.monotonic()
                del changes  # they may be large, and the next ones come who knows when
                if not more:
                    await _wait(event)
        finally:
            self._leave(tenant, event)

    async def _begin(self, tenant: str, seal: _Seal, after: str | None) -> _Place:
        last = await self._last(tenant)
        if after is None:
            return last
        place = seal.open(after)
        if place.at < last.at - RETAINED_SECONDS:
            raise _gone()
        _check_kept(place, last)
        return place

    async def _last(self, tenant: str) -> _Place:
        """The end of a tenant's log."""
        if self._closed:
            raise StoreUnavailable("The document store is closing.")
        now = instants.now()
        while True:
            own = {"$and": [{"_id": tenant}, {"t": tenant}]}
            row = await self._driver.find_one(TENANTS, own)
            if row is not None:
                return _Place(row["epoch"], row["q"], now)
            try:
                await self._driver.insert(TENANTS, new_tenant(tenant))
            except Taken:
                continue

    async def _read(self, tenant: str, collection: str, seal: _Seal, place: _Place) -> _Found:
        """What comes behind a place, the place behind that, and whether there is more."""
        last = await self._last(tenant)
        _check_kept(place, last)
        if place.number == last.number:
            return Changes((), seal.place(last)), last, False
        between = {"q": {"$gt": place.number, "$lte": last.number}}
        rows = self._driver.find(CHANGES, scope(tenant, collection, between), sort=[("q", 1)], limit=BATCH)
        items: list[Change] = []
        size = number = 0
        async with aclosing(rows):
            async for row in rows:
                number = row["q"]
                found = await self._document(tenant, collection, row)
                size += 0 if found is None else found.size
                event = seal.place(_Place(last.epoch, number, row["at"]))
                items.append(Change(event, row["kind"], row["id"], row["etag"], row["at"], found))
                if size > BATCH_BYTES:
                    break
        more = size > BATCH_BYTES or len(items) == BATCH
        behind = _Place(last.epoch, number, last.at) if more else last
        return Changes(tuple(items), seal.place(behind)), behind, more

    async def _document(self, tenant: str, collection: str, change: Row) -> Document | None:
        """A changed document as it is now."""
        if change["kind"] not in ("created", "updated"):
            return None
        query = one(tenant, collection, change["id"])

        def find() -> Awaitable[Row | None]:
            return self._driver.find_one(DOCUMENTS, query, raw=True)

        key = joined(tenant, collection, change["id"])
        return await Rows(self._jobs, tenant, self._few).read(key, find)

    def _join(self, tenant: str) -> asyncio.Event:
        self._poller.start()
        return self._wakes.join(tenant)

    def _leave(self, tenant: str, event: asyncio.Event) -> None:
        if self._wakes.leave(tenant, event):
            self._numbers.pop(tenant, None)

    async def _poll(self) -> None:
        """Wake the feeds of those tenants in whose logs something came."""
        tenants = sorted(self._wakes.tenants)
        if not tenants:
            return
        try:
            own = {"$and": [{"_id": {"$in": tenants}}, {"t": {"$in": tenants}}]}
            async for row in self._driver.find(TENANTS, own, fields=["t", "q"]):
                with self._poller.boundary:
                    self._seen(row)
        except StoreUnavailable:
            await asyncio.sleep(AWAY_SECONDS)

    def _seen(self, row: Row) -> None:
        if self._numbers.get(row["t"]) != row["q"]:
            self._numbers[row["t"]] = row["q"]
            self.notify(row["t"])


class _Seal:
    """Event ids of one collection."""

    def __init__(self, cursors: Cursors, scope: tuple[str, ...]) -> None:
        self._cursors = cursors
        self._scope = scope

    def place(self, place: _Place) -> str:
        return self._cursors.seal(self._scope, [place.epoch, place.number, place.at])

    def open(self, event: str) -> _Place:
        try:
            epoch, number, at = self._cursors.open(self._scope, event)
        except BadRequest:
            raise BadRequest("The event id is not one of this collection. Begin again without it.") from None
        return _Place(epoch, number, at)


async def _wait(event: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(POSITION_SECONDS):
            await event.wait()
    except TimeoutError:
        pass


def _check_kept(place: _Place, last: _Place) -> None:
    behind = last.number - place.number
    if place.epoch != last.epoch or not 0 <= behind <= RETAINED_CHANGES:
        raise _gone()


def _gone() -> Gone:
    return Gone("The changes behind this event are not kept any more. Read the collection, and begin anew.")
