"""Patterns on long texts are matched by worker processes, which end with a query's time and its client."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.core.errors import QueryTooSlow, TenantQueueFull
from gateway.core.model import TenantId
from gateway.runtime.processes.pool import ProcessPool
from gateway.store.filter import parse as filters
from gateway.store.filter import regex
from gateway.store.json.large import LIGHT_BYTES, Jobs
from gateway.store.model.query import Query
from gateway.store.sqlite.engine import SQLiteDocumentStore
from gateway.store.sqlite.read.matching import Asked, Matching, Verdicts, match_each
from tests.eventually import eventually
from tests.store import docs

pytestmark = pytest.mark.skipif(not regex.AVAILABLE, reason="google-re2 is not installed")

ACME = TenantId("acme")
SLOW = "a.{900}Q"  # has more states than RE2 keeps, so that each byte takes microseconds
RANDOM = "".join(random.Random(7).choices("ab", k=8_000))
LONG = RANDOM + "a" + "b" * 900
ENDLESS = RANDOM * 1000  # takes most of a minute


class Counted(ProcessPool):
    """Counts the jobs, and how many of them were begun and have not ended."""

    def __init__(self) -> None:
        super().__init__(2)
        self.jobs = self.under_way = 0

    async def run_metered(self, *args: Any, **more: Any) -> Any:
        self.jobs += 1
        self.under_way += 1
        try:
            return await super().run_metered(*args, **more)
        finally:
            self.under_way -= 1


@pytest.fixture
async def pool() -> AsyncIterator[Counted]:
    pool = Counted()
    yield pool
    await pool.close()


async def opened(folder: Path, pool: ProcessPool, seconds: float) -> SQLiteDocumentStore:
    store = SQLiteDocumentStore(folder, b"k" * 32, query_seconds=seconds, jobs=Jobs(pool))
    await store.start()
    return store


@pytest.fixture
async def store(tmp_path: Path, pool: Counted) -> AsyncIterator[SQLiteDocumentStore]:
    """Its queries have an hour, so that none ends by its time."""
    store = await opened(tmp_path, pool, 3600.0)
    yield store
    await store.close()


async def found(store: SQLiteDocumentStore, wanted: dict[str, Any]) -> list[str]:
    page = await store.tenant(ACME).list("c", Query(filters.parse_value(wanted)))
    return [item.id for item in page.items]


def test_what_takes_long_is_told_by_the_size_of_the_pattern_and_the_bytes_of_the_text() -> None:
    assert not regex.takes_long(1000, "x" * (regex.AT_ONCE // 1000))
    assert regex.takes_long(1000, "x" * (regex.AT_ONCE // 1000 + 1))
    assert regex.takes_long(1000, "я" * (regex.AT_ONCE // 2000))
    assert regex.takes_long(regex.compiled(SLOW).size, LONG)


@pytest.mark.parametrize("fill", ["", "x" * LIGHT_BYTES], ids=["light", "large"])
async def test_long_texts_are_matched_by_workers_with_the_result_that_they_have_here(
    store: SQLiteDocumentStore, pool: Counted, fill: str
) -> None:
    tenant = store.tenant(ACME)
    await docs.replace(tenant, "c", "hit", {"s": LONG + "Q", "n": 1, "fill": fill})
    await docs.replace(tenant, "c", "miss", {"s": LONG, "n": 2, "fill": fill})
    await docs.replace(tenant, "c", "short", {"s": "aQ"})
    slow = {"s": {"$regex": SLOW}}
    assert await found(store, slow) == ["hit"]
    assert pool.jobs == 2
    assert await found(store, {"$nor": [slow]}) == ["miss", "short"]
    assert await found(store, {"$or": [{"n": 2}, slow]}) == ["hit", "miss"]
    assert await found(store, {"$and": [slow, {"s": {"$regex": "b.{899}Q"}}]}) == ["hit"]
    chunks = [chunk async for chunk in tenant.export("c", filters.parse_value(slow))]
    assert b"".join(chunks).count(b"\n") == 1


async def test_short_texts_and_cheap_patterns_are_no_jobs(store: SQLiteDocumentStore, pool: Counted) -> None:
    await docs.replace(store.tenant(ACME), "c", "x", {"s": LONG})
    assert await found(store, {"s": {"$regex": "ab+a.*aq$"}}) == []
    assert await found(store, {"s": {"$regex": "ab+a.*bb$"}}) == ["x"]
    assert pool.jobs == 0


@pytest.mark.parametrize("fill", ["", "x" * LIGHT_BYTES], ids=["light", "large"])
async def test_a_query_ends_with_its_client_wherever_it_matches(
    store: SQLiteDocumentStore, pool: Counted, fill: str
) -> None:
    text = ENDLESS if fill else RANDOM * 30
    await docs.replace(store.tenant(ACME), "c", "x", {"s": text})
    query = asyncio.ensure_future(found(store, {"s": {"$regex": SLOW}}))
    await eventually(lambda: pool.under_way == 1)
    query.cancel()
    await eventually(lambda: pool.under_way == 0)
    assert store._services is not None
    reads = store._services.reads
    for seats in (reads.seats, reads.scans):
        await eventually(lambda seats=seats: not seats.fair.inside and not seats.waiting)  # type: ignore[misc]


async def test_while_a_worker_matches_its_query_has_no_seat(
    store: SQLiteDocumentStore, pool: Counted
) -> None:
    await docs.replace(store.tenant(ACME), "c", "x", {"s": ENDLESS})
    query = asyncio.ensure_future(found(store, {"s": {"$regex": SLOW}}))
    assert store._services is not None
    reads = store._services.reads
    await eventually(lambda: pool.under_way == 1)
    await eventually(lambda: not reads.seats.fair.inside and not reads.scans.fair.inside)
    other = store.tenant(TenantId("other"))
    await docs.replace(other, "c", "y", {"n": 1, "fill": "x" * LIGHT_BYTES})
    page = await other.list("c", Query(filters.parse('{"n":1,"fill":{"$ne":1}}')))
    assert [item.id for item in page.items] == ["y"] and not query.done()
    query.cancel()


async def test_a_query_ends_with_its_time_and_is_told_so(tmp_path: Path, pool: Counted) -> None:
    store = await opened(tmp_path, pool, 1.0)
    try:
        await docs.replace(store.tenant(ACME), "c", "x", {"s": ENDLESS})
        with pytest.raises(QueryTooSlow):
            await found(store, {"s": {"$regex": SLOW}})
        await eventually(lambda: pool.under_way == 0)
    finally:
        await store.close()


@pytest.mark.parametrize("fill", ["", "x" * LIGHT_BYTES], ids=["light", "large"])
async def test_what_a_worker_is_refused_for_is_told(
    store: SQLiteDocumentStore, pool: Counted, monkeypatch: pytest.MonkeyPatch, fill: str
) -> None:
    async def refuse(*args: Any, **more: Any) -> Any:
        raise TenantQueueFull("busy")

    monkeypatch.setattr(pool, "run_metered", refuse)
    await docs.replace(store.tenant(ACME), "c", "x", {"s": LONG, "fill": fill})
    with pytest.raises(TenantQueueFull):
        await found(store, {"s": {"$regex": SLOW}})


def test_what_one_document_asks_is_asked_together_each_text_once_and_the_document_again() -> None:
    asked: list[Asked] = []

    def ask(wanted: Asked) -> Verdicts:
        asked.append(wanted)
        return match_each(wanted)

    matching = Matching(ask)
    rounds = 0

    def document() -> bool:
        nonlocal rounds
        rounds += 1
        each = [matching.search("a", "bab"), matching.search("c", "bab"), matching.search("c", "cc")]
        return any(each) and matching.search("b$", "bab")

    assert matching.of_one(document)
    assert asked == [((b"bab", ("a", "c")), (b"cc", ("c",))), ((b"bab", ("b$",)),)]
    assert rounds == 3
