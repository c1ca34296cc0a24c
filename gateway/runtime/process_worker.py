"""What a process of the pool runs: one job after the other, each within its limits of memory and time.

Little is imported here, so that a fresh process is ready soon; what a job needs is imported by its first one.
A job and its result travel over a socket (standard input) as frames: the number of parts, their lengths, the
parts. The first part is a pickle, the others are the large bytes in it, which are sent as they are.
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

DONE, FAILED, NO_MEMORY = "done", "failed", "no memory"
STAYS, LEAVES, PHASE = 0, 1, 2  # the byte before a frame of a result, or before the number of a phase
COUNT = struct.Struct("!I")  # of a frame's parts
LENGTH = struct.Struct("!Q")  # of one part

_APART = 64 * 1024  # bytes, beyond which bytes are a part of their own
_GROWN = 48 * 1024 * 1024  # bytes of memory more than at the start, beyond which a fresh process goes on
_MAPPED = 1024 * 1024 * 1024  # bytes of address space beside the data: code, and what is only reserved
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc


Piece = bytes | memoryview


def pack(*values: Any) -> list[Piece]:
    """A frame, in pieces to be sent one after the other. Raises what pickle raises."""
    large: list[pickle.PickleBuffer] = []
    whole = pickle.dumps(_apart(values), 5, buffer_callback=large.append)
    parts: list[Piece] = [whole, *(part.raw() for part in large)]
    return [COUNT.pack(len(parts)) + b"".join(LENGTH.pack(len(part)) for part in parts), *parts]


def unpack(parts: Sequence[bytes]) -> tuple[Any, ...]:
    """The values of a frame, of its parts."""
    values: tuple[Any, ...] = pickle.loads(parts[0], buffers=parts[1:])  # noqa: S301 - of our own child or parent
    return values


def _apart(value: Any) -> Any:
    if type(value) is tuple:
        return tuple(map(_apart, value))
    return pickle.PickleBuffer(value) if isinstance(value, bytes) and len(value) > _APART else value


def main(parent: int) -> None:
    """Serve jobs until the socket closes. parent: the process that started this one."""
    _stay_apart(parent)
    _serving.append(parent)
    before = _memory()
    with open(0, "rb", closefd=False) as incoming:
        _send(pack("ready"))
        os.dup2(1, 2)  # nothing: an allocator that gives up says so there
        while (parts := _receive(incoming)) is not None:
            frame = _run(parts)
            grown = _memory() - before > _GROWN
            if grown and _trim is not None:  # what was freed, so that a start is not wanted after each job
                _trim(0)
                grown = _memory() - before > _GROWN
            _send([bytes((LEAVES if grown else STAYS,)), *frame])
            if grown:  # an allocator seldom gives back what it had
                return


def phase(number: int, seconds: float) -> None:
    """For a job: what follows is another part of it (0 to 255), with so many seconds of processor time of its
    own. JobTooCostly tells which one the job was in. Outside of a worker nothing happens."""
    if _serving:
        _send([bytes((PHASE, number))])
        signal.setitimer(signal.ITIMER_PROF, seconds)


_serving: list[int] = []  # the parent, in a worker


def _stay_apart(parent: int) -> None:
    """No signal of a terminal or a service manager reaches it: the gateway ends it, after what is under way.
    It ends with the gateway, however that ends, and the kernel takes it first when memory is short."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        with contextlib.suppress(OSError), Path("/proc/self/oom_score_adj").open("w") as file:
            file.write("700")
    if os.getppid() != parent:  # it ended before the call above
        os._exit(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _run(parts: list[bytes]) -> list[Piece]:
    """Do a job, and give the frame that tells what became of it: its kind, its result or error, an error's
    traceback, and the seconds of processor time that it took."""
    memory, seconds, function, args, more = unpack(parts)
    parts.clear()
    _limit(memory)
    began = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, seconds)  # SIGPROF ends the process, whatever it does
    try:
        result = function(*args, **more)
        return pack(DONE, result, "", time.process_time() - began)
    except MemoryError:
        return pack(NO_MEMORY, None, "", time.process_time() - began)
    except Exception as error:  # noqa: BLE001 - the boundary of a job: its errors are its caller's
        return _failure(error, began)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)


def _failure(error: Exception, began: float) -> list[Piece]:
    told = traceback.format_exc()
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    except Exception:  # noqa: BLE001 - whatever it is, it cannot be sent
        error = RuntimeError(f"{type(error).__qualname__}, which cannot be sent")
    return pack(FAILED, error, told, time.process_time() - began)


def _limit(memory: int) -> None:
    for kind, most in ((resource.RLIMIT_DATA, memory), (resource.RLIMIT_AS, memory + _MAPPED)):
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _memory() -> int:
    """How much it has in memory, in bytes; where the kernel does not say that, the most that it ever had."""
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
