"""The embedded engine: one SQLite file per tenant, its name the tenant's.

Reads by id run on the event loop (a few microseconds), lists in reader threads, writes in writer threads
with group commit. Tenants apart are files apart: isolation, quota, backup and deletion by construction.
"""

from __future__ import annotations

import os
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

from gateway.core.errors import StoreUnavailable
from gateway.core.model import TenantId
from gateway.runtime import durable, threads
from gateway.runtime.scheduling import NICENESS, lower_priority, processors
from gateway.store.feeds import Feeds
from gateway.store.filter import regex
from gateway.store.json.large import Jobs
from gateway.store.model.cursor import MIN_KEY_BYTES
from gateway.store.model.query import QUERY_SECONDS
from gateway.store.model.write import NO_QUOTA, Quota
from gateway.store.port import Capability
from gateway.store.sqlite.changes import SQLiteChangeLog
from gateway.store.sqlite.files.open_files import MAX_LOG_BYTES, Files
from gateway.store.sqlite.read.export import Exports
from gateway.store.sqlite.read.inline import Inline
from gateway.store.sqlite.read.reads import Reads
from gateway.store.sqlite.tenant import Services, SQLiteTenantStore
from gateway.store.sqlite.told_names import ToldNames
from gateway.store.sqlite.write.long_writes import LongWrites
from gateway.store.sqlite.write.sweep import Sweeper
from gateway.store.sqlite.write.transaction import Pace
from gateway.store.sqlite.write.writers import Writers

READER_THREADS = 4 * 64  # a read keeps its thread between two slices: of MAX_QUERIES of each open tenant
MAX_OPEN_TENANTS = 64
LEFT_SECONDS = 600.0  # a file that was begun so long ago was left by a process that was killed
PACE = Pace()
_FEEDS = ".feeds"  # where processes with feeds are told which tenants were written to
MIN_SQLITE = (3, 38, 0)  # the JSON operators and STRICT tables


class SQLiteDocumentStore:
    """The store under a folder, which it makes with mode 0700.

    cursor_key: the secret that signs cursors, 32 bytes or more; cursors outlive a restart when it does.
    max_tenant_bytes: how large one tenant's file may grow, None for no limit. query_seconds: after how
    long a list is given up. pace: how much of a long work is done before other writes get their turn.
    max_log_bytes: how large a file's log may be, beside the size of the file. jobs:
    where large documents are worked on. moved_too: whether it also serves tenants that were moved to another
    store, as only who moves them wants.
    """

    CAPABILITIES: ClassVar[frozenset[Capability]] = frozenset(Capability) - (
        frozenset() if regex.AVAILABLE else {Capability.REGEX}
    )

    def __init__(
        self,
        folder: Path,
        cursor_key: bytes,
        *,
        max_tenant_bytes: int | None = None,
        max_open_tenants: int = MAX_OPEN_TENANTS,
        query_seconds: float = QUERY_SECONDS,
        pace: Pace = PACE,
        max_log_bytes: int = MAX_LOG_BYTES,
        jobs: Jobs | None = None,
        moved_too: bool = False,
    ) -> None:
        if len(cursor_key) < MIN_KEY_BYTES:
            raise ValueError(f"the key for cursors must have at least {MIN_KEY_BYTES} bytes")
        self._folder = folder
        self._cursor_key = cursor_key
        self._max_tenant_bytes = max_tenant_bytes
        self._max_open_tenants = max_open_tenants
        self._query_seconds = query_seconds
        self._pace = pace
        self._max_log_bytes = max_log_bytes
        self._jobs = jobs or Jobs()
        self._moved_too = moved_too
        self._writers = Writers()
        self._readers = ThreadPoolExecutor(READER_THREADS, "store-read", lower_priority, (NICENESS,))
        self._services: Services | None = None
        self._sweeper: Sweeper | None = None
        self._told: ToldNames | None = None

    @property
    def available(self) -> bool:
        """See port.DocumentStore."""
        return self._services is not None

    @property
    def is_reading(self) -> bool:
        """See port.DocumentStore."""
        return self._writers.short_reads.count > 0

    def tenant(self, tenant: TenantId, quota: Quota = NO_QUOTA, weight: float = 1.0) -> SQLiteTenantStore:
        """Raises StoreUnavailable before start()."""
        if self._services is None:
            raise StoreUnavailable("The document store has not started.")
        return SQLiteTenantStore(tenant, quota, self._services, self._cursor_key, weight)

    async def start(self) -> None:
        """Raises StoreUnavailable when the folder cannot be used, or SQLite is too old."""
        if sqlite3.sqlite_version_info < MIN_SQLITE:
            least = ".".join(map(str, MIN_SQLITE))
            raise StoreUnavailable(f"SQLite is {sqlite3.sqlite_version}; the store needs {least} or newer.")
        try:
            durable.make_folder(self._folder)
            self._folder.chmod(0o700)
            durable.sweep(self._folder, time.time() - LEFT_SECONDS)
        except OSError as error:
            reason = f"{type(error).__name__}: {error.strerror}"
            detail = f"The documents' folder {self._folder} cannot be used ({reason}). "
            detail += "It must be a folder that belongs to the gateway's user."
            raise StoreUnavailable(detail) from None
        if not os.access(self._folder, os.R_OK | os.W_OK | os.X_OK):
            detail = f"The documents' folder {self._folder} cannot be written. "
            raise StoreUnavailable(detail + "Look at its owner, and whether its disk is mounted read-only.")
        self._jobs.start()
        most, log = self._max_open_tenants, self._max_log_bytes
        limits = most, self._max_tenant_bytes
        files = Files(self._folder, self._writers, *limits, self._jobs, log, moved_too=self._moved_too)
        reads = Reads(files, self._readers, processors(), self._query_seconds)
        self._told = told = ToldNames(self._folder / _FEEDS, lambda name: feeds.notify(name))
        exports, feeds = Exports(files, reads, max(1, most // 2)), Feeds(SQLiteChangeLog(files, reads, told))
        files.report(changed=feeds.notify, committed=told.tell, log_full=exports.cut_off)
        long_writes = LongWrites(files, self._pace)
        self._services = Services(
            feeds, self._jobs, set(), files, reads, Inline(files), exports, long_writes, set()
        )
        self._sweeper = Sweeper(files, long_writes)
        self._sweeper.start()

    async def close(self) -> None:
        """End the feeds, finish every write that was taken, close the files, join the threads."""
        if self._services is not None and self._sweeper is not None:
            await self._sweeper.stop()
            await self._services.feeds.close()
            self._services.reads.close()
            await self._services.files.close()
        if self._told is not None:
            self._told.close()
        await self._jobs.close()
        await self._writers.close()
        await threads.shutdown(self._readers)
