"""One tenant's documents in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.core.errors import NotFound, SchemaTooCostly, forget_traces
from gateway.core.model import TenantId
from gateway.store.bulk import AtomicFailure
from gateway.store.filter import parse as filters
from gateway.store.filter.nodes import EVERYTHING, Node
from gateway.store.json.large import is_light
from gateway.store.model import instants
from gateway.store.model.collection import Collection, CollectionSettings
from gateway.store.model.cursor import Cursors
from gateway.store.model.document import UNCONDITIONAL, Document, Precondition
from gateway.store.model.idempotency import IdempotencyKey, still_running
from gateway.store.model.patch import MergePatch
from gateway.store.model.projection import WHOLE, project
from gateway.store.model.query import Page, Query
from gateway.store.model.write import Outcome, Quota, Write, Written
from gateway.store.schema.checks import ATTEMPTS, OVERTAKEN, Checks, Postponed, with_schemas
from gateway.store.sqlite import collections as sqlite_collections
from gateway.store.sqlite.files.open_files import Files
from gateway.store.sqlite.read import query as sqlite_query
from gateway.store.sqlite.read.export import Exports
from gateway.store.sqlite.read.inline import MAX_BYTES, Inline, InlineRead, may_be_short
from gateway.store.sqlite.read.query import Listed
from gateway.store.sqlite.read.reads import Reading, Reads
from gateway.store.sqlite.write import operations
from gateway.store.sqlite.write.long_writes import LongWrites
from gateway.store.sqlite.write.transaction import Operation, Transaction
from gateway.store.tenant import BaseTenantStore, SharedServices


@dataclass(frozen=True, slots=True)
class Services(SharedServices):
    """What the tenants of a store share. running: the idempotency keys of writes that have not ended."""

    files: Files
    reads: Reads
    inline: Inline
    exports: Exports
    long_writes: LongWrites
    running: set[tuple[str, str]]


class SQLiteTenantStore(BaseTenantStore):
    """One tenant's documents; see port.TenantStore."""

    _services: Services

    def __init__(
        self, tenant: TenantId, quota: Quota, services: Services, cursor_key: bytes, weight: float = 1.0
    ) -> None:
        self._name = tenant.value
        self._weight = weight
        self._quota = quota
        self._services = services
        self._cursors = Cursors(cursor_key, tenant)

    # --- documents ---

    def read_now(self, collection: str, identifier: str) -> Document | None:
        """See port.TenantStore.read_now."""
        settled, document = self._services.reads.read_inline(self._name, collection, identifier)
        if settled and document is None:
            raise NotFound()
        return document

    async def read(self, collection: str, identifier: str) -> Document:
        """See port.TenantStore.read."""
        document = self.read_now(collection, identifier)
        if document is None:
            reads = self._services.reads
            document = await reads.read_in_thread(self._name, collection, identifier, self._weight)
        if document is None:
            raise NotFound()
        return document

    async def write(
        self, collection: str, write: Write, idempotency: IdempotencyKey | None = None
    ) -> Written | None:
        """See port.TenantStore.write."""
        written: Written | None = await self._run(
            collection, operations.operation(collection, write), idempotency
        )
        return written

    async def _bulk(
        self, collection: str, writes: Sequence[Write], idempotency: IdempotencyKey | None, *, atomic: bool
    ) -> tuple[Outcome, ...]:
        operation = operations.bulk(collection, writes, atomic=atomic)
        try:
            outcomes: tuple[Outcome, ...] = await self._run(collection, operation, idempotency)
        except AtomicFailure as failure:
            forget_traces(failure)
            return failure.outcomes
        return outcomes

    # --- lists and changes ---

    async def list(self, collection: str, query: Query) -> Page[Document]:
        """See port.TenantStore.list."""
        scope = query.scope(collection)
        position = None if query.cursor is None else self._cursors.open(scope, query.cursor)
        listed = Listed(collection, query.filter, query.sort, instants.now())
        large = filters.is_large(query.filter)

        def work(
            connection: sqlite3.Connection, reading: Reading | InlineRead
        ) -> tuple[Page[Document], list[Any] | None]:
            most = MAX_BYTES if isinstance(reading, InlineRead) else None
            if large and isinstance(reading, Reading):
                reading.begin_large()
            page, end = sqlite_query.read_page(
                connection, listed, query.limit, position, count=query.count, most=most
            )
            if query.fields == WHOLE:
                return page, end
            items = []
            for document in page.items:
                light = not document.encoded and is_light(document.text)
                items.append(query.fields.document(document) if light else document)
                reading.step()
            return Page(tuple(items), count=page.count), end

        found = self._services.inline.query(self._name, work) if may_be_short(query) else None
        if found is None:
            found = await self._services.reads.query_in_steps(self._name, work, self._weight)
        page, end = found
        items = await project(self._services.jobs, self._name, page.items, query.fields)
        return Page(items, None if end is None else self._cursors.seal(scope, end), page.count)

    def export(self, collection: str, node: Node = EVERYTHING) -> AsyncGenerator[bytes, None]:
        """See port.TenantStore.export."""
        return self._services.exports.export(self._name, collection, node, instants.now(), self._weight)

    # --- collections ---

    async def _collections(self, after: str, limit: int) -> tuple[Sequence[Collection], str | None]:
        return await self._services.reads.query(
            self._name,
            lambda connection: sqlite_collections.read_page(connection, after, limit),
            self._weight,
        )

    async def collection(self, name: str) -> Collection:
        """See port.TenantStore.collection."""
        found = await self._services.reads.query(
            self._name, lambda connection: sqlite_collections.read(connection, name), self._weight
        )
        if found is None:
            raise NotFound()
        return found

    async def put_collection(
        self, name: str, settings: CollectionSettings, precondition: Precondition = UNCONDITIONAL
    ) -> tuple[Collection, bool]:
        """See port.TenantStore.put_collection."""
        long_writes = self._services.long_writes
        begin = sqlite_collections.put(name, settings, precondition, long_writes.pace)
        return await self._to_its_end(long_writes.alter(self._name, begin, self._quota))

    async def patch_collection(
        self, name: str, patch: MergePatch, precondition: Precondition = UNCONDITIONAL
    ) -> Collection:
        """See port.TenantStore.patch_collection."""
        long_writes = self._services.long_writes
        begin = sqlite_collections.patch(name, patch.members, precondition, long_writes.pace)

        def attempt() -> Awaitable[tuple[Collection, bool]]:
            return self._to_its_end(long_writes.alter(self._name, begin, self._quota))

        return (await with_schemas(self._services.jobs.pool, self._name, attempt))[0]

    async def delete_collection(
        self, name: str, precondition: Precondition = UNCONDITIONAL, *, documents: bool = False
    ) -> None:
        """See port.TenantStore.delete_collection."""
        long_writes = self._services.long_writes
        begin = sqlite_collections.delete(name, precondition, long_writes.pace, documents=documents)
        await self._to_its_end(long_writes.delete(self._name, begin))

    # --- writing ---

    async def _run(
        self,
        collection: str,
        operation: Callable[[Transaction], Any],
        idempotency: IdempotencyKey | None,
    ) -> Any:
        if idempotency is None:
            return await self._checked(operation)
        running, key = self._services.running, (self._name, idempotency.key)
        if key in running:
            raise still_running()
        remembered = operations.remembered(idempotency, collection, operation)
        running.add(key)
        writing = self._checked(remembered)
        return await self._to_its_end(writing, lambda: running.discard(key))

    async def _checked(self, operation: Callable[[Transaction], Any]) -> Any:
        """Done again with what worker processes have checked, as long as it finds more that they have to."""
        checks = Checks()
        for _ in range(ATTEMPTS):
            try:
                return await self._submit(Operation(operation, self._quota, checks=checks))
            except Postponed as postponed:
                forget_traces(postponed)
                await checks.settle(self._services.jobs.pool, self._name)
        raise SchemaTooCostly(OVERTAKEN)

    async def _submit(self, operation: Operation) -> Any:
        file = await self._services.files.acquire(self._name)
        try:
            settled = file.writes.submit(operation)
        finally:
            self._services.files.release(file)
        return await settled
