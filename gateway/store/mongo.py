"""The engine on a MongoDB server: collections that all tenants share, with the tenant first in every key.

What a filter, a sort and a unique value mean is decided by the gateway's own code (matcher.py, sort.py,
indexing.py); the server keeps, narrows and orders. See mongo_rows.py for what lies where.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, ClassVar
from weakref import WeakValueDictionary

from gateway.core.errors import StoreUnavailable
from gateway.core.model import TenantId
from gateway.store import regex
from gateway.store.cursor import MIN_KEY_BYTES
from gateway.store.mongo_changes import Feeds
from gateway.store.mongo_driver import Driver, Server, Taken
from gateway.store.mongo_rows import INDEXES, META
from gateway.store.mongo_sweep import Sweeper
from gateway.store.mongo_tenant import MongoTenantStore, Services
from gateway.store.mongo_writes import Writes
from gateway.store.port import Capability
from gateway.store.write import NO_QUOTA, Quota

MIN_VERSION = (4, 4)
QUERY_SECONDS = 10.0
_CURSOR_KEY = "cursor_key"


class MongoDocumentStore:
    """The store on the server of a driver.

    cursor_key: the secret that signs cursors, 32 bytes or more; once the database has one, that one counts.
    query_seconds: after how long a list is given up. On a server that is no replica set, CHANGES and
    ATOMIC_BULK are answered 501.
    """

    CAPABILITIES: ClassVar[frozenset[Capability]] = (
        frozenset(Capability)
        - {Capability.SNAPSHOT_EXPORT}
        - (frozenset() if regex.AVAILABLE else {Capability.REGEX})
    )

    def __init__(self, driver: Driver, cursor_key: bytes, *, query_seconds: float = QUERY_SECONDS) -> None:
        if len(cursor_key) < MIN_KEY_BYTES:
            raise ValueError(f"the key for cursors must have at least {MIN_KEY_BYTES} bytes")
        self._driver = driver
        self._cursor_key = cursor_key
        self._query_seconds = query_seconds
        self._server = Server((), False)
        self._services: Services | None = None
        self._sweeper: Sweeper | None = None
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._writing: set[asyncio.Task[Any]] = set()

    def tenant(self, tenant: TenantId, quota: Quota = NO_QUOTA) -> MongoTenantStore:
        """Raises StoreUnavailable before start()."""
        if self._services is None:
            raise StoreUnavailable("The document store has not started.")
        return MongoTenantStore(tenant, self._writes(tenant.value, quota), self._services, self._cursor_key)

    async def start(self) -> None:
        """Raises StoreUnavailable when the server cannot be reached or used, or is too old."""
        self._server = await self._driver.connect()
        try:
            if self._server.version < MIN_VERSION:
                found, least = (".".join(map(str, v)) for v in (self._server.version, MIN_VERSION))
                detail = f"The MongoDB server {self._driver.name} is {found}; "
                raise StoreUnavailable(f"{detail}the store needs {least} or newer.")
            for name, indexes in INDEXES.items():
                await self._driver.create(name, indexes)
            self._cursor_key = await self._shared_key(self._cursor_key)
        except BaseException:
            self._driver.close()
            raise
        feeds = Feeds(self._driver, supported=self._server.replica_set)
        self._services = Services(feeds, self._writing, Counter(), self._query_seconds)
        self._sweeper = Sweeper(self._driver, lambda name: self._writes(name, NO_QUOTA))
        self._sweeper.start()

    async def close(self) -> None:
        """End the feeds, finish every write that was taken, close the connections."""
        if self._services is None or self._sweeper is None:
            return
        await self._sweeper.stop()
        await self._services.feeds.close()
        while self._writing:
            await asyncio.wait(self._writing)
        self._driver.close()
        self._services = None

    async def _shared_key(self, own: bytes) -> bytes:
        """The key of the first gateway that started on this database: cursors count in all of them."""
        try:
            await self._driver.insert(META, {"_id": _CURSOR_KEY, "key": own})
            return own
        except Taken:
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
        return Writes(self._driver, tenant, quota, lock)
