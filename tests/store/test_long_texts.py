"""Long texts in orders: what a cursor holds of them, and what it costs to compare them."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.store.filter.nodes import EVERYTHING
from gateway.store.json import strict
from gateway.store.model import cursor
from gateway.store.model.collection import CollectionSettings, Index
from gateway.store.model.document import UNCONDITIONAL
from gateway.store.model.indexing import ENTRY_TEXT
from gateway.store.model.sort import SortKey, rank
from gateway.store.model.write import Replace
from gateway.store.mongo.read import order
from gateway.store.mongo.read.order import Beginning, First
from gateway.store.sqlite import collections
from gateway.store.sqlite.files.connections import open_writer
from gateway.store.sqlite.read.query import Listed, read_page
from gateway.store.sqlite.read.statement import WHOLE_TEXT, Bound, this_thread
from gateway.store.sqlite.read.texts import Texts
from gateway.store.sqlite.write import operations
from gateway.store.sqlite.write.group_commit import run_group
from gateway.store.sqlite.write.state import States
from gateway.store.sqlite.write.transaction import Operation, Pace
from tests.store.sqlite.read.test_walk import Steps

A, B, ID = SortKey(("a",)), SortKey(("b",)), SortKey(("id",))
DOWN = SortKey(("a",), descending=True)
MANY = 3000


def test_the_reference_compares_texts_to_their_ends() -> None:
    assert rank("x" * 100_000 + "\uffff") < rank("x" * 100_000 + "\U00010000")


@given(
    text=st.text(st.sampled_from('a"\n\x01é\U0001f600'), min_size=ENTRY_TEXT, max_size=400).map(
        lambda part: part * 4
    ),
    keys=st.integers(1, 4),
)
def test_of_a_text_a_cursor_holds_no_more_than_a_url_does(text: str, keys: int) -> None:
    begin, digest = cursor.shorten(text, keys)
    assert text.startswith(begin) and ENTRY_TEXT <= len(begin) <= cursor.MAX_TEXT
    assert digest == ("" if begin == text else cursor.digest(text))
    assert keys * len(strict.dumps([begin, digest]).encode()) < 3500


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """Half of the documents have texts that differ behind their first 200 characters, and half have others
    that are long and differ at once."""
    connection = open_writer(Path(tmp_path_factory.mktemp("texts")) / "a.db", None)
    states, settings = States(connection), CollectionSettings(indexes=(Index("by_a", (("a",),)),))
    put = collections.put("c", settings, UNCONDITIONAL, Pace(60.0))
    run_group(connection, states, [Operation(put, alone=True)])
    waiting = [write(f"{number:05}", text_of(number)) for number in range(MANY)]
    while waiting:
        del waiting[: len(run_group(connection, states, waiting).settled)]
    yield connection
    connection.close()


def text_of(number: int) -> str:
    middle = MANY // 2
    return "x" * 200 + f"{MANY - number:05}" if number < middle else f"{number:05}" + "y" * 200


def write(identifier: str, text: str) -> Operation:
    return Operation(operations.operation("c", Replace(identifier, {"a": text})))


def listed(*sort: SortKey) -> Listed:
    return Listed("c", EVERYTHING, sort, 0.0)


@pytest.mark.parametrize("sort", [(A,), (DOWN, ID), (DOWN, SortKey(("id",), descending=True))])
def test_a_page_of_long_texts_that_differ_soon_costs_what_a_page_holds(
    connection: sqlite3.Connection, sort: tuple[SortKey, ...]
) -> None:
    by_text = sorted(range(MANY // 2, MANY), key=text_of)
    position: list[Any] | None = [[2, text_of(by_text[700]), ""], [2, f"{by_text[700]:05}"]]
    there = by_text[701:721] if sort[0] == A else by_text[680:700][::-1]
    with Steps(connection) as steps:
        page, position = read_page(connection, listed(*sort), 20, position)
    assert [document.id for document in page.items] == [f"{number:05}" for number in there]
    assert position is not None and steps.count < 10_000


@pytest.mark.parametrize("sort", [(A,), (DOWN,), (A, ID), (A, B)])
def test_only_texts_that_agree_for_long_are_read_for_a_page(
    connection: sqlite3.Connection, sort: tuple[SortKey, ...]
) -> None:
    position: list[Any] | None = None
    if sort[0] == A:  # the last of those that differ soon
        last = MANY - 1
        position = [[2, text_of(last), ""], *([[0, 0]] if B in sort else []), [2, f"{last:05}"]]
    with Steps(connection) as steps:
        page, _ = read_page(connection, listed(*sort), 20, position)
    found = [document.id for document in page.items]
    tied = sorted(range(MANY // 2), key=text_of, reverse=sort[0] == DOWN)
    assert found == [f"{number:05}" for number in tied[:20]]
    assert steps.count < 100 * MANY


@pytest.mark.parametrize("key", [A, DOWN])
def test_a_cursor_of_a_gateway_that_cut_texts_leaves_nothing_out(
    connection: sqlite3.Connection, key: SortKey
) -> None:
    # As far as it looked these are equal, and so it had given the first ones by id.
    page, _ = read_page(connection, listed(key), 1000, [[2, "x" * ENTRY_TEXT], [2, "00009"]])
    tied = sorted(range(MANY // 2), key=text_of, reverse=key.descending)
    assert [document.id for document in page.items] == [f"{number:05}" for number in tied[:1000]]
    # What is short is known whole, as ever.
    begin = read_page(connection, listed(key), 1, [[1, 7], [2, "x"]])[0].items
    assert [document.id for document in begin] == ([f"{MANY // 2:05}"] if key == A else [])


def test_a_cursor_of_mongodb_that_was_cut_leaves_nothing_out() -> None:
    async def read(_: str) -> None:
        raise AssertionError("there is no digest to look for")

    begin = "2" + "x" * ENTRY_TEXT
    position = asyncio.run(order.from_cursor((DOWN, ID), [begin, "7"], read))
    assert position == [Beginning(begin)]
    assert order.is_behind((DOWN, ID), [begin + "more", "1"], position)
    assert not order.is_behind((DOWN, ID), ["2y", "1"], position)
    assert asyncio.run(order.from_cursor((A, ID), ["2short", "7"], read)) == ["2short", "7"]


class Ended:
    """A read that may not go on."""

    def exclusively(self) -> nullcontext[None]:
        return nullcontext()

    def should_interrupt(self) -> bool:
        return True


def test_comparing_long_texts_ends_with_the_time_of_the_query(connection: sqlite3.Connection) -> None:
    this_thread.read = Ended()
    try:
        with pytest.raises(sqlite3.OperationalError) as told:
            statement = f"SELECT d.id FROM documents AS d ORDER BY '0 ' || d.rowid COLLATE {WHOLE_TEXT}"
            Texts(connection, ["$.a"]).rows(Bound(), statement)
    finally:
        this_thread.read = None
    assert told.value.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT
    assert connection.execute("SELECT count(*) FROM documents").fetchone() == (MANY,)


@given(
    sizes=st.lists(st.integers(1, 60), max_size=60), most=st.integers(1, 20), most_bytes=st.integers(1, 200)
)
def test_the_first_of_many_are_what_a_page_takes_and_one_more(
    sizes: list[int], most: int, most_bytes: int
) -> None:
    first: First[int] = First((A, ID), most, most_bytes)
    held = 0
    for number, size in enumerate(sizes):
        at = [f"2{size}", f"{number:02}"]
        if first.takes(at):
            first.add(at, size, size)
        held = max(held, sum(size for _, size, _ in first._found))
    wanted, taken = [], 0
    for size in sorted(sizes, key=lambda size: f"2{size}")[:most]:
        wanted.append(size)
        if taken > most_bytes:
            break
        taken += size
    assert [item for _, _, item in first.in_order()] == wanted
    assert first.is_all == (len(wanted) == len(sizes))
    assert held <= 3 * most_bytes + 3 * 60
