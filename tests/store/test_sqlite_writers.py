"""Writers are shared fairly: a tenant that writes little does not wait for all those that write much."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway.store.sqlite_files import Files
from gateway.store.sqlite_transaction import Operation, Transaction
from gateway.store.sqlite_writers import THREADS, Writers


async def test_a_group_of_writes_takes_a_seat_in_its_turn_and_is_charged_for_its_time(tmp_path: Path) -> None:
    writers = Writers()
    files = Files(tmp_path, writers, 2, None)
    file = await files.acquire("acme")
    others = [await writers.seats.take(f"other-{number}") for number in range(THREADS)]
    written = [file.write(Operation(lambda transaction: None)) for _ in range(3)]
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

    writing = [file.write(Operation(until_told)) for file in noisy]
    quiet = await asyncio.wait_for(files.acquire("quiet"), 30)
    ends.set()
    await asyncio.gather(*writing)
    for file in (*noisy, quiet):
        files.release(file)
    await files.close()
    await writers.close()
