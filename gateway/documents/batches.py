"""Batches of changes as an event stream: encoded once for all feeds of a tenant that got them together.

A small batch is one piece. A large one goes out in pieces, each when the client has taken most of the one
before; until the last of its feeds has sent it, it counts in the memory of its tenant, once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from gateway.call import Call
from gateway.core.policy.budget import Held
from gateway.documents import large_answer
from gateway.documents.request.kept import step
from gateway.store.json import representation
from gateway.store.json.strict import dumps
from gateway.store.model import instants
from gateway.store.model.change import Change, Changes
from gateway.store.model.document import Document

PIECE = 64 * 1024  # bytes; a batch that has no more is sent at once, and counted nowhere


class Batch:
    """Changes as bytes, for who holds it. held: what counts it; None for a small one."""

    __slots__ = ("changes", "held", "parts", "users")

    def __init__(self, changes: Changes, parts: list[bytes | memoryview], held: Held | None) -> None:
        self.changes = changes
        self.parts = parts
        self.held = held
        self.users = 0

    async def pieces(self, call: Call) -> AsyncIterator[bytes]:
        """All of it; between the pieces of a large one others have their turn."""
        if self.held is None:
            yield b"".join(self.parts)
            return
        for piece in large_answer.pieces(self.parts, PIECE):
            await step(call)
            yield piece


class Batches:
    """Those of all feeds."""

    def __init__(self) -> None:
        self._small: dict[str, Batch] = {}  # by tenant: the one that was encoded last
        self._large: dict[tuple[str, int], Batch] = {}  # by tenant and changes, while a feed sends them

    @contextmanager
    def of(self, call: Call, tenant: str, changes: Changes) -> Iterator[Batch]:
        """The batch, while it is sent. Raises TenantLimit, StoreSaturated and BodyTooLarge when there is no
        memory for it."""
        known = self._small.get(tenant)
        if known is not None and known.changes is changes:
            yield known
            return
        key = tenant, id(changes)  # which is no other's while the batch holds them
        batch = self._large.get(key)
        if batch is None:
            batch = _batch(call, changes)
            if batch.held is None:
                self._small[tenant] = batch
                yield batch
                return
            self._large[key] = batch
        batch.users += 1
        try:
            yield batch
        finally:
            batch.users -= 1
            if not batch.users:
                del self._large[key]
                assert batch.held is not None
                batch.held.shrink(0)

    def forget(self, tenant: str) -> None:
        """It has no feed any more."""
        self._small.pop(tenant, None)


def _batch(call: Call, changes: Changes) -> Batch:
    parts = _parts(changes)
    size = sum(map(len, parts))
    if size <= PIECE or call.held is None:
        return Batch(changes, [b"".join(parts)], None)
    held = call.held.apart()
    held.grow(size)
    return Batch(changes, parts, held)


def _parts(changes: Changes) -> list[bytes | memoryview]:
    """As an event stream. A block without data is no event, but its id counts."""
    items, position = changes.items, changes.position
    parts = [part for change in items for part in _event(change)]
    if not items or items[-1].event != position:
        parts.append(f"id: {position}\n\n".encode())
    return parts


def _event(change: Change) -> tuple[bytes | memoryview, ...]:
    head = (
        f"id: {change.event}\nevent: {change.kind}\n"
        f'data: {{"id":{dumps(change.id)},"etag":{dumps(change.etag)},"at":"{instants.to_text(change.at)}"'
        ',"document":'
    )
    document = change.document
    if document is None or not document.encoded:
        return (f"{head}{_body(document)}}}\n\n".encode(),)
    *body, _ = representation.line_parts(document)  # what is large is not copied
    return head.encode(), *body, b"}\n\n"


def _body(document: Document | None) -> str:
    return "null" if document is None else representation.body(document)
