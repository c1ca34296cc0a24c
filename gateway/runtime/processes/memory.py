"""Memory that this process has freed. Little is imported here: a worker process imports it at its start."""

from __future__ import annotations

import ctypes

_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc


def return_free() -> None:
    """Give what was freed back to the system, where the C library can: glibc else keeps it (malloc_trim(3)).
    It takes milliseconds, in which other threads that allocate may wait."""
    if _trim is not None:
        _trim(0)
