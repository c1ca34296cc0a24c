"""The machine that is measured on: what it is, and how busy its cores are."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import resource
import shutil
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

SERVER_CORE, LOAD_CORE = 0, 1
_VERSION_FLAGS = {"nginx": "-v", "haproxy": "-v", "caddy": "version", "wrk": "-v", "h2load": "--version"}


def describe() -> dict[str, object]:
    """Cores, CPU model, kernel and the versions of all that takes part."""
    return {
        "cores": os.cpu_count(),
        "cpu": _cpu_model(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "gateway": version("gateway"),
        "aiohttp": version("aiohttp"),
        **{program: program_version(program) for program in _VERSION_FLAGS},
    }


def _cpu_model() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    return found[1] if found else platform.processor()


def find(program: str) -> str | None:
    """Where a program is; daemons live where a user's PATH may not look."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def program_version(program: str) -> str | None:
    """The version that a program prints, None when it is not installed."""
    path = find(program)
    if path is None:
        return None
    done = subprocess.run([path, _VERSION_FLAGS[program]], capture_output=True, text=True, check=False)
    found = re.search(r"\d+(?:\.\d+)+", done.stdout + done.stderr)
    return found[0] if found else "unknown"


def core_times(core: int) -> tuple[int, int]:
    """Busy and all clock ticks of a core since the machine started. Stolen time counts as busy."""
    found = re.search(rf"^cpu{core} (.*)$", Path("/proc/stat").read_text(), re.M)
    if found is None:
        return 0, 0
    # user nice system idle iowait irq softirq steal; guest time is in user already
    ticks = [int(field) for field in found[1].split()[:8]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def busy_between(before: tuple[int, int], after: tuple[int, int]) -> float:
    """How busy a core was between two `core_times`, in percent."""
    total = after[1] - before[1]
    return 100.0 * (after[0] - before[0]) / total if total else 0.0


def other_load(seconds: float = 0.5) -> float:
    """How busy the busiest core is while nothing of ours runs, in percent."""
    cores = range(os.cpu_count() or 1)
    before = [core_times(core) for core in cores]
    time.sleep(seconds)
    return max(busy_between(before[core], core_times(core)) for core in cores)


def memory_kib(pid: int) -> float:
    """A process's memory: its own, and its part of what it shares; 0 when it has ended (proc(5))."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    found = re.search(r"^Pss:\s+(\d+) kB", text, re.M)
    return float(found[1]) if found else 0.0


def raise_open_files(wanted: int) -> None:
    """Let this process, and those that it starts from now on, hold so many open files. Raises OSError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        if hard != resource.RLIM_INFINITY and hard < wanted:
            raise OSError(f"{wanted} open files are needed and {hard} are allowed; raise `ulimit -Hn`")
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def go_first() -> None:
    """Let this process have its core as soon as it wakes up, before all others there, where that is allowed
    (to root). It is for a measuring process that works little: beside busy ones it was 10 to 100 ms late now
    and then (99th percentile), and 1 ms with this."""
    with contextlib.suppress(OSError, AttributeError):  # not allowed, or not Linux
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


def pinned(core: int | None) -> list[str]:
    """The words before a command that pin it to a core; none for None, or where that cannot be done."""
    taskset = find("taskset")
    if core is None or taskset is None or core >= (os.cpu_count() or 1):
        return []
    return [taskset, "-c", str(core)]
