"""A short query of a quiet tenant is answered on the event loop; a long one goes to a thread, so do many."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.core.model import TenantId
from gateway.store.filter import parse as filters
from gateway.store.model.query import Query
from gateway.store.sqlite import errors
from gateway.store.sqlite.engine import SQLiteDocumentStore
from gateway.store.sqlite.files.open_files import TenantFile
from gateway.store.sqlite.read.inline import (
    CREDIT,
    GIVEN_UP,
    MAX_BYTES,
    MOST,
    WAIT,
    Inline,
    InlineRead,
    may_be_short,
)
from tests.store import docs

LONG = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000000) SELECT sum(i) FROM n"


class File:
    """As much of a tenant's file as it takes."""

    def __init__(self) -> None:
        self.inline = sqlite3.connect(":memory:")
        self.queries = asyncio.Semaphore(1)
        self.inline_from = 0.0
        self.inline_given_up = 0

    def pause_inline(self, until: float, given_up: int) -> None:
        self.inline_from, self.inline_given_up = until, given_up


class Bench:
    """time: by the clock. used: by the processor's, which `work` moves on."""

    def __init__(self) -> None:
        self.file = File()
        self.time = 100.0
        self.used = 0.0
        self.step = 0.0  # seconds of the processor between two looks
        files = {"acme": self.file}
        self.inline = Inline(cast(Any, files), lambda: self.time, self._clock)

    def _clock(self) -> float:
        self.used += self.step
        return self.used

    def ask(self, statement: str = "SELECT 1", spends: float = 0.0) -> Any:
        def work(connection: sqlite3.Connection, read: InlineRead) -> Any:
            self.used += spends
            return connection.execute(statement).fetchone()[0]

        return self.inline.query("acme", work)


@pytest.fixture
def bench() -> Any:
    made = Bench()
    yield made
    made.file.inline.close()


def test_a_tenant_has_its_share_of_time_of_which_some_is_saved_up(bench: Bench) -> None:
    page = 0.0004
    saved = int(CREDIT / (WAIT * page)) + 1  # the last one may go beyond it
    assert [bench.ask(spends=page) for _ in range(saved + 1)] == [1] * saved + [None]
    bench.time += saved * WAIT * page - CREDIT - 0.0001
    assert bench.ask() is None
    bench.time += 0.0002
    assert bench.ask() == 1
    bench.time += 100.0  # no more is saved up than that
    assert [bench.ask(spends=page) for _ in range(saved + 1)] == [1] * saved + [None]


def test_a_long_query_is_given_up_and_each_one_behind_it_costs_twice_as_much(bench: Bench) -> None:
    bench.step = MOST / 10
    assert bench.ask(LONG) is None and bench.used < 3 * MOST
    tries = []
    for _ in range(40):
        before = bench.used
        assert bench.ask(LONG) is None
        tries.append(bench.used > before)
        bench.time += GIVEN_UP / 4
    assert tries[0], "one that was too long may have been so by chance"
    assert sum(tries[20:]) <= 20 / 4 + 1, "a tenant of long queries has one tried in GIVEN_UP"
    bench.step = 0.0
    bench.time += GIVEN_UP + 0.01
    assert bench.ask() == 1 and bench.file.inline_given_up == 0


def test_what_python_does_between_two_rows_counts_and_a_large_document_is_left_to_a_thread(
    bench: Bench,
) -> None:
    def slow(connection: sqlite3.Connection, read: InlineRead) -> int:
        bench.used += 2 * MOST
        read.step()
        return 1

    def large(connection: sqlite3.Connection, read: InlineRead) -> int:
        with read.exclusively():
            return 1

    assert bench.inline.query("acme", slow) is None
    bench.time += 2 * GIVEN_UP
    assert bench.inline.query("acme", large) is None


async def test_tenants_whose_queries_wait_or_whose_file_is_not_open_have_none_here(bench: Bench) -> None:
    async with bench.file.queries:
        assert bench.ask() is None
    assert bench.inline.query("globex", lambda connection, look: 1) is None
    assert bench.ask() == 1


def test_no_transaction_is_left_open_whatever_holds_its_end_up(bench: Bench) -> None:
    """Else reads by id would see what was then, for ever."""

    def held_up(connection: sqlite3.Connection, read: InlineRead) -> int:
        connection.execute("BEGIN")
        raise errors.interrupted()

    assert bench.inline.query("acme", held_up) is None
    assert not bench.file.inline.in_transaction


@pytest.mark.parametrize(
    ("text", "more"),
    [
        ('{"note":{"$regex":"^a+b"}}', {}),
        ('{"$or":[{"a":1},{"b":1}]}', {}),
        ('{"tags":{"$elemMatch":{"$gt":1}}}', {}),
        (json.dumps({"a": {"$in": list(range(1000))}}), {}),
        (json.dumps({f"a{number}": 1 for number in range(9)}), {}),
        ("{}", {"limit": 1000}),
        ("{}", {"count": True}),
    ],
)
def test_what_may_take_long_between_two_looks_is_not_tried(text: str, more: dict[str, Any]) -> None:
    assert may_be_short(Query(filter=filters.parse('{"a":1,"b":{"$gt":2}}'), limit=10))
    assert not may_be_short(Query(filter=filters.parse(text), **more))


@pytest.mark.parametrize("size", [MAX_BYTES + 1, 300_000])
async def test_a_page_with_a_document_that_is_not_small_is_left_to_a_thread(
    tmp_path: Path, size: int
) -> None:
    store = SQLiteDocumentStore(tmp_path, b"k" * 32)
    await store.start()
    assert store._services is not None
    tenant, inline = store.tenant(TenantId("acme")), store._services.inline
    inline._clock = lambda: 0.0  # time enough
    await docs.create(tenant, "orders", {"text": "x" * size})
    read: list[bool] = []
    query = inline.query

    def seen(name: str, work: Any) -> Any:
        found = query(name, work)
        read.append(found is not None)
        return found

    inline.query = seen  # type: ignore[method-assign]
    assert len((await tenant.list("orders", Query())).items) == 1
    await docs.create(tenant, "small", {"text": "x"})
    (file,) = store._services.files.open_files()
    file.inline_from = 0.0
    assert len((await tenant.list("small", Query())).items) == 1
    assert read == [False, True]
    await store.close()


def test_a_reader_is_given_back_without_a_transaction(tmp_path: Path) -> None:
    file = TenantFile.open(tmp_path / "acme.db", None)
    reader = file.take_reader()
    reader.execute("BEGIN")
    file.give_reader(reader)
    assert not reader.in_transaction
    file.close()


def test_a_bug_of_the_work_is_the_callers(bench: Bench) -> None:
    def broken(connection: sqlite3.Connection, read: InlineRead) -> int:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        bench.inline.query("acme", broken)
