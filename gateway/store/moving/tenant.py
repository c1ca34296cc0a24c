"""Copying a tenant, and moving it: a copy is made and compared while writes go on, the log tells what they
changed since, and for the last of that the tenant's writes wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic

from gateway.core.errors import NotFound
from gateway.core.model import TenantId
from gateway.store.model import instants
from gateway.store.model.collection import NO_TEXT, Collection
from gateway.store.model.idempotency import IDEMPOTENCY_SECONDS
from gateway.store.model.query import MAX_LIMIT
from gateway.store.moving.collection import CollectionCopy
from gateway.store.moving.port import LOG_BATCH, LogGone, Moves
from gateway.store.port import TenantStore

HELD_SECONDS = 1.4  # that a tenant's writes wait; what is not done then is done while they go on
_TRIES = 5  # holds, each of a tenant that has been brought up before
_FEW = 50  # documents that are brought over in a moment
_ROUNDS = 3  # copies, where the log does not reach back to the begin of one
_MARGIN = 10.0  # seconds by which remembered writes are read again


class NotMoved(Exception):
    """The tenant is where it was. The text says why, and a hint. refused: what the target does not take:
    collection/id, and a reason."""

    def __init__(self, text: str, refused: dict[str, str] | None = None) -> None:
        super().__init__(text)
        self.refused = refused or {}


@dataclass(frozen=True, slots=True)
class Side:
    """One store's part of a tenant."""

    store: TenantStore
    moves: Moves


@dataclass(slots=True)
class Report:
    """What was done. collections: of each the number of its documents and its digest, which are the same in
    both. held: for how many seconds the tenant's writes waited, None where it was only copied."""

    written: int = 0
    unchanged: int = 0
    removed: int = 0
    remembered: int = 0
    collections: dict[str, tuple[int, str]] = field(default_factory=dict)
    held: float | None = None


class TenantCopy:
    """Of one tenant, once. on_progress: called with what is done, of how many, and in which step."""

    def __init__(
        self,
        tenant: TenantId,
        source: Side,
        target: Side,
        on_progress: Callable[[int, int, str], None] = lambda done, total, step: None,
    ) -> None:
        self._tenant = tenant
        self._source, self._target = source, target
        self._on_progress = on_progress
        self._copies: dict[str, CollectionCopy] = {}
        self._follows = False
        self._position = 0
        self._report = Report()
        self._remembered_to = 0.0
        self._step, self._done, self._total = "", 0, 0

    async def run(self, to: str | None) -> Report:
        """Copy the tenant, or move it where `to` is given: the target's location, without secrets. Raises
        NotMoved, StoreUnavailable, LogGone where changes come faster than they are copied."""
        self._follows = await self._source.moves.follows()
        if to is not None and not self._follows:
            hint = "make its server a replica set (one member is enough), or stop the gateways and copy"
            raise NotMoved(f"{self._tenant} can be copied, not moved while it is served: {hint}")
        for left in reversed(range(_ROUNDS)):
            try:
                await self._copy()
                break
            except LogGone:
                if not left:
                    raise
        if to is not None:
            await self._move(to)
        for name, copy in sorted(self._copies.items()):
            if copy.source.documents:
                self._report.collections[name] = (copy.source.documents, copy.source.text)
        return self._report

    async def _copy(self) -> None:
        """Both are the same, but for what was written since it was compared."""
        self._copies = {}
        if self._follows:
            self._position = await self._source.moves.position(self._tenant)
        async with self._counted():
            names = await self._declare()
            self._begin("copying", 2 * self._total)
            for name in names:
                await self._copy_of(name).bring_over()
            await self._follow()
            self._step = "comparing"
            for name in sorted(self._copies):
                await self._copies[name].compare()
            await self._bring_up()
            await self._remember()
        self._check()

    @asynccontextmanager
    async def _counted(self) -> AsyncGenerator[None, None]:
        """Around one round: what it did is added to the report, also when it fails."""
        try:
            yield
        finally:
            for copy in self._copies.values():
                self._report.written += copy.written
                self._report.unchanged += copy.unchanged
                self._report.removed += copy.removed
                copy.written = copy.unchanged = copy.removed = 0

    async def _move(self, to: str) -> None:
        for _ in range(_TRIES):
            await self._bring_up()
            self._begin("moving", 1)
            began = monotonic()
            ending: asyncio.Future[None] | None = None
            try:
                async with self._source.moves.hold(self._tenant):
                    ending = asyncio.ensure_future(self._end())
                    done, _ = await asyncio.wait([ending], timeout=HELD_SECONDS)
                    if done:
                        ending.result()
                        await self._source.moves.leave(self._tenant, to, self._position)
                        self._report.held = monotonic() - began
                        return
                await ending  # what it brings over counts for the next time
            finally:
                if ending is not None:
                    ending.cancel()
        hint = "try again when less is written, or with the gateways stopped"
        raise NotMoved(f"{self._tenant} was not brought up within {HELD_SECONDS:g} s, {_TRIES} times: {hint}")

    async def _end(self) -> None:
        """All that is left, while nothing is written to the source."""
        async with self._counted():
            while await self._follow():
                pass
            await self._declare()
            await self._remember()
            self._check()
            await self._target.moves.arrive(self._tenant)

    async def _declare(self) -> list[str]:
        """The settings of the source's collections, and none besides; gives the collections' names."""
        here = {one.name: one for one in await _collections(self._source.store)}
        there = {one.name: one for one in await _collections(self._target.store)}
        self._total = sum(one.documents for one in here.values())
        for name in there.keys() - here.keys():
            await self._remove(name)
        for name, one in here.items():
            known = there.get(name)
            before = (NO_TEXT, False) if known is None else (known.text, known.declared)
            if one.text != before[0] or one.declared > before[1]:
                await self._target.store.put_collection(name, one.settings)
        return sorted(here)

    async def _remove(self, name: str) -> None:
        """A collection that the source does not have any more."""
        self._copies.pop(name, None)
        try:
            await self._target.store.delete_collection(name, documents=True)
        except NotFound:
            return

    async def _follow(self) -> int:
        """Bring over what the log tells up to now, each document once. Gives their number."""
        touched: dict[str, set[str]] = {}
        position, more = self._position, self._follows
        while more:
            changes = await self._source.moves.changes(self._tenant, position)
            for change in changes:
                touched.setdefault(change.collection, set()).add(change.id)
                if change.kind == "collection_deleted":
                    touched[change.collection] = set()
                    await self._remove(change.collection)
            position = changes[-1].number if changes else position
            more = len(changes) == LOG_BATCH
        for name, identifiers in touched.items():
            await self._copy_of(name).bring_up(identifiers)
        self._position = position
        return sum(map(len, touched.values()))

    async def _bring_up(self) -> None:
        """Bring over what differed, and what the log tells; again, as long as that gets less."""
        for copy in self._copies.values():
            if copy.suspects:
                await copy.bring_up(())
        before = await self._follow()
        while before > _FEW and (now := await self._follow()) < before / 2:
            before = now

    async def _remember(self) -> None:
        """The writes that are remembered for their Idempotency-Key: who sends one again writes only once."""
        since = max(self._remembered_to - _MARGIN, instants.now() - IDEMPOTENCY_SECONDS)
        items = await self._source.moves.remembered(self._tenant, since)
        if items:
            await self._target.moves.remember(self._tenant, items)
            self._report.remembered += sum(item.at > self._remembered_to for item in items)
            self._remembered_to = max(item.at for item in items)

    def _check(self) -> None:
        """Raises NotMoved unless both stores have the same."""
        refused = {f"{c.name}/{id_}": why for c in self._copies.values() for id_, why in c.refused.items()}
        if refused:
            text = f"{self._tenant}: the target does not take {len(refused)} documents; change or remove them"
            raise NotMoved(text, refused)
        for copy in self._copies.values():
            if copy.source != copy.target:
                here, there = copy.source, copy.target
                found = f"{here.documents} documents of digest {here.text[:16]}, there {there.documents}"
                hint = "run it again; if that does not help, keep both and report this"
                raise NotMoved(f"{self._tenant}/{copy.name} has {found} of {there.text[:16]}: {hint}")

    def _copy_of(self, name: str) -> CollectionCopy:
        copy = self._copies.get(name)
        if copy is None:
            rooms = self._source.store, self._target.store
            copy = self._copies[name] = CollectionCopy(name, *rooms, self._read)
        return copy

    def _begin(self, step: str, total: int) -> None:
        self._step, self._done, self._total = step, 0, total

    def _read(self, documents: int) -> None:
        self._done += documents
        self._on_progress(self._done, self._total, self._step)


async def _collections(store: TenantStore) -> list[Collection]:
    found: list[Collection] = []
    cursor = None
    while True:
        page = await store.collections(MAX_LIMIT, cursor)
        found += page.items
        cursor = page.next
        if cursor is None:
            return found
