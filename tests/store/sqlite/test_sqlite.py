"""The SQLite engine by itself: files, groups of writes, faults, and what is let go when."""

import ast
import asyncio
import logging
import os
import re
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gateway.core.errors import (
    GatewayError,
    InsufficientStorage,
    PreconditionFailed,
    QueryTooSlow,
    StoreUnavailable,
)
from gateway.core.model import TenantId
from gateway.store.filter import parse as filters
from gateway.store.model.collection import NO_SETTINGS
from gateway.store.model.document import ANY, Precondition
from gateway.store.model.query import Query
from gateway.store.model.write import Create, Replace
from gateway.store.sqlite import documents, errors
from gateway.store.sqlite.engine import SQLiteDocumentStore
from gateway.store.sqlite.files import tables
from gateway.store.sqlite.files.connections import open_writer
from gateway.store.sqlite.operator import SQLiteOperator
from gateway.store.sqlite.write import operations
from gateway.store.sqlite.write.group_commit import GROUP_SECONDS, run_group
from gateway.store.sqlite.write.state import States
from gateway.store.sqlite.write.transaction import Operation, Transaction
from tests.eventually import head_start, nothing_for
from tests.store import docs

ACME = TenantId("acme")
KEY = b"k" * 32
EXISTS = Precondition(match=frozenset({ANY}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    errors._logged.clear()
    return tmp_path / "documents"


@pytest.fixture
async def store(folder: Path) -> AsyncIterator[SQLiteDocumentStore]:
    store = SQLiteDocumentStore(folder, KEY, max_open_tenants=2)
    await store.start()
    yield store
    await store.close()


async def opened(folder: Path, **options: Any) -> SQLiteDocumentStore:
    store = SQLiteDocumentStore(folder, KEY, **options)
    await store.start()
    return store


def creation(data: dict[str, Any]) -> Operation:
    return Operation(operations.operation("orders", Create(data)))


def open_databases() -> set[str]:
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            links.append(os.readlink(descriptor))
        except OSError:
            pass
    return {link for link in links if link.endswith(".db")}


# --- files and threads ---------------------------------------------------------------------------


async def test_folder_and_files_are_for_their_owner_alone(store: SQLiteDocumentStore, folder: Path) -> None:
    old = os.umask(0)
    try:
        await docs.create(store.tenant(ACME), "orders", {})
    finally:
        os.umask(old)
    assert folder.stat().st_mode & 0o777 == 0o700
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert modes == {"acme.db": 0o600, "acme.db-wal": 0o600, "acme.db-shm": 0o600}


async def test_a_commit_is_synchronous(folder: Path) -> None:
    folder.mkdir()
    connection = open_writer(folder / "acme.db", None)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_what_savepoints_keep_is_not_written_to_a_file(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "a.db", None)
    assert writer.execute("PRAGMA temp_store").fetchone() == (2,)
    writer.close()


def test_a_group_ends_at_its_time_and_what_is_left_of_it_comes_next(tmp_path: Path) -> None:
    connection = open_writer(tmp_path / "a.db", None)

    def slow(transaction: Transaction) -> None:
        while transaction.seconds < GROUP_SECONDS:
            creation({}).run(transaction)

    group = run_group(connection, States(connection), [creation({}), Operation(slow), creation({})])
    assert len(group.settled) == 2
    connection.close()


async def test_every_write_of_groups_that_end_early_is_done_in_its_order(store: SQLiteDocumentStore) -> None:
    many = [Replace(str(n), {"n": [n] * 20}) for n in range(1000)]
    await asyncio.gather(*(store.tenant(ACME).bulk("c", many) for _ in range(20)))
    for document in (await store.tenant(ACME).list("c", Query(limit=1000))).items:
        assert document.version == 20


async def test_documents_and_cursors_outlive_a_restart(folder: Path) -> None:
    store = await opened(folder)
    made = [await docs.create(store.tenant(ACME), "orders", {"n": n}) for n in range(3)]
    page = await store.tenant(ACME).list("orders", Query(limit=2))
    await store.close()
    store = await opened(folder)
    assert await store.tenant(ACME).read("orders", made[0].id) == made[0]
    rest = await store.tenant(ACME).list("orders", Query(cursor=page.next))
    assert rest.items == (made[2],)
    await store.close()


async def test_close_finishes_what_was_taken_and_leaves_nothing_open(folder: Path) -> None:
    store = await opened(folder)
    tenants = [store.tenant(TenantId(f"t{n}")) for n in range(5)]
    await asyncio.gather(*(docs.create(tenant, "orders", {}) for tenant in tenants))
    writes = [
        asyncio.create_task(docs.replace(tenant, "orders", str(n), {}))
        for tenant in tenants
        for n in range(200)
    ]
    await asyncio.sleep(0)
    await store.close()
    assert all(written.created for written in await asyncio.gather(*writes))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("store-")]
    assert open_databases() == set()
    assert {path.suffix for path in folder.iterdir()} == {".db"}  # the logs were moved into the files
    with pytest.raises(StoreUnavailable):
        await docs.create(tenants[0], "orders", {})
    store = await opened(folder)
    assert len((await store.tenant(TenantId("t4")).list("orders", Query(limit=1000))).items) == 201
    await store.close()


async def test_few_files_are_open_however_many_tenants_work_at_once(store: SQLiteDocumentStore) -> None:
    most = 0

    async def work(name: str) -> None:
        nonlocal most
        tenant = store.tenant(TenantId(name))
        for n in range(5):
            document = await docs.create(tenant, "orders", {"n": n})
            most = max(most, len(open_databases()))
            assert await tenant.read("orders", document.id) == document
            assert len((await tenant.list("orders", Query())).items) == n + 1

    await asyncio.wait_for(asyncio.gather(*(work(f"t{n}") for n in range(12))), 30)
    assert 1 <= most <= 2


async def test_a_file_in_use_is_not_closed_and_its_successor_waits(folder: Path) -> None:
    store = await opened(folder, max_open_tenants=1)
    held = await store._services.files.acquire("acme")  # type: ignore[union-attr]
    other = asyncio.create_task(docs.create(store.tenant(TenantId("other")), "orders", {}))
    await nothing_for(0.05)
    assert not other.done()
    assert held.inline.execute("SELECT count(*) FROM documents").fetchone() == (0,)
    store._services.files.release(held)  # type: ignore[union-attr]
    assert (await asyncio.wait_for(other, 30)).version == 1
    with pytest.raises(sqlite3.ProgrammingError):  # it is closed
        held.inline.execute("SELECT 1")
    await store.close()


async def test_callers_who_go_away_while_a_file_opens_leave_it_unused(folder: Path) -> None:
    store = await opened(folder, max_open_tenants=1)
    assert store._services is not None
    for turns in range(8):
        waiting = [asyncio.create_task(store._services.files.acquire(f"t{turns}")) for _ in range(3)]
        for _ in range(turns):
            await head_start(0.0005)
        for task in waiting:
            task.cancel()
        for result in await asyncio.gather(*waiting, return_exceptions=True):
            if not isinstance(result, BaseException):
                store._services.files.release(result)
    await asyncio.wait_for(docs.create(store.tenant(ACME), "orders", {}), 30)
    await asyncio.wait_for(store.close(), 30)


@pytest.mark.parametrize("name", ["file", "readonly"])
async def test_a_folder_that_cannot_be_used_is_said_at_the_start(tmp_path: Path, name: str) -> None:
    if name == "file":
        (tmp_path / name).write_text("")
        folder = tmp_path / name
    else:
        folder = Path("/proc/documents")
    with pytest.raises(StoreUnavailable, match=str(folder)):
        await SQLiteDocumentStore(folder, KEY).start()


async def test_a_short_cursor_key_is_refused_and_never_shown(folder: Path) -> None:
    with pytest.raises(ValueError, match="32 bytes") as caught:
        SQLiteDocumentStore(folder, b"hunter2")
    assert "hunter2" not in str(caught.value)
    with pytest.raises(StoreUnavailable, match="started"):
        SQLiteDocumentStore(folder, KEY).tenant(ACME)


# --- groups of writes ----------------------------------------------------------------------------


async def test_one_failed_write_leaves_the_others_of_its_group(store: SQLiteDocumentStore) -> None:
    tenant = store.tenant(ACME)
    await docs.create(tenant, "orders", {})
    commits = await asyncio.gather(
        *(
            docs.replace(tenant, "orders", str(n), {}, EXISTS if n % 3 == 0 else Precondition())
            for n in range(60)
        ),
        return_exceptions=True,
    )
    for n, result in enumerate(commits):
        assert isinstance(result, PreconditionFailed) if n % 3 == 0 else not isinstance(result, Exception)
    assert len((await tenant.list("orders", Query(limit=1000))).items) == 41


async def test_a_change_of_settings_that_fails_takes_nothing_from_the_writes_of_its_group(
    store: SQLiteDocumentStore, folder: Path
) -> None:
    tenant = store.tenant(ACME)
    await docs.create(tenant, "orders", {})
    refused = tenant.put_collection("orders", NO_SETTINGS, Precondition(match=frozenset({'"other"'})))
    results = await asyncio.gather(
        docs.create(tenant, "orders", {}),
        docs.create(tenant, "new", {}),
        refused,
        docs.create(tenant, "orders", {}),
        return_exceptions=True,
    )
    assert [isinstance(result, PreconditionFailed) for result in results] == [False, False, True, False]
    assert (await tenant.collection("orders")).documents == 3
    assert (await tenant.collection("new")).documents == 1
    assert await SQLiteOperator(folder).verify(ACME) == ()


def test_what_an_operation_did_before_it_failed_is_undone(folder: Path) -> None:
    folder.mkdir()
    connection = open_writer(folder / "acme.db", None)

    def half(transaction: Transaction) -> None:
        creation({"half": 1}).run(transaction)
        raise PreconditionFailed()

    whole = creation({})
    group = run_group(connection, States(connection), [whole, Operation(half), whole])
    assert [type(settled.error) for settled in group.settled] == [type(None), PreconditionFailed, type(None)]
    assert connection.execute("SELECT documents, bytes FROM collections").fetchall() == [(2, 4)]
    assert connection.execute("SELECT count(*) FROM changes").fetchone() == (2,)
    assert connection.execute("SELECT data FROM documents").fetchall() == [("{}",), ("{}",)]
    connection.close()


def test_a_bug_in_a_write_commits_nothing_and_leaves_the_connection_usable(folder: Path) -> None:
    folder.mkdir()
    connection = open_writer(folder / "acme.db", None)

    def bug(transaction: Transaction) -> None:
        raise KeyError("bug")

    whole, states = creation({}), States(connection)
    with pytest.raises(KeyError):
        run_group(connection, states, [whole, Operation(bug)])
    assert connection.execute("SELECT count(*) FROM documents").fetchone() == (0,)
    assert run_group(connection, states, [whole]).settled[0].error is None
    assert connection.execute("SELECT documents, bytes FROM collections").fetchall() == [(1, 2)]
    connection.close()


async def test_a_bug_in_a_write_is_an_answer_and_a_log_line_and_the_next_write_works(
    store: SQLiteDocumentStore, caplog: pytest.LogCaptureFixture
) -> None:
    def bug(transaction: Transaction) -> None:
        raise KeyError("bug")

    tenant = store.tenant(ACME)
    with pytest.raises(GatewayError) as caught:
        await asyncio.wait_for(tenant._run("orders", bug, None), 30)
    assert caught.value.status == 500 and "bug" not in caught.value.detail
    assert "acme.db" in caplog.text and "KeyError: 'bug'" in caplog.text
    assert (await docs.create(tenant, "orders", {})).version == 1


async def test_a_write_whose_caller_goes_away_happens_once(store: SQLiteDocumentStore) -> None:
    tenant = store.tenant(ACME)
    await docs.replace(tenant, "orders", "x", {"n": 0})
    for turns in range(6):
        write = asyncio.create_task(docs.create(tenant, "gone", {"turns": turns}))
        for _ in range(turns):
            await asyncio.sleep(0)
        write.cancel()
        with pytest.raises(asyncio.CancelledError):
            await write
    await docs.create(tenant, "gone", {"turns": "last"})  # behind the others in the queue
    found = [document.data["turns"] for document in (await tenant.list("gone", Query())).items]
    assert len(found) == len(set(found)) and {1, 2, 3, 4, 5, "last"} <= set(found)


# --- faults --------------------------------------------------------------------------------------


async def test_a_full_tenant_is_507_and_goes_on_reading_and_deleting(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = await opened(folder, max_tenant_bytes=256 * 1024)
    tenant, other = store.tenant(ACME), store.tenant(TenantId("other"))
    stored = []
    with pytest.raises(InsufficientStorage) as caught:
        for _ in range(100):
            stored.append(await docs.create(tenant, "orders", {"a": "x" * 10_000}))
    assert stored and str(folder) not in caught.value.detail
    assert "acme.db" in caplog.text and "full" in caplog.text
    for document in stored:
        assert await tenant.read("orders", document.id) == document
    await docs.create(other, "orders", {"a": "x" * 10_000})
    for document in stored[:5]:
        await docs.delete(tenant, "orders", document.id)
    assert (await docs.create(tenant, "orders", {"a": "x" * 10_000})).version == 1
    await store.close()


def damage(path: Path) -> None:
    path.write_bytes(b"This is not a database. " * 500)


def another_program(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (a)")
    connection.close()


def newer(path: Path) -> None:
    connection = open_writer(path, None)
    connection.execute("PRAGMA user_version=99")
    connection.close()


def torn(path: Path) -> None:
    connection = open_writer(path, None)
    run_group(connection, States(connection), [creation({"a": "x" * 100})] * 2000)
    connection.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(size - 4096))


def empty(path: Path) -> None:
    path.touch()


def empty_with_a_log(path: Path) -> None:
    path.touch()
    path.with_name(path.name + "-wal").write_bytes(b"the latest writes")


def log_alone(path: Path) -> None:
    path.with_name(path.name + "-wal").write_bytes(b"the latest writes")


def nothing_in_it(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")


def cut(path: Path) -> None:
    connection = open_writer(path, None)
    run_group(connection, States(connection), [creation({"a": "x" * 100})] * 2000)
    connection.close()
    os.truncate(path, path.stat().st_size // 2 // 4096 * 4096)


def cut_short(path: Path) -> None:
    open_writer(path, None).close()
    os.truncate(path, 50)


def folder_in_its_place(path: Path) -> None:
    path.mkdir()


def pipe_in_its_place(path: Path) -> None:
    os.mkfifo(path)


def link_to_nothing(path: Path) -> None:
    path.symlink_to(path.with_name("not there"))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (damage, "restore BACKUPS acme"),
        (another_program, "move it away"),
        (newer, "newer gateway"),
        (torn, "recover"),
        (empty, "restore BACKUPS acme"),
        (empty_with_a_log, "acme.db-wal"),
        (log_alone, "acme.db-wal"),
        (nothing_in_it, "restore BACKUPS acme"),
        (cut, "restore BACKUPS acme"),
        (cut_short, "restore BACKUPS acme"),
        (folder_in_its_place, "folder"),
        (pipe_in_its_place, "move it away"),
        (link_to_nothing, "move it away"),
    ],
)
async def test_a_file_that_cannot_be_used_is_503_its_own_and_can_be_mended_without_a_restart(
    store: SQLiteDocumentStore, folder: Path, caplog: pytest.LogCaptureFixture, spoil: Any, said: str
) -> None:
    caplog.set_level(logging.ERROR)
    spoil(folder / "acme.db")
    tenant = store.tenant(ACME)
    for attempt in (
        docs.create(tenant, "orders", {}),
        tenant.read("orders", "x"),
        tenant.list("orders", Query()),
    ):
        with pytest.raises(StoreUnavailable) as caught:
            await attempt
        assert str(folder) not in caught.value.detail and caught.value.headers["Retry-After"]
    assert str(folder / "acme.db") in caplog.text and said in caplog.text
    assert (await docs.create(store.tenant(TenantId("other")), "orders", {})).version == 1
    for path in folder.glob("acme.db*"):
        path.rmdir() if path.is_dir() else path.unlink()
    assert (await docs.create(tenant, "orders", {})).version == 1


@pytest.mark.parametrize("spoil", [empty_with_a_log, log_alone, another_program])
async def test_a_file_that_is_refused_stays_as_it_is(
    store: SQLiteDocumentStore, folder: Path, spoil: Any
) -> None:
    spoil(folder / "acme.db")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await docs.create(store.tenant(ACME), "orders", {})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


async def test_a_file_that_is_emptied_while_it_is_open_is_no_new_one(
    store: SQLiteDocumentStore, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    document = await docs.create(store.tenant(ACME), "orders", {})
    for suffix in ("", "-wal"):
        os.truncate(folder / f"acme.db{suffix}", 0)
    tenant = store.tenant(ACME)
    for _ in range(2):
        for attempt in (tenant.read("orders", document.id), tenant.list("orders", Query())):
            with pytest.raises(StoreUnavailable):
                await attempt
        with pytest.raises(StoreUnavailable):
            await docs.create(tenant, "orders", {})
    assert "has no bytes" in caplog.text


async def test_a_new_file_has_its_name_only_when_it_is_whole_and_what_is_left_of_one_is_cleared_away(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(connection: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    store = await opened(folder)
    with monkeypatch.context() as patched:
        patched.setattr(tables, "create", killed)
        with pytest.raises(StoreUnavailable):
            await docs.create(store.tenant(ACME), "orders", {})
    assert not list(folder.iterdir())
    left, young = folder / ".acme.db.1.aa.part", folder / ".acme.db.2.bb.part"
    left.touch()
    young.touch()
    os.utime(left, (0, 0))
    await store.close()
    await (await opened(folder)).close()
    assert [path.name for path in folder.iterdir()] == [young.name]


def test_a_fault_is_logged_once_and_not_with_every_request(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    error = sqlite3.DatabaseError("malformed")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    for _ in range(50):
        assert isinstance(errors.translate(error, folder / "acme.db"), StoreUnavailable)
    assert len(caplog.records) == 1


async def test_a_locked_file_is_503_for_writes_while_reads_go_on(
    store: SQLiteDocumentStore, folder: Path
) -> None:
    tenant = store.tenant(ACME)
    document = await docs.create(tenant, "orders", {})
    assert store._services is not None
    file = store._services.files.get("acme")
    assert file is not None
    file._writer.execute("PRAGMA busy_timeout=0")
    other = sqlite3.connect(folder / "acme.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable):
        await docs.create(tenant, "orders", {})
    assert await tenant.read("orders", document.id) == document
    assert len((await tenant.list("orders", Query())).items) == 1
    other.execute("ROLLBACK")
    other.close()
    assert (await docs.create(tenant, "orders", {})).version == 1


async def test_a_query_that_takes_too_long_is_given_up(folder: Path) -> None:
    store = await opened(folder, query_seconds=0.0)
    tenant = store.tenant(ACME)
    await docs.create(tenant, "orders", {"a": [{"b": n} for n in range(5_000)]})
    with pytest.raises(QueryTooSlow, match="too long"):
        await tenant.list("orders", Query(filter=filters.parse('{"a.b":-1}')))
    await store.close()


async def test_a_large_document_is_read_through_a_thread(store: SQLiteDocumentStore) -> None:
    tenant = store.tenant(ACME)
    document = await docs.create(tenant, "orders", {"a": "x" * documents.INLINE_BYTES})
    assert store._services is not None
    assert store._services.reads.read_inline("acme", "orders", document.id) == (False, None)
    assert await tenant.read("orders", document.id) == document


def test_no_statement_numbers_its_placeholders() -> None:
    """?1 bound from a sequence is a warning at each statement of Python 3.12.0 to 3.12.3."""
    rooms = Path(documents.__file__).parent.parent
    modules = [path for path in rooms.rglob("*.py") if "import sqlite3" in path.read_text()]
    assert len(modules) > 10
    for path in [*modules, *rooms.glob("store/sqlite_*.py")]:
        tree = ast.parse(path.read_text())
        nodes = (n for n in ast.walk(tree) if isinstance(n, ast.Module | ast.FunctionDef | ast.ClassDef))
        docs = {ast.get_docstring(node, clean=False) for node in nodes}
        texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)} - docs
        assert not [text for text in texts if re.search(r"[?][0-9]", str(text))], path
