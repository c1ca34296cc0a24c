"""The processors: how many there are, and the priority of the event loop over other threads (on Linux)."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import struct
import sys
import threading
from pathlib import Path

# sched_setattr(2), which glibc knows only since 2.41: its number, by machine.
_SET_ATTRIBUTES = {"x86_64": 314, "aarch64": 274, "riscv64": 274}
_ATTRIBUTES = struct.Struct("=IIQiIQQQ")  # size, policy, flags, nice, priority, runtime, deadline, period
_SCHED_OTHER, _NICEST = 0, 19
NICENESS = 5  # of background threads, relative to the event loop
# Time slices in nanoseconds. That of a thread is longer than the event loop's (3 ms), that of a worker
# process the longest there is: a thread that waits for such a process may hold the interpreter lock, which
# the event loop needs.
THREAD_SLICE, PROCESS_SLICE = 5_000_000, 100_000_000


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def workers(wanted: int) -> int:
    """How many processes serve. wanted: 0 for half of the processors, or of the quota that a container has of
    their time: the other half is for the backends."""
    return wanted or max(1, int(min(processors(), quota()) / 2))


def quota(process: Path = Path("/proc/self/cgroup"), groups: Path = Path("/sys/fs/cgroup")) -> float:
    """How many processors' time the control groups (cgroups, version 2) of this process may take; infinite
    without a limit, or where none can be read. Each group above counts too."""
    try:
        lines = process.read_text().splitlines()
    except OSError:
        return math.inf
    path = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    own = groups / path
    all_ = [folder for folder in (own, *own.parents) if folder.is_relative_to(groups)]
    return min(_quota(folder / "cpu.max") for folder in all_)


def _quota(file: Path) -> float:
    try:
        most, period = file.read_text().split()
        return float(most) / float(period)  # float("max") is none
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf


def lower_priority(niceness: int, time_slice: int = THREAD_SLICE) -> None:
    """Raise the niceness of this thread by so much, and let it be preempted by threads with a shorter time
    slice. time_slice: in nanoseconds.

    Niceness decides how much of a processor a thread gets, and not when. A thread that wakes up waits until
    the slice of the running one is over, which is checked every 4 ms, unless its own slice is the shorter one
    (EEVDF). So this thread gets a long slice. Beside two processes of the pool and the writer threads, the
    event loop waited 235 ms of each second for its processor, up to 14 ms at a time; with this 80 ms, and up
    to 7 (measured on one core; Linux 6.18). Where threads had as long a slice as the processes, the 99th
    percentile beside lists of large documents was 90 to 116 ms, and 18 to 21 with their own. Before Linux
    6.12 a thread has no slice of its own.
    """
    if not sys.platform.startswith("linux"):
        return
    thread = threading.get_native_id()
    with contextlib.suppress(OSError):
        nice = min(os.getpriority(os.PRIO_PROCESS, thread) + niceness, _NICEST)
        os.setpriority(os.PRIO_PROCESS, thread, nice)
        number = _SET_ATTRIBUTES.get(os.uname().machine)
        if number is not None and ctypes.sizeof(ctypes.c_void_p) == 8:
            wanted = _ATTRIBUTES.pack(_ATTRIBUTES.size, _SCHED_OTHER, 0, nice, 0, time_slice, 0, 0)
            ctypes.CDLL(None).syscall(number, 0, wanted, 0)


def lower_session_priority(niceness: int) -> None:
    """The same for a process that leads a session: the kernel weighs sessions, not the processes in them
    (sched(7), autogroup)."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError), Path("/proc/self/autogroup").open("w") as file:
            file.write(str(niceness))
    lower_priority(niceness, PROCESS_SLICE)
