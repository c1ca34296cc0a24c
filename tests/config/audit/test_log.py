"""The file of the audit: what is acknowledged is there, and what is not as it was written is found."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.config.audit import file as audit_file
from gateway.config.audit import log as audit_log
from gateway.config.audit.log import AuditLog, AuditUnwritable
from gateway.core.config import audit
from gateway.core.config.audit import START, Entry
from gateway.core.config.refused_tries import UNKNOWN
from tests.eventually import END, eventually, poll
from tests.faults.test_disk import files_of_at_most

NOW = 1_800_000_000.0


def at(folder: Path, copy: str = "") -> AuditLog:
    return AuditLog(folder / "audit.log", folder / "config.sqlite", copy, now=lambda: NOW)


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[AuditLog]:
    made = at(tmp_path)
    await made.start()
    yield made
    await made.close()


async def write(log: AuditLog, count: int, first: int = 1) -> None:
    for number in range(first, first + count):
        entry = Entry("applied", author="alice", from_revision=number - 1, to_revision=number)
        await log.record(entry)


async def reopened(log: AuditLog) -> AuditLog:
    """As after a restart."""
    await log.close()
    new = at(log.path.parent)
    await new.start()
    await new.close()
    return new


def verify_files(files: list[Path]) -> list[str]:
    return audit.verify(audit_file.lines_of(audit_file.open_all(files)), None)


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def seqs(path: Path) -> list[int]:
    return [json.loads(line)["seq"] for line in lines(path)]


async def test_lines_are_there_newest_first_and_verify(log: AuditLog) -> None:
    assert await log.page(0, 10) == [] == await log.verify()
    await write(log, 5)
    assert [line["to"] for line in await log.page(0, 2)] == [5, 4]
    assert [line["seq"] for line in await log.page(4, 10)] == [3, 2, 1]
    assert await log.verify() == []
    assert log.path.stat().st_mode & 0o777 == 0o600


async def test_lines_of_several_at_once_are_one_chain(log: AuditLog) -> None:
    other = at(log.path.parent)  # as in another process on the same data folder
    await asyncio.gather(*(one.record(Entry("applied")) for one in (log, other) * 10))
    assert seqs(log.path) == list(range(1, 21)) and await other.verify() == []


# --- what others did to the file -------------------------------------------------------------------


async def test_a_tail_that_is_cut_off_is_found_and_stays_known(log: AuditLog) -> None:
    await write(log, 5)
    log.path.write_bytes(b"".join(lines(log.path)[:2]))
    assert await log.verify() == ["seq 3 to 5 are missing at the end"]
    log = await reopened(log)
    assert await log.verify() == ["seq 3 to 4 are missing before audit.log:3 (seq 5)"]
    (told, *_) = await log.page(0, 1)
    assert told["action"] == "recovered" and "the lines 3 to 4 were removed" in told["detail"]


@pytest.mark.parametrize("emptied", [False, True])
async def test_a_file_that_was_removed_or_emptied_is_found(log: AuditLog, emptied: bool) -> None:
    await write(log, 5)
    log.path.write_bytes(b"") if emptied else log.path.unlink()
    assert await log.verify() == ["seq 1 to 5 are missing at the end"]
    await write(log, 1)
    assert await log.verify() == ["seq 1 to 5 are missing before audit.log:1 (seq 6)"]


async def test_lines_that_somebody_else_appended_are_found(log: AuditLog, tmp_path: Path) -> None:
    await write(log, 2)
    forger = at(tmp_path / "forger")
    shutil.copytree(tmp_path, forger.path.parent, ignore=lambda *_: ["forger"])
    await write(forger, 1)
    log.path.write_bytes(forger.path.read_bytes())
    assert await log.verify() == ["seq 3 at the end: the gateway has not written that"]


# --- rotation --------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["rename", "rename and create", "copytruncate"])
async def test_a_rotation_of_any_kind_leaves_one_chain_and_one_history(log: AuditLog, way: str) -> None:
    for generation in range(3):
        await write(log, 3, first=3 * generation + 1)
        for number in range(generation, 0, -1):
            log.path.with_name(f"audit.log.{number}").rename(log.path.with_name(f"audit.log.{number + 1}"))
        rotated = log.path.with_name("audit.log.1")
        if way == "copytruncate":
            shutil.copy(log.path, rotated)
            os.truncate(log.path, 0)
        else:
            log.path.rename(rotated)
            if way == "rename and create":
                log.path.touch(0o600)
        assert await log.verify() == []
    log = await reopened(log)
    await write(log, 1, first=10)
    assert seqs(log.path) == [10] and await log.verify() == []
    assert [line["seq"] for line in await log.page(8, 100)] == list(range(7, 0, -1))
    assert audit_file.last_revision(log.path) == 10


async def test_files_that_were_compressed_or_moved_verify_together_and_a_missing_one_is_named(
    log: AuditLog, tmp_path: Path
) -> None:
    for day in ("20261127", "20261128"):
        await write(log, 3)
        log.path.rename(log.path.with_name(f"audit.log-{day}"))
    await write(log, 3)
    shutil.copy(log.path, tmp_path / "audit.log.bak")  # of somebody, and no part
    old, newer = (tmp_path / f"audit.log-{day}" for day in ("20261127", "20261128"))
    packed = tmp_path / f"{old.name}.gz"
    packed.write_bytes(gzip.compress(old.read_bytes()))
    old.unlink()
    assert await log.verify() == []
    assert verify_files([log.path, packed, newer]) == []
    assert verify_files([packed, log.path]) == ["seq 4 to 6 are missing before audit.log:1 (seq 7)"]
    packed.unlink()
    assert await log.verify() == ["seq 1 to 3 are missing before audit.log-20261128:1 (seq 4)"]


async def test_a_crash_between_a_rotation_and_the_first_line_after_it_loses_nothing(log: AuditLog) -> None:
    await write(log, 3)
    whole = log.path.read_bytes()
    log.path.write_bytes(b"".join(lines(log.path)[:2]))  # the third is in the anchor only
    log.path.rename(log.path.with_name("audit.log.1"))
    log = await reopened(log)
    assert log.path.with_name("audit.log.1").read_bytes() + log.path.read_bytes() == whole


# --- crashes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [0, 1, 100, -1, None])
async def test_a_last_line_that_a_crash_tore_is_completed(log: AuditLog, kept: int | None) -> None:
    await write(log, 3)
    whole = log.path.read_bytes()
    *before, last = lines(log.path)
    log.path.write_bytes(b"".join(before) + last[:kept])
    log = await reopened(log)
    assert log.path.read_bytes() == whole and await log.verify() == []


async def test_the_first_line_of_all_is_completed_too(log: AuditLog) -> None:
    await write(log, 1)
    whole = log.path.read_bytes()
    log.path.unlink()
    log = await reopened(log)
    assert log.path.read_bytes() == whole


@pytest.mark.parametrize("rest", [b"\0" * 100_000, b'{"seq":4,"at":1.0', b"x"])
async def test_what_is_no_line_at_the_end_is_removed_and_told(log: AuditLog, rest: bytes) -> None:
    await write(log, 3)
    log.path.write_bytes(log.path.read_bytes() + rest)
    log = await reopened(log)
    (told, *_) = await log.page(0, 1)
    assert (told["seq"], told["action"]) == (4, "recovered")
    said = f"{len(rest)} bytes at the end of the file, which were no line, were removed"
    assert told["detail"] == said and await log.verify() == []


async def test_a_database_that_was_lost_or_is_older_takes_the_lines_over_and_tells(log: AuditLog) -> None:
    await write(log, 3)
    log.path.with_name("config.sqlite").unlink()
    log = await reopened(log)
    assert seqs(log.path) == [1, 2, 3, 4] and await log.verify() == []
    (told, *_) = await log.page(0, 1)
    assert "config.sqlite knew the lines up to 0 only" in told["detail"]
    log = await reopened(log)
    assert seqs(log.path) == [1, 2, 3, 4]


KILLED = """
import asyncio, sys
from pathlib import Path
from gateway.config.audit.log import AuditLog
from gateway.core.config import audit
from gateway.core.config.audit import START, Entry
async def main():
    folder = Path(sys.argv[1])
    log = AuditLog(folder / "audit.log", folder / "config.sqlite")
    await log.start()
    number = 0
    while True:
        number += 1
        await log.record(Entry("applied", author=sys.argv[2], to_revision=number))
        print(number, flush=True)
asyncio.run(main())
"""


async def test_processes_that_are_killed_while_they_write_leave_all_they_acknowledged_and_one_chain(
    log: AuditLog, tmp_path: Path
) -> None:
    for round_ in range(2):
        said = [tmp_path / f"said{round_}{name}" for name in "ab"]
        processes = []
        for path in said:
            with path.open("w") as out:
                command = [sys.executable, "-c", KILLED, str(tmp_path), path.name]
                processes.append(subprocess.Popen(command, stdout=out))
        for path in said:
            poll(lambda path=path: len(path.read_text().splitlines()) > 5)  # type: ignore[misc]
        for process in processes:
            process.send_signal(signal.SIGKILL)
            process.wait(END)
        log = await reopened(log)
        assert await log.verify() == []
        for path in said:
            last = int(path.read_text().splitlines()[-2])
            theirs = [line["to"] for line in await log.page(0, 1000) if line["author"] == path.name]
            assert last in theirs


# --- a disk that does not take it ------------------------------------------------------------------


async def test_what_cannot_be_written_is_an_error_and_comes_before_the_next_line(log: AuditLog) -> None:
    await write(log, 2)
    size = log.path.stat().st_size
    with files_of_at_most(size + 100):
        with pytest.raises(AuditUnwritable, match=r"config\.sqlite|audit\.log: .*; "):
            await write(log, 1, first=3)
        with pytest.raises(AuditUnwritable):
            await log.ready()
    assert log.path.stat().st_size == size
    await log.ready()
    assert seqs(log.path) == [1, 2, 3]
    await write(log, 1, first=4)
    assert seqs(log.path) == [1, 2, 3, 4] and await log.verify() == []


async def test_a_file_that_cannot_be_opened_is_said_at_the_start_and_refuses_what_needs_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "audit.log").mkdir()
    log = at(tmp_path)
    await log.start()
    assert f"The audit cannot be written: {log.path}: it is a folder, and no file; " in caplog.text
    with pytest.raises(AuditUnwritable):
        await log.ready()
    (tmp_path / "audit.log").rmdir()
    await log.ready()
    await log.close()


async def test_a_fifo_in_its_place_is_an_error_and_hangs_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "audit.log", 0o600)
    log = at(tmp_path)
    with pytest.raises(AuditUnwritable):
        await log.record(Entry("applied"))


# --- a second file ---------------------------------------------------------------------------------


async def test_a_copy_has_the_same_lines_and_catches_up_after_a_restart(tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere.log"
    log = at(tmp_path)
    await log.start()
    await write(log, 3)
    log.path.rename(tmp_path / "audit.log.1")
    await write(log, 2)
    await log.close()
    for first in (6, 8):
        log = at(tmp_path, str(copy))
        await log.start()
        await write(log, 2, first=first)
        await log.close()
        assert copy.read_bytes() == (tmp_path / "audit.log.1").read_bytes() + log.path.read_bytes()
    assert verify_files([copy]) == [] and copy.stat().st_mode & 0o777 == 0o600


async def test_a_copy_goes_on_after_its_own_rotation_and_behind_a_torn_line(tmp_path: Path) -> None:
    copy = tmp_path / "copy" / "audit.log"
    copy.parent.mkdir()
    log = at(tmp_path, str(copy))
    await log.start()
    await write(log, 2)
    await eventually(lambda: copy.exists() and seqs(copy) == [1, 2])
    copy.rename(copy.with_name("audit.log.1"))
    await write(log, 2, first=3)
    await eventually(lambda: copy.exists() and seqs(copy) == [3, 4])
    copy.write_bytes(copy.read_bytes()[:-5])
    await write(log, 1, first=5)
    await log.close()
    assert seqs(copy) == [3, 4, 5]


async def test_a_copy_that_is_renamed_in_the_moment_of_its_writing_has_no_line_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy" / "audit.log"
    copy.parent.mkdir()
    rotated = copy.with_name("audit.log.1")
    append = audit_file.append

    def append_and_rotate(path: Path, data: bytes) -> None:
        append(path, data)
        if path == copy and data and not rotated.exists():
            copy.rename(rotated)

    monkeypatch.setattr(audit_file, "append", append_and_rotate)
    log = at(tmp_path, str(copy))
    await log.start()
    await write(log, 2)
    await eventually(rotated.exists)
    await write(log, 2, first=3)
    await log.close()
    assert seqs(rotated) + seqs(copy) == [1, 2, 3, 4]


async def test_a_copy_that_cannot_be_written_is_logged_once_and_keeps_nobody_from_a_change(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = tmp_path / "not mounted" / "audit.log"
    log = at(tmp_path, str(copy))
    await log.start()
    await write(log, 2)
    await eventually(lambda: f"The audit is not copied to {copy}" in caplog.text)
    await write(log, 2, first=3)
    await log.close()
    assert caplog.text.count("The audit is not copied") == 1
    copy.parent.mkdir()
    log = at(tmp_path, str(copy))
    await log.start()
    await log.close()
    assert seqs(copy) == [1, 2, 3, 4]


# --- costs and bounds ------------------------------------------------------------------------------


async def test_a_page_reads_a_part_of_a_large_file(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_file, "_BLOCK", 1000)
    last, made = START, b""
    for _ in range(200):
        line, last = audit.line_of(Entry("applied"), last)
        made += line
    log.path.write_bytes(made)
    read: list[int] = []

    def parse(line: bytes) -> object:
        read.append(len(line))
        return parsed(line)

    parsed = audit.parse
    monkeypatch.setattr(audit, "parse", parse)
    for before in (0, 150, 100, 7, 1):
        read.clear()
        page = await log.page(before, 3)
        end = before or 201
        assert [line["seq"] for line in page] == [seq for seq in range(end - 1, end - 4, -1) if seq > 0]
        assert len(read) < 30


async def test_damaged_lines_do_not_keep_a_page_from_the_others(
    log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_file, "_BLOCK", 1000)
    await write(log, 30)
    content = [b"\xff" * 1500 + b"\n" if n % 3 else line for n, line in enumerate(lines(log.path))]
    log.path.write_bytes(b"".join(content))
    for before in range(2, 31):
        whole = [seq for seq in range(before - 1, 0, -1) if seq % 3 == 1]
        assert [line["seq"] for line in await log.page(before, 100)] == whole


async def test_a_flood_of_refused_tries_is_a_few_lines_and_a_number(
    log: AuditLog, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, audit_log.__name__)
    for _ in range(500):
        await log.record(Entry("refused", "refused", address="192.0.2.1"))
    await log.record(Entry("refused", "refused", author="bob"))
    await log.close()
    assert len(lines(log.path)) == UNKNOWN + 2
    (told, *_) = await log.page(0, 1)
    assert told["detail"].startswith(f"{500 - UNKNOWN} more refused tries") and told["at"] == NOW
    assert await log.verify() == []
