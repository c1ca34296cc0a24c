"""What the TenantStores of all engines have in common: what their interface says is done here, and how it is
stored by a few methods of the engine."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from gateway.store.bulk import check_count
from gateway.store.feeds import Feeds
from gateway.store.json.large import Jobs
from gateway.store.model.change import Changes
from gateway.store.model.collection import Collection, CollectionSettings, from_data
from gateway.store.model.cursor import Cursors
from gateway.store.model.idempotency import IdempotencyKey
from gateway.store.model.query import DEFAULT_LIMIT, Page
from gateway.store.model.write import MAX_BULK, Outcome, Write
from gateway.store.schema.checks import with_schemas

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SharedServices:
    """What the tenants of a store share, whatever the engine. writing: the writes that have not ended and
    continue without their callers."""

    feeds: Feeds
    jobs: Jobs
    writing: set[asyncio.Task[Any]]


class BaseTenantStore(ABC):
    """The part of port.TenantStore that is the same for all engines. An engine sets these attributes: one is
    made for each request, so this class has no __init__ to be called from theirs."""

    _name: str  # of the tenant
    _services: SharedServices
    _cursors: Cursors

    @abstractmethod
    async def _bulk(
        self, collection: str, writes: Sequence[Write], idempotency: IdempotencyKey | None, *, atomic: bool
    ) -> tuple[Outcome, ...]:
        """Do a bulk whose size was checked."""

    @abstractmethod
    async def _collections(self, after: str, limit: int) -> tuple[Sequence[Collection], str | None]:
        """The collections behind this name, at most `limit`; and the last name, None when there are no
        more."""

    async def work(self, function: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
        """See port.TenantStore.work."""
        return await self._services.jobs.run(self._name, function, *args, **more)

    # --- documents ---

    async def bulk(
        self,
        collection: str,
        writes: Sequence[Write],
        *,
        atomic: bool = False,
        idempotency: IdempotencyKey | None = None,
        most: int = MAX_BULK,
    ) -> tuple[Outcome, ...]:
        """See port.TenantStore.bulk."""
        check_count(writes, most)
        return await self._bulk(collection, writes, idempotency, atomic=atomic)

    def changes(self, collection: str, after: str | None = None) -> AsyncGenerator[Changes, None]:
        """See port.TenantStore.changes."""
        return self._services.feeds.changes(self._name, collection, self._cursors, after)

    # --- collections ---

    async def collections(self, limit: int = DEFAULT_LIMIT, cursor: str | None = None) -> Page[Collection]:
        """See port.TenantStore.collections."""
        scope = ("collections",)
        after = "" if cursor is None else self._cursors.open(scope, cursor)[0]
        found, end = await self._collections(after, limit)
        return Page(tuple(found), None if end is None else self._cursors.seal(scope, [end]))

    async def settings(self, data: Mapping[str, Any]) -> CollectionSettings:
        """See port.TenantStore.settings."""

        async def attempt() -> CollectionSettings:
            return from_data(data, apart=True)

        return await with_schemas(self._services.jobs.pool, self._name, attempt)

    # --- inside ---

    async def _to_its_end(self, writing: Awaitable[T], ended: Callable[[], None] = lambda: None) -> T:
        """The result of a write, which continues when its caller is gone. ended: called at its end, however
        it ends."""
        task = asyncio.ensure_future(writing)
        unfinished = self._services.writing

        def end(task: asyncio.Future[T]) -> None:
            unfinished.discard(task)
            ended()
            if not task.cancelled():
                task.exception()  # its caller may be gone

        unfinished.add(task)
        task.add_done_callback(end)
        return await asyncio.shield(task)
