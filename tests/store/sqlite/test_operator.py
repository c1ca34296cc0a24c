"""Sizes, backups, restoring and verifying of SQLite files, beside a store that writes."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import aclosing, closing
from pathlib import Path

import pytest

from gateway.core.errors import BadRequest, Conflict, Gone, NotFound, StoreUnavailable
from gateway.core.model import TenantId
from gateway.store.model import collection
from gateway.store.model.query import Query
from gateway.store.sqlite.engine import SQLiteDocumentStore
from gateway.store.sqlite.files import copy
from gateway.store.sqlite.operator import SQLiteOperator
from tests.eventually import eventually
from tests.store import docs
from tests.store.conformance import ACME, GLOBEX, ids

KEY = b"k" * 32
SETTINGS = collection.from_data(
    {
        "indexes": [{"name": "a", "fields": ["a"]}, {"name": "n", "fields": ["n"], "unique": True}],
    }
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "documents"


@pytest.fixture
async def store(folder: Path) -> AsyncIterator[SQLiteDocumentStore]:
    store = SQLiteDocumentStore(folder, KEY)
    await store.start()
    yield store
    await store.close()


async def test_tenants_and_their_sizes_are_told(store: SQLiteDocumentStore, folder: Path) -> None:
    operator = SQLiteOperator(folder)
    assert await operator.tenants() == ()
    for tenant in (GLOBEX, ACME):
        await docs.replace(store.tenant(tenant), "c", "x", {"a": 1})
    await docs.replace(store.tenant(ACME), "d", "x", {"a": "é"})
    (folder / "not a tenant.db").write_text("")
    assert await operator.tenants() == (ACME, GLOBEX)
    size = await operator.size(ACME)
    assert (size.tenant, size.collections, size.documents, size.bytes) == (ACME, 2, 2, 17)
    assert size.stored_bytes > 4096
    for attempt in (operator.size, operator.verify):
        with pytest.raises(NotFound):
            await attempt(TenantId("nobody"))


async def test_a_backup_taken_while_writing_is_whole_and_holds_every_earlier_write(
    store: SQLiteDocumentStore, folder: Path, tmp_path: Path
) -> None:
    tenant = store.tenant(ACME)
    await tenant.put_collection("c", SETTINGS)
    acknowledged = 0
    stop = False

    async def write() -> None:
        nonlocal acknowledged
        while not stop:
            await docs.replace(tenant, "c", f"{acknowledged:06}", {"n": acknowledged, "a": ["x" * 1000, 1]})
            acknowledged += 1

    writing = asyncio.create_task(write())
    operator = SQLiteOperator(folder)
    known = []
    for turn in range(3):
        await eventually(lambda: acknowledged > max(known, default=0))
        known.append(acknowledged)
        target = tmp_path / f"{turn}.backup"
        assert await operator.backup(ACME, target) == target.stat().st_size
    stop = True
    await writing
    assert known[0] > 0 and (tmp_path / "0.backup").stat().st_mode & 0o777 == 0o600
    for turn, least in enumerate(known):
        size = await operator.restore(TenantId(f"copy-{turn}"), tmp_path / f"{turn}.backup")
        assert least <= size.documents <= acknowledged
        assert await operator.verify(size.tenant) == ()
        found = await store.tenant(size.tenant).list("c", Query(limit=1000))
        assert [document.data["n"] for document in found.items] == list(range(min(1000, size.documents)))
    with pytest.raises(FileExistsError):
        await operator.backup(ACME, tmp_path / "0.backup")


async def test_data_is_only_replaced_when_told_so_and_while_nobody_has_it_open(
    folder: Path, tmp_path: Path
) -> None:
    store = SQLiteDocumentStore(folder, KEY)
    await store.start()
    tenant, operator = store.tenant(ACME), SQLiteOperator(folder)
    await docs.replace(tenant, "c", "old", {})
    async with aclosing(tenant.changes("c")) as feed:
        event = (await anext(feed)).position
    await operator.backup(ACME, tmp_path / "backup")
    await docs.replace(tenant, "c", "new", {})
    with pytest.raises(Conflict, match="replace"):
        await operator.restore(ACME, tmp_path / "backup")
    with pytest.raises(Conflict, match="stop the gateway"):
        await operator.restore(ACME, tmp_path / "backup", replace=True)
    assert await ids(tenant, "c") == ["new", "old"]
    await store.close()
    size = await operator.restore(ACME, tmp_path / "backup", replace=True)
    assert size.documents == 1
    store = SQLiteDocumentStore(folder, KEY)
    await store.start()
    assert await ids(store.tenant(ACME), "c") == ["old"]
    with pytest.raises(Gone):  # an event of a history that did not happen
        await anext(store.tenant(ACME).changes("c", event))
    await store.close()


@pytest.mark.parametrize("kind", ["text", "empty", "foreign", "damaged", "none"])
async def test_what_is_no_whole_backup_is_not_restored(
    store: SQLiteDocumentStore, folder: Path, tmp_path: Path, kind: str
) -> None:
    source, operator = tmp_path / "backup", SQLiteOperator(folder)
    if kind == "text":
        source.write_bytes(b"no database " * 1000)
    elif kind == "empty":
        source.touch()
    elif kind == "foreign":
        with closing(sqlite3.connect(source)) as connection:
            connection.execute("CREATE TABLE theirs (a)")
    elif kind == "damaged":
        await docs.replace(store.tenant(ACME), "c", "x", {})
        await operator.backup(ACME, source)
        with closing(sqlite3.connect(source, isolation_level=None)) as connection:
            connection.execute("UPDATE collections SET documents = 7")
    with pytest.raises(BadRequest, match=str(source)):
        await operator.restore(GLOBEX, source)
    assert GLOBEX not in await operator.tenants() and not list(folder.glob("*.restoring*"))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ("UPDATE collections SET bytes = bytes + 1", "miscounted"),
        ("DELETE FROM collections", "not listed"),
        ("UPDATE documents SET data = '[]'", "not what was written"),
        ("DELETE FROM entries WHERE main = 0", "misses"),
        ("DELETE FROM uniques", "misses"),
        ("INSERT INTO entries SELECT n, r, val, 'ghost', main FROM entries LIMIT 1", "no document's"),
    ],
)
async def test_verifying_finds_what_does_not_fit_together(
    store: SQLiteDocumentStore, folder: Path, spoil: str, said: str
) -> None:
    await store.tenant(ACME).put_collection("c", SETTINGS)
    await docs.replace(store.tenant(ACME), "c", "x", {"a": [1, 2], "n": 1})
    operator = SQLiteOperator(folder)
    assert await operator.verify(ACME) == ()
    with closing(sqlite3.connect(folder / "acme.db", isolation_level=None)) as connection:
        connection.execute(spoil)
    assert any(said in problem for problem in await operator.verify(ACME))


async def test_a_backup_that_fails_leaves_no_file(folder: Path, tmp_path: Path) -> None:
    folder.mkdir()
    (folder / "acme.db").write_bytes(b"no database " * 1000)
    with pytest.raises(StoreUnavailable, match="acme"):
        await SQLiteOperator(folder).backup(ACME, tmp_path / "backup")

    class Full(sqlite3.Connection):
        def backup(self, target: sqlite3.Connection, **more: object) -> None:
            target.execute("CREATE TABLE half (a)")
            raise sqlite3.OperationalError("database or disk is full")

    with closing(Full(":memory:")) as full, pytest.raises(sqlite3.OperationalError):
        copy.copy(full, tmp_path / "backup", lambda done, total: None)
    assert not list(tmp_path.glob("backup*"))


async def test_verifying_finds_a_torn_file(folder: Path) -> None:
    store = SQLiteDocumentStore(folder, KEY)
    await store.start()
    for n in range(50):
        await docs.replace(store.tenant(ACME), "c", str(n), {"a": "x" * 2000})
    await store.close()
    with (folder / "acme.db").open("r+b") as file:
        file.seek(8 * 4096)
        file.write(b"torn" * 8192)
    (problem,) = await SQLiteOperator(folder).verify(ACME)
    assert "damaged" in problem or "cannot be read" in problem


def test_a_copy_ends_however_much_is_written_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "source.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as source:
        source.execute("PRAGMA journal_mode=WAL")
        source.execute("CREATE TABLE t (a)")
        source.execute("INSERT INTO t VALUES (zeroblob(20000000))")
        told: list[tuple[int, int]] = []

        def progress(done: int, total: int) -> None:
            told.append((done, total))
            assert len(told) < 100, "it begins again each time"
            with closing(sqlite3.connect(path, isolation_level=None)) as writer:
                writer.execute("INSERT INTO t VALUES (1)")

        copy.copy(source, tmp_path / "copy", progress)
    assert len(told) > 3 and told == sorted(told) and told[-1][0] == told[-1][1]
    with closing(sqlite3.connect(tmp_path / "copy")) as copied:
        assert copied.execute("SELECT count(*) FROM t").fetchone() == (1,)
