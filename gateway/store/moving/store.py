"""The store of a gateway while tenants are moved: each is served from where it is.

A process learns that a tenant has left from its own next write, or by looking at the list of those that left.
So that no process reads in the old store what another one has written in the new, the first write there waits
until all have looked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from time import monotonic
from typing import Any, ClassVar, ParamSpec, TypeVar

from gateway.core.errors import StoreUnavailable
from gateway.core.model import TenantId
from gateway.runtime.periodic import PeriodicTask
from gateway.store.filter.nodes import EVERYTHING, Node
from gateway.store.model.change import Changes
from gateway.store.model.collection import Collection, CollectionSettings
from gateway.store.model.document import UNCONDITIONAL, Document, Precondition
from gateway.store.model.idempotency import IdempotencyKey
from gateway.store.model.patch import MergePatch
from gateway.store.model.query import DEFAULT_LIMIT, Page, Query
from gateway.store.model.write import MAX_BULK, NO_QUOTA, Outcome, Quota, Write, Written
from gateway.store.moving.port import Moves
from gateway.store.port import Capability, DocumentStore, Moved, TenantStore

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger(__name__)

LOOK_SECONDS = 0.1  # between two looks at who left
_LISTED_SECONDS = 5.0  # after which who left is in the list
SETTLE_SECONDS = 0.3  # that the first write waits: three looks


class MovingStore:
    """The tenants of `first`, and in `second` those that have left it. moves: of the first."""

    CAPABILITIES: ClassVar[frozenset[Capability]] = frozenset(Capability)

    def __init__(self, first: DocumentStore, second: DocumentStore, moves: Moves) -> None:
        self._first, self._second = first, second
        self._moves = moves
        self._left: dict[str, float] = {}  # when this process learned it
        self._all_left = False
        self._looking = PeriodicTask("looking which tenants were moved", LOOK_SECONDS, self._look)

    @property
    def available(self) -> bool:
        """See port.DocumentStore."""
        return self._first.available and self._second.available

    @property
    def is_reading(self) -> bool:
        """See port.DocumentStore."""
        return self._first.is_reading or self._second.is_reading

    def tenant(self, tenant: TenantId, quota: Quota = NO_QUOTA, weight: float = 1.0) -> MovingTenantStore:
        """See port.DocumentStore."""
        of = tenant, quota, weight
        first, second = partial(self._first.tenant, *of), partial(self._second.tenant, *of)
        return MovingTenantStore(self, tenant.value, first, second)

    async def start(self) -> None:
        """See port.DocumentStore."""
        await self._first.start()
        try:
            await self._second.start()
        except BaseException:
            await self._first.close()
            raise
        try:
            await self._look()
        except StoreUnavailable as error:
            _log.warning("which tenants were moved is not known yet: %s", error)
        self._left = dict.fromkeys(self._left, float("-inf"))
        self._looking.start()

    async def close(self) -> None:
        """See port.DocumentStore."""
        await self._looking.stop()
        await self._first.close()
        await self._second.close()
        await self._moves.close()

    def has_left(self, name: str) -> bool:
        """Whether the tenant is served by the second store."""
        return name in self._left or self._all_left

    def learn(self, moved: Moved, name: str) -> None:
        """The tenant has left."""
        if name not in self._left:
            self._left[name] = monotonic()
            _log.info("the documents of %s are served from %s now", name, moved.to)

    async def settle(self, name: str) -> None:
        """Before a write in the second store."""
        wait = self._left.get(name, float("-inf")) + SETTLE_SECONDS - monotonic()
        if wait > 0:
            await asyncio.sleep(wait)

    async def _look(self) -> None:
        found = await self._moves.moved()
        for name in found.tenants:
            self.learn(Moved(name, found.to), name)
        for name in self._left.keys() - set(found.tenants):
            if self._left[name] < monotonic() - _LISTED_SECONDS:
                del self._left[name]  # it came back
        self._all_left = found.all


class MovingTenantStore:
    """One tenant's documents, where they are. See port.TenantStore for all of it."""

    def __init__(
        self,
        moving: MovingStore,
        name: str,
        first: Callable[[], TenantStore],
        second: Callable[[], TenantStore],
    ) -> None:
        self._moving, self._name = moving, name
        self._first, self._second = first, second  # made when they are asked: one of them may be away

    @property
    def _now(self) -> TenantStore:
        return self._second() if self._moving.has_left(self._name) else self._first()

    async def _read(self, work: Callable[[TenantStore], Awaitable[T]]) -> T:
        try:
            return await work(self._now)
        except Moved as moved:
            self._moving.learn(moved, self._name)
            return await work(self._second())

    async def _write(self, work: Callable[[TenantStore], Awaitable[T]]) -> T:
        if not self._moving.has_left(self._name):
            try:
                return await work(self._first())
            except Moved as moved:
                self._moving.learn(moved, self._name)
        await self._moving.settle(self._name)
        return await work(self._second())

    async def work(self, function: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
        """See port.TenantStore."""
        return await self._now.work(function, *args, **more)

    async def write(
        self, collection: str, write: Write, idempotency: IdempotencyKey | None = None
    ) -> Written | None:
        """See port.TenantStore."""
        return await self._write(lambda store: store.write(collection, write, idempotency))

    async def read(self, collection: str, identifier: str) -> Document:
        """See port.TenantStore."""
        return await self._read(lambda store: store.read(collection, identifier))

    def read_now(self, collection: str, identifier: str) -> Document | None:
        """See port.TenantStore."""
        try:
            return self._now.read_now(collection, identifier)
        except Moved:
            return None

    async def bulk(
        self,
        collection: str,
        writes: Sequence[Write],
        *,
        atomic: bool = False,
        idempotency: IdempotencyKey | None = None,
        most: int = MAX_BULK,
    ) -> tuple[Outcome, ...]:
        """See port.TenantStore."""
        more: dict[str, Any] = {"atomic": atomic, "idempotency": idempotency, "most": most}
        return await self._write(lambda store: store.bulk(collection, writes, **more))

    async def list(self, collection: str, query: Query) -> Page[Document]:
        """See port.TenantStore."""
        return await self._read(lambda store: store.list(collection, query))

    async def export(self, collection: str, node: Node = EVERYTHING) -> AsyncGenerator[bytes, None]:
        """See port.TenantStore. One that was begun goes on where it is: that is what was there then."""
        async with aclosing(self._now.export(collection, node)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def changes(self, collection: str, after: str | None = None) -> AsyncGenerator[Changes, None]:
        """See port.TenantStore. A feed ends when its tenant leaves, and what comes after is another's."""
        here = self._moving.has_left(self._name)
        async with aclosing(self._now.changes(collection, after)) as feed:
            step: asyncio.Task[Changes] | None = None
            try:
                while self._moving.has_left(self._name) == here:
                    step = step or asyncio.ensure_future(anext(feed))
                    done, _ = await asyncio.wait([step], timeout=1.0)
                    if done:
                        found, step = step.result(), None
                        yield found
            finally:
                if step is not None:
                    step.cancel()
                    await asyncio.wait([step])
        raise StoreUnavailable("The tenant's documents are in another store now: read them, and begin anew.")

    async def collections(self, limit: int = DEFAULT_LIMIT, cursor: str | None = None) -> Page[Collection]:
        """See port.TenantStore."""
        return await self._read(lambda store: store.collections(limit, cursor))

    async def collection(self, name: str) -> Collection:
        """See port.TenantStore."""
        return await self._read(lambda store: store.collection(name))

    async def settings(self, data: Mapping[str, Any]) -> CollectionSettings:
        """See port.TenantStore."""
        return await self._now.settings(data)

    async def put_collection(
        self, name: str, settings: CollectionSettings, precondition: Precondition = UNCONDITIONAL
    ) -> tuple[Collection, bool]:
        """See port.TenantStore."""
        return await self._write(lambda store: store.put_collection(name, settings, precondition))

    async def patch_collection(
        self, name: str, patch: MergePatch, precondition: Precondition = UNCONDITIONAL
    ) -> Collection:
        """See port.TenantStore."""
        return await self._write(lambda store: store.patch_collection(name, patch, precondition))

    async def delete_collection(
        self, name: str, precondition: Precondition = UNCONDITIONAL, *, documents: bool = False
    ) -> None:
        """See port.TenantStore."""
        await self._write(lambda store: store.delete_collection(name, precondition, documents=documents))
