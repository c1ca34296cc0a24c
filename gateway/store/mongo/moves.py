"""The MongoDB engine's part in moving tenants; see moving/port.py. The marks are in the tenant's row, which
each transaction that writes changes too: so none goes past them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager

from gateway.core.errors import StoreUnavailable
from gateway.core.model import TenantId
from gateway.store.model import instants
from gateway.store.model.document import new_incarnation
from gateway.store.model.idempotency import IDEMPOTENCY_SECONDS, KEY_BYTES
from gateway.store.mongo.driver import Driver, DuplicateKey
from gateway.store.mongo.rows import (
    CHANGES,
    IDEMPOTENCY,
    META,
    MOVED,
    TENANTS,
    Row,
    joined,
    new_tenant,
    own_row,
)
from gateway.store.moving.port import (
    HOLD_SECONDS,
    LOG_BATCH,
    LoggedChange,
    LogGone,
    MovedTenants,
    Remembered,
)


class MongoMoves:
    """See moving.port.Moves; connects at its first use."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._replica_set: bool | None = None

    async def follows(self) -> bool:
        """See moving.port.Moves."""
        await self._connect()
        return bool(self._replica_set)

    async def position(self, tenant: TenantId) -> int:
        """See moving.port.Moves."""
        return int((await self._row(tenant) or {"q": 0})["q"])

    async def changes(self, tenant: TenantId, after: int) -> Sequence[LoggedChange]:
        """See moving.port.Moves."""
        last = await self.position(tenant)
        query = {"$and": [{"t": tenant.value}, {"q": {"$gt": after, "$lte": last}}]}
        query["$and"].append({"_id": {"$gt": joined(tenant.value, f"{after:020d}")}})  # by its index
        rows = self._driver.find(CHANGES, query, sort=[("_id", 1)], limit=LOG_BATCH)
        async with aclosing(rows):
            found = [LoggedChange(row["q"], row["c"], row["kind"], row["id"]) async for row in rows]
        if found[0].number != after + 1 if found else last != after:
            raise LogGone()
        return found

    @asynccontextmanager
    async def hold(self, tenant: TenantId) -> AsyncGenerator[None, None]:
        """See moving.port.Moves. A clock that is wrong ends it too early or too late: `leave` finds out."""
        until = instants.now() + HOLD_SECONDS
        await self._update(tenant, {"$set": {"held": until}})
        try:
            yield
        finally:
            await self._update(tenant, {"$unset": {"held": ""}})

    async def leave(self, tenant: TenantId, to: str, position: int) -> None:
        """See moving.port.Moves. Raises StoreUnavailable where something was written all the same."""
        change = {"$set": {"moved": to}, "$unset": {"held": ""}}
        if not await self._update(tenant, change, {"q": position}):
            hint = "look at the clocks of the gateways' hosts"
            raise StoreUnavailable(f"Something was written to {tenant} while its writes were held: {hint}.")

    async def arrive(self, tenant: TenantId) -> None:
        """See moving.port.Moves."""
        await self._update(tenant, {"$unset": {"moved": "", "held": ""}})

    async def leave_all(self, to: str) -> None:
        """See moving.port.Moves."""
        await self._connect()
        await self._driver.modify(META, {"_id": MOVED}, {"$set": {"to": to}}, upsert=True)

    async def arrive_all(self) -> None:
        """See moving.port.Moves."""
        await self._connect()
        await self._driver.delete(META, {"_id": MOVED})

    async def moved(self) -> MovedTenants:
        """See moving.port.Moves."""
        await self._connect()
        rows = self._driver.find(TENANTS, {"moved": {"$gt": ""}}, fields=["t", "moved"])
        found = {row["t"]: row["moved"] async for row in rows}
        everybody = await self._driver.find_one(META, {"_id": MOVED})
        to = next(iter(found.values()), "") if everybody is None else everybody["to"]
        return MovedTenants(tuple(sorted(found)), everybody is not None, to)

    async def remembered(self, tenant: TenantId, since: float) -> Sequence[Remembered]:
        """See moving.port.Moves."""
        query = {"$and": [{"t": tenant.value}, {"until": {"$gte": since + IDEMPOTENCY_SECONDS}}]}
        rows = self._driver.find(IDEMPOTENCY, query)
        return [
            Remembered(row["_id"].partition("\x1f")[2], bytes(row["f"]), at, row["result"])
            async for row in rows
            if row["result"] and (at := row["until"] - IDEMPOTENCY_SECONDS) >= since
        ]

    async def remember(self, tenant: TenantId, items: Sequence[Remembered]) -> None:
        """See moving.port.Moves."""
        await self._make(tenant)
        for item in items:
            size = KEY_BYTES + len(item.key) + len(item.result.encode())
            row = {"_id": joined(tenant.value, item.key), "t": tenant.value, "f": item.fingerprint, "n": size}
            row |= {"lease": new_incarnation(), "until": item.at + IDEMPOTENCY_SECONDS, "result": item.result}
            try:
                await self._driver.insert(IDEMPOTENCY, row)
            except DuplicateKey:
                continue
            await self._update(tenant, {"$inc": {"bytes": size, "beside": size}})

    async def close(self) -> None:
        """See moving.port.Moves."""
        self._driver.close()

    async def _connect(self) -> None:
        if self._replica_set is None:
            self._replica_set = (await self._driver.connect()).replica_set

    async def _row(self, tenant: TenantId) -> Row | None:
        await self._connect()
        return await self._driver.find_one(TENANTS, own_row(tenant.value))

    async def _make(self, tenant: TenantId) -> None:
        if await self._row(tenant) is None:
            try:
                await self._driver.insert(TENANTS, new_tenant(tenant.value))
            except DuplicateKey:
                return

    async def _update(self, tenant: TenantId, change: Row, *conditions: Row) -> bool:
        await self._connect()
        return await self._driver.update(TENANTS, own_row(tenant.value, *conditions), change)
