"""What a page costs, in steps of SQLite's machine: of an $or, and of a sort over many equal values."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.store.filter import parse as filters
from gateway.store.filter.matcher import matches
from gateway.store.filter.nodes import EVERYTHING
from gateway.store.json.strict import dumps
from gateway.store.model import sort as sorts
from gateway.store.model.collection import CollectionSettings, Index
from gateway.store.model.document import UNCONDITIONAL
from gateway.store.model.sort import sort_value
from gateway.store.model.write import Replace
from gateway.store.sqlite import collections
from gateway.store.sqlite.files.connections import open_writer
from gateway.store.sqlite.read import plan as sqlite_plan
from gateway.store.sqlite.read.plan import Union
from gateway.store.sqlite.read.query import Listed, read_page
from gateway.store.sqlite.write import operations
from gateway.store.sqlite.write.group_commit import run_group
from gateway.store.sqlite.write.state import States, read_indexes
from gateway.store.sqlite.write.transaction import Operation, Pace

MANY = 5000
SETTINGS = CollectionSettings(indexes=tuple(Index(f"by_{name}", ((name,),)) for name in ("a", "b", "t")))


def data(number: int) -> dict[str, Any]:
    a: Any = "same" if number % 50 else number
    return {"a": a, "b": number, "t": ["x", f"t{number}"], "c": number % 7}


DOCUMENTS = {f"{number:05d}": data(number) for number in range(MANY)}


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    connection = open_writer(tmp_path_factory.mktemp("walk") / "a.db", None)
    states = States(connection)
    put = collections.put("c", SETTINGS, UNCONDITIONAL, Pace(60.0))
    run_group(connection, states, [Operation(put, alone=True)])
    ids = list(DOCUMENTS)
    random.Random(1).shuffle(ids)
    waiting = [
        Operation(operations.operation("c", Replace(identifier, DOCUMENTS[identifier]))) for identifier in ids
    ]
    while waiting:
        del waiting[: len(run_group(connection, states, waiting).settled)]
    yield connection
    connection.close()


class Steps:
    """Counts the steps that SQLite takes, in tens."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.count = 0

    def __enter__(self) -> Steps:
        self._connection.set_progress_handler(self._add, 10)
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.set_progress_handler(None, 0)

    def _add(self) -> None:
        self.count += 10


def listed(node: Any = None, sort: str = "") -> Listed:
    parsed = EVERYTHING if node is None else filters.parse(dumps(node))
    return Listed("c", parsed, sorts.parse(sort) if sort else (), 0.0)


def pages(connection: sqlite3.Connection, wanted: Listed, limit: int) -> list[str]:
    found: list[str] = []
    position: list[Any] | None = None
    while True:
        page, position = read_page(connection, wanted, limit, position)
        found += [document.id for document in page.items]
        if position is None:
            return found


def reference(wanted: Listed) -> list[str]:
    ids = sorted(i for i, members in DOCUMENTS.items() if matches(wanted.node, i, members))
    for key in reversed(wanted.sort):
        ids.sort(key=lambda i: sort_value(key.path, i, DOCUMENTS[i]), reverse=key.descending)
    return ids


@pytest.mark.parametrize("sort", ["-a", "a", "a,-id", "-a,id", "-a,-id"])
@pytest.mark.parametrize("limit", [37, 300, 1000])
@pytest.mark.parametrize(
    "node", [None, {"c": 3}, {"a": {"$gte": "s"}}, {"b": {"$lt": 100}}, {"a": {"$lt": 2500}, "c": {"$ne": 1}}]
)
def test_pages_give_every_document_once_and_in_order(
    connection: sqlite3.Connection, sort: str, limit: int, node: Any
) -> None:
    wanted = listed(node, sort)
    assert pages(connection, wanted, limit) == reference(wanted)


@pytest.mark.parametrize("sort", ["-a", "a", "a,-id", "-a,-id"])
def test_a_page_of_many_equal_values_costs_what_a_page_holds(
    connection: sqlite3.Connection, sort: str
) -> None:
    wanted = listed(sort=sort)
    with Steps(connection) as steps:
        page, position = read_page(connection, wanted, 20, None)
    assert len(page.items) == 20 and position is not None
    assert steps.count < 10_000, "some thousand documents are not sorted for twenty"
    with Steps(connection) as steps:
        read_page(connection, wanted, 20, position)
    assert steps.count < 10_000


@pytest.mark.parametrize(
    "node",
    [
        {"$or": [{"b": 17}, {"t": "t99"}]},
        {"$or": [{"b": {"$in": [1, 2]}, "c": 1}, {"$or": [{"t": "t5"}, {"a": {"$lt": 60}}]}]},
        {"$and": [{"c": {"$gte": 0}}, {"$or": [{"b": {"$gt": 4990}}, {"t": {"$prefix": "t12"}}]}]},
    ],
)
@pytest.mark.parametrize("sort", ["", "c", "-b"])
def test_an_or_of_indexed_branches_looks_at_what_they_find(
    connection: sqlite3.Connection, node: Any, sort: str
) -> None:
    wanted = listed(node, sort)
    plan = sqlite_plan.choose(connection, read_indexes(connection, "c"), wanted.node, wanted.sort)
    assert isinstance(plan.narrowed, Union)
    with Steps(connection) as steps:
        page, _ = read_page(connection, wanted, 1000, None, count=True)
    assert [document.id for document in page.items] == reference(wanted)
    assert page.count == len(page.items)
    assert steps.count < 60_000


@pytest.mark.parametrize(
    "node", [{"$or": [{"b": 17}, {"c": 1}]}, {"$or": [{"b": {"$gte": 0}}, {"b": {"$lt": 0}}]}]
)
def test_an_or_that_no_index_makes_smaller_goes_through_all(
    connection: sqlite3.Connection, node: Any
) -> None:
    wanted = listed(node)
    assert pages(connection, wanted, 1000) == reference(wanted)
