"""One tenant's documents in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from gateway.core.errors import NotFound
from gateway.core.model import TenantId
from gateway.store import nodes, sqlite_operations, sqlite_query
from gateway.store import sort as sorts
from gateway.store.cursor import Cursors
from gateway.store.document import UNCONDITIONAL, Document, Precondition, to_text
from gateway.store.patch import Patch
from gateway.store.query import DEFAULT_LIMIT, Page, Query
from gateway.store.sqlite_files import Files
from gateway.store.sqlite_reads import Reads
from gateway.store.write import Written


class SQLiteTenantStore:
    """One tenant's documents; see port.TenantStore."""

    def __init__(self, tenant: TenantId, files: Files, reads: Reads, cursor_key: bytes) -> None:
        self._name = tenant.value
        self._files = files
        self._reads = reads
        self._cursors = Cursors(cursor_key, tenant)

    async def create(self, collection: str, data: Mapping[str, Any]) -> Document:
        document: Document = await self._write(sqlite_operations.create(collection, *to_text(data)))
        return document

    async def read(self, collection: str, identifier: str) -> Document:
        settled, document = self._reads.read_inline(self._name, collection, identifier)
        if not settled:
            document = await self._reads.query(
                self._name, lambda connection: sqlite_operations.read(connection, collection, identifier)
            )
        if document is None:
            raise NotFound()
        return document

    async def replace(
        self,
        collection: str,
        identifier: str,
        data: Mapping[str, Any],
        precondition: Precondition = UNCONDITIONAL,
    ) -> Written:
        operation = sqlite_operations.replace(collection, identifier, *to_text(data), precondition)
        written: Written = await self._write(operation)
        return written

    async def patch(
        self,
        collection: str,
        identifier: str,
        patch: Patch,
        precondition: Precondition = UNCONDITIONAL,
    ) -> Document:
        operation = sqlite_operations.patch(collection, identifier, patch, precondition)
        document: Document = await self._write(operation)
        return document

    async def delete(
        self, collection: str, identifier: str, precondition: Precondition = UNCONDITIONAL
    ) -> None:
        await self._write(sqlite_operations.delete(collection, identifier, precondition))

    async def list(self, collection: str, query: Query) -> Page[Document]:
        scope = ("list", collection, nodes.canonical(query.filter), sorts.canonical(query.sort))
        position = None if query.cursor is None else self._cursors.open(scope, query.cursor)

        def work(connection: sqlite3.Connection) -> tuple[Page[Document], list[Any] | None]:
            return sqlite_query.read_page(
                connection, collection, query.filter, query.sort, query.limit, position
            )

        page, end = await self._reads.query(self._name, work)
        return page if end is None else Page(page.items, self._cursors.seal(scope, end))

    async def collections(self, limit: int = DEFAULT_LIMIT, cursor: str | None = None) -> Page[str]:
        scope = ("collections",)
        after = "" if cursor is None else self._cursors.open(scope, cursor)[0]
        names, end = await self._reads.query(
            self._name, lambda connection: sqlite_operations.collections(connection, after, limit)
        )
        return Page(names, None if end is None else self._cursors.seal(scope, [end]))

    async def _write(self, operation: sqlite_operations.Operation) -> Any:
        file = await self._files.acquire(self._name)
        try:
            settled = file.write(operation)
        finally:
            self._files.release(file)
        return await settled
