"""Long work of the SQLite engine goes in slices: it is right at every moment, and other writes go on."""

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import pytest

from gateway.core.errors import (
    Conflict,
    InsufficientStorage,
    NotFound,
    PreconditionFailed,
    QuotaExceeded,
    StoreUnavailable,
    UniqueConflict,
)
from gateway.store.filter import parse as filters
from gateway.store.model import collection
from gateway.store.model.collection import NO_SETTINGS
from gateway.store.model.patch import MergePatch
from gateway.store.model.query import Query
from gateway.store.model.write import Quota, Replace
from gateway.store.port import TenantStore
from gateway.store.sqlite.engine import SQLiteDocumentStore
from gateway.store.sqlite.operator import SQLiteOperator
from gateway.store.sqlite.write import alterations, group_commit, sweep
from gateway.store.sqlite.write.transaction import Operation, Pace
from tests.eventually import eventually, head_start, nothing_for, takes
from tests.store import docs
from tests.store.conformance import ACME, ids, match, names
from tests.store.conformance_streams import collect

SMALL = Pace(0.0, 3)  # three documents in each slice
MANY = 60  # documents: twenty slices
KEY = {"name": "key", "fields": ["key"], "unique": True}
INDEXED = collection.from_data({"indexes": [{"name": "tag", "fields": ["tag"]}, KEY]})
UNIQUE = collection.from_data({"indexes": [KEY]})
ENDING = collection.from_data({"ttl": {"field": "end"}})


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLiteDocumentStore]:
    async with aclosing(Opened(tmp_path)) as opened:
        yield await opened.start()


class Opened:
    def __init__(self, folder: Path, **options: Any) -> None:
        self._store = SQLiteDocumentStore(folder, b"k" * 32, **{"pace": SMALL, **options})

    async def start(self) -> SQLiteDocumentStore:
        await self._store.start()
        return self._store

    async def aclose(self) -> None:
        await self._store.close()


async def fill(tenant: TenantStore, name: str = "c", **more: Any) -> None:
    writes = [Replace(f"{n:03}", {"key": n, "tag": n % 5, "end": "never", **more}) for n in range(MANY)]
    assert all(outcome.status == 201 for outcome in await tenant.bulk(name, writes))


async def being_deleted(tenant: TenantStore) -> asyncio.Future[None]:
    """The deletion of a collection that nobody sees any more, and that is not cleared away."""
    deleting = asyncio.ensure_future(tenant.delete_collection("c", documents=True))
    while await names(tenant):
        await asyncio.sleep(0)
    return deleting


def rows(folder: Path, statement: str, *bound: object) -> list[Any]:
    with closing(sqlite3.connect(folder / "acme.db", isolation_level=None)) as connection:
        return connection.execute(statement, bound).fetchall()


async def reached(folder: Path, position: str) -> None:
    """Wait until an alteration has come so far."""
    await eventually(lambda: rows(folder, "SELECT 1 FROM alterations WHERE position >= ?", position))


async def clean(folder: Path) -> bool:
    """Whether the file is right, and nothing is left over in it."""
    assert await SQLiteOperator(folder).verify(ACME) == ()
    for left in ("alterations", "trash", "indexes WHERE building"):
        assert rows(folder, f"SELECT * FROM {left}") == []
    return True


# --- indexes ---


async def test_an_index_is_built_between_other_writes_and_not_used_nor_shown_before_it_is_complete(
    store: SQLiteDocumentStore, tmp_path: Path
) -> None:
    tenant = store.tenant(ACME)
    await fill(tenant)
    before = await tenant.collection("c")
    building = asyncio.ensure_future(tenant.put_collection("c", INDEXED))
    await reached(tmp_path, "010")
    for identifier in ("005", "050", "zzz"):  # behind it, before it, and after all
        await docs.replace(tenant, "c", identifier, {"key": f"new {identifier}", "tag": 9})
    await docs.delete(tenant, "c", "006")
    await docs.delete(tenant, "c", "051")
    assert len(await ids(tenant, "c", '{"tag":1}')) == MANY // 5 - 2
    assert await ids(tenant, "c", '{"tag":9}') == ["005", "050", "zzz"]
    shown = await tenant.collection("c")
    assert (shown.settings, shown.etag, shown.declared) == (NO_SETTINGS, before.etag, False)
    assert not building.done() and await SQLiteOperator(tmp_path).verify(ACME) == ()
    after, created = await building
    assert created and after.settings == INDEXED and after == await tenant.collection("c")
    assert await ids(tenant, "c", '{"tag":9}') == ["005", "050", "zzz"]
    with pytest.raises(UniqueConflict):
        await docs.create(tenant, "c", {"key": "new zzz"})
    assert await clean(tmp_path)


async def test_documents_that_break_a_unique_index_are_told_at_the_end_and_all_is_as_it_was(
    store: SQLiteDocumentStore, tmp_path: Path
) -> None:
    tenant = store.tenant(ACME)
    await tenant.put_collection("c", collection.from_data({"indexes": [{"name": "tag", "fields": ["tag"]}]}))
    await fill(tenant)
    await docs.replace(tenant, "c", "zzz", {"key": 0})
    before = await tenant.collection("c")
    with pytest.raises(UniqueConflict) as caught:
        await tenant.put_collection("c", UNIQUE)
    assert caught.value.extra == {"index": "key", "fields": ["key"]}
    assert await tenant.collection("c") == before
    assert len(await ids(tenant, "c", '{"tag":1}')) == MANY // 5 and await clean(tmp_path)


@pytest.mark.parametrize("mended", [False, True])
async def test_a_unique_index_that_is_being_built_refuses_no_write_but_a_duplicate_makes_its_building_fail(
    store: SQLiteDocumentStore, tmp_path: Path, mended: bool
) -> None:
    tenant = store.tenant(ACME)
    await fill(tenant)
    before = await tenant.collection("c")
    building = asyncio.ensure_future(tenant.put_collection("c", INDEXED))
    await reached(tmp_path, "010")
    await docs.replace(tenant, "c", "005", {"key": 3})
    await docs.patch(tenant, "c", "004", MergePatch({"tag": 7}))
    if mended:  # there was a moment of which the index could not have been true
        await docs.delete(tenant, "c", "003")
    assert not building.done() and await SQLiteOperator(tmp_path).verify(ACME) == ()
    with pytest.raises(UniqueConflict):
        await building
    after = await tenant.collection("c")
    assert (after.settings, after.etag) == (before.settings, before.etag) and await clean(tmp_path)
    await docs.replace(tenant, "c", "005", {"key": "other"})
    assert (await tenant.put_collection("c", UNIQUE))[0].settings == UNIQUE and await clean(tmp_path)


async def test_a_duplicate_that_the_building_has_not_come_to_may_be_mended(
    store: SQLiteDocumentStore, tmp_path: Path
) -> None:
    tenant = store.tenant(ACME)
    await fill(tenant)
    await docs.replace(tenant, "c", "050", {"key": 3})
    building = asyncio.ensure_future(tenant.put_collection("c", UNIQUE))
    await reached(tmp_path, "010")
    await docs.delete(tenant, "c", "050")
    await building
    with pytest.raises(UniqueConflict):
        await docs.create(tenant, "c", {"key": 3})
    assert await clean(tmp_path)


async def test_an_index_under_the_name_of_another_takes_its_place_when_it_is_complete(
    store: SQLiteDocumentStore, tmp_path: Path
) -> None:
    tenant = store.tenant(ACME)
    await fill(tenant)
    await tenant.put_collection("c", UNIQUE)
    other = collection.from_data({"indexes": [{**KEY, "fields": ["key", "tag"]}]})
    building = asyncio.ensure_future(tenant.put_collection("c", other))
    await reached(tmp_path, "010")
    with pytest.raises(UniqueConflict):  # the old one holds until then
        await docs.create(tenant, "c", {"key": 3, "tag": "another"})
    await building
    await docs.create(tenant, "c", {"key": 3, "tag": "another"})
    assert await clean(tmp_path)


@pytest.mark.parametrize("stores", [1, 2])
async def test_whatever_is_written_meanwhile_by_whichever_process_the_file_is_right(
    tmp_path: Path, stores: int
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    opened = [Opened(tmp_path) for _ in range(stores)]
    tenants = [(await one.start()).tenant(ACME) for one in opened]
    await fill(tenants[0])
    settings = [
        INDEXED,
        ENDING,
        collection.from_data({"ttl": {"seconds": 900}, "indexes": [KEY]}),
        NO_SETTINGS,
        collection.from_data({"indexes": [{"name": "tags", "fields": ["tag"]}], "ttl": {"field": "end"}}),
    ]

    async def write(tenant: TenantStore) -> None:
        identifier = f"{chance.randrange(2 * MANY):03}"
        end = chance.choice([4e9, 0])
        data = {"key": chance.random(), "tag": [1, chance.randrange(9)], "end": end}
        match chance.randrange(4):
            case 0:
                await docs.create(tenant, "c", data)
            case 1:
                await docs.delete(tenant, "c", identifier)
            case 2:
                await docs.patch(tenant, "c", identifier, MergePatch({"tag": chance.choice([None, "x"])}))
            case _:
                await docs.replace(tenant, "c", identifier, data)

    async def work(tenant: TenantStore, done: asyncio.Future[Any]) -> None:
        while not done.done():
            try:
                await write(tenant)
            except (NotFound, UniqueConflict):
                pass
            await takes(0.002)  # ids that the store makes come among those that are built still

    for wanted in chance.choices(settings, k=4):
        done = asyncio.ensure_future(chance.choice(tenants).put_collection("c", wanted))
        await asyncio.gather(*(work(tenant, done) for tenant in tenants))
        assert (await tenants[-1].collection("c")).settings == done.result()[0].settings == wanted
        assert await clean(tmp_path)
    for one in opened:
        await one.aclose()


# --- ttl ---


async def test_a_ttl_takes_hold_document_by_document_and_all_come_back_when_it_fails(
    store: SQLiteDocumentStore, tmp_path: Path
) -> None:
    tenant = store.tenant(ACME)
    await fill(tenant, end=0)
    await docs.replace(tenant, "c", "zzz", {"key": 0, "end": 0})
    both = collection.from_data({"ttl": {"field": "end"}, "indexes": [KEY]})
    before = await tenant.collection("c")
    building = asyncio.ensure_future(tenant.put_collection("c", both))
    await reached(tmp_path, "010")
    assert await ids(tenant, "c", '{"key":3}') == []
    assert store._services is not None
    file = store._services.files.get("acme")
    assert file is not None and not sweep.is_needed(file.inline)
    await file.writes.submit(Operation(sweep.sweep))
    assert not building.done() and await SQLiteOperator(tmp_path).verify(ACME) == ()
    with pytest.raises(UniqueConflict):
        await building
    assert await tenant.collection("c") == before
    count = (await tenant.list("c", Query(filters.parse('{"end":0}'), count=True))).count
    assert count == MANY + 1 and await clean(tmp_path)


async def test_a_new_ttl_holds_for_every_document_when_it_is_told(
    store: SQLiteDocumentStore, tmp_path: Path
) -> None:
    tenant = store.tenant(ACME)
    await fill(tenant, end=0)
    setting = asyncio.ensure_future(tenant.put_collection("c", ENDING))
    await reached(tmp_path, "010")
    for identifier in ("005", "050", "zzz"):
        await docs.replace(tenant, "c", identifier, {"end": 0, "late": True})
    assert await ids(tenant, "c", '{"late":true}') == ["050"]
    await setting
    assert await ids(tenant, "c") == [] and await SQLiteOperator(tmp_path).verify(ACME) == ()
    await tenant.patch_collection("c", MergePatch({"ttl": None}))
    assert await ids(tenant, "c", '{"late":true}') == ["005", "050", "zzz"] and await clean(tmp_path)


# --- deleting ---


async def test_a_deleted_collection_is_gone_at_once_and_one_of_its_name_never_meets_old_documents(
    store: SQLiteDocumentStore, tmp_path: Path
) -> None:
    tenant, limited = store.tenant(ACME), store.tenant(ACME, Quota(documents=MANY))
    await tenant.put_collection("c", INDEXED)
    await fill(tenant)
    with pytest.raises(QuotaExceeded):
        await docs.create(limited, "c", {})
    async with aclosing(tenant.changes("c")) as feed:
        await anext(feed)
        for _ in range(2):  # what comes meanwhile is deleted the same way
            deleting = asyncio.ensure_future(tenant.delete_collection("c", documents=True))
            (change,) = await collect(feed, 1)
            assert change.kind == "collection_deleted"
            with pytest.raises(NotFound):
                await tenant.read("c", "001")
            assert await ids(tenant, "c") == await names(tenant) == []
            assert (await tenant.list("c", Query(count=True))).count == 0
            made = (await docs.replace(limited, "c", "050", {"key": 3})).document
            assert made.version == 1 and await tenant.read("c", "050") == made
            assert await ids(tenant, "c") == ["050"] and (await tenant.collection("c")).documents == 1
            assert (await collect(feed, 1))[0].document == made
            assert not deleting.done() and await SQLiteOperator(tmp_path).verify(ACME) == ()
            await tenant.put_collection("c", UNIQUE)
            with pytest.raises(UniqueConflict):
                await docs.create(tenant, "c", {"key": 3})
            await tenant.bulk("c", [Replace(f"{n}", {"key": -n}) for n in range(101, 300)])
            await collect(feed, 199)
            await deleting
            assert (await tenant.list("c", Query(count=True))).count == 200 and await clean(tmp_path)
            assert await ids(tenant, "c", '{"key":3}') == ["050"]
            await fill(tenant, "other")
            await tenant.delete_collection("other", documents=True)
            assert await tenant.read("c", "050") == made
    await tenant.delete_collection("c", documents=True)
    assert await clean(tmp_path) and rows(tmp_path, "SELECT * FROM aliases") == []
    assert rows(tmp_path, "SELECT count(*) FROM documents") == [(0,)]


async def test_a_collection_that_came_meanwhile_and_was_emptied_leaves_nothing(
    store: SQLiteDocumentStore, tmp_path: Path
) -> None:
    tenant = store.tenant(ACME)
    await fill(tenant)
    deleting = await being_deleted(tenant)
    await docs.replace(tenant, "c", "x", {})
    await deleting
    assert rows(tmp_path, "SELECT count(*) FROM aliases") == [(1,)]
    await docs.delete(tenant, "c", "x")
    assert rows(tmp_path, "SELECT count(*) FROM aliases") == [(0,)]
    await docs.replace(tenant, "c", "x", {})
    assert await ids(tenant, "c") == ["x"] and await clean(tmp_path)


async def test_documents_with_an_end_are_swept_from_a_collection_that_came_meanwhile(
    store: SQLiteDocumentStore, tmp_path: Path
) -> None:
    tenant = store.tenant(ACME)
    await fill(tenant)
    deleting = await being_deleted(tenant)
    await docs.replace(tenant, "c", "stays", {})
    await deleting
    await tenant.put_collection("c", ENDING)
    await docs.replace(tenant, "c", "goes", {"end": 0})
    assert store._services is not None
    file = store._services.files.get("acme")
    assert file is not None and sweep.is_needed(file.inline)
    await file.writes.submit(Operation(sweep.sweep))
    assert (await tenant.collection("c")).documents == 1 and await clean(tmp_path)


# --- turns, ends, and what is left behind ---


async def test_changes_of_one_collection_take_turns_also_with_those_of_another_process(
    tmp_path: Path,
) -> None:
    one, two = Opened(tmp_path), Opened(tmp_path)
    tenant, other = (await one.start()).tenant(ACME), (await two.start()).tenant(ACME)
    await fill(tenant)
    first, _ = await tenant.put_collection("c", UNIQUE)
    building = asyncio.ensure_future(tenant.put_collection("c", INDEXED))
    await reached(tmp_path, "010")
    second = asyncio.ensure_future(other.put_collection("c", ENDING))
    late = asyncio.ensure_future(tenant.patch_collection("c", MergePatch({}), match(first.etag)))
    deleting = asyncio.ensure_future(other.delete_collection("c", match("none"), documents=True))
    await nothing_for(0.01)
    assert not building.done() and not second.done() and not late.done() and not deleting.done()
    await building
    for refused in (late, deleting):
        with pytest.raises(PreconditionFailed):
            await refused
    assert (await second)[0].settings == (await tenant.collection("c")).settings == ENDING
    assert await clean(tmp_path)
    with pytest.raises(Conflict):
        await tenant.delete_collection("c")
    await one.aclose()
    await two.aclose()


async def test_long_work_goes_on_when_its_caller_is_gone_and_a_store_that_closes_waits_for_it(
    tmp_path: Path,
) -> None:
    opened = Opened(tmp_path)
    tenant = (await opened.start()).tenant(ACME)
    await fill(tenant)
    building = asyncio.ensure_future(tenant.put_collection("c", INDEXED))
    await reached(tmp_path, "010")
    building.cancel()
    await asyncio.gather(building, return_exceptions=True)
    assert building.cancelled()
    waiting = asyncio.ensure_future(tenant.put_collection("c", ENDING))
    await head_start(0.01)
    await opened.aclose()
    with pytest.raises(StoreUnavailable):  # it had not begun
        await waiting
    again = Opened(tmp_path)
    assert (await (await again.start()).tenant(ACME).collection("c")).settings == INDEXED
    assert await clean(tmp_path)
    await again.aclose()


async def test_what_was_begun_is_not_refused_when_too_many_writes_wait(
    store: SQLiteDocumentStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = store.tenant(ACME)
    await fill(tenant)
    building = asyncio.ensure_future(tenant.put_collection("c", INDEXED))
    await reached(tmp_path, "003")
    monkeypatch.setattr(group_commit, "MAX_WAITING", 0)
    with pytest.raises(StoreUnavailable):
        await docs.create(tenant, "c", {})
    assert not building.done() and (await building)[0].settings == INDEXED and await clean(tmp_path)


async def test_where_the_file_becomes_full_in_a_later_slice_all_is_as_it_was(tmp_path: Path) -> None:
    opened = Opened(tmp_path, max_tenant_bytes=512 * 1024)
    tenant = (await opened.start()).tenant(ACME)
    with pytest.raises(InsufficientStorage):
        for n in range(1000):
            await docs.replace(tenant, "c", f"{n:04}", {"n": n, "a": ["y" * 100 + str(m) for m in range(20)]})
    for n in range(20):  # room for some slices
        await docs.delete(tenant, "c", f"{n:04}")
    before = await tenant.collection("c")
    settings = collection.from_data({"indexes": [{"name": "a", "fields": ["a"]}], "ttl": {"seconds": 1000}})
    building = asyncio.ensure_future(tenant.put_collection("c", settings))
    await reached(tmp_path, "0020")
    with pytest.raises(InsufficientStorage):
        await building
    assert await tenant.collection("c") == before and await clean(tmp_path)
    await tenant.delete_collection("c", documents=True)
    assert await names(tenant) == [] and await clean(tmp_path)
    await opened.aclose()


async def test_what_a_process_left_behind_is_brought_to_its_end_by_the_sweep_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "SWEEP_SECONDS", 0.01)
    one, two = Opened(tmp_path), Opened(tmp_path)
    tenant, other = (await one.start()).tenant(ACME), (await two.start()).tenant(ACME)
    await fill(tenant, end=4e9)
    before = await tenant.collection("c")
    building = asyncio.ensure_future(
        tenant.put_collection("c", collection.from_data({"indexes": [KEY], "ttl": {"field": "end"}}))
    )
    await reached(tmp_path, "010")
    await docs.replace(other, "c", "zzz", {"key": "zzz", "end": 4e9})
    # As though it had stood still, and been found by a process that was killed then.
    seconds = alterations.LEFT_SECONDS + 1
    rows(tmp_path, "UPDATE alterations SET token = 'other', at = at - ?", seconds)
    with pytest.raises(StoreUnavailable):
        await building
    assert (await other.put_collection("c", before.settings))[0].settings == before.settings  # waits for it
    assert (await tenant.list("c", Query(count=True))).count == MANY + 1 and await clean(tmp_path)
    await one.aclose()
    await two.aclose()


async def test_work_that_fits_in_one_slice_is_one_transaction(tmp_path: Path) -> None:
    opened = Opened(tmp_path, pace=Pace(60.0, 3))
    store = await opened.start()
    tenant = store.tenant(ACME)
    await fill(tenant)
    assert store._services is not None
    file = store._services.files.get("acme")
    assert file is not None

    def versions() -> int:
        (version,) = file.inline.execute("PRAGMA data_version").fetchone()
        return int(version)

    for settings in (INDEXED, ENDING, NO_SETTINGS):
        before = versions()
        await tenant.put_collection("c", settings)
        assert versions() == before + 1
    before = versions()
    await tenant.delete_collection("c", documents=True)
    assert versions() == before + 1 and await clean(tmp_path)
    await opened.aclose()
