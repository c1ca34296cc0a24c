"""Background work goes behind the event loop: the thread that does it, and no other."""

from __future__ import annotations

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
