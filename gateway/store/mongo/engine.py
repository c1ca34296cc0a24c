"""The engine on a MongoDB server: collections that all tenants share, with the tenant first in every key.

What a filter, a sort and a unique value mean is decided by the gateway's own code (filter/matcher.py,
model/sort.py, model/indexing.py); the server keeps, narrows and orders. See mongo/rows.py for what lies
where.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, ClassVar
from weakref import WeakValueDictionary

from gateway.core.errors import StoreUnavailable
from gateway.core.model import TenantId
from gateway.runtime.fair_seats import FairSeats
from gateway.runtime.periodic import PeriodicTask
from gateway.store.exports import OpenExports
from gateway.store.feeds import Feeds
from gateway.store.filter import regex
from gateway.store.json.large import Jobs
from gateway.store.model.cursor import MIN_KEY_BYTES
from gateway.store.model.query import QUERY_SECONDS
from gateway.store.model.write import NO_QUOTA, Quota
from gateway.store.mongo.changes import MongoChangeLog
from gateway.store.mongo.driver import Driver, DuplicateKey, Server, Unusable
from gateway.store.mongo.large import LargeDocuments, Rows
from gateway.store.mongo.rows import INDEXES, META
from gateway.store.mongo.tenant import MongoTenantStore, Services
from gateway.store.mongo.write.sweep import Sweeper
from gateway.store.mongo.write.writes import Writes
from gateway.store.port import Capability

_log = logging.getLogger(__name__)

MIN_VERSION = (4, 4)
SEATS = 3  # lists that the event loop works for by turns, and for no longer than SEATS * STEP at a time
CONNECT_SECONDS = 1.0  # between two attempts to reach a server that was away at the start
_CURSOR_KEY = "cursor_key"


class MongoDocumentStore:
    """The store on the server of a driver.

    cursor_key: the secret that signs cursors, 32 bytes or more; once the database has one, that one counts.
    query_seconds: after how long a list is given up. patient: a server that is away when the store starts is
    waited for in the background, and documents are StoreUnavailable meanwhile; else the start fails. On a
    server that is no replica set, CHANGES and ATOMIC_BULK are answered 501. moved_too: whether it also serves
    tenants that were moved to another store, as only who moves them wants.
    """

    CAPABILITIES: ClassVar[frozenset[Capability]] = (
        frozenset(Capability)
        - {Capability.SNAPSHOT_EXPORT}
        - (frozenset() if regex.AVAILABLE else {Capability.REGEX})
    )

    def __init__(
        self,
        driver: Driver,
        cursor_key: bytes,
        *,
        query_seconds: float = QUERY_SECONDS,
        patient: bool = False,
        jobs: Jobs | None = None,
        moved_too: bool = False,
    ) -> None:
        if len(cursor_key) < MIN_KEY_BYTES:
            raise ValueError(f"the key for cursors must have at least {MIN_KEY_BYTES} bytes")
        self._driver = driver
        self._cursor_key = cursor_key
        self._query_seconds = query_seconds
        self._seats = FairSeats("lists of the store", SEATS, reserve=1)
        self._patient = patient
        self._jobs = jobs or Jobs()
        self._moved_too = moved_too
        self._large = LargeDocuments()
        self._connecting = PeriodicTask("connecting to MongoDB", CONNECT_SECONDS, self._connect_again)
        self._reported = ""  # why there is no connection, as it was last logged
        self._server = Server((), False)
        self._services: Services | None = None
        self._sweeper: Sweeper | None = None
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._writing: set[asyncio.Task[Any]] = set()

    @property
    def available(self) -> bool:
        """See port.DocumentStore."""
        return self._services is not None and self._driver.available

    @property
    def is_reading(self) -> bool:
        """See port.DocumentStore. It has no threads for that."""
        return False

    def tenant(self, tenant: TenantId, quota: Quota = NO_QUOTA, weight: float = 1.0) -> MongoTenantStore:
        """Raises StoreUnavailable before start(), and while the server was never there."""
        if self._services is None:
            raise StoreUnavailable("The document store is not there yet.", retry_after=2)
        if self._sweeper is not None and not self._moved_too:
            self._sweeper.check_here(tenant.value)
        writes = self._writes(tenant.value, quota)
        return MongoTenantStore(tenant, writes, self._services, self._cursor_key, weight)

    async def start(self) -> None:
        """Raises Unusable when the URI is none, the server refuses the user or is too old; StoreUnavailable
        when it cannot be reached, unless that is waited for."""
        try:
            await self._open()
        except Unusable as error:
            self._driver.close()
            raise Unusable(_reason_of(error)) from None
        except StoreUnavailable as error:
            if not self._patient:
                self._driver.close()
                raise StoreUnavailable(_reason_of(error)) from None
            self._report(error)
            self._connecting.start()
        except BaseException:
            self._driver.close()
            raise

    async def close(self) -> None:
        """End the feeds, finish every write that was taken, close the connections."""
        await self._connecting.stop()
        if self._services is not None and self._sweeper is not None:
            await self._sweeper.stop()
            await self._services.feeds.close()
            while self._writing:
                await asyncio.wait(self._writing)
        await self._jobs.close()
        self._driver.close()
        self._services = None

    async def _open(self) -> None:
        """Connect and begin to serve. Raises StoreUnavailable."""
        self._server = await self._driver.connect()
        if self._server.version < MIN_VERSION:
            found, least = (".".join(map(str, v)) for v in (self._server.version, MIN_VERSION))
            detail = f"The MongoDB server {self._driver.name} is {found}; "
            raise Unusable(f"{detail}the store needs {least} or newer.")
        for name, indexes in INDEXES.items():
            await self._driver.create(name, indexes)
        self._cursor_key = await self._shared_key(self._cursor_key)
        log = MongoChangeLog(self._driver, self._jobs, self._large, supported=self._server.replica_set)
        shared = Feeds(log), self._jobs, self._writing
        self._services = Services(*shared, OpenExports(), self._query_seconds, self._seats)
        self._sweeper = Sweeper(self._driver, lambda name: self._writes(name, NO_QUOTA))
        self._sweeper.start()

    async def _connect_again(self) -> None:
        """Try to connect. What would have ended the start ends nothing that serves already."""
        try:
            await self._open()
        except StoreUnavailable as error:
            self._report(error)
            return
        self._connecting.cancel()

    def _report(self, error: StoreUnavailable) -> None:
        """Log why there is no connection, when it is for another reason than before."""
        reason = _reason_of(error)
        if reason != self._reported:
            self._reported = reason
            text = "documents: %s Documents are answered 503 until then; all else is served. It is tried"
            _log.error(text + " again every %g s.", reason, CONNECT_SECONDS)

    async def _shared_key(self, own: bytes) -> bytes:
        """The key of the first gateway that started on this database: cursors count in all of them."""
        try:
            await self._driver.insert(META, {"_id": _CURSOR_KEY, "key": own})
            return own
        except DuplicateKey:
            row = await self._driver.find_one(META, {"_id": _CURSOR_KEY})
        if row is None:
            raise StoreUnavailable("The key for cursors was removed from the database. Start again.")
        return bytes(row["key"])

    def _writes(self, tenant: str, quota: Quota) -> Writes:
        lock = None
        if self._server.replica_set:
            lock = self._locks.get(tenant)
            if lock is None:
                lock = self._locks[tenant] = asyncio.Lock()
        rows = Rows(self._jobs, tenant, self._large)
        return Writes(self._driver, tenant, quota, lock, rows, moved_too=self._moved_too)


def _reason_of(error: StoreUnavailable) -> str:
    """What was noted for the operator, if anything was."""
    return " ".join(getattr(error, "__notes__", [error.detail]))
