"""The operator's side of the MongoDB engine. Copies of the data are the server's own business (mongodump)."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import NoReturn

from gateway.core.errors import NotFound, NotSupportedByStore
from gateway.core.model import TenantId
from gateway.store.model import instants
from gateway.store.model.document import to_text
from gateway.store.mongo import state as mongo_state
from gateway.store.mongo.driver import Driver
from gateway.store.mongo.rows import (
    CLAIMS,
    COLLECTIONS,
    DOCUMENTS,
    IDEMPOTENCY,
    TENANTS,
    Row,
    derived,
    is_live,
    joined,
    own_row,
    scope,
)
from gateway.store.mongo.state import State
from gateway.store.mongo.write import plan
from gateway.store.operator import TenantSize

_MAX_SENTENCES = 100


class MongoOperator:
    """See operator.Operator; connects at its first use."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._connected = False

    async def tenants(self) -> tuple[TenantId, ...]:
        """See operator.Operator.tenants."""
        await self._connect()
        rows = self._driver.find(COLLECTIONS, {})
        found = {row["t"] async for row in rows if mongo_state.read(row["c"], row).stored}
        return tuple(TenantId(name) for name in sorted(found))

    async def size(self, tenant: TenantId) -> TenantSize:
        """See operator.Operator.size."""
        await self._connect()
        states = [state async for state in self._states(tenant.value)]
        if not states:
            raise NotFound(f"There is no data of the tenant {tenant.value}.")
        documents = size = stored = 0
        for state in states:
            async for row in self._driver.find(DOCUMENTS, scope(tenant.value, state.name)):
                documents, size = documents + 1, size + row["s"]
                stored += self._driver.stored_size(row)
        return TenantSize(tenant, len(states), documents, size, stored)

    async def backup(self, tenant: TenantId, target: Path) -> int:
        """See operator.Operator.backup."""
        _by_the_server()

    async def restore(self, tenant: TenantId, source: Path, *, replace: bool = False) -> TenantSize:
        """See operator.Operator.restore."""
        _by_the_server()

    async def verify(self, tenant: TenantId) -> tuple[str, ...]:
        """See operator.Operator.verify."""
        await self._connect()
        found: list[str] = []
        documents = size = 0
        states = [state async for state in self._states(tenant.value)]
        if not states:
            raise NotFound(f"There is no data of the tenant {tenant.value}.")
        for state in states:
            check = _Check(self._driver, tenant.value, state)
            found += await check.run()
            documents, size = documents + check.documents, size + check.bytes
        row = await self._driver.find_one(TENANTS, own_row(tenant.value))
        size += sum(len((state.settings_text or "").encode()) for state in states)
        async for remembered in self._driver.find(IDEMPOTENCY, {"t": tenant.value}):
            size += remembered.get("n", 0)
        counted = (0, 0) if row is None else (row["documents"], row["bytes"])
        if counted != (documents, size):
            said = f"{counted[0]} documents of {counted[1]} bytes"
            found.append(f"The tenant counts {said}; there are {documents} of {size}.")
        return tuple(found[:_MAX_SENTENCES])

    async def close(self) -> None:
        """See operator.Operator.close."""
        self._driver.close()

    async def _connect(self) -> None:
        if not self._connected:
            await self._driver.connect()
            self._connected = True

    async def _states(self, tenant: str) -> AsyncGenerator[State, None]:
        query = {"$and": [{"t": tenant}, {"c": {"$gt": ""}}]}
        async with aclosing(self._driver.find(COLLECTIONS, query, sort=[("c", 1)])) as rows:
            async for row in rows:
                state = mongo_state.read(row["c"], row)
                if state.stored:
                    yield state


class _Check:
    """One collection: its documents against what else is known of them."""

    def __init__(self, driver: Driver, tenant: str, state: State) -> None:
        self._driver = driver
        self._tenant = tenant
        self._state = state
        self.documents = 0
        self.bytes = 0

    async def run(self) -> list[str]:
        state, found = self._state, []
        claims = await self._claims()
        async for row in self._driver.find(DOCUMENTS, scope(self._tenant, state.name)):
            self.documents, self.bytes = self.documents + 1, self.bytes + row["s"]
            found += [f"{state.name}/{row['id']}: {problem}." for problem in self._problems(row, claims)]
            if len(found) >= _MAX_SENTENCES:
                return found
        if (state.documents, state.bytes) != (self.documents, self.bytes):
            counted = f"{state.documents} documents of {state.bytes} bytes"
            found.append(f"{state.name} counts {counted}; there are {self.documents} of {self.bytes}.")
        if state.building:
            found.append(f"{state.name}: an index is not complete; put the collection's settings again.")
        return found

    async def _claims(self) -> dict[str, str]:
        rows = self._driver.find(CLAIMS, scope(self._tenant, self._state.name))
        return {row["_id"]: row["o"] async for row in rows}

    def _problems(self, row: Row, claims: dict[str, str]) -> list[str]:
        state, found = self._state, []
        if row["_id"] != joined(self._tenant, state.name, row["id"]):
            found.append("its key is not that of its id")
        if row["s"] != to_text(row["d"])[1]:
            found.append("its size is not what it counts for")
        made = derived(state.ordered, state.settings.ttl, row["mo"], row["d"])
        if not state.building and (row["ix"], row["o"]) != (made["ix"], made["o"]):
            found.append("its entries in the indexes are not those of its values")
        if is_live(row, instants.now()):
            wanted = plan.claims(self._tenant, state, row["d"])
            if any(claims.get(claim) != row["id"] for claim in wanted):
                found.append("a unique value of it belongs to another document, or to none")
        return found


def _by_the_server() -> NoReturn:
    raise NotSupportedByStore(
        "MongoDB makes copies of its data itself: use mongodump and mongorestore (with --oplog on a replica "
        "set), or export and import a tenant's collections."
    )
