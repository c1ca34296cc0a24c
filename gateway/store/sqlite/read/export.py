"""Exports: all documents of a filter as they were at one instant, in chunks of lines.

An export has a connection of its own with a statement that stays open, and with it its snapshot. It is in a
reader thread only while a chunk is read; so a slow client holds no thread, and nothing is read ahead of it.

What is written meanwhile stays in the log, for as long as the snapshot is held. So an export whose client is
so slow that the log is full (write/group_commit.py) is cut off: its client's connection
ends early, and no export ever shows two instants.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator

from gateway.core.errors import TenantLimit
from gateway.store.exports import OpenExports
from gateway.store.filter import parse as filters
from gateway.store.filter.nodes import Node
from gateway.store.json.representation import line_of
from gateway.store.model.query import EXPORT_CHUNK_BYTES
from gateway.store.sqlite import errors
from gateway.store.sqlite.files.connections import open_reader
from gateway.store.sqlite.files.open_files import Files, TenantFile
from gateway.store.sqlite.read.filter import Filter
from gateway.store.sqlite.read.reads import STEPS, Reading, Reads, Use
from gateway.store.sqlite.read.statement import Bound, key_of


class Exports:
    """The exports of a store. most: how many tenants' files exports may keep open together."""

    def __init__(self, files: Files, reads: Reads, most: int) -> None:
        self._files = files
        self._reads = reads
        self._open = OpenExports(most)
        self._under_way: dict[str, set[_Export]] = {}

    async def export(
        self, name: str, collection: str, node: Node, now: float, weight: float = 1.0
    ) -> AsyncGenerator[bytes, None]:
        """See port.TenantStore.export. Each keeps the log from being moved into the file."""
        with self._open.count(name):
            file = await self._files.acquire(name)
            export = _Export(file, collection, node, now)
            self._under_way.setdefault(name, set()).add(export)
            try:
                while chunk := await self._step(file, export, weight):
                    yield chunk
            except sqlite3.Error as error:
                if errors.is_broken(error):
                    self._files.detach(file)
                raise errors.translate(error, file.path) from None
            finally:
                under_way = self._under_way[name]
                under_way.discard(export)
                if not under_way:
                    del self._under_way[name]
                self._let_go(file, export)

    def cut_off(self, name: str) -> None:
        """End a tenant's exports, for the log of its file is full."""
        for export in self._under_way.get(name, ()):
            export.cut_off()

    async def _step(self, file: TenantFile, export: _Export, weight: float) -> bytes:
        """It ends with the client, but not at once: `export.reading` knows when no thread is in it."""
        if export.is_cut_off:
            detail = "It was read so slowly that too much was written meanwhile. Begin the export again."
            raise TenantLimit(detail, retry_after=10)
        self._files.retain(file)  # once more, for the thread
        return await (await self._reads.begin(file, export.read, weight, export.reading))

    def _let_go(self, file: TenantFile, export: _Export) -> None:
        """Close the connection once no thread uses it, then give the file back."""

        def end() -> None:
            export.close()
            self._files.release(file)

        export.reading.when_free(end)


class _Export:
    """The state of one export; read() runs in a thread, all else on the event loop."""

    def __init__(self, file: TenantFile, collection: str, node: Node, now: float) -> None:
        self.reading = Use()
        self.is_cut_off = False
        self._file = file
        bound = Bound()
        where = f"d.collection = {key_of(bound.bind(collection))} AND {Filter(bound).condition(node)}"
        live = f"(d.expires IS NULL OR d.expires > {bound.bind(now)})"
        self._statement = (
            f"SELECT d.id, CAST(d.data AS BLOB) FROM documents AS d WHERE {where} AND {live} ORDER BY d.id"  # noqa: S608
        )
        self._bound = bound
        self._is_large = filters.is_large(node)
        self._connection: sqlite3.Connection | None = None
        self._rows: sqlite3.Cursor | None = None

    def read(self, reading: Reading) -> bytes:
        """The next chunk; empty at the end. Raises sqlite3.Error."""
        if self._rows is None and self._is_large:
            reading.begin_large()
        if self._connection is None:
            self._connection = open_reader(self._file.path)
        self._connection.set_progress_handler(reading.should_interrupt, STEPS)
        if self._rows is None:
            self._rows = self._bound.execute(self._connection, self._statement)
        lines: list[bytes | memoryview] = []
        size = 0
        for identifier, data in self._rows:
            lines += line_of(identifier, data)
            size += len(data)
            if size >= EXPORT_CHUNK_BYTES:
                break
        return b"".join(lines)

    def cut_off(self) -> None:
        """Let the snapshot go, as soon as no thread reads it."""
        self.is_cut_off = True
        self.reading.when_free(self.close)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
