"""What the C library is told for a process that serves."""

from __future__ import annotations

import platform
import re
import subprocess
import sys

import pytest

from gateway.runtime.scheduling import processors
from tests.eventually import END

# Threads that hold memory at once, and how many heaps they have it from: malloc_info(3) of glibc.
_HEAPS = """
import ctypes, sys, threading
from gateway.process import interpreter
if sys.argv[1] == "told":
    interpreter.tune_allocator()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.fdopen.restype, libc.malloc_info.argtypes = ctypes.c_void_p, [ctypes.c_int, ctypes.c_void_p]
libc.fflush.argtypes = [ctypes.c_void_p]
count = int(sys.argv[2])
every = threading.Barrier(count + 1)
def work():
    libc.malloc(100_000)
    every.wait()
    every.wait()
for _ in range(count):
    threading.Thread(target=work, daemon=True).start()
every.wait()
file = libc.fdopen(1, b"w")
libc.malloc_info(0, file)
libc.fflush(file)
every.wait()
"""


def _heaps(told: str, threads: int) -> int:
    words = [sys.executable, "-c", _HEAPS, told, str(threads)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=END, check=True)
    return len(re.findall("<heap nr=", done.stdout))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has heaps for threads")
def test_threads_share_as_many_heaps_as_there_are_processors() -> None:
    most = max(2, processors())
    assert _heaps("not told", 3 * most) > most, "or this shows nothing"
    assert _heaps("told", 3 * most) <= most
