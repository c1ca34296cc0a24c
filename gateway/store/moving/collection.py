"""Making a collection of one store what it is in another. Both are read in the order of their ids, and only
what differs is written: so a copy that was interrupted, however it ended, goes on by being begun again. It
keeps no note of where it was, which could be wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from itertools import islice

from gateway.core.errors import NotFound, UniqueConflict
from gateway.store.model.document import ANY, Document, LargeMembers, Precondition
from gateway.store.model.query import Query
from gateway.store.model.write import Copied, Delete, Outcome, Write, id_of
from gateway.store.moving.tally import Tally, digest
from gateway.store.port import TenantStore

PAGE = 500  # documents that are read, or written, at once
_WRITTEN_BYTES = 2 * 1024 * 1024  # of documents in one write, about
_READ_AT_ONCE = 50
_ANY = Precondition(match=frozenset({ANY}))  # also where the collection wants If-Match
_MOST_REFUSED = 100

Pair = tuple[str, Document | None, Document | None]


class CollectionCopy:
    """One collection. source, target: what each store has, as it was last compared. suspects: documents that
    differed then, with the digest that the source's tally has of them. refused: what the target does not
    take, by id. on_read: called with the number of documents that were compared."""

    def __init__(
        self, name: str, here: TenantStore, there: TenantStore, on_read: Callable[[int], None]
    ) -> None:
        self.name = name
        self.source, self.target = Tally(), Tally()
        self.suspects: dict[str, int] = {}
        self.refused: dict[str, str] = {}
        self.written = self.removed = self.unchanged = 0
        self._here, self._there = here, there
        self._on_read = on_read
        self._conflicts: dict[str, Write] = {}  # of values in unique indexes that another one has still

    async def bring_over(self) -> None:
        """Write what differs."""
        batch = _Batch()
        async with aclosing(self._pairs()) as pairs:
            async for identifier, here, there in pairs:
                write = _difference(identifier, here, there)
                if write is None:
                    self.unchanged += 1
                else:
                    await self._write(batch.add(write))
        await self._write(batch.take())
        await self._settle()

    async def compare(self) -> None:
        """Count both, and write nothing."""
        self.source, self.target, self.suspects = Tally(), Tally(), {}
        async with aclosing(self._pairs()) as pairs:
            async for identifier, here, there in pairs:
                one, other = digest(here), digest(there)
                self.source.replace(0, one)
                self.target.replace(0, other)
                if one != other:
                    self.suspects[identifier] = one

    async def bring_up(self, identifiers: Iterable[str]) -> None:
        """Write what differs of these and of the suspects, and count both anew."""
        wanted = sorted({*identifiers, *self.suspects})
        changed: dict[str, int] = {}
        for some in _batches(wanted, PAGE):
            here, there = await _read(self._here, self.name, some), await _read(self._there, self.name, some)
            batch = []
            for identifier in some:
                before = digest(there.get(identifier))
                # What did not differ when it was counted was what the target has.
                counted = self.suspects.pop(identifier, before)
                self.source.replace(counted, digest(here.get(identifier)))
                write = _difference(identifier, here.get(identifier), there.get(identifier))
                if write is not None:
                    batch.append(write)
                    changed[identifier] = before
            await self._write_parts(batch)
        await self._settle()
        for some in _batches(list(changed), PAGE):
            there = await _read(self._there, self.name, some)
            for identifier in some:
                self.target.replace(changed[identifier], digest(there.get(identifier)))

    async def _pairs(self) -> AsyncGenerator[Pair, None]:
        """All documents of both, by their ids."""
        here, there = _documents(self._here, self.name), _documents(self._there, self.name)
        async with aclosing(here), aclosing(there):
            one, other = await anext(here, None), await anext(there, None)
            while one is not None or other is not None:
                if other is None or (one is not None and one.id < other.id):
                    assert one is not None
                    yield one.id, one, None
                    one = await self._next(here)
                elif one is None or other.id < one.id:
                    yield other.id, None, other
                    other = await anext(there, None)
                else:
                    yield one.id, one, other
                    one, other = await self._next(here), await anext(there, None)

    async def _next(self, documents: AsyncGenerator[Document, None]) -> Document | None:
        self._on_read(1)
        return await anext(documents, None)

    async def _write(self, batch: Sequence[Write]) -> None:
        """Write all of them, or note why not."""
        left = list(batch)
        while left:
            outcomes = await self._there.bulk(self.name, left, most=PAGE)
            tried = [(w, o) for w, o in zip(left, outcomes, strict=True) if not o.untried]
            for write, outcome in tried:
                self._settled(write, outcome)
            left = left[len(tried) :]

    def _settled(self, write: Write, outcome: Outcome) -> None:
        identifier, error = id_of(write), outcome.error or {}
        self._conflicts.pop(identifier, None)
        self.refused.pop(identifier, None)
        if outcome.status == 204:
            self.removed += 1
        elif outcome.status < 300:
            self.written += 1
        elif error.get("code") == UniqueConflict.code:
            self._conflicts[identifier] = write
        elif outcome.status != NotFound.status and len(self.refused) < _MOST_REFUSED:
            self.refused[identifier] = str(error.get("detail"))

    async def _settle(self) -> None:
        """Write what met a value that another document has had, which may have changed since. Where documents
        have exchanged values, none can be first: so they are removed before they are written."""
        while self._conflicts:
            before = dict(self._conflicts)
            await self._write_parts(before.values())
            if len(self._conflicts) < len(before):
                continue
            await self._write_parts([Delete(identifier, _ANY) for identifier in before])
            await self._write_parts(before.values())
            if len(self._conflicts) == len(before):
                break
        for identifier in self._conflicts:
            self.refused[identifier] = "Another document there has the same value in a unique index."
        self._conflicts.clear()

    async def _write_parts(self, writes: Iterable[Write]) -> None:
        batch = _Batch()
        for write in writes:
            await self._write(batch.add(write))
        await self._write(batch.take())


class _Batch:
    """Writes that are kept until they are enough for one bulk."""

    def __init__(self) -> None:
        self._writes: list[Write] = []
        self._bytes = 0

    def add(self, write: Write) -> list[Write]:
        """Those to write now: none while there is room for more."""
        self._writes.append(write)
        if isinstance(write, Copied) and isinstance(write.data, LargeMembers):
            self._bytes += len(write.data.text)
        return self.take() if len(self._writes) >= PAGE or self._bytes >= _WRITTEN_BYTES else []

    def take(self) -> list[Write]:
        """All that are there; none is afterwards."""
        taken, self._writes, self._bytes = self._writes, [], 0
        return taken


def _difference(identifier: str, here: Document | None, there: Document | None) -> Write | None:
    """The write that makes the target's document that of the source; None where it is that already."""
    if here is None:
        return None if there is None else Delete(identifier, _ANY)
    if there is not None and digest(here) == digest(there):
        return None
    text = here.encoded or here.text.encode()
    return Copied(LargeMembers(text), replace(here, text="", encoded=b""))


async def _documents(store: TenantStore, name: str) -> AsyncGenerator[Document, None]:
    """All of a collection, by their ids."""
    query = Query(limit=PAGE)
    while True:
        page = await store.list(name, query)
        for document in page.items:
            yield document
        if page.next is None:
            return
        query = replace(query, cursor=page.next)


async def _read(store: TenantStore, name: str, identifiers: Sequence[str]) -> dict[str, Document]:
    """Those of these ids that are there."""

    async def read(identifier: str) -> Document | None:
        try:
            return await store.read(name, identifier)
        except NotFound:
            return None

    found: dict[str, Document] = {}
    for some in _batches(identifiers, _READ_AT_ONCE):
        for document in await asyncio.gather(*map(read, some)):
            if document is not None:
                found[document.id] = document
    return found


def _batches(items: Sequence[str], size: int) -> Iterator[list[str]]:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some
