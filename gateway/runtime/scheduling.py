"""The processors: how many there are, and that the event loop goes first (which only Linux is told)."""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import sys
import threading
from pathlib import Path

# sched_setattr(2), which glibc knows only since 2.41: its number, by machine.
_SET_ATTRIBUTES = {"x86_64": 314, "aarch64": 274, "riscv64": 274}
_ATTRIBUTES = struct.Struct("=IIQiIQQQ")  # size, policy, flags, nice, priority, runtime, deadline, period
_SCHED_OTHER, _NICEST = 0, 19
NICER = 5  # than the event loop are threads in the background
# Nanoseconds. Of a thread, longer than what the event loop has (3 ms); of a process beside it, the most that
# there is: a thread that waits behind one may hold the interpreter's lock, for which the event loop waits.
THREAD_SLICE, PROCESS_SLICE = 5_000_000, 100_000_000


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def give_way(nicer: int, piece: int = THREAD_SLICE) -> None:
    """Make this thread nicer by so much, and let it be interrupted by whoever has less to do. piece: its
    slice of processor time, in nanoseconds.

    Niceness says how much of a processor a thread gets, and not when. Who wakes up has to wait until the
    slice of the one that runs is over, and that is looked at every 4 ms; unless his own slice is the shorter
    one (EEVDF). So this one gets a long slice. Beside two processes of the pool and the threads that write,
    the event loop waited 235 ms of each second for its processor, up to 14 ms at a time; with this 80 ms, and
    up to 7 (measured on one core; Linux 6.18). Where threads had as long a slice as the processes, the 99th
    percentile beside lists of large documents was 90 to 116 ms, and 18 to 21 with theirs. Before Linux 6.12 a
    thread has no slice of its own.
    """
    if not sys.platform.startswith("linux"):
        return
    thread = threading.get_native_id()
    with contextlib.suppress(OSError):
        nice = min(os.getpriority(os.PRIO_PROCESS, thread) + nicer, _NICEST)
        os.setpriority(os.PRIO_PROCESS, thread, nice)
        number = _SET_ATTRIBUTES.get(os.uname().machine)
        if number is not None and ctypes.sizeof(ctypes.c_void_p) == 8:
            wanted = _ATTRIBUTES.pack(_ATTRIBUTES.size, _SCHED_OTHER, 0, nice, 0, piece, 0, 0)
            ctypes.CDLL(None).syscall(number, 0, wanted, 0)


def give_way_as_session(nicer: int) -> None:
    """The same for a process that leads a session: the kernel weighs the session, and not the process in it
    (sched(7), autogroup)."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError), Path("/proc/self/autogroup").open("w") as file:
            file.write(str(nicer))
    give_way(nicer, PROCESS_SLICE)
