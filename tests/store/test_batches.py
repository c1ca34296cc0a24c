"""How lines of an import become batches, and batches bulks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import ParamSpec, TypeVar

import pytest

from gateway.core.errors import StoreSaturated, TenantQueueFull
from gateway.store.model.write import MAX_BULK, BudgetUsedUp, Outcome, Write, failed, id_of
from gateway.store.transfer import BATCH_LINES, MAX_BATCH_LINES, BatchSize, import_lines

P = ParamSpec("P")
T = TypeVar("T")


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
        return done + (failed(BudgetUsedUp("later")),) * (len(writes) - len(done))


async def test_what_one_bulk_had_no_room_for_comes_with_the_next_and_in_its_order() -> None:
    async def lines() -> AsyncIterator[bytes]:
        for line in (b"{}", b"{", b"{}", b"{}", b"[]", b"{}", b"{}"):
            yield line

    store = TwoAtATime()
    (outcomes,) = [batch async for batch in import_lines(store, "c", lines())]
    assert [outcome.status for outcome in outcomes] == [201, 400, 201, 201, 422, 201, 201]
    assert [outcome.id for outcome in outcomes if outcome.id] == ["1-0", "1-1", "2-0", "2-1", "3-0"]
    assert store.taken == [5, 3, 1]


class Busy:
    """A store that has no room for what `refuses` names, as many times as it says; else all is written. log:
    the ids and numbers of what was written, in its order."""

    def __init__(self, refuses: dict[str, int], error: type[TenantQueueFull | StoreSaturated]) -> None:
        self.log: list[str] = []
        self._refuses = refuses
        self._error = error

    def _is_refused(self, name: str) -> bool:
        self._refuses[name] = self._refuses.get(name, 0) - 1
        return self._refuses[name] >= 0

    async def work(self, function: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
        if self._is_refused("work"):
            raise self._error("busy")
        return function(*args, **more)

    async def bulk(
        self, collection: str, writes: Sequence[Write], *, most: int = MAX_BULK
    ) -> tuple[Outcome, ...]:
        if self._is_refused("bulk"):
            raise self._error("busy")
        return tuple(self._one(write) for write in writes)

    def _one(self, write: Write) -> Outcome:
        if self._is_refused(id_of(write)):
            return failed(self._error("busy"), id_of(write))
        self.log.append(id_of(write))
        return Outcome(201, id_of(write))


async def imported(store: Busy, lines: Iterable[bytes], attempts: int = 5) -> list[Outcome]:
    async def sent() -> AsyncIterator[bytes]:
        for line in lines:
            yield line

    pauses = (0.0,) * attempts
    return [one async for batch in import_lines(store, "c", sent(), pauses=pauses) for one in batch]


BUSY = pytest.mark.parametrize("error", [TenantQueueFull, StoreSaturated])
ABC = (b'{"id":"a"}', b'{"id":"b"}', b'{"id":"c"}')


@BUSY
async def test_a_line_that_found_no_room_is_written_later_and_no_other_one_twice(
    error: type[TenantQueueFull | StoreSaturated],
) -> None:
    store = Busy({"a": 3, "b": 1}, error)
    outcomes = await imported(store, ABC)
    assert [(outcome.status, outcome.id) for outcome in outcomes] == [(201, "a"), (201, "b"), (201, "c")]
    assert store.log == ["c", "b", "a"]


@BUSY
async def test_a_line_that_never_finds_room_is_told_in_its_place(
    error: type[TenantQueueFull | StoreSaturated],
) -> None:
    store = Busy({"b": 100}, error)
    outcomes = await imported(store, ABC)
    assert [outcome.status for outcome in outcomes] == [201, error.status, 201]
    assert [outcome.id for outcome in outcomes] == ["a", "b", "c"]
    assert store.log == ["a", "c"]


async def test_a_line_is_not_written_over_a_later_one_of_its_id() -> None:
    class First(Busy):
        def _one(self, write: Write) -> Outcome:
            return super()._one(write) if self.log else failed(self._note(), id_of(write))

        def _note(self) -> TenantQueueFull:
            self.log.append("refused")
            return TenantQueueFull("busy")

    store = First({}, TenantQueueFull)
    outcomes = await imported(store, (b'{"id":"a","n":1}', b'{"id":"a","n":2}'))
    assert [outcome.status for outcome in outcomes] == [429, 201]
    assert store.log == ["refused", "a"]


async def test_an_import_waits_where_a_batch_and_where_a_large_line_finds_no_room() -> None:
    store = Busy({"bulk": 2, "work": 2}, TenantQueueFull)
    large = b'{"id":"l","s":"%s"}' % (b"x" * 300_000)
    outcomes = await imported(store, (*ABC, large))
    assert [outcome.status for outcome in outcomes] == [201] * 4
    assert store.log == ["a", "b", "c", "l"]


def test_only_what_the_budget_refused_is_untried() -> None:
    assert failed(BudgetUsedUp("over")).untried
    assert not failed(TenantQueueFull("busy")).untried
