"""Entries of indexes are written at a transaction's end, in their order, and as if each had been at once."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from gateway.store.model.sort import SortValue
from gateway.store.sqlite.write.entries import MOST, Entries


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute(
        "CREATE TABLE entries (n, r, val, id, main, PRIMARY KEY (n, r, val, id)) WITHOUT ROWID"
    )
    yield connection
    connection.close()


def rows(connection: sqlite3.Connection) -> list[tuple[object, ...]]:
    return connection.execute("SELECT n, r, val, id, main FROM entries").fetchall()


A: SortValue = (2, "a")
B: SortValue = (2, "b")


def test_what_is_written_is_what_came_last(connection: sqlite3.Connection) -> None:
    entries = Entries(connection)
    entries.put(1, B, "x", 1)
    entries.put(1, A, "x", 0)
    entries.remove(1, B, "x", 1)
    entries.put(2, B, "x", 1)
    assert rows(connection) == []
    entries.flush()
    assert rows(connection) == [(1, 2, "a", "x", 0), (2, 2, "b", "x", 1)]
    entries.remove(1, A, "x", 0)
    entries.put(1, A, "x", 1)  # the same entry, now the main one
    entries.remove(2, B, "x", 1)
    entries.flush()
    assert rows(connection) == [(1, 2, "a", "x", 1)]


def test_an_operation_that_is_rolled_back_leaves_what_was_before_it(connection: sqlite3.Connection) -> None:
    entries = Entries(connection)
    entries.put(1, A, "x", 1)
    outer = entries.mark()
    entries.remove(1, A, "x", 1)
    entries.put(1, B, "x", 1)
    inner = entries.mark()
    entries.remove(1, B, "x", 1)
    entries.undo(inner)
    entries.put(1, A, "x", 0)
    entries.undo(outer)
    entries.flush()
    assert rows(connection) == [(1, 2, "a", "x", 1)]


def test_what_a_write_leaves_as_it_was_is_not_written(connection: sqlite3.Connection) -> None:
    entries = Entries(connection)
    entries.put(1, A, "x", 1)
    entries.flush()
    changes = connection.total_changes
    entries.remove(1, A, "x", 1)
    entries.put(1, A, "x", 1)
    entries.flush()
    assert connection.total_changes == changes


def test_entries_are_written_in_the_order_of_the_index(connection: sqlite3.Connection) -> None:
    written: list[object] = []
    connection.create_function("told", 1, written.append)
    connection.execute("CREATE TRIGGER t AFTER INSERT ON entries BEGIN SELECT told(new.val); END")
    entries = Entries(connection)
    for number in (5, 3, 9, 1):
        entries.put(1, (1, number), "x", 1)
    entries.flush()
    assert written == [1, 3, 5, 9]


def test_no_more_is_kept_than_the_most(connection: sqlite3.Connection) -> None:
    entries = Entries(connection)
    for number in range(MOST + 1):
        entries.put(1, (1, number), "x", 1)
    assert rows(connection) == []
    entries.settle()
    assert len(rows(connection)) == MOST + 1
