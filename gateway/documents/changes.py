"""The change feed of a collection as server-sent events (WHATWG HTML, section 9.2).

Each event has its id: a client that reconnects with Last-Event-ID, as browsers do, or `?after=`, misses
nothing; 410 says that it stayed away for too long. The first thing sent is an id, so that there is one before
anything happens. A feed ends when its token expires, its tenant is disabled or the gateway drains; then the
client reconnects by itself.

A batch of changes is encoded once for all feeds of a tenant that get it together. A small batch is one piece.
A large one goes out in pieces, each when the client has taken most of the one before; until the last of its
feeds has sent it, it counts in the memory of its tenant, once.
"""

from __future__ import annotations

import asyncio
from asyncio import FIRST_COMPLETED
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager

from aiohttp import web

from gateway.call import Call
from gateway.core.counts import decrement
from gateway.core.errors import (
    BadRequest,
    BodyTooLarge,
    Draining,
    Gone,
    StoreSaturated,
    StoreUnavailable,
    TenantLimit,
)
from gateway.core.policy.budget import Held
from gateway.documents.request import head
from gateway.documents.request.execution import give_way, seconds_left, within
from gateway.documents.request.head import in_parameter
from gateway.documents.responses import cut
from gateway.edge.lifetimes import ENDING, Lifetimes, cut_off
from gateway.edge.response.stream import Stream
from gateway.store.json import representation
from gateway.store.json.strict import dumps
from gateway.store.model import instants
from gateway.store.model.change import Change, Changes
from gateway.store.model.document import Document
from gateway.store.port import TenantStore

HEARTBEAT = 15.0  # seconds without an event until a comment is sent: proxies cut silent connections
RETRY = 1000  # milliseconds that a client waits before it reconnects
_RETRY_AFTER = 30.0  # seconds, for a client whose tenant has all its feeds open
PIECE = 64 * 1024  # bytes; a batch of no more than that is sent at once, and not counted
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # the second for an nginx before us

_End = asyncio.Future[None]


class Feeds:
    """All open feeds, and what ends them; they outlive a snapshot. heartbeat: see HEARTBEAT."""

    def __init__(self, lifetimes: Lifetimes, heartbeat: float = HEARTBEAT) -> None:
        self.lifetimes = lifetimes
        self._heartbeat = heartbeat
        self._ends: dict[_End, Call] = {}
        self._open: Counter[str] = Counter()
        self._batches = _Batches()
        self._draining = False

    def __len__(self) -> int:
        return len(self._ends)

    async def serve(self, call: Call, store: TenantStore, collection: str) -> web.StreamResponse:
        """200 and events without end; 410 (Gone), 429 (TenantLimit)."""
        after = head.parameters(call, ("after",)).get("after")
        head.require_scopes(call, collection, "GET")
        last = call.head.values(b"last-event-id")
        if len(last) > 1:
            raise BadRequest("Last-Event-ID is there more than once.")
        name = "Last-Event-ID" if last and last[0] else "after"
        after = last[0] if last and last[0] else after  # a client that reconnects still has its first URL
        end = self._enter(call)
        lifetime = self.lifetimes.add(call, lambda why: _finish(end), lambda: cut_off(call))
        try:
            async with aclosing(store.changes(collection, after)) as feed:
                with in_parameter(name):
                    first = await within(call, seconds_left(call), anext(feed))
                with Stream(call, "text/event-stream", _HEADERS, endless=True) as stream:
                    if call.method != "HEAD":
                        await self._relay(call, stream, feed, first, end)
                    return await stream.end()
        finally:
            lifetime.close()
            self._leave(end)

    async def _relay(
        self, call: Call, stream: Stream, feed: AsyncGenerator[Changes, None], first: Changes, end: _End
    ) -> None:
        changes: Changes | None = first
        await stream.write(b"retry: %d\n" % RETRY)
        while changes is not None:
            if not await self._send(call, stream, changes, end):
                return
            changes = None  # frees them: they may be large, and the next may be long in coming
            changes = await self._next(stream, feed, end)

    async def _send(self, call: Call, stream: Stream, changes: Changes, end: _End) -> bool:
        """Send a batch. False: the feed ends, and its client reconnects for what it has not seen."""
        assert call.tenant is not None
        try:
            with self._batches.sending(call, call.tenant.id.value, changes) as batch:
                async for piece in batch.pieces(call):
                    if end.done():
                        return False  # a part of an event is none
                    await stream.write(piece)
        except (TenantLimit, StoreSaturated, BodyTooLarge) as error:
            call.code = error.code
            return False
        return True

    async def _next(self, stream: Stream, feed: AsyncGenerator[Changes, None], end: _End) -> Changes | None:
        """The next changes; None when the feed is over. Meanwhile the client gets a heartbeat."""
        coming = asyncio.ensure_future(anext(feed))
        try:
            while True:
                await asyncio.wait((coming, end), timeout=self._heartbeat, return_when=FIRST_COMPLETED)
                if end.done():
                    return None
                if coming.done():
                    return coming.result()
                await stream.write(b":\n\n")
        except (Gone, StoreUnavailable):
            return None  # a client that reconnects gets the error
        finally:
            coming.cancel()
            if not coming.done() or end.done():
                await asyncio.gather(coming, return_exceptions=True)

    def _enter(self, call: Call) -> _End:
        """Count the feed; gives the future that ends it. Raises TenantLimit."""
        tenant = call.tenant
        assert tenant is not None
        name = tenant.id.value
        if self._open[name] >= tenant.max_feeds:
            detail = f"The tenant may have {tenant.max_feeds} change feeds open at once."
            raise TenantLimit(detail, retry_after=_RETRY_AFTER)
        end: _End = asyncio.get_running_loop().create_future()
        self._open[name] += 1
        self._ends[end] = call
        if self._draining:
            call.code = Draining.code
            _finish(end)
        return end

    def _leave(self, end: _End) -> None:
        tenant = self._ends.pop(end).tenant
        assert tenant is not None
        name = tenant.id.value
        decrement(self._open, name)
        if name not in self._open:
            self._batches.forget(name)
        _finish(end)

    def drain(self) -> None:
        """End all feeds, and those that still come: their clients resume at another gateway, behind the last
        event that they saw. A client that does not read is cut off after ENDING."""
        self._draining = True
        for end in list(self._ends):
            _finish(end)
        if self._ends:
            asyncio.get_running_loop().call_later(ENDING, self._cut)

    def _cut(self) -> None:
        for call in list(self._ends.values()):
            cut_off(call)


def _finish(end: _End) -> None:
    if not end.done():
        end.set_result(None)


class _Batch:
    """Changes as bytes. held: what counts them in the memory of the tenant; None for a small batch. users:
    feeds that are sending it."""

    __slots__ = ("changes", "held", "parts", "users")

    def __init__(self, changes: Changes, parts: list[bytes | memoryview], held: Held | None) -> None:
        self.changes = changes
        self.parts = parts
        self.held = held
        self.users = 0

    async def pieces(self, call: Call) -> AsyncIterator[bytes]:
        """All of it; others have the event loop between the pieces of a large one."""
        if self.held is None:
            yield b"".join(self.parts)
            return
        for piece in cut(self.parts, PIECE):
            await give_way(call)
            yield piece


class _Batches:
    """The batches of all feeds."""

    def __init__(self) -> None:
        self._small: dict[str, _Batch] = {}  # by tenant: the batch that was encoded last
        self._large: dict[tuple[str, int], _Batch] = {}  # by tenant and changes, while a feed sends them

    @contextmanager
    def sending(self, call: Call, tenant: str, changes: Changes) -> Iterator[_Batch]:
        """The batch of these changes, while a feed sends it. Raises TenantLimit, StoreSaturated and
        BodyTooLarge when there is no memory for it."""
        known = self._small.get(tenant)
        if known is not None and known.changes is changes:
            yield known
            return
        key = tenant, id(changes)  # unique while the batch holds the changes
        batch = self._large.get(key)
        if batch is None:
            batch = _encoded(call, changes)
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
        """Drop the small batch of a tenant that has no feed any more."""
        self._small.pop(tenant, None)


def _encoded(call: Call, changes: Changes) -> _Batch:
    parts = _parts(changes)
    size = sum(map(len, parts))
    if size <= PIECE or call.held is None:
        return _Batch(changes, [b"".join(parts)], None)
    held = call.held.apart()
    held.grow(size)
    return _Batch(changes, parts, held)


def _parts(changes: Changes) -> list[bytes | memoryview]:
    """The event stream. A block without data is not dispatched as an event, but its id counts."""
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
    *body, _ = representation.line_parts(document)  # the text of a large document is not copied
    return head.encode(), *body, b"}\n\n"


def _body(document: Document | None) -> str:
    return "null" if document is None else representation.body(document)
