"""Jobs in worker processes: within their limits, in fair turns, and nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.core.errors import StoreSaturated, StoreUnavailable, TenantQueueFull
from gateway.runtime.processes.pool import MAX_WAITING, JobTooCostly, Limits, ProcessPool
from tests.eventually import eventually, poll
from tests.runtime import jobs

MIB = 1024 * 1024
ROOT = Path(__file__).parents[2]


@pytest.fixture
async def pool() -> AsyncIterator[ProcessPool]:
    pool = ProcessPool(2)
    yield pool
    await pool.close()


def is_gone(pid: int) -> bool:
    """Whether it has ended; as a zombie, it may wait for whoever it was left to."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


async def test_a_job_gives_what_its_function_gives(pool: ProcessPool) -> None:
    large = os.urandom(3 * MIB)
    assert await pool.run("a", os.path.join, "x", "y") == "x/y"
    assert await pool.run("a", bytes.__add__, large, b"!") == large + b"!"
    assert await pool.run("a", divmod, 7, 2) == (3, 1)


async def test_a_worker_is_another_process_stays_warm_and_yields_the_processor(pool: ProcessPool) -> None:
    assert pool.pids == ()
    pid = await pool.run("a", os.getpid)
    assert pool.pids == (pid,)
    assert await pool.run("b", os.getpid) == pid != os.getpid()
    assert await pool.run("b", os.nice, 0) > os.nice(0)
    group = Path(f"/proc/{pid}/autogroup")  # whose weight counts, where the kernel makes one of each session
    assert not group.exists() or not group.read_text().endswith("nice 0\n")


async def test_an_error_of_a_job_is_its_callers_with_the_place_where_it_was_raised(pool: ProcessPool) -> None:
    with pytest.raises(KeyError, match="a bug") as raised:
        await pool.run("a", jobs.fails)
    assert "tests/runtime/jobs.py" in "".join(raised.value.__notes__)
    with pytest.raises(RuntimeError, match="Unsendable"):
        await pool.run("a", jobs.fails_unsendably)


async def test_a_job_that_takes_too_much_memory_ends_alone(pool: ProcessPool) -> None:
    assert await pool.run("a", jobs.takes_memory, 20 * MIB) == 20 * MIB
    for job in (lambda: pool.run("a", jobs.takes_memory, 300 * MIB), lambda: pool.run("a", jobs.aborts)):
        with pytest.raises(JobTooCostly) as raised:
            await job()
        assert raised.value.what == "memory"
    assert await pool.run("a", len, "alive") == 5


async def test_a_job_that_takes_too_much_time_ends_alone(pool: ProcessPool, tmp_path: Path) -> None:
    quick = Limits(seconds=0.1)
    with pytest.raises(JobTooCostly) as raised:
        await pool.run_within(quick, "a", jobs.spins)
    assert raised.value.what == "time"
    with pytest.raises(StoreSaturated):  # it had no time: the machine is to blame, and not the job
        await pool.run_within(Limits(wall_time=0.1), "a", jobs.waits, tmp_path / "never")
    for _ in range(5):  # the time is each job's own
        await pool.run_within(quick, "a", jobs.works, 0.05)


async def test_a_meter_is_told_what_a_job_took_also_where_it_failed(pool: ProcessPool) -> None:
    told: list[float] = []
    limits = Limits(seconds=0.3)
    await pool.run_metered(limits, told.append, "a", jobs.works, 0.1)
    with pytest.raises(KeyError):
        await pool.run_metered(limits, told.append, "a", jobs.works_and_fails, 0.05)
    with pytest.raises(JobTooCostly):
        await pool.run_metered(limits, told.append, "a", jobs.spins)
    works, fails, spins = told
    assert works >= 0.1 and 0 < fails < works and spins >= 0.25


async def test_which_part_of_a_job_reached_a_limit_is_told(pool: ProcessPool) -> None:
    for seconds, part in ((0.05, 7), (0.05, 0)):
        with pytest.raises(JobTooCostly) as raised:
            await pool.run_within(Limits(seconds=0.3), "a", jobs.spins_in_a_part, part, seconds)
        assert raised.value.phase == part
    assert await pool.run("a", jobs.works_in_parts, 3, 0.05) is None


async def test_a_worker_that_took_much_memory_is_replaced_and_so_is_one_that_was_killed(
    pool: ProcessPool,
) -> None:
    first = await pool.run("a", os.getpid)
    await pool.run("a", jobs.keeps_memory, 100 * MIB)
    second = await pool.run("a", os.getpid)
    assert second != first
    os.kill(second, signal.SIGKILL)
    await eventually(lambda: is_gone(second))
    assert await pool.run("a", os.getpid) != second


async def test_a_worker_may_keep_what_its_job_says(pool: ProcessPool) -> None:
    pid = await pool.run("a", os.getpid)
    await pool.run_within(Limits(growth=150 * MIB), "a", jobs.keeps_memory, 100 * MIB)
    assert await pool.run_within(Limits(growth=150 * MIB), "a", os.getpid) == pid
    assert await pool.run("a", os.getpid) == pid  # and is replaced behind a job that says nothing
    assert await pool.run("a", os.getpid) != pid


async def test_a_worker_finds_the_gateway_wherever_that_was_started(
    pool: ProcessPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where only an import hook knows it, as of an editable install."""
    monkeypatch.setattr(sys, "path", [one for one in sys.path if Path(one).resolve() != ROOT])
    assert await pool.run("a", os.getpid)


async def test_no_tenant_has_all_workers(pool: ProcessPool, tmp_path: Path) -> None:
    end, begun = tmp_path / "end", tmp_path / "begun"
    noisy = [asyncio.create_task(pool.run("noisy", jobs.begins_and_waits, begun, end)) for _ in range(4)]
    await eventually(begun.exists)
    assert await pool.run("quiet", len, "abc") == 3
    assert not any(task.done() for task in noisy)
    end.touch()
    assert len(await asyncio.gather(*noisy)) == 4


async def test_the_turn_of_who_used_little_comes_before_the_queues_of_the_noisy(pool: ProcessPool) -> None:
    ended: list[str] = []

    async def job(tenant: str) -> None:
        await pool.run(tenant, jobs.works, 0.05)
        ended.append(tenant)

    noisy = [asyncio.create_task(job(tenant)) for tenant in ("a", "b") for _ in range(10)]
    await eventually(lambda: len(ended) >= 4)
    await job("quiet")
    assert len(ended) < 15
    await asyncio.gather(*noisy)


async def test_a_tenant_may_have_so_many_jobs_and_others_have_theirs(
    pool: ProcessPool, tmp_path: Path
) -> None:
    end = tmp_path / "end"
    noisy = [asyncio.create_task(pool.run("noisy", jobs.waits, end)) for _ in range(MAX_WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(TenantQueueFull):
        await pool.run("noisy", len, "x")
    assert await pool.run("quiet", len, "x") == 1
    end.touch()
    await asyncio.gather(*noisy)
    assert await pool.run("noisy", len, "x") == 1


async def test_a_job_whose_caller_left_does_not_run_or_is_ended(pool: ProcessPool, tmp_path: Path) -> None:
    begun, never, touched = tmp_path / "begun", tmp_path / "never", tmp_path / "touched"
    running = asyncio.create_task(pool.run("a", jobs.begins_and_waits, begun, never))
    waiting = asyncio.create_task(pool.run("a", jobs.touches, touched))
    await eventually(begun.exists)
    (worker,) = pool.pids
    for task in (waiting, running):
        task.cancel()
    await asyncio.wait([waiting, running])
    assert waiting.cancelled()
    assert running.cancelled()
    await eventually(lambda: is_gone(worker))
    assert await pool.run("a", len, "x") == 1
    assert not touched.exists()


@pytest.mark.parametrize("number", jobs.SIGNALS)
async def test_a_worker_hears_no_signal_of_terminals_and_service_managers(
    pool: ProcessPool, number: signal.Signals
) -> None:
    pid = await pool.run("a", os.getpid)
    assert await pool.run("a", jobs.asks_its_own_end, number) == pid
    assert os.getsid(pid) != os.getsid(0)


async def test_a_worker_has_none_of_our_files(pool: ProcessPool, tmp_path: Path) -> None:
    with open(tmp_path / "ours", "w") as file:
        os.set_inheritable(file.fileno(), True)
        assert await pool.run("a", jobs.open_files) == []


async def test_closing_ends_what_runs_and_leaves_nothing(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    pool = ProcessPool(2)
    begun = tmp_path / "begun"
    tasks = [
        asyncio.create_task(pool.run(name, jobs.begins_and_waits, begun, tmp_path / "never"))
        for name in "abab"
    ]
    await eventually(begun.exists)
    pids = pool.pids
    await pool.close()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [StoreUnavailable] * 4
    assert all(not Path(f"/proc/{pid}").exists() for pid in pids)  # not even as a zombie
    with pytest.raises(StoreUnavailable):
        await pool.run("a", len, "x")
    await eventually(lambda: len(os.listdir("/proc/self/fd")) <= before)


PARENT = """
import asyncio, sys
from pathlib import Path
from gateway.runtime.processes.pool import ProcessPool
from tests.runtime import jobs

async def main():
    pool = ProcessPool(2)
    begun = [Path(sys.argv[1]) / name for name in "ab"]
    never = Path(sys.argv[1]) / "never"
    busy = [asyncio.create_task(pool.run(p.name, jobs.begins_and_waits, p, never)) for p in begun]
    while not all(path.exists() for path in begun):
        await asyncio.sleep(0.01)
    print(*pool.pids, flush=True)
    await busy[0]

asyncio.run(main())
"""


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path)]
    parent = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2
    parent.kill()
    parent.wait()
    parent.stdout.close()
    poll(lambda: all(map(is_gone, pids)))


async def test_no_process_can_be_started_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    pool = ProcessPool(1)
    with pytest.raises(StoreUnavailable):
        await pool.run("a", len, "x")
    await pool.close()


async def test_an_error_of_a_job_keeps_nothing_that_was_sent(pool: ProcessPool) -> None:
    """No cycle leads from it through its traceback to itself: it goes at once, and what its frames hold."""
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            with contextlib.suppress(jobs.Refused):
                await pool.run("a", jobs.refuses, bytes(MIB))
            await asyncio.sleep(0)  # the job's task ends
        assert [one for one in gc.get_objects() if issubclass(type(one), jobs.Refused)] == []
    finally:
        gc.enable()
