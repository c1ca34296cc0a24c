"""Signals: those that mean nothing to the gateway must not end it.

The default of most signals is the end of the process, without a drain. A tool that rotates logs, a debugger's
leftover or a typing error would so cut every call.
"""

from __future__ import annotations

import logging
import signal

L = logging.getLogger(__name__)

_NAMES = ("SIGUSR1", "SIGUSR2", "SIGALRM", "SIGVTALRM", "SIGPROF", "SIGIO", "SIGPWR", "SIGSTKFLT")
# They stop a background process that touches its terminal. A handler would have the kernel try again and
# again, so these are ignored; a child, which has no terminal, loses nothing by inheriting that.
_TERMINAL = ("SIGTTOU", "SIGTTIN")
_HEARD = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1}


def stray() -> frozenset[int]:
    """Those that mean nothing here and would end the process, as far as this system has them.

    Others keep their meaning: of faults (SEGV, ABRT), of a limit that somebody set (XCPU), of job control
    (TSTP, CONT), PIPE, which Python ignores itself, and those that do no harm (CHLD, WINCH, URG).
    """
    found = {number for name in _NAMES if (number := getattr(signal, name, None)) is not None}
    first, last = getattr(signal, "SIGRTMIN", 0), getattr(signal, "SIGRTMAX", -1)
    return frozenset({*map(int, found), *range(int(first), int(last) + 1)})


def outlive_stray() -> None:
    """Let none of them end the process, from now on.

    By a handler that does nothing, for a child gets back the default of what has a handler (execve(2)), but
    goes on ignoring what is ignored: its own SIGUSR1 may mean much to it.
    """
    for number in stray():
        signal.signal(number, _pass)
    for name in _TERMINAL:
        signal.signal(getattr(signal, name), signal.SIG_IGN)


def hold() -> None:
    """Let what the gateway listens to wait, until `let_go`.

    An event loop hears of a signal only while it runs: one that came before, or between two of its runs,
    would be lost, and a SIGTERM with it. Not while a child is started, which would inherit it.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)


def let_go() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)


def _pass(number: int, frame: object) -> None:
    L.info("%s means nothing here: it is ignored", _name(number))


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
