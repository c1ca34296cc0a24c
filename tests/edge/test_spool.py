"""What waits in temporary files: whole, in order, and never touched by the event loop's thread."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import threading
from collections.abc import Callable
from typing import IO

import pytest

from gateway.core.policy.disk_budget import DiskBudget, DiskUse
from gateway.edge import spool
from gateway.edge.spool import Outbox
from tests.eventually import eventually

pytestmark = pytest.mark.asyncio
PIECE = 50_000


class Disk:
    """What the spool's file does, in which threads; it may be made to wait, or to have no room."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.threads: set[int] = set()
        self.go_on = threading.Event()
        self.go_on.set()
        self.has_room: Callable[[], bool] = lambda: True
        self.written = 0
        write_at, read_at = spool._write_at, spool._read_at

        def write(file: IO[bytes], at: int, data: memoryview) -> int:
            self._touched()
            if not self.has_room():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.written += 1
            return write_at(file, at, data)

        def read(file: IO[bytes], at: int, size: int) -> bytes:
            self._touched()
            return read_at(file, at, size)

        monkeypatch.setattr(spool, "_write_at", write)
        monkeypatch.setattr(spool, "_read_at", read)

    def _touched(self) -> None:
        self.threads.add(threading.get_ident())
        assert self.go_on.wait(30)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


class Reader:
    """Takes what an outbox has, whenever it says that something has changed."""

    def __init__(self, budget: DiskBudget | None = None, tenant: str = "acme") -> None:
        self.changed = asyncio.Event()
        self.budget = budget or DiskBudget(1 << 40)
        self.outbox = Outbox(self.changed.set, DiskUse(self.budget, tenant))
        self.got = b""

    def take_all(self) -> None:
        while piece := self.outbox.take():
            self.got += piece

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                self.changed.clear()
                self.take_all()
                if not condition():
                    await self.changed.wait()


def numbered(size: int, start: int = 0) -> bytes:
    return b"".join(b"%07d " % number for number in range(start, start + size // 8))


async def test_a_disk_that_hangs_holds_nobody_up(disk: Disk) -> None:
    disk.go_on.clear()
    reader = Reader()
    data = numbered(4 * PIECE)
    for at in range(0, len(data), PIECE):
        reader.outbox.put(data[at : at + PIECE])  # the loop goes on, though nothing can be written
    reader.take_all()
    assert reader.got == data[:PIECE]
    assert not reader.outbox.empty
    disk.go_on.set()
    await reader.until(lambda: reader.outbox.empty)
    assert reader.got == data
    assert disk.threads
    assert threading.get_ident() not in disk.threads
    reader.outbox.close()


async def test_a_disk_that_is_slow_makes_the_backend_wait(disk: Disk) -> None:
    disk.go_on.clear()
    reader = Reader()
    put = 0
    while not reader.outbox.full:
        reader.outbox.put(b"x" * PIECE)
        put += PIECE
        assert put < 2 * spool._UNWRITTEN + 2 * PIECE
    disk.go_on.set()
    await reader.until(lambda: reader.outbox.empty)
    assert len(reader.got) == put
    assert not reader.outbox.full
    reader.outbox.close()


async def test_a_disk_without_room_changes_no_order(disk: Disk) -> None:
    """What is in the file comes before what found no room in it."""
    reader = Reader()
    disk.has_room = lambda: disk.written < 1
    data = numbered(6 * PIECE)
    for at in range(0, len(data), PIECE):
        reader.outbox.put(data[at : at + PIECE])
        reader.changed.clear()
        if at:
            await asyncio.wait_for(reader.changed.wait(), 30) if not reader.outbox.full else None
    assert reader.outbox.full, "the backend waits"
    await reader.until(lambda: reader.outbox.empty)
    assert reader.got == data
    assert not reader.outbox.full
    reader.outbox.close()


@pytest.mark.parametrize("seed", range(10))
async def test_whatever_the_disk_does_what_comes_out_is_what_was_put(disk: Disk, seed: int) -> None:
    dice = random.Random(seed)
    disk.has_room = lambda: dice.random() < 0.7
    reader = Reader()
    put, number = b"", 0
    for _ in range(200):
        act = dice.random()
        if act < 0.5 and not reader.outbox.full:
            data = numbered(8 * dice.randrange(1, 10_000), number)
            number += len(data) // 8
            put += data
            reader.outbox.put(data)
        elif act < 0.8:
            reader.got += reader.outbox.take()
        else:
            await asyncio.sleep(0)
    await reader.until(lambda: reader.outbox.empty)
    assert reader.got == put
    assert threading.get_ident() not in disk.threads
    reader.outbox.close()


async def test_what_was_taken_before_is_never_given_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The file is used anew without being made shorter, and it may grow while it is read."""
    reader = Reader()
    reader.outbox.put(b"1" * PIECE)
    reader.outbox.put(b"2" * 5 * PIECE)
    await reader.until(lambda: reader.outbox.empty)
    read_at, has_read, go_on = spool._read_at, threading.Event(), threading.Event()

    def read(file: IO[bytes], at: int, size: int) -> bytes:
        data = read_at(file, at, size)
        has_read.set()
        assert go_on.wait(30)
        return data

    monkeypatch.setattr(spool, "_read_at", read)
    reader.got = b""
    put = [b"3" * PIECE, b"4" * PIECE, b"5" * PIECE]
    reader.outbox.put(put[0])
    reader.outbox.put(put[1])
    await eventually(lambda: reader.outbox._written == PIECE)
    reader.take_all()
    await eventually(has_read.is_set)
    reader.outbox.put(put[2])
    await eventually(lambda: reader.outbox._written == 2 * PIECE)
    go_on.set()
    await reader.until(lambda: reader.outbox.empty)
    assert reader.got == b"".join(put)
    reader.outbox.close()


async def test_a_file_is_closed_when_its_last_write_has_ended(disk: Disk) -> None:
    """Before that its descriptor could be another file's by the time that the write comes."""
    disk.go_on.clear()
    reader = Reader()
    reader.outbox.put(b"x" * PIECE)
    reader.outbox.put(b"y" * PIECE)
    await eventually(lambda: disk.threads)
    file = reader.outbox._file._file
    reader.outbox.close()
    assert file is not None
    assert not file.closed
    disk.go_on.set()
    await eventually(lambda: file.closed)
    assert reader.got == b""


@pytest.mark.parametrize("seed", range(5))
async def test_an_answers_file_does_not_grow_with_what_was_read_of_it(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """A long answer whose client reads a little slower than it comes."""
    monkeypatch.setattr(spool, "OUTBOX_LIMIT", 300_000)
    monkeypatch.setattr(spool, "_UNWRITTEN", 100_000)
    monkeypatch.setattr(spool, "_RING", 500_000)
    dice = random.Random(seed)
    reader = Reader()
    data = numbered(5_000_000)
    at, largest = 0, 0
    while at < len(data):
        if not reader.outbox.full:
            size = dice.randrange(1, 60_000)
            reader.outbox.put(data[at : at + size])
            at += size
        if dice.random() < 0.6:
            reader.got += reader.outbox.take()
        await asyncio.sleep(0)
        file = reader.outbox._file._file
        largest = max(largest, os.fstat(file.fileno()).st_size if file is not None else 0)
    await reader.until(lambda: reader.outbox.empty)
    assert reader.got == data
    assert 0 < largest <= 500_000
    assert reader.budget.used <= 500_000
    reader.outbox.close()
    assert reader.budget.used == 0


async def test_an_answer_that_finds_no_room_in_the_budget_waits_in_its_backend_and_loses_nothing(
    disk: Disk,
) -> None:
    budget = DiskBudget(8 * PIECE)
    readers = [Reader(budget), Reader(budget), Reader(budget, "globex")]
    data = numbered(8 * PIECE)
    put = [0, 0, 0]

    def fill(which: int) -> None:
        while put[which] < len(data) and not readers[which].outbox.full:
            at = put[which]
            readers[which].outbox.put(data[at : at + PIECE])
            put[which] += PIECE

    for which in range(3):
        fill(which)
        await eventually(lambda which=which: not readers[which].outbox._writing)
        fill(which)
    assert all(reader.outbox.full for reader in readers)
    assert budget.held("acme") <= 4 * PIECE
    assert budget.held("globex") >= PIECE, "the other tenant still finds room"
    for which in range(3):
        while put[which] < len(data) or not readers[which].outbox.empty:
            readers[which].take_all()
            fill(which)
            await asyncio.sleep(0)
        assert readers[which].got == data
        readers[which].outbox.close()
    assert budget.used == 0
