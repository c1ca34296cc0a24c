"""Ends the process when it was told so a second time, whatever hangs.

The event loop may stand still then, in a thread's join or in its own end, and hear of no signal. So a thread
of its own waits for the word, from the first moment on; it is given by writing a byte, which a signal's
handler may do at any time.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

WITHIN = 0.9  # seconds from the word to the end
_LOOP_HAS = 0.6  # of them, for the orderly end by the event loop


class LastResort:
    """now(): the process ends within WITHIN seconds. Who ends it in an orderly way has _LOOP_HAS of them;
    then `rest` is called, in a thread, for what must not be left, and the process ends with exit code 1
    whether or not that comes back."""

    def __init__(self, rest: Callable[[], object], leave: Callable[[int], object] = os._exit) -> None:
        self._rest = rest
        self._leave = leave
        self._read, self._write = os.pipe2(os.O_CLOEXEC)
        threading.Thread(target=self._wait, name="last resort", daemon=True).start()

    def now(self) -> None:
        """May be called in a signal's handler, more than once."""
        os.write(self._write, b"1")

    def _wait(self) -> None:
        os.read(self._read, 1)
        pause = threading.Event()
        pause.wait(_LOOP_HAS)
        threading.Thread(target=self._rest, name="the last of it", daemon=True).start()
        pause.wait(WITHIN - _LOOP_HAS)
        self._leave(1)


def leave_within(seconds: float, code: int, leave: Callable[[int], object] = os._exit) -> None:
    """The process is about to end the usual way, which waits for threads that a disk may hold for ever: let
    it end within this time all the same."""

    def wait() -> None:
        threading.Event().wait(seconds)
        leave(code)

    threading.Thread(target=wait, name="the end", daemon=True).start()
