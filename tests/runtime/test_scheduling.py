"""Background work goes behind the event loop: the thread that does it, and no other."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gateway.runtime import scheduling, threads

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives threads priorities")


def told(thread: int) -> dict[str, int]:
    """What the kernel says of a thread: how nice it is, and its slice where it tells that."""
    path = Path(f"/proc/self/task/{thread}/sched")
    found = re.search(r"^se\.slice *: *(\d+)$", path.read_text(), re.M) if path.exists() else None
    return {"nice": os.getpriority(os.PRIO_PROCESS, thread), "slice": int(found[1]) if found else 0}


def test_a_thread_that_gives_way_is_nicer_and_has_a_long_slice_and_no_other_thread_is() -> None:
    before, found = told(threading.get_native_id()), {}

    def work() -> None:
        scheduling.lower_priority(3)
        found.update(told(threading.get_native_id()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found["nice"] == before["nice"] + 3
    assert found["slice"] >= before["slice"]
    assert told(threading.get_native_id())["nice"] == before["nice"]


async def test_threads_that_parse_give_way() -> None:
    here = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert await threads.run(threads.PARSE, os.getpriority, os.PRIO_PROCESS, 0) > here


def test_a_session_that_gives_way_weighs_less() -> None:
    code = "from gateway.runtime import scheduling as s; s.lower_session_priority(7)"
    code += "; print(*open('/proc/self/autogroup'))"
    if not Path("/proc/self/autogroup").exists():
        pytest.skip("this kernel weighs no sessions")
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, start_new_session=True, check=True
    )
    assert run.stdout.strip().endswith("nice 7")


def group(folder: Path, name: str, most: str) -> None:
    """A control group below `folder`, with what its cpu.max says."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "cpu.max").write_text(f"{most}\n")


@pytest.mark.parametrize(
    ("service", "above", "quota"),
    [
        ("max 100000", "max 100000", math.inf),
        ("250000 100000", "max 100000", 2.5),
        ("max 100000", "50000 100000", 0.5),
        ("400000 100000", "800000 100000", 4.0),
        ("nonsense", "1 0", math.inf),
    ],
)
def test_of_the_control_groups_that_a_process_is_in_the_least_quota_counts(
    tmp_path: Path, service: str, above: str, quota: float
) -> None:
    process = tmp_path / "cgroup"
    process.write_text("3:cpuset:/\n0::/system.slice/gateway.service\n")
    group(tmp_path / "fs", "system.slice/gateway.service", service)
    group(tmp_path / "fs", "system.slice", above)
    group(tmp_path / "fs", "other.slice", "1000 100000")
    group(tmp_path, ".", "1000 100000")
    assert scheduling.quota(process, tmp_path / "fs") == quota


def test_in_a_container_the_quota_is_at_the_top(tmp_path: Path) -> None:
    """Of its own namespace; where it has none, the path may be one that is not there."""
    process = tmp_path / "cgroup"
    group(tmp_path, "fs", "150000 100000")
    for path in ("/", "/docker/0123", "/../../else"):
        process.write_text(f"0::{path}\n")
        assert scheduling.quota(process, tmp_path / "fs") == 1.5
    process.unlink()
    assert scheduling.quota(process, tmp_path / "fs") == math.inf


@pytest.mark.parametrize(
    ("processors", "quota", "workers"),
    [(1, math.inf, 1), (3, math.inf, 1), (4, math.inf, 2), (64, 0.5, 1), (64, 3.5, 1), (64, 8.0, 4)],
)
def test_half_of_what_may_be_used_serves_and_one_at_least(
    processors: int, quota: float, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduling, "processors", lambda: processors)
    monkeypatch.setattr(scheduling, "quota", lambda: quota)
    assert scheduling.workers(0) == workers
    assert scheduling.workers(7) == 7
