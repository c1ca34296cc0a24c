"""The program of a worker process: it runs one job after the other, within limits of memory and time.

Little is imported here, so that a fresh process is ready soon; what a job needs is imported by its first one.
A job and its result travel over a socket (standard input) as frames: the number of parts, their lengths, the
parts. The first part is a pickle, the others are large bytes in it, which are sent without a copy.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import resource
import signal
import struct
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from gateway.runtime.processes import memory

DONE, FAILED, NO_MEMORY = "done", "failed", "no memory"
STAYS, LEAVES, PHASE = 0, 1, 2  # the byte before the frame of a result, or before the number of a phase
COUNT = struct.Struct("!I")  # number of parts of a frame
LENGTH = struct.Struct("!Q")  # of one part, in bytes

_APART = 64 * 1024  # larger bytes objects are a part of their own
_MAPPED = 1024 * 1024 * 1024  # bytes of address space beside the data: code, and reservations
_PR_SET_PDEATHSIG = 1  # linux/prctl.h

Piece = bytes | memoryview


def pack(*values: Any) -> list[Piece]:
    """A frame with the values, as pieces to be sent in order. Raises what pickle raises."""
    large: list[pickle.PickleBuffer] = []
    whole = pickle.dumps(_apart(values), 5, buffer_callback=large.append)
    parts: list[Piece] = [whole, *(part.raw() for part in large)]
    return [COUNT.pack(len(parts)) + b"".join(LENGTH.pack(len(part)) for part in parts), *parts]


def unpack(parts: Sequence[bytes]) -> tuple[Any, ...]:
    """The values of a frame, from its parts."""
    values: tuple[Any, ...] = pickle.loads(parts[0], buffers=parts[1:])  # noqa: S301 - of our own child or parent
    return values


def _apart(value: Any) -> Any:
    if type(value) is tuple:
        return tuple(map(_apart, value))
    return pickle.PickleBuffer(value) if isinstance(value, bytes) and len(value) > _APART else value


def main(parent: int) -> None:
    """Run jobs until the socket closes. parent: the id of the process that started this one."""
    _detach(parent)
    _serving.append(parent)
    before = _memory()
    with open(0, "rb", closefd=False) as incoming:
        _send(pack("ready"))
        os.dup2(1, 2)  # to /dev/null: an allocator that fails writes to standard error
        while (parts := _receive(incoming)) is not None:
            frame, most = _run(parts)
            grown = _memory() - before > most
            if grown:  # so that not every job is followed by a start
                memory.return_free()
                grown = _memory() - before > most
            _send([bytes((LEAVES if grown else STAYS,)), *frame])
            if grown:  # an allocator seldom returns its memory
                return


def phase(number: int, seconds: float) -> None:
    """Called by a job when another phase (0 to 255) of it begins, with so many seconds of processor time of
    its own. JobTooCostly tells in which phase the job was. Does nothing outside of a worker."""
    if _serving:
        _send([bytes((PHASE, number))])
        signal.setitimer(signal.ITIMER_PROF, seconds)


_serving: list[int] = []  # the parent, in a worker


def _detach(parent: int) -> None:
    """Ignore the signals of a terminal or a service manager: the gateway ends its workers after the jobs
    under way. End with the gateway, however that ends, and be the first to be killed when memory is short."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        with contextlib.suppress(OSError), Path("/proc/self/oom_score_adj").open("w") as file:
            file.write("700")
    if os.getppid() != parent:  # the parent ended before the call above
        os._exit(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _run(parts: list[bytes]) -> tuple[list[Piece], int]:
    """Run a job. Returns the frame of its outcome (the kind, the result or error, the traceback of an error,
    and the seconds of processor time that it took), and the bytes by which this process may have grown."""
    most, seconds, growth, function, args, more = unpack(parts)
    parts.clear()
    _limit(most)
    began = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, seconds)  # SIGPROF ends the process, whatever it does
    try:
        result = function(*args, **more)
        return pack(DONE, result, "", time.process_time() - began), growth
    except MemoryError:
        return pack(NO_MEMORY, None, "", time.process_time() - began), growth
    except Exception as error:  # noqa: BLE001 - the boundary of a job: its errors are its caller's
        return _failure(error, began), growth
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)


def _failure(error: Exception, began: float) -> list[Piece]:
    trace = traceback.format_exc()
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    except Exception:  # noqa: BLE001 - whatever it is, it cannot be sent
        error = RuntimeError(f"{type(error).__qualname__}, which cannot be sent")
    return pack(FAILED, error, trace, time.process_time() - began)


def _limit(data: int) -> None:
    for kind, most in ((resource.RLIMIT_DATA, data), (resource.RLIMIT_AS, data + _MAPPED)):
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _memory() -> int:
    """The resident memory of this process in bytes; the peak where the kernel does not tell the current
    value."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _receive(incoming: BinaryIO) -> list[bytes] | None:
    """The parts of the next frame; None when the other side has closed."""
    count = incoming.read(COUNT.size)
    if len(count) < COUNT.size:
        return None
    lengths = incoming.read(LENGTH.size * COUNT.unpack(count)[0])
    parts = [incoming.read(length) for (length,) in LENGTH.iter_unpack(lengths)]
    return parts if sum(map(len, parts)) == sum(n for (n,) in LENGTH.iter_unpack(lengths)) else None


def _send(frame: Sequence[Piece]) -> None:
    for part in frame:
        left = memoryview(part)
        while left:
            left = left[os.write(0, left) :]
