"""Writers are shared fairly: a tenant that writes little does not wait for all those that write much."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from threading import Thread

import pytest

from gateway.core.model import TenantId
from gateway.store.model.patch import MergePatch
from gateway.store.model.query import Query
from gateway.store.model.write import Update
from gateway.store.sqlite.engine import SQLiteDocumentStore
from gateway.store.sqlite.files.connections import open_writer
from gateway.store.sqlite.files.open_files import Files
from gateway.store.sqlite.write.group_commit import run_group
from gateway.store.sqlite.write.operations import bulk
from gateway.store.sqlite.write.state import States
from gateway.store.sqlite.write.transaction import Operation, Transaction
from gateway.store.sqlite.write.writers import (
    MAX_REST,
    THREADS,
    TURN,
    WORK,
    FifoSemaphore,
    ShortReads,
    WriterPacing,
    Writers,
)
from tests.eventually import eventually, poll
from tests.store import docs


async def test_a_group_of_writes_takes_a_seat_in_its_turn_and_is_charged_for_its_time(tmp_path: Path) -> None:
    writers = Writers()
    files = Files(tmp_path, writers, 2, None)
    file = await files.acquire("acme")
    others = [await writers.seats.take(f"other-{number}") for number in range(THREADS)]
    written = [file.writes.submit(Operation(lambda transaction: None)) for _ in range(3)]
    for _ in range(10):
        await asyncio.sleep(0)
    assert writers.seats.waiting == 1, "a tenant waits for one writer, however much it writes"
    assert not any(one.done() for one in written)
    others.pop().release()
    await asyncio.gather(*written)
    assert writers.seats.fair.inside == THREADS - 1
    assert writers.seats.fair.flows["acme"].estimate > 0
    for seat in others:
        seat.release()
    files.release(file)
    await files.close()
    await writers.close()


async def test_a_file_is_opened_while_all_writers_write(tmp_path: Path) -> None:
    writers = Writers()
    files = Files(tmp_path, writers, 2 * THREADS, None)
    noisy = [await files.acquire(f"noisy-{number}") for number in range(THREADS)]
    ends = asyncio.Event()
    loop = asyncio.get_running_loop()

    def until_told(transaction: Transaction) -> None:
        asyncio.run_coroutine_threadsafe(ends.wait(), loop).result()

    writing = [file.writes.submit(Operation(until_told)) for file in noisy]
    quiet = await asyncio.wait_for(files.acquire("quiet"), 30)
    ends.set()
    await asyncio.gather(*writing)
    for file in (*noisy, quiet):
        files.release(file)
    await files.close()
    await writers.close()


class Clock:
    """Work and rest, in seconds, by hand."""

    def __init__(self) -> None:
        self.time = 50.0
        self.rested = 0.0

    def __call__(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        self.rested += seconds


def worked(reads: ShortReads, pieces: int, seconds: float) -> float:
    """How long a group rested beside so many pieces of work."""
    clock = Clock()
    pacing = WriterPacing(reads, FifoSemaphore(), clock, clock.sleep)
    for _ in range(pieces):
        clock.time += seconds
        pacing.step()
    return clock.rested


def test_a_group_works_half_of_the_time_while_there_are_short_reads_and_no_less() -> None:
    reads = ShortReads()
    assert worked(reads, 1000, WORK / 5) == 0
    reads.count = 2
    assert 0.9 * 1000 * WORK / 5 < worked(reads, 1000, WORK / 5) <= 1000 * WORK / 5 + 1e-6
    assert abs(worked(reads, 10, 20 * MAX_REST) - 10 * MAX_REST) < 1e-6, "a piece that took long is no debt"


def test_groups_work_one_at_a_time_and_take_turns_in_the_order_in_which_they_came() -> None:
    semaphore, told, working = FifoSemaphore(), [], 0

    def group(name: str) -> None:
        nonlocal working
        clock = Clock()
        pacing = WriterPacing(ShortReads(), semaphore, clock, clock.sleep)
        with pacing.working():
            for _ in range(6):
                working += 1
                assert working == 1
                told.append(name)
                working -= 1
                clock.time += TURN * 0.6
                pacing.step()

    threads = [Thread(target=group, args=(name,)) for name in "abc"]
    semaphore.acquire()
    for number, thread in enumerate(threads, 1):
        thread.start()
        poll(lambda number=number: len(semaphore._waiters) == number)  # type: ignore[misc]
    semaphore.release()
    for thread in threads:
        thread.join()
    assert "".join(told) == "aabbcc" * 3


def test_a_group_that_waits_for_the_disk_or_a_worker_process_lets_others_work() -> None:
    semaphore = FifoSemaphore()
    pacing = WriterPacing(ShortReads(), semaphore)
    with pacing.working():
        with pacing.waiting():
            semaphore.acquire()
            assert not semaphore.has_waiters
            semaphore.release()
        with pytest.raises(ZeroDivisionError), pacing.waiting():
            raise ZeroDivisionError
    semaphore.acquire()
    semaphore.release()


async def test_a_bulk_looks_at_who_waits_before_each_of_its_writes(tmp_path: Path) -> None:

    connection = open_writer(tmp_path / "acme.db", None)
    steps: list[float] = []

    def clock() -> float:
        steps.append(0.0)
        return 0.0

    pacing = WriterPacing(ShortReads(), FifoSemaphore(), clock)
    writes = [Update(f"not there {number}", MergePatch({})) for number in range(300)]
    operations = [Operation(bulk("c", writes, atomic=False))]
    (settled,) = run_group(connection, States(connection), operations, None, pacing).settled
    assert [outcome.status for outcome in settled.result] == [404] * 300
    assert len(steps) >= 300
    connection.close()


async def test_reads_count_as_short_until_they_end_or_turn_out_to_be_scans(tmp_path: Path) -> None:
    store = SQLiteDocumentStore(tmp_path, b"k" * 32)
    await store.start()
    tenant, short = store.tenant(TenantId("acme")), store._writers.short_reads
    for number in range(30):
        await docs.create(tenant, "c", {"n": number})
    reads = [asyncio.ensure_future(tenant.list("c", Query(count=True))) for _ in range(8)]
    await eventually(lambda: store.is_reading)
    for read in reads[4:]:
        read.cancel()
    await asyncio.gather(*reads, return_exceptions=True)
    async with aclosing(tenant.export("c")) as export:
        await anext(export)
    await eventually(lambda: short.count == 0)
    assert not store.is_reading
    await store.close()
