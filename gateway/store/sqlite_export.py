"""Exports: all documents of a filter as they were at one instant, in chunks of lines.

An export has a connection of its own with a statement that stays open, and with it its snapshot. It is in a
reader thread only while a chunk is read; so a slow client holds no thread, and nothing is read ahead of it.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import AsyncGenerator

from gateway.core.errors import StoreUnavailable, TenantLimit
from gateway.store import sqlite_errors
from gateway.store.nodes import Node
from gateway.store.representation import with_id
from gateway.store.sqlite_connections import open_reader
from gateway.store.sqlite_files import Files, TenantFile
from gateway.store.sqlite_filter import Filter
from gateway.store.sqlite_reads import Reads, with_deadline
from gateway.store.sqlite_statement import Bound, key_of

MAX_OPEN = 4  # exports of one tenant: each keeps the log from being moved into the file
CHUNK_SIZE = 256 * 1024  # characters


class Exports:
    """The exports of a store. step_seconds: after how long a chunk is given up. most: how many tenants' files
    exports may keep open together."""

    def __init__(self, files: Files, reads: Reads, step_seconds: float, most: int) -> None:
        self._files = files
        self._reads = reads
        self._step_seconds = step_seconds
        self._most = most
        self._open: Counter[str] = Counter()

    async def export(self, name: str, collection: str, node: Node, now: float) -> AsyncGenerator[bytes, None]:
        """See port.TenantStore.export."""
        if self._open[name] >= MAX_OPEN:
            raise TenantLimit(f"{MAX_OPEN} exports of the tenant are open already.", retry_after=10)
        if len(+self._open) >= self._most and not self._open[name]:
            raise StoreUnavailable("Too many exports are open.", retry_after=10)
        self._open[name] += 1
        try:
            file = await self._files.acquire(name)
            export = _Export(file, collection, node, now, self._step_seconds)
            try:
                while chunk := await self._step(file, export):
                    yield chunk
            except sqlite3.Error as error:
                if sqlite_errors.is_broken(error):
                    self._files.detach(file)
                raise sqlite_errors.translate(error, file.path) from None
            finally:
                self._let_go(file, export)
        finally:
            self._open[name] -= 1

    async def _step(self, file: TenantFile, export: _Export) -> bytes:
        self._files.retain(file)  # once more, for the thread
        export.running = await self._reads.begin(file, export.read)
        return await asyncio.shield(export.running)

    def _let_go(self, file: TenantFile, export: _Export) -> None:
        """Close the connection once no thread uses it, then give the file back."""

        def end(running: asyncio.Future[bytes] | None) -> None:
            if running is not None and not running.cancelled():
                running.exception()  # told already, or nobody is there to be told
            export.close()
            self._files.release(file)

        if export.running is None or export.running.done():
            end(export.running)
        else:
            export.running.add_done_callback(end)


class _Export:
    """The state of one export; read() runs in a thread."""

    def __init__(self, file: TenantFile, collection: str, node: Node, now: float, seconds: float) -> None:
        self.running: asyncio.Future[bytes] | None = None
        self._file = file
        self._seconds = seconds
        bound = Bound()
        where = f"d.collection = {key_of(bound.bind(collection))} AND {Filter(bound).condition(node)}"
        live = f"(d.expires IS NULL OR d.expires > {bound.bind(now)})"
        self._statement = f"SELECT d.id, d.data FROM documents AS d WHERE {where} AND {live} ORDER BY d.id"  # noqa: S608
        self._bound = bound
        self._connection: sqlite3.Connection | None = None
        self._rows: sqlite3.Cursor | None = None

    def read(self) -> bytes:
        """The next chunk; empty at the end. Raises sqlite3.Error."""
        if self._connection is None:
            self._connection = open_reader(self._file.path)
        with_deadline(self._connection, self._seconds)
        if self._rows is None:
            self._rows = self._bound.execute(self._connection, self._statement)
        lines: list[str] = []
        size = 0
        for identifier, text in self._rows:
            lines.append(with_id(identifier, text))
            size += len(text)
            if size >= CHUNK_SIZE:
                break
        lines.append("")  # so that the last line has its end too
        return "\n".join(lines).encode()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
