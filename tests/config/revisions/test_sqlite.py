"""The revisions in config.sqlite: numbered for ever, kept to the byte, bounded."""

from __future__ import annotations

import signal
import sqlite3
import stat
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.config.audit import file as audit_file
from gateway.config.audit.log import AuditLog
from gateway.config.ports import HeadMoved, NoRevision, RevisionStore
from gateway.config.revisions import sqlite as module
from gateway.config.revisions.sqlite import FILE, SQLiteRevisions
from gateway.core.config.audit import Entry
from gateway.core.config.revision import CONFIRMED, Draft, Origin, Revision
from gateway.runtime import sqlite_file as store_file
from gateway.runtime.sqlite_file import SQLiteUnusable
from tests.eventually import END, poll
from tests.faults.test_disk import files_of_at_most

NOW = 1_800_000_000.0
ALICE = Origin("alice", "more seats", "api", "192.0.2.1")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLiteRevisions]:
    made = SQLiteRevisions(tmp_path / FILE)
    await made.start()
    yield made
    await made.close()


def draft(text: str = "a: 1\n", at: float = NOW) -> Draft:
    return Draft(text, ALICE, at)


async def test_a_revision_is_read_as_it_was_added(store: SQLiteRevisions) -> None:
    port: RevisionStore = store
    assert await port.head() is None
    text = "# ä\r\na: 1\n\n"
    wanted = Draft(text, ALICE, NOW, restores=3, confirm_by=NOW + 60)
    made = await port.add(wanted, 0)
    assert made == Revision(1, 0, wanted.digest, len(text.encode()), NOW, ALICE, 3, False, NOW + 60)
    assert await port.head() == made == await port.get(1)
    assert await port.text(1) == text
    assert await port.confirm(1) == replace(made, confirm_by=0.0, confirmation=CONFIRMED)


async def test_of_two_with_one_parent_the_second_is_refused(store: SQLiteRevisions) -> None:
    first = await store.add(draft(), 0)
    for parent in (0, 2):
        with pytest.raises(HeadMoved) as found:
            await store.add(draft("b: 1\n"), parent)
        assert found.value.head == first
    assert await store.page(0, 10) == [first]


async def test_the_newest_come_first(store: SQLiteRevisions) -> None:
    for number in range(5):
        await store.add(draft(f"a: {number}\n"), number)
    assert [one.number for one in await store.page(0, 2)] == [5, 4]
    assert [one.number for one in await store.page(4, 10)] == [3, 2, 1]


async def test_what_was_intended_is_there_after_a_restart_until_it_is_added(store: SQLiteRevisions) -> None:
    assert await store.intended() is None
    await store.intend(draft())
    other = SQLiteRevisions(store.path)
    assert await other.intended() == draft()
    await other.add(draft(), 0)
    assert await store.intended() is None


@pytest.mark.parametrize("number", [0, 7])
async def test_a_revision_that_is_not_there_is_none(store: SQLiteRevisions, number: int) -> None:
    await store.add(draft(), 0)
    for call in (store.get, store.text, store.confirm):
        with pytest.raises(NoRevision):
            await call(number)


async def test_a_number_of_another_place_is_taken_unless_it_would_be_used_twice(
    store: SQLiteRevisions,
) -> None:
    numbers = [(await store.add(draft("a: 1\n"), 0, number=7)).number]
    for given in (7, 3, 0, 20):
        numbers.append((await store.add(draft(f"a: {given}\n"), numbers[-1], number=given)).number)
    assert numbers == [7, 8, 9, 10, 20]


async def test_the_last_and_the_pinned_ones_are_kept_with_their_texts_and_nothing_else(
    store: SQLiteRevisions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT", 3)
    await store.add(draft("shared\n"), 0)
    await store.add(draft("pinned\n"), 1)
    assert (await store.pin(2, pinned=True)).pinned
    for number in range(2, 9):
        text = "shared\n" if number % 2 else f"{number + 1}\n"
        await store.add(draft(text), number)
    assert [one.number for one in await store.page(0, 100)] == [9, 8, 7, 2]
    assert [await store.text(number) for number in (2, 7, 8, 9)] == ["pinned\n", "7\n", "shared\n", "9\n"]
    assert texts(store) == 4
    await store.pin(2, pinned=False)
    await store.add(draft("7\n"), 9)
    assert [one.number for one in await store.page(0, 100)] == [10, 9, 8] and texts(store) == 3
    with pytest.raises(NoRevision):
        await store.text(1)


async def test_what_a_confirmation_goes_back_to_is_kept(
    store: SQLiteRevisions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT", 2)
    for number in range(5):
        head = await store.add(draft(f"{number}\n"), number)
    head = await store.add(Draft("tried\n", ALICE, NOW, confirm_by=NOW + 60), head.number)
    assert await store.text(head.parent) == "4\n"


def texts(store: SQLiteRevisions) -> int:
    with closing(sqlite3.connect(store.path)) as db:
        return int(db.execute("SELECT count(*) FROM texts").fetchone()[0])


async def test_the_file_is_its_owners_alone_with_all_that_sqlite_puts_beside_it(
    store: SQLiteRevisions,
) -> None:
    with closing(sqlite3.connect(store.path)) as db:
        await store.add(draft(), 0)
        db.execute("SELECT count(*) FROM revisions").fetchone()
        files = list(store.path.parent.iterdir())
        assert {file.name for file in files} >= {FILE, f"{FILE}-wal"}
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


# --- damage ----------------------------------------------------------------------------------------


def spoil(path: Path, content: bytes = b"SQLite format 3\0" + b"\xff" * 4096) -> None:
    path.write_bytes(content)
    path.chmod(0o600)


@pytest.mark.parametrize("content", [b"", b"nothing of SQLite's", b"SQLite format 3\0" + b"\xff" * 4096])
async def test_a_damaged_file_is_set_aside_and_numbers_go_on_above_those_in_the_audit(
    store: SQLiteRevisions, content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = AuditLog(store.path.with_name("audit.log"), store.path)
    await log.start()
    for number in (1, 2, 3):
        await log.record(Entry("applied", from_revision=number - 1, to_revision=number))
    await log.close()
    await store.close()
    spoil(store.path, content)
    store.path.with_name(f"{FILE}-wal").write_bytes(b"of the damaged one")
    await store.start()
    assert await store.head() is None
    assert (await store.add(draft(), 0)).number == 4
    aside = {file.name[len(FILE) :].partition("-")[2]: file for file in tmp_path.glob(f"{FILE}.damaged-*")}
    assert content in [file.read_bytes() for file in aside.values()]
    assert any(name.endswith("-wal") for name in aside)
    assert "is damaged. It was renamed to config.sqlite.damaged-" in caplog.text


async def test_a_damaged_file_that_is_the_only_copy_of_the_config_ends_the_start(
    store: SQLiteRevisions,
) -> None:
    spoil(store.path)
    with pytest.raises(SQLiteUnusable, match=r"it is damaged .*restore it from its backup"):
        await SQLiteRevisions(store.path, only_copy=True).start()
    assert store.path.read_bytes().startswith(b"SQLite format 3\0\xff")


async def test_numbers_do_not_go_back_with_a_file_that_was_restored_from_a_backup(
    store: SQLiteRevisions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_file, "_LOOK_BACK", 5)
    log = AuditLog(store.path.with_name("audit.log"), store.path)
    await store.add(draft(), 0)
    await store.close()
    backup = store.path.read_bytes()
    await log.start()
    for number in range(1, 5):
        await store.add(draft(f"{number}\n"), number)
        await log.record(Entry("applied", from_revision=number, to_revision=number + 1))
    for _ in range(10):
        await log.record(Entry("refused", "refused"))
    await log.close()
    await store.close()
    spoil(store.path, backup)
    await store.start()
    assert (await store.add(draft("x\n"), 1)).number == 6


async def test_a_log_of_changes_without_its_file_is_not_taken_for_that_of_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / FILE
    old = SQLiteRevisions(path)
    await old.start()
    with closing(sqlite3.connect(path)) as db:  # holds the file, so that the -wal stays
        db.execute("SELECT count(*) FROM revisions").fetchone()
        await old.add(draft("old\n"), 0)
        wal = path.with_name(f"{FILE}-wal").read_bytes()
    path.unlink()
    path.with_name(f"{FILE}-wal").write_bytes(wal)
    new = SQLiteRevisions(path)
    await new.start()
    assert await new.head() is None
    assert [file.read_bytes() for file in tmp_path.glob(f"{FILE}.stray-*-wal")] == [wal]


async def test_a_text_that_is_not_what_it_was_is_an_error_and_heals_when_it_is_live_again(
    store: SQLiteRevisions,
) -> None:
    await store.add(draft("a: 1\n"), 0)
    for damaged in (b"no zlib", zlib.compress(b"a: 2\n")):
        with closing(sqlite3.connect(store.path)) as db, db:
            db.execute("UPDATE texts SET compressed = ?", (damaged,))
        with pytest.raises(SQLiteUnusable, match="the text of revision 1 is not what it was"):
            await store.text(1)
    await store.add(draft("a: 1\n"), 1)
    assert await store.text(1) == "a: 1\n"


async def test_a_file_of_a_later_version_is_refused_and_not_set_aside(store: SQLiteRevisions) -> None:
    with closing(sqlite3.connect(store.path)) as db:
        db.execute("PRAGMA user_version = 3")
    with pytest.raises(SQLiteUnusable, match=r"it is of version 3.*run the version of the gateway that made"):
        await store.start()


async def test_a_file_of_the_version_before_is_brought_to_this_one_with_all_that_it_has(
    store: SQLiteRevisions,
) -> None:
    first = await store.add(draft(), 0)
    await store.close()
    with closing(sqlite3.connect(store.path)) as db:
        db.executescript(
            "ALTER TABLE revisions DROP COLUMN run; ALTER TABLE revisions DROP COLUMN confirmation;"
            " PRAGMA user_version = 1;"
        )
    with pytest.raises(SQLiteUnusable, match="start the gateway, which brings it to that"):
        await store.head()
    await store.start()
    assert await store.head() == first
    assert (await store.add(replace(draft("a: 2\n"), run="here/1"), 1)).run == "here/1"


async def test_what_a_confirmation_goes_back_to_is_kept_however_many_wait_for_one(
    store: SQLiteRevisions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT", 3)
    for number in range(3):
        await store.add(draft(f"a: {number}\n"), number)
    for number in range(3, 8):
        await store.add(replace(draft(f"a: {number}\n"), confirm_by=NOW + 60), number)
    assert [one.number for one in await store.page(0, 10)] == [8, 7, 6, 3]
    assert await store.text(3) == "a: 2\n"
    await store.confirm(8)
    await store.add(draft("b: 1\n"), 8)
    assert [one.number for one in await store.page(0, 10)] == [9, 8, 7]


async def test_a_disk_that_is_full_keeps_what_there_is_and_says_so(store: SQLiteRevisions) -> None:
    first = await store.add(draft(), 0)
    with files_of_at_most(1000), pytest.raises(SQLiteUnusable, match=f"{store.path}: .*; "):
        await store.add(draft("b: 1\n"), 1)
    assert await store.head() == first
    assert (await store.add(draft("b: 1\n"), 1)).number == 2


KILLED = """
import asyncio, sys
from pathlib import Path
from gateway.config.revisions.sqlite import SQLiteRevisions
from gateway.core.config.revision import Draft, Origin
async def main():
    store = SQLiteRevisions(Path(sys.argv[1]))
    await store.start()
    head = await store.head()
    number = head.number if head else 0
    while True:
        number = (await store.add(Draft(f"{number}\\n", Origin("x", "", "api"), 1.0), number)).number
        print(number, flush=True)
asyncio.run(main())
"""


async def test_a_process_that_is_killed_while_it_writes_has_lost_nothing_that_it_acknowledged(
    store: SQLiteRevisions, tmp_path: Path
) -> None:
    said = tmp_path / "said"
    for _ in range(2):
        with said.open("w") as out:
            process = subprocess.Popen([sys.executable, "-c", KILLED, str(store.path)], stdout=out)
        poll(lambda: len(said.read_text().splitlines()) > 5)
        process.send_signal(signal.SIGKILL)
        process.wait(END)
        acknowledged = int(said.read_text().splitlines()[-2])
        await store.start()
        head = await store.head()
        assert head is not None and head.number >= acknowledged
        assert await store.text(head.number) == f"{head.parent}\n"


# --- its costs -------------------------------------------------------------------------------------


async def test_the_newest_one_and_another_cost_the_same_after_few_revisions_and_after_many(
    store: SQLiteRevisions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted in steps of SQLite's machine."""
    steps: list[int] = []
    opened = store_file.SQLiteFile.open

    def counting(file: store_file.SQLiteFile) -> sqlite3.Connection:
        db = opened(file)
        db.set_progress_handler(lambda: steps.append(1) and None, 1)
        return db

    async def cost() -> int:
        with monkeypatch.context() as patched:
            patched.setattr(store_file.SQLiteFile, "open", counting)
            steps.clear()
            head = await store.head()
            assert head is not None
            await store.add(draft(f"one more than {head.number}\n"), head.number)
            return len(steps)

    monkeypatch.setattr(module, "KEPT", 10)
    for number in range(15):
        await store.add(draft(f"{number}\n"), number)
    few = await cost()
    for number in range(16, 60):
        await store.add(draft(f"{number}\n"), number)
    assert await cost() <= few
