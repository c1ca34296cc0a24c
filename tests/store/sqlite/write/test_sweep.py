"""What has had its time is swept in the SQLite engine: expired documents, old changes, old keys."""

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.core.errors import Gone, QuotaExceeded
from gateway.store.feeds import EventIds
from gateway.store.model import collection
from gateway.store.model.change import RETAINED_CHANGES, RETAINED_SECONDS
from gateway.store.model.idempotency import IDEMPOTENCY_SECONDS, IdempotencyKey
from gateway.store.model.write import Quota, Replace
from gateway.store.sqlite.engine import SQLiteDocumentStore
from gateway.store.sqlite.operator import SQLiteOperator
from gateway.store.sqlite.write import sweep as sqlite_sweep
from gateway.store.sqlite.write.transaction import Operation
from tests.eventually import eventually_await, head_start
from tests.store import docs
from tests.store.conformance import ACME, ids
from tests.store.conformance_streams import collect

TTL = collection.from_data(
    {
        "ttl": {"field": "end"},
        "indexes": [{"name": "n", "fields": ["n"], "unique": True}],
    }
)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLiteDocumentStore]:
    store = SQLiteDocumentStore(tmp_path, b"k" * 32)
    await store.start()
    yield store
    await store.close()


async def sweep(store: SQLiteDocumentStore) -> int:
    """Sweep until nothing is left to do; how often that took."""
    assert store._services is not None
    file = await store._services.files.acquire("acme")
    rounds = 0
    while sqlite_sweep.is_needed(file.inline):
        await file.writes.submit(Operation(sqlite_sweep.sweep))
        rounds += 1
    store._services.files.release(file)
    return rounds


def change(folder: Path, statement: str, *bound: object) -> None:
    with closing(sqlite3.connect(folder / "acme.db", isolation_level=None)) as connection:
        connection.execute(statement, bound)


async def test_what_is_forgotten_no_longer_counts_for_the_quota(
    store: SQLiteDocumentStore, tmp_path: Path
) -> None:
    tenant = store.tenant(ACME, Quota(bytes=1000))
    for n in range(4):
        await docs.replace(tenant, "c", "x", {}, idempotency=IdempotencyKey(f"{n}", b"1"))
    with pytest.raises(QuotaExceeded):
        await docs.replace(tenant, "c", "x", {"a": "x" * 500})
    change(tmp_path, "UPDATE idempotency SET at = at - ?", IDEMPOTENCY_SECONDS + 60)
    await sweep(store)
    await docs.replace(tenant, "c", "x", {"a": "x" * 500})
    assert await SQLiteOperator(tmp_path).verify(ACME) == ()
    change(tmp_path, "UPDATE held SET remembered = 7")
    assert "quota" in (await SQLiteOperator(tmp_path).verify(ACME))[0]


async def test_a_key_that_is_used_again_after_its_day_counts_once(
    store: SQLiteDocumentStore, tmp_path: Path
) -> None:
    tenant = store.tenant(ACME)
    for _ in range(3):
        await docs.replace(tenant, "c", "x", {}, idempotency=IdempotencyKey("k", b"1"))
        change(tmp_path, "UPDATE idempotency SET at = at - ?", IDEMPOTENCY_SECONDS + 60)
    assert await SQLiteOperator(tmp_path).verify(ACME) == ()


async def test_expired_documents_are_swept_with_their_entries_counts_and_a_change_each(
    store: SQLiteDocumentStore, tmp_path: Path
) -> None:
    tenant = store.tenant(ACME)
    await tenant.put_collection("c", TTL)
    many = sqlite_sweep.BATCH + 1
    writes = [Replace(f"{n}", {"end": 0, "n": n}) for n in range(many)]
    await tenant.bulk("c", writes[:1000])
    await docs.replace(tenant, "c", "stays", {"end": "never"})
    assert (await tenant.collection("c")).documents == many + 1
    async with aclosing(tenant.changes("c")) as feed:
        await anext(feed)
        assert await sweep(store) == 2
        swept = await collect(feed, many)
    assert {item.kind for item in swept} == {"deleted"}
    assert (await tenant.collection("c")).documents == 1 and await ids(tenant, "c") == ["stays"]
    assert await SQLiteOperator(tmp_path).verify(ACME) == ()
    assert await sweep(store) == 0


async def test_the_sweeper_comes_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_sweep, "SWEEP_SECONDS", 0.01)
    store = SQLiteDocumentStore(tmp_path, b"k" * 32)
    await store.start()
    tenant = store.tenant(ACME)
    await tenant.put_collection("c", TTL)
    await docs.replace(tenant, "c", "x", {"end": 0})

    async def swept() -> bool:
        return not (await tenant.collection("c")).documents

    await eventually_await(swept)
    await store.close()


async def test_an_event_older_than_what_is_kept_is_gone(store: SQLiteDocumentStore, tmp_path: Path) -> None:
    tenant = store.tenant(ACME)
    async with aclosing(tenant.changes("c")) as feed:
        start = (await anext(feed)).position
        await docs.create(tenant, "c", {})
        await docs.create(tenant, "c", {})
        first, second = await collect(feed, 2)
    change(tmp_path, "UPDATE changes SET at = at - ?", RETAINED_SECONDS + 60)
    assert await sweep(store) == 1
    with pytest.raises(Gone):
        await anext(tenant.changes("c", start))
    for event in (first.event, second.event):  # nothing behind them is missing
        await anext(tenant.changes("c", event))
    made = await docs.create(tenant, "c", {})
    async with aclosing(tenant.changes("c", second.event)) as feed:
        await anext(feed)
        assert [item.id for item in await collect(feed, 1)] == [made.id]


async def test_more_changes_than_are_kept_go_and_their_numbers_never_come_again(
    store: SQLiteDocumentStore, tmp_path: Path
) -> None:
    tenant = store.tenant(ACME)
    async with aclosing(tenant.changes("c")) as feed:
        start = (await anext(feed)).position
        await docs.create(tenant, "c", {})
        seq = "(SELECT max(seq) FROM changes)"
        change(tmp_path, f"UPDATE changes SET seq = {seq} + ? WHERE seq = {seq}", RETAINED_CHANGES + 1000)
        await docs.create(tenant, "c", {})
        change(tmp_path, "INSERT INTO changes SELECT 1, collection, kind, id, tag, at FROM changes LIMIT 1")
        assert await sweep(store) == 1
        with pytest.raises(Gone):  # also for a feed that is open, and fell behind
            await anext(feed)
    with pytest.raises(Gone):
        await anext(tenant.changes("c", start))
    with closing(sqlite3.connect(tmp_path / "acme.db")) as connection:
        (last,) = connection.execute("SELECT max(seq) FROM changes").fetchone()
        assert last == RETAINED_CHANGES + 1002


async def test_a_key_is_forgotten_after_a_day(store: SQLiteDocumentStore, tmp_path: Path) -> None:
    tenant, key = store.tenant(ACME), IdempotencyKey("key", b"1")
    first = await docs.create(tenant, "c", {}, idempotency=key)
    change(tmp_path, "UPDATE idempotency SET at = at - ?", IDEMPOTENCY_SECONDS - 60)
    assert await sweep(store) == 0
    assert await docs.create(tenant, "c", {}, idempotency=key) == first
    change(tmp_path, "UPDATE idempotency SET at = at - ?", 120)
    second = await docs.create(tenant, "c", {}, idempotency=IdempotencyKey("key", b"2"))
    assert second != first
    change(tmp_path, "UPDATE idempotency SET at = at - ?", IDEMPOTENCY_SECONDS + 60)
    assert await sweep(store) == 1
    with closing(sqlite3.connect(tmp_path / "acme.db")) as connection:
        assert connection.execute("SELECT count(*) FROM idempotency").fetchone() == (0,)


async def test_a_feed_does_not_join_a_reading_that_began_before_the_news(store: SQLiteDocumentStore) -> None:
    tenant = store.tenant(ACME)
    await docs.create(tenant, "c", {})
    assert store._services is not None
    feeds, reads = store._services.feeds, store._services.reads
    read, go_on = asyncio.Event(), asyncio.Event()

    class Slow:
        async def query(self, name: str, work: Any) -> Any:
            result = await reads.query(name, work)
            read.set()
            await go_on.wait()
            return result

    async with aclosing(tenant.changes("c")) as feed:
        await anext(feed)
        waiting = asyncio.ensure_future(anext(feed))  # so that the tenant has a feed to wake
        await head_start(0.02)
        log, ids = cast(Any, feeds._log), EventIds(tenant._cursors, "c")
        position = await log.begin("acme", ids, None)
        log._reads = Slow()
        early = asyncio.ensure_future(feeds._read("acme", "c", ids, position))
        await read.wait()
        made = await docs.create(tenant, "c", {})
        late = asyncio.ensure_future(feeds._read("acme", "c", ids, position))
        go_on.set()
        assert (await early).changes.items == ()
        assert [change.id for change in (await late).changes.items] == [made.id]
        news = await waiting
        while not news.items:  # a look that found nothing, before the news
            news = await anext(feed)
        assert [change.id for change in news.items] == [made.id]


CLAIMS = """
import sys
from pathlib import Path
from gateway.store.sqlite.write.sweep import Claims
claims = Claims()
print([claims.take(Path(name)) for name in sys.argv[1:]], flush=True)
sys.stdin.read()
"""


def test_a_file_is_swept_by_one_process_of_those_that_have_it_open(tmp_path: Path) -> None:
    one, other = tmp_path / "one.db", tmp_path / "other.db"
    claims = sqlite_sweep.Claims()
    assert claims.take(one)
    command = [sys.executable, "-c", CLAIMS, str(one), str(other)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == b"[False, True]\n"
        assert claims.take(one) and not claims.take(other)
        process.kill()
    assert claims.take(other)
    claims.keep({other})
    assert subprocess.run(command, input="", capture_output=True, text=True).stdout == "[True, False]\n"
    claims.close()
