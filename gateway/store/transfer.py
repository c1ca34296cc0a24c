"""Importing documents: lines of NDJSON become writes, written in batches with back-pressure."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.core.errors import BodyTooLarge, GatewayError, Unprocessable
from gateway.store import strict_json, threads
from gateway.store.document import ANY, MAX_DOCUMENT_BYTES, Precondition, check_id, name_problem
from gateway.store.write import Create, Outcome, Replace, Write, failed

BATCH_LINES = 200
BATCH_BYTES = 1024 * 1024
MAX_LINE = MAX_DOCUMENT_BYTES + 64 * 1024  # bytes; a document and the white space in it
PARSE_INLINE = 64 * 1024  # bytes of a line; longer ones are parsed in a thread
_ONLY_NEW = Precondition(none_match=frozenset({ANY}))


def parse_line(raw: bytes, *, replacing: bool = True) -> Write:
    """A line of an import: an object with an `id` replaces or creates that document (not replacing: only
    creates it), one without gets an id. Raises BadRequest and Unprocessable."""
    data = strict_json.read(raw, "line", "The line cannot be a document; see errors.", name_problem)
    if not isinstance(data, dict):
        raise Unprocessable("The line cannot be a document: it is not a JSON object.")
    if "id" not in data:
        return Create(data)
    identifier = data.pop("id")
    if not isinstance(identifier, str):
        raise Unprocessable("The line cannot be a document: its id is not a string.")
    check_id(identifier)
    return Replace(identifier, data) if replacing else Replace(identifier, data, _ONLY_NEW)


class Bulk(Protocol):
    """What an import needs of a store; see port.TenantStore."""

    async def bulk(self, collection: str, writes: Sequence[Write]) -> tuple[Outcome, ...]: ...


async def import_lines(
    store: Bulk, collection: str, lines: AsyncIterable[bytes], *, replacing: bool = True
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
        batch.append(_parsed(raw, replacing) if inline else await threads.apart(_parsed, raw, replacing))
        size += len(raw)
        if len(batch) >= BATCH_LINES or size >= BATCH_BYTES:
            yield await _write(store, collection, batch)
            batch, size = [], 0
    if batch:
        yield await _write(store, collection, batch)


@dataclass(slots=True)
class ImportCounts:
    """What became of the lines. lines: the number of the last one that is settled, blank ones counted."""

    lines: int = 0
    created: int = 0
    replaced: int = 0
    skipped: int = 0
    failed: int = 0

    def add(self, number: int, outcome: Outcome, *, replacing: bool) -> bool:
        """Count a line; whether it did not fail."""
        self.lines = number
        if outcome.status == 201:
            self.created += 1
        elif outcome.status == 200:
            self.replaced += 1
        elif outcome.status == 412 and not replacing:
            self.skipped += 1
        else:
            self.failed += 1
            return False
        return True


class Lines:
    """The lines that are not blank. numbers: of those that were read and not settled yet, from 1."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self.numbers: deque[int] = deque()

    async def read(self) -> AsyncIterator[bytes]:
        """Raises what the chunks raise, and BodyTooLarge for a line that no document fits in."""
        number, size = 1, 0
        pieces: list[bytes] = []
        async for chunk in self._chunks:
            *ended, rest = chunk.split(b"\n")
            for piece in ended:
                pieces.append(piece)
                line = b"".join(pieces)
                if line.strip(b" \t\r"):
                    self.numbers.append(number)
                    yield line
                number, size = number + 1, 0
                pieces = []
            pieces.append(rest)
            size += len(rest)
            if size > MAX_LINE:
                raise BodyTooLarge(f"Line {number} has more than {MAX_LINE} bytes.", close=True)
        line = b"".join(pieces)
        if line.strip(b" \t\r"):
            self.numbers.append(number)
            yield line


def _parsed(raw: bytes, replacing: bool) -> Write | Outcome:
    try:
        return parse_line(raw, replacing=replacing)
    except GatewayError as error:
        return failed(error)


async def _write(store: Bulk, collection: str, batch: list[Write | Outcome]) -> tuple[Outcome, ...]:
    """The outcomes of a batch, those of the lines that were refused in their places."""
    writes = [item for item in batch if not isinstance(item, Outcome)]
    outcomes = iter(await store.bulk(collection, writes) if writes else ())
    return tuple(item if isinstance(item, Outcome) else next(outcomes) for item in batch)
