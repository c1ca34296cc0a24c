"""Quotas of a day, and the file in which they survive a restart.

Counted in memory; a thread adds what is new to a SQLite file about once a second, and a last time when the
gateway drains. So a kill, or the loss of power, forgets the last second (FLUSH) at most. When the file
cannot be read or written, requests are served all the same and the quota is kept in memory: a quota is a
part of a contract and no barrier against anybody, and without it nobody gets more than one more day's.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path

from gateway.limits.checks import DAY
from gateway.runtime import durable, threads
from gateway.runtime.periodic import PeriodicTask

L = logging.getLogger(__name__)
FLUSH = 1.0  # seconds
_BUSY = 5.0  # seconds to wait for another process that writes
_SCHEMA = """
CREATE TABLE IF NOT EXISTS used (
    day INTEGER NOT NULL, tenant TEXT NOT NULL, requests INTEGER NOT NULL, PRIMARY KEY (day, tenant)
) WITHOUT ROWID
"""
_ADD = """
INSERT INTO used VALUES (?, ?, ?)
ON CONFLICT (day, tenant) DO UPDATE SET requests = requests + excluded.requests RETURNING requests
"""


class Quotas:
    """How many requests each tenant has made today. A day begins at 00:00 UTC; a clock that is set back
    begins none. start() once, close() once; on the loop's thread."""

    def __init__(self, path: Path, now: Callable[[], float] = time.time) -> None:
        self._path = path
        self._now = now
        self._day = 0
        self._stored: dict[str, int] = {}  # as the file says
        self._new: dict[str, int] = {}  # not there yet
        self._on_its_way: dict[str, int] = {}  # there soon
        self._writer: PeriodicTask | None = None
        self._writes = True
        self._lock = asyncio.Lock()

    def used(self, tenant: str) -> int:
        """Requests of the tenant today."""
        day = int(self._now() // DAY)
        if day > self._day:
            self._day = day
            self._stored, self._new, self._on_its_way = {}, {}, {}
        return self._stored.get(tenant, 0) + self._on_its_way.get(tenant, 0) + self._new.get(tenant, 0)

    def count(self, tenant: str, requests: int = 1) -> None:
        """One request more, or several; `used` was called before it."""
        self._new[tenant] = self._new.get(tenant, 0) + requests

    @property
    def left_today(self) -> float:
        """Seconds until the next day begins."""
        return (self._day + 1) * DAY - self._now()

    async def start(self) -> None:
        """Read what today has used so far, and write from now on."""
        self._day = int(self._now() // DAY)
        self._stored = await threads.run(threads.QUOTAS, self._read, self._day)
        self._writer = PeriodicTask("writing the quotas", FLUSH, lambda: asyncio.shield(self.flush()))
        self._writer.start()

    async def close(self) -> None:
        """Write the last of it."""
        if self._writer is None:
            return
        await self._writer.stop()
        self._writer = None
        await self.flush()

    async def flush(self) -> None:
        """Add what is new to the file. What cannot be written stays, for the next time."""
        async with self._lock:
            await self._flush()

    async def _flush(self) -> None:
        if not self._new:
            return
        day, new, self._new = self._day, self._new, {}
        self._on_its_way = new
        try:
            totals = await threads.run(threads.QUOTAS, self._write, day, new)
        except BaseException:
            for tenant, requests in new.items() if day == self._day else ():
                self._new[tenant] = self._new.get(tenant, 0) + requests
            raise
        finally:
            self._on_its_way = {}
        if day != self._day:
            return  # it was yesterday's
        for tenant, requests in new.items():
            before = self._stored.get(tenant, 0)
            after = before if totals is None else totals[tenant]
            missing = before + requests - after
            self._stored[tenant] = after
            if missing > 0:  # it was not written, or the file has lost what was in it
                self._new[tenant] = self._new.get(tenant, 0) + missing

    # --- in a thread ---

    def _read(self, day: int) -> dict[str, int]:
        if not self._path.exists():
            return {}
        try:
            with closing(self._open()) as file:
                rows = file.execute("SELECT tenant, requests FROM used WHERE day = ?", (day,))
                return {str(tenant): int(requests) for tenant, requests in rows}
        except (sqlite3.Error, OSError) as error:
            self._failed("read", error)
            return {}

    def _write(self, day: int, new: Mapping[str, int]) -> dict[str, int] | None:
        """The totals of these tenants afterwards, those of other processes included; None when it failed."""
        try:
            with closing(self._open()) as file, file:
                file.execute("DELETE FROM used WHERE day < ?", (day,))
                totals = {
                    tenant: int(file.execute(_ADD, (day, tenant, requests)).fetchone()[0])
                    for tenant, requests in new.items()
                }
        except (sqlite3.Error, OSError) as error:
            self._failed("written", error)
            return None
        if not self._writes:
            L.warning("The quotas are written to %s again", self._path)
        self._writes = True
        return totals

    def _open(self) -> sqlite3.Connection:
        durable.create_empty(self._path)  # for its owner alone from the first
        file = sqlite3.connect(self._path, timeout=_BUSY)
        try:
            file.execute("PRAGMA synchronous = FULL")
            file.execute(_SCHEMA)
        except sqlite3.Error:
            file.close()
            raise
        return file

    def _failed(self, what: str, error: Exception) -> None:
        """Say so, once for each row of failures. A file that is none of SQLite's is put aside."""
        damaged = isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
        if damaged:
            aside = self._path.with_name(f"{self._path.name}.damaged-{int(self._now())}")
            with suppress(OSError):
                durable.rename(self._path, aside)
            L.error(
                "The quotas in %s could not be %s (%s). The file was renamed to %s and a new one begins: what"
                " this process did not count itself begins at zero today",
                *(self._path, what, error, aside.name),
            )
        elif self._writes:
            self._writes = False
            L.error(
                "The quotas in %s could not be %s (%s). They are kept in memory, and lost at a restart, until"
                " it works; free space on its disk, or give this user the right to write there",
                *(self._path, what, error),
            )
