"""The change feed of a collection as server-sent events (WHATWG HTML, section 9.2).

Each event has its id: a client that comes back with Last-Event-ID, as browsers do, or `?after=`, misses
nothing; 410 says that it stayed away for too long. The first thing sent is an id, so that there is one before
anything happens. A feed ends when its token expires, its tenant is disabled or the gateway drains; then the
client comes back by itself.
"""

from __future__ import annotations

import asyncio
from asyncio import FIRST_COMPLETED
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing

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
from gateway.documents.batches import Batches
from gateway.documents.request import parameters, scopes, total
from gateway.documents.request.parameters import in_parameter
from gateway.edge.lifetimes import ENDING, Lifetimes, cut_off
from gateway.edge.response.stream import Stream
from gateway.store.model.change import Changes
from gateway.store.port import TenantStore

HEARTBEAT = 15.0  # seconds without an event until a comment is sent: proxies cut what is silent
RETRY = 1000  # milliseconds that a client waits before it comes back
_RETRY_LIMITED = 30.0  # seconds
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # the second for an nginx before us

_End = asyncio.Future[None]


class Feeds:
    """All that are open, and what ends them; they outlive a snapshot."""

    def __init__(self, lifetimes: Lifetimes, heartbeat: float = HEARTBEAT) -> None:
        self.lifetimes = lifetimes
        self._heartbeat = heartbeat
        self._ends: dict[_End, Call] = {}
        self._open: Counter[str] = Counter()
        self._batches = Batches()
        self._draining = False

    def __len__(self) -> int:
        return len(self._ends)

    async def answer(self, call: Call, store: TenantStore, collection: str) -> web.StreamResponse:
        """200 and events without end; 410, 429."""
        after = parameters.read(call, ("after",)).get("after")
        scopes.require(call, collection, "GET")
        last = call.head.values(b"last-event-id")
        if len(last) > 1:
            raise BadRequest("Last-Event-ID is there more than once.")
        name = "Last-Event-ID" if last and last[0] else "after"
        after = last[0] if last and last[0] else after  # who comes back still has the URL it began with
        end = self._enter(call)
        lifetime = self.lifetimes.add(call, lambda why: _finish(end), lambda: cut_off(call))
        try:
            async with aclosing(store.changes(collection, after)) as feed:
                with in_parameter(name):
                    first = await total.within(call, total.seconds(call), anext(feed))
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
            changes = None  # they may be large, and the next ones come who knows when
            changes = await self._next(stream, feed, end)

    async def _send(self, call: Call, stream: Stream, changes: Changes, end: _End) -> bool:
        """False: the feed ends, and its client comes back to what it has not seen."""
        assert call.tenant is not None
        try:
            with self._batches.of(call, call.tenant.id.value, changes) as batch:
                async for piece in batch.pieces(call):
                    if end.done():
                        return False  # a part of an event is none
                    await stream.write(piece)
        except (TenantLimit, StoreSaturated, BodyTooLarge) as error:
            call.code = error.code
            return False
        return True

    async def _next(self, stream: Stream, feed: AsyncGenerator[Changes, None], end: _End) -> Changes | None:
        """What comes next; None when the feed is over. Meanwhile the client hears that it is still there."""
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
            return None  # who comes back is told
        finally:
            coming.cancel()
            if not coming.done() or end.done():
                await asyncio.gather(coming, return_exceptions=True)

    # --- what ends them ---

    def _enter(self, call: Call) -> _End:
        """Raises TenantLimit."""
        tenant = call.tenant
        assert tenant is not None
        name = tenant.id.value
        if self._open[name] >= tenant.max_feeds:
            detail = f"The tenant may have {tenant.max_feeds} change feeds open at once."
            raise TenantLimit(detail, retry_after=_RETRY_LIMITED)
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
        """End all, and those that still come: their clients go on elsewhere, behind what they saw last. What
        a client does not read is not waited for."""
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
