"""Clearing away what has had its time: expired documents, old changes, old idempotency keys; and bringing to
its end what a process left behind.

None of it is seen any more before it is swept; a file that is not open is swept when it is used again.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from gateway.core.errors import GatewayError
from gateway.runtime import durable
from gateway.runtime.periodic import PeriodicTask
from gateway.store.model import instants
from gateway.store.model.change import RETAINED_CHANGES, RETAINED_SECONDS
from gateway.store.model.idempotency import IDEMPOTENCY_SECONDS
from gateway.store.port import Moved
from gateway.store.sqlite.documents import COLUMNS, DATA, from_row
from gateway.store.sqlite.files.open_files import Files, TenantFile
from gateway.store.sqlite.read.statement import name_of
from gateway.store.sqlite.write.alterations import is_left
from gateway.store.sqlite.write.long_writes import LongWrites
from gateway.store.sqlite.write.operations import remove
from gateway.store.sqlite.write.transaction import Operation, Transaction

SWEEP_SECONDS = 5.0
_CLAIMS = ".sweeping"  # the file whose bytes are locked
BATCH = 500  # so that writes that wait are not held up for long
BATCH_BYTES = 4 * 1024 * 1024  # of documents in a batch, about

_OLD_CHANGES = "SELECT seq, at FROM changes WHERE seq < (SELECT max(seq) FROM changes) ORDER BY seq LIMIT ?"
# An alteration that fails gives documents back the end that they had; the trash is cleared without the sweep.
_SETTLED = "NOT EXISTS (SELECT 1 FROM alterations) AND NOT EXISTS (SELECT 1 FROM trash WHERE key IS NOT NULL)"
_NEEDED = f"""
    SELECT ({_SETTLED} AND EXISTS (SELECT 1 FROM documents WHERE expires <= ?))
        OR EXISTS (SELECT 1 FROM idempotency WHERE at < ?)
        OR (SELECT max(seq) FROM changes) - (SELECT min(seq) FROM changes) >= ?
        OR (SELECT at FROM changes WHERE seq < (SELECT max(seq) FROM changes) ORDER BY seq LIMIT 1) < ?"""  # noqa: S608
_EXPIRED = f"""
    SELECT {COLUMNS}, {DATA}, collection FROM documents WHERE expires <= ? AND {_SETTLED} LIMIT {BATCH}"""  # noqa: S608


class Claims:
    """Which files this process sweeps: of all that have one open, one does. A claim is the system's lock of a
    byte that stands for the file, and so ends with its process."""

    def __init__(self) -> None:
        self._descriptor = -1
        self._taken: set[Path] = set()

    def take(self, path: Path) -> bool:
        """Whether this process sweeps the file."""
        if path in self._taken:
            return True
        try:
            if self._descriptor < 0:
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
                self._descriptor = os.open(path.parent / _CLAIMS, flags, durable.PRIVATE)
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _byte(path))
        except (BlockingIOError, PermissionError):  # POSIX lets fcntl say either
            return False
        except OSError:
            return True  # no locks here: swept by each
        self._taken.add(path)
        return True

    def keep(self, paths: set[Path]) -> None:
        """Give up all others."""
        for path in self._taken - paths:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, _byte(path))
        self._taken &= paths

    def close(self) -> None:
        """Give up all."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._taken = -1, set()


def _byte(path: Path) -> int:
    return int.from_bytes(hashlib.sha256(path.name.encode()).digest()[:7])


class Sweeper(PeriodicTask):
    """Sweeps the open files of a store from time to time, each by one process of those that have it open."""

    def __init__(self, files: Files, long_writes: LongWrites) -> None:
        super().__init__("clearing away old documents", SWEEP_SECONDS, self._sweep_all)
        self._files = files
        self._long_writes = long_writes
        self._claims = Claims()

    async def stop(self) -> None:
        """See PeriodicTask.stop."""
        await super().stop()
        self._claims.close()

    async def _sweep_all(self) -> None:
        files = self._files.open_files()
        self._claims.keep({file.path for file in files})
        for file in files:
            with self.boundary, suppress(GatewayError, sqlite3.Error):  # its users get these too
                self._let_go_if_moved(file)
                if self._claims.take(file.path):
                    await self._sweep(file)

    def _let_go_if_moved(self, file: TenantFile) -> None:
        """A file whose documents were moved by another process is no more read."""
        try:
            self._files.check_moved(file.inline, file.path.stem)
        except Moved:
            self._files.detach(file)
            raise

    async def _sweep(self, file: TenantFile) -> None:
        if self._files.is_open(file.path.stem, file) and is_left(file.inline, instants.now()):
            self._files.retain(file)
            try:
                await self._long_writes.resume(file)
            finally:
                self._files.release(file)
        while self._files.is_open(file.path.stem, file) and is_needed(file.inline):
            await file.writes.submit(Operation(sweep))


def is_needed(connection: sqlite3.Connection) -> bool:
    """Whether there is anything to sweep in a file."""
    now = instants.now()
    limits = (now, now - IDEMPOTENCY_SECONDS, RETAINED_CHANGES + BATCH, now - RETAINED_SECONDS)
    return bool(connection.execute(_NEEDED, limits).fetchone()[0])


def _expired(connection: sqlite3.Connection, now: float) -> list[Any]:
    """The rows of some documents that have ended, fewer when they are large."""
    rows, size = [], 0
    with closing(connection.execute(_EXPIRED, (now,))) as found:
        for row in found:
            rows.append(row)
            size += len(row[len(COLUMNS.split(","))])
            if size >= BATCH_BYTES:
                break
    return rows


def sweep(transaction: Transaction) -> None:
    """Clear away some of each."""
    connection, now = transaction.connection, transaction.now
    for *columns, collection in _expired(connection, now):
        remove(transaction, transaction.states.get(name_of(collection)), from_row(*columns))
    connection.execute(
        "DELETE FROM idempotency WHERE key IN (SELECT key FROM idempotency WHERE at < ? LIMIT ?)",
        (now - IDEMPOTENCY_SECONDS, BATCH),
    )
    transaction.states.recount()
    (last,) = connection.execute("SELECT ifnull(max(seq), 0) FROM changes").fetchone()
    old = 0
    for seq, at in connection.execute(_OLD_CHANGES, (10 * BATCH,)):
        if seq > last - RETAINED_CHANGES and at >= now - RETAINED_SECONDS:
            break
        old = seq
    connection.execute("DELETE FROM changes WHERE seq <= ?", (old,))
