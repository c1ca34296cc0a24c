"""Daily quotas and their file."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway.limits.quotas import Quotas
from tests.eventually import END, eventually

pytestmark = pytest.mark.asyncio
DAY = 86400
NOON = 20_000 * DAY + 43200


class Clock:
    now = float(NOON)

    def __call__(self) -> float:
        return self.now


async def counted(path: Path, clock: Clock, *tenants: str) -> None:
    """One process's life, in which each of these makes a request."""
    quotas = Quotas(path, clock)
    await quotas.start()
    for tenant in tenants:
        quotas.used(tenant)
        quotas.count(tenant)
    await quotas.close()


async def used(path: Path, clock: Clock, tenant: str = "acme") -> int:
    quotas = Quotas(path, clock)
    await quotas.start()
    try:
        return quotas.used(tenant)
    finally:
        await quotas.close()


async def test_what_was_used_survives_a_restart(tmp_path: Path) -> None:
    path, clock = tmp_path / "quotas.sqlite", Clock()
    await counted(path, clock, "acme", "acme", "globex")
    await counted(path, clock, "acme")
    assert await used(path, clock) == 3
    assert await used(path, clock, "globex") == 1
    assert path.stat().st_mode & 0o777 == 0o600


async def test_yesterday_does_not_count_and_leaves_the_file(tmp_path: Path) -> None:
    path, clock = tmp_path / "quotas.sqlite", Clock()
    await counted(path, clock, "acme", "globex")
    clock.now += DAY
    assert await used(path, clock) == 0
    await counted(path, clock, "acme")
    assert await used(path, clock) == 1
    clock.now -= DAY
    assert await used(path, clock, "globex") == 0


async def test_without_quotas_there_is_no_file(tmp_path: Path) -> None:
    await counted(tmp_path / "quotas.sqlite", Clock())
    assert not list(tmp_path.iterdir())


async def test_a_day_that_ends_while_it_is_written_begins_at_zero(tmp_path: Path) -> None:
    path, clock = tmp_path / "quotas.sqlite", Clock()
    quotas = Quotas(path, clock)
    await quotas.start()
    quotas.used("acme")
    quotas.count("acme")
    writing = asyncio.create_task(quotas.flush())
    await asyncio.sleep(0)
    clock.now += DAY
    assert quotas.used("acme") == 0
    quotas.count("acme")
    await writing
    assert quotas.used("acme") == 1
    await quotas.close()
    assert await used(path, clock) == 1


async def test_what_is_being_written_counts_too(tmp_path: Path) -> None:
    """However long the disk takes: else a tenant would have its quota once more meanwhile."""
    begun, may_end = threading.Event(), threading.Event()

    class OnASlowDisk(Quotas):
        def _write(self, day: int, new: Mapping[str, int]) -> dict[str, int] | None:
            begun.set()
            assert may_end.wait(END)
            return super()._write(day, new)

    quotas = OnASlowDisk(tmp_path / "quotas.sqlite", Clock())
    await quotas.start()
    quotas.count("acme")
    flush = asyncio.create_task(quotas.flush())
    await eventually(begun.is_set)
    assert quotas.used("acme") == 1
    quotas.count("acme")
    assert quotas.used("acme") == 2
    may_end.set()
    await flush
    assert quotas.used("acme") == 2
    await quotas.close()
    assert await used(tmp_path / "quotas.sqlite", Clock()) == 2


async def test_two_processes_on_one_file_count_together(tmp_path: Path) -> None:
    path, clock = tmp_path / "quotas.sqlite", Clock()
    one, two = Quotas(path, clock), Quotas(path, clock)
    await one.start()
    await two.start()
    for quotas in (one, two, one):
        quotas.used("acme")
        quotas.count("acme")
        await quotas.flush()
    assert one.used("acme") == 3
    await one.close()
    await two.close()


async def test_a_damaged_file_is_put_aside_and_said_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, clock = tmp_path / "quotas.sqlite", Clock()
    path.write_bytes(b"no database at all" * 100)
    with caplog.at_level(logging.ERROR):
        await counted(path, clock, "acme")
    (record,) = caplog.records
    assert str(path) in record.getMessage()
    assert "begins at zero" in record.getMessage()
    assert [p.read_bytes()[:2] for p in tmp_path.glob("*.damaged-*")] == [b"no"]
    assert await used(path, clock) == 1


async def test_a_file_that_is_damaged_later_costs_nothing_of_what_is_in_memory(tmp_path: Path) -> None:
    path, clock = tmp_path / "quotas.sqlite", Clock()
    quotas = Quotas(path, clock)
    await quotas.start()
    for harm in (lambda: None, lambda: path.write_bytes(b"x" * 5000), path.unlink):
        harm()
        quotas.used("acme")
        quotas.count("acme")
        for _ in range(3):
            await quotas.flush()
    assert quotas.used("acme") == 3
    await quotas.close()
    assert await used(path, clock) == 3


async def test_a_file_that_cannot_be_written_is_said_once_and_counts_go_on_in_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, clock = tmp_path / "quotas.sqlite", Clock()
    quotas = Quotas(path, clock)
    await quotas.start()
    quotas.used("acme")
    quotas.count("acme")
    await quotas.flush()
    path.rename(tmp_path / "away")
    path.mkdir()  # whatever is there, it is no file
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            quotas.used("acme")
            quotas.count("acme")
            await quotas.flush()
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        assert quotas.used("acme") == 4
        path.rmdir()
        (tmp_path / "away").rename(path)
        await quotas.close()
        assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert await used(path, clock) == 4


_KILLED = """
import asyncio, sys
from pathlib import Path
from gateway.limits.quotas import Quotas

async def main():
    quotas = Quotas(Path(sys.argv[1]))
    await quotas.start()
    number = 0
    while True:
        quotas.used("acme"); quotas.count("acme"); number += 1
        print(number, flush=True)
        await asyncio.sleep(0.002)

asyncio.run(main())
"""


async def test_a_kill_forgets_the_last_second_at_most(tmp_path: Path) -> None:
    path = tmp_path / "quotas.sqlite"
    process = subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    await asyncio.sleep(0)
    read: list[int] = []

    def until_counted_on() -> None:
        assert process.stdout is not None
        seen = 0.0
        for line in process.stdout:
            read.append(int(line))
            if path.exists() and not seen:
                seen = read[-1]
            if seen and read[-1] >= seen + 100:
                return

    await asyncio.to_thread(until_counted_on)
    process.send_signal(signal.SIGKILL)
    rest, _ = await asyncio.to_thread(process.communicate)
    done = read[-1] + len(rest.splitlines())
    quotas = Quotas(path)
    await quotas.start()
    stored = quotas.used("acme")
    await quotas.close()
    # It counts at most every 2 ms, so a second and the time to write are 600 of them at the most.
    assert 0 < stored <= done
    assert done - stored <= 700
