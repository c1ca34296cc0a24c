"""Importing documents: lines of NDJSON become writes, written in batches with back-pressure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable

from gateway.core.errors import BadRequest, GatewayError, Unprocessable
from gateway.store import strict_json
from gateway.store.document import ANY, Precondition, check_id, name_problem
from gateway.store.port import TenantStore
from gateway.store.write import Create, Outcome, Replace, Write, failed

BATCH_LINES = 200
BATCH_BYTES = 1024 * 1024
PARSE_INLINE = 64 * 1024  # bytes of a line; longer ones are parsed in a thread
_ONLY_NEW = Precondition(none_match=frozenset({ANY}))


def parse_line(raw: bytes, *, replacing: bool = True) -> Write:
    """A line of an import: an object with an `id` replaces or creates that document (not replacing: only
    creates it), one without gets an id. Raises BadRequest and Unprocessable."""
    try:
        data = strict_json.loads(raw, name_problem)
    except strict_json.JsonSyntaxError as error:
        raise BadRequest(f"The line is not JSON: {error}.") from None
    except strict_json.JsonProblems as error:
        detail = "The line cannot be a document; see errors."
        raise Unprocessable(detail, extra={"errors": error.as_errors()}) from None
    if not isinstance(data, dict):
        raise Unprocessable("The line cannot be a document: it is not a JSON object.")
    if "id" not in data:
        return Create(data)
    identifier = data.pop("id")
    if not isinstance(identifier, str):
        raise Unprocessable("The line cannot be a document: its id is not a string.")
    check_id(identifier)
    return Replace(identifier, data) if replacing else Replace(identifier, data, _ONLY_NEW)


async def import_lines(
    store: TenantStore, collection: str, lines: AsyncIterable[bytes], *, replacing: bool = True
) -> AsyncGenerator[tuple[Outcome, ...], None]:
    """Write each line, an outcome for each, in order, a batch at a time; blank lines have none.

    The next lines are read when the outcomes before were taken. A line that fails stands for itself. Raises
    StoreUnavailable; the lines of that batch were not written.
    """
    batch: list[Write | Outcome] = []
    size = 0
    async for line in lines:
        raw = line.strip(b" \t\r\n")
        if not raw:
            continue
        inline = len(raw) <= PARSE_INLINE
        batch.append(_parsed(raw, replacing) if inline else await asyncio.to_thread(_parsed, raw, replacing))
        size += len(raw)
        if len(batch) >= BATCH_LINES or size >= BATCH_BYTES:
            yield await _write(store, collection, batch)
            batch, size = [], 0
    if batch:
        yield await _write(store, collection, batch)


def _parsed(raw: bytes, replacing: bool) -> Write | Outcome:
    try:
        return parse_line(raw, replacing=replacing)
    except GatewayError as error:
        return failed(error)


async def _write(store: TenantStore, collection: str, batch: list[Write | Outcome]) -> tuple[Outcome, ...]:
    """The outcomes of a batch, those of the lines that were refused in their places."""
    writes = [item for item in batch if not isinstance(item, Outcome)]
    outcomes = iter(await store.bulk(collection, writes) if writes else ())
    return tuple(item if isinstance(item, Outcome) else next(outcomes) for item in batch)
