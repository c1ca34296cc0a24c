"""How lines of an import become batches, and batches bulks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from gateway.core.errors import TenantLimit
from gateway.store.transfer import BATCH_LINES, MAX_BATCH_LINES, BatchSize, import_lines
from gateway.store.write import MAX_BULK, Outcome, Write, failed


def test_batches_grow_while_they_are_fast_and_shrink_when_they_are_not() -> None:
    size = BatchSize()
    for _ in range(20):
        size.learn(size.lines, 0.01)
    assert size.lines == MAX_BATCH_LINES
    size.learn(size.lines, 1.0)
    assert size.lines == MAX_BATCH_LINES // 2
    for _ in range(20):
        size.learn(size.lines, 1.0)
    assert size.lines == BATCH_LINES


def test_batches_stay_small_at_the_beginning_and_where_lines_fail() -> None:
    size = BatchSize()
    size.learn(BATCH_LINES, 0.01)
    assert size.lines == BATCH_LINES
    for _ in range(100):
        size.learn(BATCH_LINES - 1, 0.01)
    assert size.lines == BATCH_LINES


class TwoAtATime:
    """A store whose bulks cost what one may after two operations."""

    def __init__(self) -> None:
        self.taken: list[int] = []

    async def bulk(
        self, collection: str, writes: Sequence[Write], *, most: int = MAX_BULK
    ) -> tuple[Outcome, ...]:
        self.taken.append(len(writes))
        done = tuple(Outcome(201, f"{len(self.taken)}-{n}") for n in range(min(2, len(writes))))
        return done + (failed(TenantLimit("later")),) * (len(writes) - len(done))


async def test_what_one_bulk_had_no_room_for_comes_with_the_next_and_in_its_order() -> None:
    async def lines() -> AsyncIterator[bytes]:
        for line in (b"{}", b"{", b"{}", b"{}", b"[]", b"{}", b"{}"):
            yield line

    store = TwoAtATime()
    (outcomes,) = [batch async for batch in import_lines(store, "c", lines())]
    assert [outcome.status for outcome in outcomes] == [201, 400, 201, 201, 422, 201, 201]
    assert [outcome.id for outcome in outcomes if outcome.id] == ["1-0", "1-1", "2-0", "2-1", "3-0"]
    assert store.taken == [5, 3, 1]
