"""Importing documents: lines of NDJSON are parsed as writes, which are done in batches with back-pressure."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Sequence,
)
from dataclasses import dataclass
from time import monotonic
from typing import Any, ParamSpec, Protocol, TypeVar

from gateway.core.errors import (
    BodyTooLarge,
    GatewayError,
    StoreSaturated,
    TenantQueueFull,
    Unprocessable,
    forget_traces,
)
from gateway.store.json import strict
from gateway.store.json.large import is_light
from gateway.store.model.document import (
    ANY,
    MAX_DOCUMENT_BYTES,
    LargeMembers,
    Members,
    Precondition,
    check_id,
    name_problem,
    to_text,
)
from gateway.store.model.write import MAX_BULK, Create, Outcome, Replace, Write, failed, id_of

P = ParamSpec("P")
T = TypeVar("T")

BATCH_LINES = 200  # of the first batch; see Batches
MAX_BATCH_LINES = 4000
MAX_BATCH_SECONDS = 0.25
BATCH_BYTES = 1024 * 1024
_SMALL_LINES = 1000  # written in small batches at first, for a client that checks whether they succeed
MAX_LINE = MAX_DOCUMENT_BYTES + 64 * 1024  # bytes; a document and the white space in it
MAX_BLANK = 64 * 1024  # bytes of white space, line ends too, before a document or between two
SLICE = 16 * 1024  # bytes of a body that are split into lines in one turn of the event loop
LINE_COST = 256  # bytes that every line counts besides its own: to refuse one takes longer than to read some
_BLANK = b" \t\r\n"
_white_space = re.compile(rb"[ \t\r\n]+").match
_STORE_FULL = frozenset({TenantQueueFull.code, StoreSaturated.code})
_PAUSES = (0.1, 0.2, 0.4, 0.8, 1.6, *(3.0,) * 9)  # seconds before each new attempt when the store was full
_ONLY_NEW = Precondition(none_match=frozenset({ANY}))


def parse_line(raw: bytes, *, replacing: bool = True) -> Write:
    """A line of an import: an object with an `id` replaces or creates that document (not replacing: only
    creates it), one without gets an id from the store. Raises BadRequest and Unprocessable."""
    return _write_of(*_members(raw), replacing)


def line_text(raw: bytes) -> tuple[str | None, bytes]:
    """As parse_line, of a large line: its id, None without one, and the text of its members. A job of a
    worker process."""
    identifier, data = _members(raw)
    return identifier, to_text(data)[0].encode()


def _members(raw: bytes) -> tuple[str | None, dict[str, Any]]:
    data = strict.read(raw, "line", "The line cannot be a document; see errors.", name_problem)
    if not isinstance(data, dict):
        raise Unprocessable("The line cannot be a document: it is not a JSON object.")
    if "id" not in data:
        return None, data
    identifier = data.pop("id")
    if not isinstance(identifier, str):
        raise Unprocessable("The line cannot be a document: its id is not a string.")
    check_id(identifier)
    return identifier, data


def _write_of(identifier: str | None, data: Members, replacing: bool) -> Write:
    if identifier is None:
        return Create(data)
    return Replace(identifier, data) if replacing else Replace(identifier, data, _ONLY_NEW)


class BulkStore(Protocol):
    """What an import needs of a store."""

    async def work(self, function: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
        """As port.TenantStore.work."""
        ...

    async def bulk(
        self, collection: str, writes: Sequence[Write], *, most: int = MAX_BULK
    ) -> tuple[Outcome, ...]:
        """As port.TenantStore.bulk."""
        ...


class BatchSize:
    """How many lines the next batch has. Indexes are written in their order, batch by batch, so few large
    batches write much less than many small ones; but the tenant's other writes wait for one. So a batch is
    about as large as can be written in MAX_BATCH_SECONDS."""

    def __init__(self) -> None:
        self.lines = BATCH_LINES
        self._written = 0

    def learn(self, lines: int, seconds: float) -> None:
        """Adapt to a batch that was written. lines: those that succeeded; where some fail, batches stay
        small, so that an import with many failures ends soon. seconds: that the batch took."""
        self._written += lines
        if seconds > MAX_BATCH_SECONDS:
            self.lines = max(BATCH_LINES, self.lines // 2)
        elif self._written >= _SMALL_LINES and lines >= self.lines and seconds < MAX_BATCH_SECONDS / 2:
            self.lines = min(MAX_BATCH_LINES, self.lines * 2)


async def import_lines(
    store: BulkStore,
    collection: str,
    lines: AsyncIterable[bytes],
    *,
    replacing: bool = True,
    give_way: Callable[[], Awaitable[object]] = lambda: asyncio.sleep(0),
    pauses: Sequence[float] = _PAUSES,
) -> AsyncGenerator[tuple[Outcome, ...], None]:
    """Write each line; gives the outcomes of a batch at a time, one for each line in order, none for a blank
    one. give_way: lets others have the event loop, also when nothing else here waits; called about every
    SLICE bytes. pauses: seconds before each new attempt at a write that the store was too full for.

    The next lines are read when the outcomes before were taken. A line that fails does not affect the others.
    Raises StoreUnavailable; the lines of that batch were not written.
    """
    writer = _Writer(store, collection, replacing, pauses)
    batch: list[Write | Outcome] = []
    most = BatchSize()
    size = turn = 0
    async for line in lines:
        raw = line.strip(_BLANK)
        if not raw:
            continue
        batch.append(await writer.parsed(raw))
        size += len(raw)
        turn += len(raw) + LINE_COST
        if turn > SLICE:
            turn = 0
            await give_way()
        if len(batch) >= most.lines or size >= BATCH_BYTES:
            began = monotonic()
            outcomes = await writer.write(batch)
            most.learn(sum(outcome.status < 300 for outcome in outcomes), monotonic() - began)
            yield outcomes
            batch, size = [], 0
    if batch:
        yield await writer.write(batch)


@dataclass(slots=True)
class ImportCounts:
    """How many lines of an import had which outcome. lines: the number of the last line that is settled;
    blank lines are numbered too."""

    lines: int = 0
    created: int = 0
    replaced: int = 0
    skipped: int = 0
    failed: int = 0

    def add(self, number: int, outcome: Outcome, *, replacing: bool) -> bool:
        """Count a line; gives whether it succeeded or was skipped."""
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


class LineSplitter:
    """Splits NDJSON, which comes in pieces of any size, into lines; blank lines are only counted."""

    def __init__(self) -> None:
        self._number = 1
        self._blank = 0  # bytes of white space since the last line that was not blank
        self._pieces: list[bytes] = []
        self._size = 0

    def split(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """The lines that end in this piece, with their numbers from 1. Raises BodyTooLarge for a line that is
        longer than MAX_LINE, Unprocessable for more than MAX_BLANK of white space without a document."""
        at = 0
        while at < len(data):
            if not self._pieces:
                at += self._skip(data, at)
                if at == len(data):
                    return
            end = data.find(b"\n", at)
            self._pieces.append(data[at : end if end >= 0 else None])
            self._size += len(self._pieces[-1])
            if self._size > MAX_LINE:
                raise BodyTooLarge(f"Line {self._number} has more than {MAX_LINE} bytes.", close=True)
            if end < 0:
                return
            yield from self.end()
            self._number += 1
            at = end + 1

    def end(self) -> Iterator[tuple[int, bytes]]:
        """The line that ends here, at the end of the body too, unless it is blank."""
        line = b"".join(self._pieces).strip(_BLANK)
        self._pieces, self._size = [], 0
        if line:
            self._blank = 0
            yield self._number, line

    def _skip(self, data: bytes, at: int) -> int:
        """The length of the white space that begins here, which is counted as a whole, not line by line."""
        found = _white_space(data, at, at + MAX_BLANK + 1)
        if found is None:
            return 0
        size = found.end() - at
        self._number += data.count(b"\n", at, at + size)
        self._blank += size
        if self._blank > MAX_BLANK:
            text = f"Before line {self._number} there are more than {MAX_BLANK} bytes of white space."
            raise Unprocessable(text, close=True)
        return size


class NumberedLines:
    """The lines of a body, as its chunks come, that are not blank. numbers: of the lines, from 1, that were
    read; the reader removes those that are settled."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self.numbers: deque[int] = deque()

    async def read(self) -> AsyncIterator[bytes]:
        """The lines. Between two turns of the event loop no more than SLICE bytes are split, however many
        lines they are. Raises what the chunks and LineSplitter.split raise."""
        splitter = LineSplitter()
        async for chunk in self._chunks:
            for at in range(0, len(chunk), SLICE):
                for number, line in splitter.split(chunk[at : at + SLICE]):
                    self.numbers.append(number)
                    yield line
                await asyncio.sleep(0)
        for number, line in splitter.end():
            self.numbers.append(number)
            yield line


class _Writer:
    """Writes the lines of one import, and waits while the store is too full for them.

    The client of an import only waits for its response. A line that was refused because a queue was full
    would be lost for good, while it can be written a moment later.
    """

    def __init__(self, store: BulkStore, collection: str, replacing: bool, pauses: Sequence[float]) -> None:
        self._store = store
        self._collection = collection
        self._replacing = replacing
        self._pauses = pauses

    async def parsed(self, raw: bytes) -> Write | Outcome:
        """A line as a write, or as the outcome of one that was refused."""
        try:
            if is_light(raw):
                return parse_line(raw, replacing=self._replacing)
            identifier, text = await self._patiently(lambda: self._store.work(line_text, raw))
            return _write_of(identifier, LargeMembers(text), self._replacing)
        except GatewayError as error:
            forget_traces(error)
            return failed(error)

    async def write(self, batch: Sequence[Write | Outcome]) -> tuple[Outcome, ...]:
        """The outcomes of a batch, in its order, those of the lines that were refused included."""
        outcomes: dict[int, Outcome] = {}
        left: list[_Indexed] = []
        for at, item in enumerate(batch):
            if isinstance(item, Outcome):
                outcomes[at] = item
            else:
                left.append((at, item))
        pauses = iter(self._pauses)
        while left:
            settled = await self._bulk([write for _, write in left])
            tried, untried = left[: len(settled)], left[len(settled) :]
            outcomes |= {at: outcome for (at, _), outcome in zip(tried, settled, strict=True)}
            again = _to_retry(tried, settled)
            if len(again) < len(tried):
                pauses = iter(self._pauses)
            if again:
                pause = next(pauses, None)
                if pause is None:
                    again = []
                else:
                    await asyncio.sleep(pause)
            left = again + untried
        return tuple(outcomes[at] for at in range(len(batch)))

    async def _bulk(self, writes: Sequence[Write]) -> tuple[Outcome, ...]:
        """The outcomes of the writes that the bulk's budget was enough for: the first ones, at least one."""
        outcomes = await self._patiently(
            lambda: self._store.bulk(self._collection, writes, most=MAX_BATCH_LINES)
        )
        done = len(outcomes)
        while done > 1 and outcomes[done - 1].untried:
            done -= 1
        return outcomes[:done]

    async def _patiently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        for pause in self._pauses:
            try:
                return await attempt()
            except (TenantQueueFull, StoreSaturated):
                await asyncio.sleep(pause)
        return await attempt()


_Indexed = tuple[int, Write]  # the index of a line in its batch, and the line


def _to_retry(tried: Sequence[_Indexed], outcomes: Sequence[Outcome]) -> list[_Indexed]:
    """The writes that were refused because the store was full, in their order, but for those that a later
    line has overwritten already."""
    found: list[_Indexed] = []
    overwritten: set[str] = set()
    for (at, write), outcome in zip(reversed(tried), reversed(outcomes), strict=True):
        if outcome.error is None or outcome.error["code"] not in _STORE_FULL:
            overwritten.add(id_of(write))
        elif isinstance(write, Create) or write.id not in overwritten:
            found.append((at, write))
    return found[::-1]
