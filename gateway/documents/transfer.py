"""Export and import of a collection as NDJSON, both streamed with back-pressure: memory stays flat.

An import responds while it reads. Lines of the body are numbered from 1; blank ones are skipped.

    {"line":17,"status":422,"id":"a","error":{...}}                          a line that failed
    {"lines":200,"created":150,"replaced":40,"skipped":9,"failed":1}         all lines up to here are settled
    {"done":true,"lines":1234,...}                                           the end, the same counts
    {"done":false,"lines":400,...,"error":{...}}                             it ended early: resume behind 400

Lines with an `id` may be sent again without harm. With `?replace=false` documents that are there stay as they
are, and count as skipped. It ends early after MAX_FAILURES failed lines, when the quota is used up, and when
its token or tenant is not valid any more; an export is cut off then, so that it does not look complete.
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
from gateway.documents.listing import compiled_patterns, parse_filter
from gateway.documents.request import content, head
from gateway.documents.request.execution import RunToEnd, give_way, seconds_left, within
from gateway.edge.client import body
from gateway.edge.lifetimes import Ending, Lifetimes, cut_off
from gateway.edge.response.stream import Stream
from gateway.store.filter.nodes import Node
from gateway.store.json.strict import dumps
from gateway.store.model.write import Outcome, failed
from gateway.store.port import TenantStore
from gateway.store.transfer import ImportCounts, NumberedLines, import_lines

MAX_FAILURES = 1000  # a client that sends all before it reads would else block, and the gateway with it
_HEADERS = {"Cache-Control": "private, no-store", "X-Accel-Buffering": "no"}


class Transfers:
    """Serves exports and imports. They end when the token expires or is revoked, or the tenant is
    disabled."""

    def __init__(self, lifetimes: Lifetimes) -> None:
        self._lifetimes = lifetimes

    async def serve_export(self, call: Call, store: TenantStore, collection: str) -> web.StreamResponse:
        """200: every document that `?filter=` matches, a line each, as they were at one instant."""
        head.require_scopes(call, collection, "GET")
        node = await parse_filter(store, head.parameters(call, ("filter",)))
        with await compiled_patterns(call, node), self._ending(call) as ending:
            return await _export(call, store, collection, node, ending)

    async def serve_import(self, call: Call, store: TenantStore, collection: str) -> web.StreamResponse:
        """200 as soon as the first lines are written; an error before that is the response."""
        replacing = head.flag(head.parameters(call, ("replace",)), "replace", default=True)
        head.require_scopes(call, collection, "POST", "PUT")
        head.refuse_idempotency_key(call, "Give each line its id, and it can be sent again.")
        content.check(call, content.NDJSON)
        with self._ending(call) as ending:
            return await _import(call, store, collection, replacing, ending)

    @contextmanager
    def _ending(self, call: Call) -> Iterator[Ending]:
        """What ends the transfer early; a read of the body that waits then fails with the error."""
        body = call.content
        ending = Ending(call) if body is None else Ending(call, body.fail)
        lifetime = self._lifetimes.add(call, ending.request, lambda: cut_off(call))
        try:
            yield ending
        finally:
            lifetime.close()


async def _export(
    call: Call, store: TenantStore, collection: str, node: Node, ending: Ending
) -> web.StreamResponse:
    async with aclosing(store.export(collection, node)) as chunks:
        first = await within(call, seconds_left(call), anext(chunks, b""))
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
    lines = NumberedLines(_counted(call))
    written = import_lines(
        RunToEnd(call, store),
        collection,
        lines.read(),
        replacing=replacing,
        give_way=partial(give_way, call),
    )
    counts = ImportCounts()
    with Stream(call, content.NDJSON_TYPE, _HEADERS) as stream:
        try:
            async with aclosing(written) as batches:
                async for outcomes in batches:
                    report, end = await _settle(call, outcomes, lines.numbers, counts, replacing)
                    await stream.write(report.encode())
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
    """The chunks of the body, each counted in the memory of the tenant before it is parsed. A batch that is
    written takes over what it holds; see RunToEnd."""
    held = call.held
    async for chunk in body.chunks(call):
        if held is not None:
            held.grow(len(chunk))
        await give_way(call)
        yield chunk


async def _settle(
    call: Call, outcomes: tuple[Outcome, ...], numbers: deque[int], counts: ImportCounts, replacing: bool
) -> tuple[str, Outcome | None]:
    """The lines that report a batch, and the failure that the import ends with, if it does. numbers: of the
    lines that are not settled yet."""
    report: list[str] = []
    end: Outcome | None = None
    for outcome in outcomes:
        await give_way(call)
        number = numbers.popleft()
        if not counts.add(number, outcome, replacing=replacing):
            report.append(dumps({"line": number, **outcome.data}))
            if outcome.status == 507:
                end = outcome
    if end is None and counts.failed >= MAX_FAILURES:
        end = failed(Unprocessable(f"{counts.failed} lines failed: correct them first."))
    if end is None:
        report.append(dumps(asdict(counts)))
    return "".join(line + "\n" for line in report), end


async def _end(stream: Stream, counts: ImportCounts, end: Outcome | None) -> web.StreamResponse:
    last: dict[str, object] = {"done": end is None, **asdict(counts)}
    if end is not None:
        last["error"] = {"status": end.status, **(end.error or {})}
    await stream.write((dumps(last) + "\n").encode())
    return await stream.end(close=end is not None)
