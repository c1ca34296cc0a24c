"""Reads as seats: whoever scans, others are served between two slices; and a scan ends with its caller."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from gateway.core.errors import StoreUnavailable, TenantQueueFull
from gateway.core.model import TenantId
from gateway.runtime.processes import memory
from gateway.store.filter import parse as filters
from gateway.store.filter.parse import LARGE
from gateway.store.model.query import Query
from gateway.store.sqlite.engine import SQLiteDocumentStore
from gateway.store.sqlite.files import open_files
from gateway.store.sqlite.read import reads as sqlite_reads
from gateway.store.sqlite.read.reads import Reads
from tests.eventually import eventually
from tests.store import docs

QUIET = TenantId("quiet")
_ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLiteDocumentStore]:
    """Its queries have an hour, so that none ends by its deadline."""
    store = SQLiteDocumentStore(tmp_path, b"k" * 32, query_seconds=3600.0)
    await store.start()
    yield store
    await store.close()


def reads_of(store: SQLiteDocumentStore) -> Reads:
    assert store._services is not None
    return store._services.reads


def scan(store: SQLiteDocumentStore, tenant: str) -> asyncio.Future[Any]:
    def work(connection: sqlite3.Connection) -> Any:
        return connection.execute(_ENDLESS).fetchone()

    return asyncio.ensure_future(reads_of(store).query(tenant, work))


async def is_free(store: SQLiteDocumentStore) -> None:
    """Nothing runs or waits any more, and every file may be closed."""
    for seats in (reads_of(store).seats, reads_of(store).scans):
        await eventually(lambda seats=seats: not seats.fair.inside and not seats.waiting)  # type: ignore[misc]
    assert store._services is not None
    await eventually(lambda: not any(file.users for file in store._services.files.open_files()))  # type: ignore[union-attr]


@pytest.mark.parametrize("tenants", [2, 10])
async def test_a_page_is_served_while_others_scan_without_end(
    store: SQLiteDocumentStore, tenants: int
) -> None:
    quiet = store.tenant(QUIET)
    await docs.create(quiet, "orders", {"n": 1})
    scans = [scan(store, f"noisy-{number}") for number in range(tenants) for _ in range(6)]
    seats = reads_of(store).scans
    await eventually(lambda: seats.waiting >= 4 * tenants - seats.fair.seats)
    for _ in range(20):
        page = await quiet.list("orders", Query(filter=filters.parse('{"n":1}'), count=True))
        assert (len(page.items), page.count) == (1, 1)
    async with aclosing(quiet.export("orders")) as chunks:
        assert (await anext(chunks)).endswith(b',"n":1}\n')
    assert not any(one.done() for one in scans)
    for one in scans:
        one.cancel()
    await asyncio.gather(*scans, return_exceptions=True)
    await is_free(store)


async def test_a_tenants_own_scans_let_its_other_reads_pass(store: SQLiteDocumentStore) -> None:
    tenant = store.tenant(QUIET)
    await docs.create(tenant, "orders", {"n": 1})
    scans = [scan(store, QUIET.value) for _ in range(open_files.MAX_QUERIES - 1)]
    await eventually(lambda: reads_of(store).scans.fair.inside)
    assert len((await tenant.list("orders", Query())).items) == 1
    for one in scans:
        one.cancel()
    await is_free(store)


async def test_a_scan_ends_when_its_caller_leaves_wherever_it_stands(store: SQLiteDocumentStore) -> None:
    """Working, between two slices, in line for a seat, and behind the tenant's own."""
    scans = [scan(store, "noisy") for _ in range(3 * open_files.MAX_QUERIES)]
    await eventually(lambda: reads_of(store).scans.waiting)
    for one in reversed(scans):
        one.cancel()
    await is_free(store)
    assert len((await store.tenant(QUIET).list("orders", Query())).items) == 0


async def test_an_export_whose_client_leaves_ends_and_lets_its_connection_go(
    store: SQLiteDocumentStore,
) -> None:
    tenant = store.tenant(QUIET)
    for _ in range(5):
        await docs.create(tenant, "orders", {"a": [{"b": n} for n in range(20_000)]})
    alternatives = ",".join(f'{{"a.b":-{n}}}' for n in range(1, 90))
    node = filters.parse(f'{{"$or":[{alternatives}]}}')
    for _ in range(3):
        export = tenant.export("orders", node)
        step = asyncio.ensure_future(anext(export, b""))
        await eventually(lambda: reads_of(store).scans.fair.inside)
        step.cancel()
        with pytest.raises(asyncio.CancelledError):
            await step
        await export.aclose()
    await is_free(store)


async def test_a_large_filter_is_prepared_from_a_seat_of_the_scans(store: SQLiteDocumentStore) -> None:
    """SQLite takes milliseconds for it, and cannot lay it down in the middle."""
    tenant = store.tenant(QUIET)
    await docs.create(tenant, "orders", {"n": 1})
    reads = reads_of(store)
    taken = [await reads.scans.take("noisy") for _ in range(int(reads.scans.fair.seats))]
    node = filters.parse(_alternatives(LARGE + 1))
    async with aclosing(tenant.export("orders", node)) as chunks:
        page = asyncio.ensure_future(tenant.list("orders", Query(node)))
        export = asyncio.ensure_future(anext(chunks))
        await eventually(lambda: reads.scans.waiting == 2)
        assert len((await tenant.list("orders", Query(filters.parse(_alternatives(LARGE))))).items) == 1
        assert not page.done() and not export.done()
        for seat in taken:
            seat.release()
        assert len((await page).items) == 1 and await export
    await is_free(store)


async def test_what_scans_freed_goes_back_to_the_system_once_none_is_under_way(
    store: SQLiteDocumentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_back: list[int] = []
    monkeypatch.setattr(sqlite_reads, "_REST", 0.0)
    monkeypatch.setattr(memory, "return_free", lambda: given_back.append(0))
    scans = reads_of(store).scans
    first, second = scan(store, "a"), scan(store, "b")
    await eventually(lambda: scans.fair.inside + scans.waiting == 2)
    first.cancel()
    await eventually(lambda: scans.fair.inside + scans.waiting == 1)
    for _ in range(20):
        await asyncio.sleep(0)
    assert not given_back
    second.cancel()
    await eventually(lambda: given_back == [0])
    assert len((await store.tenant(QUIET).list("orders", Query(count=True))).items) == 0
    await is_free(store)
    assert given_back == [0]


def _alternatives(count: int) -> str:
    return f'{{"$or":[{",".join(f"""{{"n":{n}}}""" for n in range(count))}]}}'


async def test_too_many_queries_are_their_tenants_own_doing(store: SQLiteDocumentStore) -> None:
    scans = [scan(store, "noisy") for _ in range(open_files.MAX_QUERIES + open_files.MAX_WAITING)]
    await eventually(lambda: reads_of(store).scans.fair.inside)
    with pytest.raises(TenantQueueFull) as refused:
        await scan(store, "noisy")
    assert refused.value.status == 429 and "Retry-After" in refused.value.headers
    assert len((await store.tenant(QUIET).list("orders", Query())).items) == 0
    for one in scans:
        one.cancel()
    await is_free(store)


async def test_who_waits_for_the_tenants_own_queries_in_vain_is_told_so(tmp_path: Path) -> None:
    store = SQLiteDocumentStore(tmp_path, b"k" * 32, query_seconds=0.05)
    await store.start()
    assert store._services is not None
    file = await store._services.files.acquire("noisy")
    for _ in range(open_files.MAX_QUERIES):
        await file.queries.acquire()
    with pytest.raises(TenantQueueFull, match="own queries"):
        await scan(store, "noisy")
    store._services.files.release(file)
    await store.close()


async def test_closing_the_store_ends_what_it_reads(tmp_path: Path) -> None:
    store = SQLiteDocumentStore(tmp_path, b"k" * 32, query_seconds=3600.0)
    await store.start()
    scans = [scan(store, f"noisy-{number}") for number in range(3) for _ in range(6)]
    await eventually(lambda: reads_of(store).scans.waiting > 6)
    await store.close()
    found = await asyncio.gather(*scans, return_exceptions=True)
    assert all(isinstance(error, StoreUnavailable) for error in found), found
