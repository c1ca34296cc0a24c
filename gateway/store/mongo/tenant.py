"""One tenant's documents in MongoDB."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, Awaitable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from gateway.core.errors import NotFound, NotSupportedByStore
from gateway.core.model import TenantId
from gateway.runtime.fair_seats import FairSeats
from gateway.store.exports import OpenExports
from gateway.store.filter.nodes import EVERYTHING, Node
from gateway.store.json.representation import line_parts
from gateway.store.model import instants
from gateway.store.model.collection import Collection, CollectionSettings
from gateway.store.model.cursor import Cursors
from gateway.store.model.document import UNCONDITIONAL, Document, Precondition, new_id
from gateway.store.model.idempotency import IdempotencyKey, Result, renewed
from gateway.store.model.patch import MergePatch
from gateway.store.model.projection import WHOLE, Projection
from gateway.store.model.query import EXPORT_CHUNK_BYTES, Page, Query
from gateway.store.model.sort import SortKey
from gateway.store.model.write import Delete, Outcome, Write, Written
from gateway.store.mongo import collections as mongo_collections
from gateway.store.mongo.read import query as mongo_query
from gateway.store.mongo.read.query import LargeFound, Listed, Turn
from gateway.store.mongo.rows import joined
from gateway.store.mongo.write.ahead import PlanAhead
from gateway.store.mongo.write.bulk import Bulk
from gateway.store.mongo.write.idempotency import Finish, IdempotencyStore
from gateway.store.mongo.write.writes import Undo, Writes
from gateway.store.schema.checks import with_schemas
from gateway.store.tenant import BaseTenantStore, SharedServices

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Services(SharedServices):
    """What the tenants of a store share. seats: of lists and exports, which decide on the event loop what
    matches."""

    exports: OpenExports
    query_seconds: float
    seats: FairSeats


class MongoTenantStore(BaseTenantStore):
    """One tenant's documents; see port.TenantStore."""

    _services: Services

    def __init__(
        self, tenant: TenantId, writes: Writes, services: Services, cursor_key: bytes, weight: float = 1.0
    ) -> None:
        self._name = tenant.value
        self._weight = weight
        self._writes = writes
        self._services = services
        self._idempotency = IdempotencyStore(writes)
        self._cursors = Cursors(cursor_key, tenant)

    # --- documents ---

    async def read(self, collection: str, identifier: str) -> Document:
        """See port.TenantStore.read."""
        found = await self._read(collection, identifier)
        if found is None:
            raise NotFound()
        return found

    def read_now(self, collection: str, identifier: str) -> Document | None:
        """See port.TenantStore.read_now."""
        return None  # the server is always to be waited for

    async def _bulk(
        self, collection: str, writes: Sequence[Write], idempotency: IdempotencyKey | None, *, atomic: bool
    ) -> tuple[Outcome, ...]:
        if atomic and not self._writes.transactions:
            raise NotSupportedByStore(
                "The MongoDB server is no replica set, so a bulk cannot be atomic. Make it one (a single "
                "member is enough) and restart the gateway, or send the bulk without asking for that."
            )
        bulk = Bulk(self._writes, collection, writes)
        if idempotency is None:
            return await self._finished(bulk.run(None, atomic=atomic))
        outcomes = await self._finished(
            self._idempotency.run(idempotency, lambda finish: bulk.run(finish, atomic=atomic))
        )
        assert isinstance(outcomes, tuple)
        return outcomes

    # --- lists and changes ---

    async def list(self, collection: str, query: Query) -> Page[Document]:
        """See port.TenantStore.list."""
        scope = query.scope(collection)
        position = None if query.cursor is None else self._cursors.open(scope, query.cursor)
        listed = await self._listed(collection, query.filter, query.sort, query.fields)
        try:
            found, end, total = await self._page(listed, query, position)
        except LargeFound:  # what was read is dropped, and read again when few others hold any
            async with self._writes.rows.large.seats.seat(self._name, self._weight):
                listed = replace(listed, turn=Turn(holds_large=True))
                found, end, total = await self._page(listed, query, position)
        return Page(found, None if end is None else self._cursors.seal(scope, end), total)

    async def _page(
        self, listed: Listed, query: Query, position: Any
    ) -> tuple[tuple[Document, ...], Any, int | None]:
        driver, seconds = self._writes.driver, self._services.query_seconds
        async with self._services.seats.seat(self._name, self._weight, seconds) as seat:
            listed.turn.sit(seat)
            found, end = await mongo_query.read_page(driver, listed, query.limit, position)
            total = await mongo_query.count(driver, listed) if query.count else None
        return tuple(found), end, total

    async def export(self, collection: str, node: Node = EVERYTHING) -> AsyncGenerator[bytes, None]:
        """See port.TenantStore.export."""
        with self._services.exports.count(self._name):
            listed = await self._listed(collection, node, ())
            # Of one export it is one step of rows, and a tenant has few of these.
            listed = replace(listed, deadline=math.inf, turn=Turn(holds_large=True))
            async with aclosing(mongo_query.scan(self._writes.driver, listed)) as found:
                while chunk := await self._chunk(found, listed):
                    yield chunk

    async def _chunk(self, found: AsyncGenerator[Document, None], listed: Listed) -> bytes:
        """The next lines of an export; empty at the end. A client that reads slowly holds no seat."""
        chunk = bytearray()
        async with self._services.seats.seat(self._name, self._weight, self._services.query_seconds) as seat:
            listed.turn.sit(seat)
            async for item in found:
                for part in line_parts(item):
                    chunk += part
                if len(chunk) >= EXPORT_CHUNK_BYTES:
                    break
        listed.turn.sit(None)
        return bytes(chunk)

    # --- collections ---

    async def _collections(self, after: str, limit: int) -> tuple[Sequence[Collection], str | None]:
        return await mongo_collections.read_page(self._writes, after, limit)

    async def collection(self, name: str) -> Collection:
        """See port.TenantStore.collection."""
        state = await self._writes.state(name)
        if not state.stored:
            raise NotFound()
        return state.collection

    async def put_collection(
        self, name: str, settings: CollectionSettings, precondition: Precondition = UNCONDITIONAL
    ) -> tuple[Collection, bool]:
        """See port.TenantStore.put_collection."""
        return await self._finished(mongo_collections.put(self._writes, name, settings, precondition))

    async def patch_collection(
        self, name: str, patch: MergePatch, precondition: Precondition = UNCONDITIONAL
    ) -> Collection:
        """See port.TenantStore.patch_collection."""

        def attempt() -> Awaitable[Collection]:
            return self._finished(mongo_collections.patch(self._writes, name, patch, precondition))

        return await with_schemas(self._services.jobs.pool, self._name, attempt)

    async def delete_collection(
        self, name: str, precondition: Precondition = UNCONDITIONAL, *, documents: bool = False
    ) -> None:
        """See port.TenantStore.delete_collection."""
        await self._finished(mongo_collections.delete(self._writes, name, precondition, documents=documents))

    # --- inside ---

    async def _read(self, collection: str, identifier: str) -> Document | None:
        key = joined(self._name, collection, identifier)
        return await self._writes.rows.read(key, lambda: self._writes.row(collection, identifier))

    async def _listed(
        self,
        collection: str,
        node: Node,
        sort: tuple[SortKey, ...],
        fields: Projection = WHOLE,
    ) -> Listed:
        deadline = time.monotonic() + self._services.query_seconds
        state = await self._writes.state(collection)
        rows = self._writes.rows
        return Listed(self._name, state, node, sort, instants.now(), deadline, rows=rows, fields=fields)

    async def write(
        self, collection: str, write: Write, idempotency: IdempotencyKey | None = None
    ) -> Written | None:
        """See port.TenantStore.write."""
        identifier = new_id()  # of a Create; one for all attempts

        async def run(finish: Finish | None) -> Written | None:
            ahead = PlanAhead()

            async def work(session: Any, undo: Undo) -> Written | None:
                of = collection, write, identifier
                written = await self._writes.write(session, undo, *of, ahead=ahead)
                if finish is not None:
                    await finish(session, written)
                return written

            try:
                return await self._writes.run(work)
            finally:
                ahead.close()

        if idempotency is None:
            return await self._finished(run(None))
        counts = not isinstance(write, Delete)
        result: Result = await self._finished(self._idempotency.run(idempotency, run, counts=counts))
        if idempotency.replayed and isinstance(result, Written) and not result.document.whole:
            result = renewed(result, await self._read(collection, result.document.id))
        assert result is None or isinstance(result, Written)
        return result

    def _finished(self, writing: Awaitable[T]) -> Coroutine[Any, Any, T]:
        """As _to_its_end; then feeds look for what was written."""
        return self._to_its_end(writing, lambda: self._services.feeds.notify(self._name))
