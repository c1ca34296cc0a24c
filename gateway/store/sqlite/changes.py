"""The log of changes in a tenant's file. What other processes commit they tell at once (told_names.py); where
that is lost, or a process writes that does not tell, it is seen by asking SQLite for the version of the data,
which costs a microsecond a file."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import ClassVar

from gateway.runtime.periodic import Boundary
from gateway.store.feeds import BATCH, BATCH_BYTES, POSITION_SECONDS, Batch, Entry, EventIds, Position, gone
from gateway.store.model.document import Document
from gateway.store.sqlite import documents
from gateway.store.sqlite.files.open_files import Files
from gateway.store.sqlite.read.reads import Reads
from gateway.store.sqlite.told_names import ToldNames
from gateway.store.sqlite.write.transaction import KINDS

CLOSED_POLL_SECONDS = 1.0  # while the tenant's file is not open here, a feed opens it this often

# Apart, because SQLite reads the whole table for a minimum and a maximum together.
_EDGES = """
    SELECT ifnull((SELECT min(seq) FROM changes), 1), ifnull((SELECT max(seq) FROM changes), 0),
        (SELECT value FROM meta WHERE name = 'epoch')"""
_READ = """
    SELECT seq, kind, id, tag, at FROM changes WHERE seq > ? AND seq <= ? AND collection = ?
    ORDER BY seq LIMIT ?"""


class SQLiteChangeLog:
    """See feeds.ChangeLog. Its methods are called on the event loop only."""

    POLL_NAME: ClassVar[str] = "looking for what other processes wrote"
    POLL_SECONDS: ClassVar[float] = 0.25

    def __init__(self, files: Files, reads: Reads, told: ToldNames) -> None:
        self._files = files
        self._reads = reads
        self._told = told

    def watch(self) -> None:
        """See feeds.ChangeLog."""
        self._told.listen()

    def rest(self) -> None:
        """See feeds.ChangeLog."""
        self._told.rest()

    async def begin(self, tenant: str, ids: EventIds, after: str | None) -> Position:
        """See feeds.ChangeLog."""
        first, last = await self._reads.query(tenant, _edges)
        if after is None:
            return last
        position = ids.open(after)
        _check_kept(position, first, last)
        return position

    async def read(self, tenant: str, collection: str, position: Position) -> Batch:
        """See feeds.ChangeLog."""
        return await self._reads.query(
            tenant, lambda connection: _read_batch(connection, collection, position)
        )

    async def poll(
        self, tenants: Sequence[str], boundary: Boundary, on_version: Callable[[str, int], None]
    ) -> None:
        """See feeds.ChangeLog."""
        for tenant in tenants:
            with boundary:
                version = self._files.data_version(tenant)
                if version is not None:
                    on_version(tenant, version)

    def wait_seconds(self, tenant: str) -> float:
        """See feeds.ChangeLog."""
        return POSITION_SECONDS if self._files.is_open(tenant) else CLOSED_POLL_SECONDS


def _edges(connection: sqlite3.Connection) -> tuple[int, Position]:
    """The first number that is kept, and the end of the log."""
    first, last, epoch = connection.execute(_EDGES).fetchone()
    return first, Position(epoch, last)


def _check_kept(position: Position, first: int, last: Position) -> None:
    if position.epoch != last.epoch or not first - 1 <= position.number <= last.number:
        raise gone()


def _read_batch(connection: sqlite3.Connection, collection: str, position: Position) -> Batch:
    """What comes behind a position. Raises Gone."""
    connection.execute("BEGIN")
    try:
        first, last = _edges(connection)
        _check_kept(position, first, last)
        rows = connection.execute(_READ, (position.number, last.number, collection, BATCH)).fetchall()
        entries: list[Entry] = []
        size = 0
        for number, kind, identifier, tag, at in rows:
            document: Document | None = None
            if KINDS[kind] in ("created", "updated"):
                document = documents.read(connection, collection, identifier, time.time())
            size += document.size if document else 0
            entries.append(Entry(Position(last.epoch, number), KINDS[kind], identifier, tag, at, document))
            if size > BATCH_BYTES:
                break
    finally:
        connection.execute("ROLLBACK")
    more = len(entries) < len(rows) or len(rows) == BATCH
    return Batch(entries, entries[-1].position if more else last, more)
