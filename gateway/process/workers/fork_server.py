"""The fork server: a process that has loaded the code, and of which the workers are forked.

A fork in a process with threads or an event loop is not safe, and the master has both; this one never has. It
is executed anew for each generation of workers, so a later one runs the code that is installed then. What it
has loaded, and frozen for the collector, all workers share in memory (measured: a further worker costs 16
MiB, of 60 that it has).

Over a socket that keeps messages apart (SOCK_SEQPACKET) the master asks for workers, with the descriptors
that each gets, and is told of their ends. When the master is gone, the server asks its workers to end, kills
those that have not after a while, and ends last.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

# What a master and the workers that it starts have to agree about: their orders, the descriptors that come
# with them, what they say on their channel. A master that runs on gets workers of the code that is installed
# now; one of another number is refused.
PROTOCOL = 2
REPLACE = "replace"  # the question of a worker that a signal told to end
MESSAGE = 1024 * 1024  # bytes at most
DESCRIPTORS = 250  # that one message may carry (SCM_MAX_FD of Linux is 253)
_DRIVEN = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM)

Order = dict[str, Any]
Work = Callable[[Order, list[int]], int]


class ForkServer:
    """sock: to the master. work: what a worker does, with the master's order and its descriptors; gives its
    exit code."""

    def __init__(self, sock: socket.socket, work: Work) -> None:
        self._sock = sock
        self._work = work
        self._children: set[int] = set()
        self._patience = 0.0  # seconds that a worker may take to end
        self._woken, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._handlers: dict[int, Any] = {}

    def run(self) -> None:
        """Serve until the master has gone, and all workers. The master alone is told by signals: a terminal
        sends them to all."""
        for number in _DRIVEN:
            self._handlers[number] = signal.signal(number, _nothing)
        self._handlers[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, _nothing)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        self._tell({"ready": os.getpid(), "protocol": PROTOCOL})
        while True:
            ready, _, _ = select.select([self._sock.fileno(), self._woken], [], [])
            if self._woken in ready:
                with suppress(BlockingIOError):
                    os.read(self._woken, 4096)
                self._reap()
            if self._sock.fileno() in ready and not self._receive():
                break
        self._end_all()

    def _receive(self) -> bool:
        """Whether the master is still there."""
        try:
            message, descriptors, _, _ = socket.recv_fds(self._sock, MESSAGE, DESCRIPTORS)
        except ConnectionError:
            return False
        if not message:
            return False
        for descriptor in descriptors:  # what a worker executes has neither its sockets nor its channel
            os.set_inheritable(descriptor, False)
        order: Order = json.loads(message)
        self._patience = order["patience"]
        try:
            pid = os.fork()
        except OSError as error:
            self._tell({"failed": order["worker"], "why": f"no process can be made: {error.strerror}"})
        else:
            if not pid:
                self._become_worker(order, descriptors)
            self._children.add(pid)
            self._tell({"forked": order["worker"], "pid": pid})
        for descriptor in descriptors:
            os.close(descriptor)
        return True

    def _become_worker(self, order: Order, descriptors: list[int]) -> NoReturn:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            os.close(self._woken)
            os.close(self._wake)
            self._sock.close()
            code = self._work(order, descriptors)
        except BaseException:
            traceback.print_exc()  # the master, and its log, may not be reached
            raise
        finally:
            os._exit(code)  # never back into the server's loop

    def _reap(self) -> None:
        for pid in list(self._children):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                self._children.discard(pid)
                self._tell({"ended": pid, "code": os.waitstatus_to_exitcode(status)})

    def _end_all(self) -> None:
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)  # those that somebody has stopped would not hear it
        until = time.monotonic() + self._patience
        while self._children and (left := until - time.monotonic()) > 0:
            self._reap()
            if self._children and select.select([self._woken], [], [], left)[0]:
                with suppress(BlockingIOError):
                    os.read(self._woken, 4096)
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        for pid in self._children:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _tell(self, message: Order) -> None:
        with suppress(OSError):  # nobody is there any more
            self._sock.send(json.dumps(message).encode())


def _nothing(number: int, frame: object) -> None:
    """It wakes the server up, and means nothing else. (What a worker executes would inherit SIG_IGN.)"""
