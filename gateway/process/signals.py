"""Signals: those that mean nothing to the gateway do not end it, those that do are not lost, and a second one
ends the process even if it hangs.

The default action of most signals ends the process without a drain: a tool that rotates logs, a debugger or a
typing error would cut every call.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable

L = logging.getLogger(__name__)

_NAMES = ("SIGUSR1", "SIGUSR2", "SIGALRM", "SIGVTALRM", "SIGPROF", "SIGIO", "SIGPWR", "SIGSTKFLT")
# They stop a background process that uses its terminal. With a handler the kernel would retry for ever, so
# they are ignored; a child has no terminal and may inherit that.
_TERMINAL = ("SIGTTOU", "SIGTTIN")
_HANDLED = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1}

EXIT_WITHIN = 0.9  # seconds from ForcedExit.begin to the end of the process
_LOOP_HAS = 0.6  # of them, for an orderly end by the event loop


def stray() -> frozenset[int]:
    """The signals of this system that mean nothing to the gateway and would end the process.

    All others keep their meaning: faults (SEGV, ABRT), a limit that was set (XCPU), job control (TSTP, CONT),
    PIPE, which Python ignores itself, and those that do nothing (CHLD, WINCH, URG).
    """
    found = {number for name in _NAMES if (number := getattr(signal, name, None)) is not None}
    first, last = getattr(signal, "SIGRTMIN", 0), getattr(signal, "SIGRTMAX", -1)
    return frozenset({*map(int, found), *range(int(first), int(last) + 1)})


def survive_stray() -> None:
    """Keep stray signals from ending the process from now on.

    Each gets a handler that only logs. A child process gets the default action back for a signal with a
    handler (execve(2)), whereas it inherits that one is ignored, and its own SIGUSR1 may matter to it.
    """
    for number in stray():
        signal.signal(number, _ignore)
    for name in _TERMINAL:
        signal.signal(getattr(signal, name), signal.SIG_IGN)


def block() -> None:
    """Keep the signals that the gateway handles pending until `unblock`.

    An event loop handles signals only while it runs: a SIGTERM before that, or between two runs, would be
    lost. A child inherits the mask, so start none meanwhile.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)


def unblock() -> None:
    """Deliver the signals that are pending since `block`, and all later ones."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)


def _ignore(number: int, frame: object) -> None:
    L.info("%s means nothing here: it is ignored", _name(number))


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class ForcedExit:
    """Ends the process within EXIT_WITHIN seconds after `begin`, even if the event loop hangs.

    The loop may be stuck then, in the join of a thread or in its own end, and handle no signal. So a thread
    of its own waits from the start, and is woken by a byte in a pipe, which a signal handler may write at any
    time. An orderly end by the event loop has the first part of that time; then `cleanup` is called in a
    thread, for what must not be left running, and the process ends with exit code 1 whether or not that
    returns.
    """

    def __init__(self, cleanup: Callable[[], object], leave: Callable[[int], object] = os._exit) -> None:
        self._cleanup = cleanup
        self._leave = leave
        self._read, self._write = os.pipe2(os.O_CLOEXEC)
        threading.Thread(target=self._wait, name="forced exit", daemon=True).start()

    def begin(self) -> None:
        """Start the countdown. May be called in a signal handler, and more than once."""
        os.write(self._write, b"1")

    def _wait(self) -> None:
        os.read(self._read, 1)
        pause = threading.Event()
        pause.wait(_LOOP_HAS)
        threading.Thread(target=self._cleanup, name="cleanup", daemon=True).start()
        pause.wait(EXIT_WITHIN - _LOOP_HAS)
        self._leave(1)


def exit_within(seconds: float, code: int, leave: Callable[[int], object] = os._exit) -> None:
    """End the process with this exit code after so many seconds, if it has not ended by itself: the usual end
    waits for threads, which a disk may block for ever."""

    def wait() -> None:
        threading.Event().wait(seconds)
        leave(code)

    threading.Thread(target=wait, name="exit", daemon=True).start()
