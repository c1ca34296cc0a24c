"""The log of a tenant's file stays small, however slowly an export of it is read."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

from gateway.core.errors import InsufficientStorage, TenantLimit
from gateway.store.model.write import NO_QUOTA, Create, Quota, Replace
from gateway.store.sqlite.engine import SQLiteDocumentStore
from gateway.store.sqlite.files.connections import PAGE_BYTES, open_reader, open_writer
from gateway.store.sqlite.write.group_commit import FILE_BYTES, FILE_FACTOR, run_group
from gateway.store.sqlite.write.operations import operation
from gateway.store.sqlite.write.state import States
from gateway.store.sqlite.write.transaction import Operation
from tests.eventually import takes
from tests.store import docs
from tests.store.conformance import ACME

MiB = 1024 * 1024


async def test_an_export_that_is_read_too_slowly_is_cut_off_and_the_log_stays_small(tmp_path: Path) -> None:
    store = SQLiteDocumentStore(tmp_path, b"k" * 32, max_log_bytes=2 * MiB)
    await store.start()
    tenant = store.tenant(ACME)
    await tenant.bulk("c", [Replace(f"{n:03d}", {"text": "x" * 10_000}) for n in range(100)])
    log, file = tmp_path / "acme.db-wal", tmp_path / "acme.db"
    async with aclosing(tenant.export("c")) as chunks:
        first = await anext(chunks)
        largest = 0
        for n in range(400):
            await docs.replace(tenant, "d", str(n % 5), {"text": "y" * 100_000})
            largest = max(largest, log.stat().st_size - file.stat().st_size)
        assert largest < 20 * MiB, "what is written is moved into the file and the log begun anew"
        with pytest.raises(TenantLimit, match="read so slowly"):
            async for _ in chunks:
                pass
    assert first.startswith(b'{"id":"000"')
    async with aclosing(tenant.export("c")) as chunks:
        assert b"".join([chunk async for chunk in chunks]).count(b"\n") == 100
    await store.close()


async def test_the_log_stays_small_where_reads_overlap_all_the_time(tmp_path: Path) -> None:
    store = SQLiteDocumentStore(tmp_path, b"k" * 32, max_log_bytes=MiB)
    await store.start()
    tenant = store.tenant(ACME)
    await docs.replace(tenant, "c", "x", {})
    log, file = tmp_path / "acme.db-wal", tmp_path / "acme.db"
    readers = [open_reader(file) for _ in range(2)]
    for reader in readers:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM documents").fetchone()
    stop = False

    async def overlap() -> None:
        """A new reader begins before the last one ends."""
        while not stop:
            for reader in readers:
                await takes(0.02)
                reader.execute("ROLLBACK")
                reader.execute("BEGIN")
                reader.execute("SELECT count(*) FROM documents").fetchone()

    reading = asyncio.create_task(overlap())
    largest = 0
    for n in range(200):
        await docs.replace(tenant, "d", str(n % 5), {"text": "y" * 100_000})
        largest = max(largest, log.stat().st_size - file.stat().st_size)
    stop = True
    await reading
    for reader in readers:
        reader.close()
    await store.close()
    assert largest < 3 * MiB


async def test_an_export_shows_one_instant_while_little_is_written(tmp_path: Path) -> None:
    store = SQLiteDocumentStore(tmp_path, b"k" * 32, max_log_bytes=16 * MiB)
    await store.start()
    tenant = store.tenant(ACME)
    await tenant.bulk("c", [Replace(f"{n:03d}", {"text": "x" * 10_000}) for n in range(100)])
    async with aclosing(tenant.export("c")) as chunks:
        lines = await anext(chunks)
        await docs.replace(tenant, "c", "099", {"text": "later"})
        lines += b"".join([chunk async for chunk in chunks])
    assert lines.count(b"\n") == 100 and b"later" not in lines
    await store.close()


def test_a_quota_of_bytes_limits_the_file_too_and_its_end_ends_that(tmp_path: Path) -> None:
    connection = open_writer(tmp_path / "a.db", None)
    (free,) = connection.execute("PRAGMA max_page_count").fetchone()
    states = States(connection)

    def limit_after(quota: Quota) -> int:
        group = run_group(connection, states, [Operation(operation("c", Create({})), quota)])
        assert group.settled[0].error is None
        return int(connection.execute("PRAGMA max_page_count").fetchone()[0])

    assert limit_after(Quota(bytes=MiB)) == (FILE_FACTOR * MiB + FILE_BYTES) // PAGE_BYTES
    assert limit_after(Quota(documents=5)) == free
    assert limit_after(Quota(bytes=2 * MiB)) == (FILE_FACTOR * 2 * MiB + FILE_BYTES) // PAGE_BYTES
    assert limit_after(NO_QUOTA) == free
    connection.close()


async def test_the_store_s_own_limit_holds_under_a_larger_quota(tmp_path: Path) -> None:
    store = SQLiteDocumentStore(tmp_path, b"k" * 32, max_tenant_bytes=MiB)
    await store.start()
    tenant = store.tenant(ACME, Quota(bytes=100 * MiB))
    with pytest.raises(InsufficientStorage):
        await docs.create(tenant, "c", {"text": "x" * 2 * MiB})
    await store.close()
