"""Export and import of a collection as NDJSON, both streamed with back-pressure: memory stays flat.

An import answers while it reads. Lines of the body are numbered from 1; blank ones are skipped.

    {"line":17,"status":422,"id":"a","error":{...}}                          a line that failed
    {"lines":200,"created":150,"replaced":40,"skipped":9,"failed":1}         all lines up to here are settled
    {"done":true,"lines":1234,...}                                           the end, the same counts
    {"done":false,"lines":400,...,"error":{...}}                             it ended early: go on behind 400

Lines with an `id` may be sent again without harm. With `?replace=false` documents that are there stay as they
are, and count as skipped. It ends early after MAX_FAILURES failed lines, when there is no room, and when its
token or tenant is not valid any more; an export breaks off then, and does not look complete.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import asdict
from functools import partial

from aiohttp import web

from gateway.call import Call
from gateway.core.errors import GatewayError, Unprocessable, forget_traces
from gateway.documents.listing import compiled, parse_filter
from gateway.documents.request import content, idempotency, parameters, scopes, total
from gateway.documents.request.kept import Keeping, step
from gateway.edge.client import body
from gateway.edge.lifetimes import Ending, Lifetimes, cut_off
from gateway.edge.response.stream import Stream
from gateway.store.filter.nodes import Node
from gateway.store.json.strict import dumps
from gateway.store.model.write import Outcome, failed
from gateway.store.port import TenantStore
from gateway.store.transfer import ImportCounts, Lines, import_lines

MAX_FAILURES = 1000  # whoever sends all before it reads would else be stuck, and so would we
_HEADERS = {"Cache-Control": "private, no-store", "X-Accel-Buffering": "no"}


class Transfers:
    """They end with the token, its key and the tenant."""

    def __init__(self, lifetimes: Lifetimes) -> None:
        self._lifetimes = lifetimes

    async def answer_export(self, call: Call, store: TenantStore, collection: str) -> web.StreamResponse:
        """Every document that `?filter=` matches, a line each, as they were at one instant."""
        scopes.require(call, collection, "GET")
        node = await parse_filter(store, parameters.read(call, ("filter",)))
        with await compiled(call, node), self._ending(call) as ending:
            return await _export(call, store, collection, node, ending)

    async def answer_import(self, call: Call, store: TenantStore, collection: str) -> web.StreamResponse:
        """200 as soon as the first lines are written; an error before that is the answer."""
        replacing = parameters.flag(parameters.read(call, ("replace",)), "replace", default=True)
        scopes.require(call, collection, "POST", "PUT")
        idempotency.refuse(call, "Give each line its id, and it can be sent again.")
        content.check(call, content.NDJSON)
        with self._ending(call) as ending:
            return await _import(call, store, collection, replacing, ending)

    @contextmanager
    def _ending(self, call: Call) -> Iterator[Ending]:
        """A body that is waited for ends with the error."""
        body = call.content
        ending = Ending(call) if body is None else Ending(call, body.fail)
        lifetime = self._lifetimes.add(call, ending.tell, lambda: cut_off(call))
        try:
            yield ending
        finally:
            lifetime.close()


async def _export(
    call: Call, store: TenantStore, collection: str, node: Node, ending: Ending
) -> web.StreamResponse:
    async with aclosing(store.export(collection, node)) as chunks:
        first = await total.within(call, total.seconds(call), anext(chunks, b""))
        with Stream(call, content.NDJSON_TYPE, _HEADERS) as stream:
            if call.method != "HEAD":
                await stream.write(first)
                async for chunk in chunks:
                    ending.check()
                    await stream.write(chunk)
            return await stream.end()


async def _import(
    call: Call, store: TenantStore, collection: str, replacing: bool, ending: Ending
) -> web.StreamResponse:
    lines = Lines(_counted(call))
    written = import_lines(
        Keeping(call, store), collection, lines.read(), replacing=replacing, step=partial(step, call)
    )
    counts = ImportCounts()
    with Stream(call, content.NDJSON_TYPE, _HEADERS) as stream:
        try:
            async with aclosing(written) as batches:
                async for outcomes in batches:
                    told, end = await _settle(call, outcomes, lines.numbers, counts, replacing)
                    await stream.write(told.encode())
                    if end is not None:
                        return await _end(stream, counts, end)
                    ending.check()
        except GatewayError as error:
            if not stream.begun:
                raise
            call.code = error.code
            forget_traces(error)
            return await _end(stream, counts, failed(error))
        return await _end(stream, counts, None)


async def _counted(call: Call) -> AsyncIterator[bytes]:
    """The body, each piece counted before it is parsed. What a batch holds is its own from then on; see
    Keeping."""
    held = call.held
    async for chunk in body.chunks(call):
        if held is not None:
            held.grow(len(chunk))
        await step(call)
        yield chunk


async def _settle(
    call: Call, outcomes: tuple[Outcome, ...], numbers: deque[int], counts: ImportCounts, replacing: bool
) -> tuple[str, Outcome | None]:
    """What is told of a batch, and why the import ends with it, if it does."""
    told: list[str] = []
    end: Outcome | None = None
    for outcome in outcomes:
        await step(call)
        number = numbers.popleft()
        if not counts.add(number, outcome, replacing=replacing):
            told.append(dumps({"line": number, **outcome.data}))
            if outcome.status == 507:
                end = outcome
    if end is None and counts.failed >= MAX_FAILURES:
        end = failed(Unprocessable(f"{counts.failed} lines failed: mend them first."))
    if end is None:
        told.append(dumps(asdict(counts)))
    return "".join(line + "\n" for line in told), end


async def _end(stream: Stream, counts: ImportCounts, end: Outcome | None) -> web.StreamResponse:
    last: dict[str, object] = {"done": end is None, **asdict(counts)}
    if end is not None:
        last["error"] = {"status": end.status, **(end.error or {})}
    await stream.write((dumps(last) + "\n").encode())
    return await stream.end(close=end is not None)
