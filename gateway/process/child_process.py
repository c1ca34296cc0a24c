"""One child process: in a process group of its own, ended with the gateway, its output in the gateway's log.

When to start and restart it is decided by the supervisor.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import resource
import secrets
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from gateway.core.redact import redact_line
from gateway.process import interpreter
from gateway.runtime import threads
from gateway.runtime.periodic import PeriodicTask

LINE_LIMIT = 64 * 1024  # bytes; a longer line is logged in pieces
LAST_LINES = 20  # kept for the message when the child fails
_SWEEPS = 10  # through all processes, at most
_FIRST_PAUSE, _LAST_PAUSE = 0.01, 0.2  # seconds between two checks of a process group

_EXIT_POLL = 0.05  # seconds, where the kernel does not report the end of a process

_MARK = "GATEWAY_CHILD"  # in the environment of a child, inherited by all that it starts
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
# Bound before any fork: the child may only call it, see _end_with_parent().
_prctl = ctypes.PyDLL(None, use_errno=True).prctl if sys.platform == "linux" else None


def _end_with_parent(parent: int) -> Callable[[], None] | None:
    """Returns what the child runs between fork and exec, so that it gets SIGTERM when the gateway dies
    (prctl(2)).

    Code after a fork is dangerous when another thread holds a lock (of imports, of the allocator), which in
    the child is never released. This is safe: every name is bound before the fork, nothing is imported, PyDLL
    keeps the interpreter lock, and the C library resets its allocator's locks in a forked child.

    The kernel sends the signal when the *thread* that forked ends: spawn from the main thread, which lives
    as long as the process. Other systems than Linux have no such call, and a gateway that is killed with
    SIGKILL leaves its children there.
    """
    prctl, getppid, leave = _prctl, os.getppid, os._exit
    limit, setrlimit = interpreter.inherited_nofile_limit(), resource.setrlimit
    number = resource.RLIMIT_NOFILE
    if prctl is None:
        return None

    def tie() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if getppid() != parent:  # it died before the call above, so the signal will never be sent
            leave(1)
        if limit is not None:
            setrlimit(number, limit)

    return tie


class _LineForwarder(asyncio.Protocol):
    """Splits a child's output into lines, logs each one and keeps the last ones."""

    def __init__(self, log: logging.Logger, last_lines: deque[str], closed: asyncio.Event) -> None:
        self._log = log
        self._last_lines = last_lines
        self._closed = closed
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._forward(line)
        whole = len(self._rest) - len(self._rest) % LINE_LIMIT
        self._forward(self._rest[:whole])
        self._rest = self._rest[whole:]

    def connection_lost(self, exc: Exception | None) -> None:
        self._forward(self._rest)
        self._closed.set()

    def _forward(self, line: bytes) -> None:
        for begin in range(0, len(line), LINE_LIMIT):
            text = line[begin : begin + LINE_LIMIT].decode("utf-8", "replace").rstrip()
            text = redact_line(text)
            if text:
                self._last_lines.append(text)
                self._log.info("%s", text)


class ChildProcess:
    """A running child. Make it on the loop of the main thread, then `await attach()`, and at last `end()`.

    Raises OSError (no such command, no such folder, not executable) or SubprocessError.
    exited: set when the process is dead; what it forked may live on in its group until `end()`.
    last_lines: the last lines of its stdout and stderr.
    """

    def __init__(self, name: str, command: Sequence[str], env: Mapping[str, str], cwd: str) -> None:
        self.exited = asyncio.Event()
        self.last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self._log = logging.getLogger(f"gateway.backend.{name}")
        self._output: asyncio.ReadTransport | None = None
        self._output_closed = asyncio.Event()
        self._group_is_gone = False
        self._exit_poll = PeriodicTask(f"waiting for the end of {name}", _EXIT_POLL, self._poll_exit)
        mark = f"{os.getpid()}-{secrets.token_hex(8)}"
        self._marked = f"{_MARK}={mark}".encode()
        self._popen = subprocess.Popen(
            command,
            env={**os.environ, **env, _MARK: mark},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            start_new_session=True,
            preexec_fn=_end_with_parent(os.getpid()),
        )
        self.pid = self._popen.pid
        self._watch_exit()

    @property
    def exit_text(self) -> str:
        """How it ended, as text: `exited with code 2`. Valid after `end()`."""
        code = self._popen.returncode
        if code is None:
            return "did not end"
        if code >= 0:
            return f"exited with code {code}"
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"

    async def attach(self) -> None:
        """Log its output from now on."""
        loop = asyncio.get_running_loop()
        self._output, _ = await loop.connect_read_pipe(
            lambda: _LineForwarder(self._log, self.last_lines, self._output_closed), self._popen.stdout
        )

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to the process and all that it forked, unless they are gone."""
        if self._group_is_gone:
            return
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):  # macOS answers EPERM for a group of zombies
            pass

    def kill(self) -> None:
        """SIGKILL its group, and what has left the group, without waiting. May be called in any thread."""
        self.signal_group(signal.SIGKILL)
        _kill_marked(self._marked)

    def reap(self, until: float) -> None:
        """After `kill`: wait for the processes until `until` (time.monotonic()), so that no zombie is left to
        a parent that does not reap. May be called in any thread."""
        while time.monotonic() < until:
            if self._popen.poll() is not None and not self._group_lives():
                return
            time.sleep(_FIRST_PAUSE)

    async def end(self, grace: float) -> None:
        """Give the whole group `grace` seconds to end, SIGKILL what is left, and reap it.

        What has left the group, as a daemon does, is killed too.
        """
        try:
            async with asyncio.timeout(grace):
                await self.exited.wait()
                await self._wait_for_group()
        except TimeoutError:
            pass
        finally:  # also when this call is cancelled
            self.signal_group(signal.SIGKILL)
        try:
            async with asyncio.timeout(2.0):
                await self.exited.wait()
                await self._wait_for_group()
                await threads.run(threads.CHILDREN, _kill_marked, self._marked)
                if self._output is not None:
                    await self._output_closed.wait()
        except TimeoutError:  # it hangs inside the kernel, or a process that left the group holds the pipe
            pass
        finally:
            self._close_output()

    def _close_output(self) -> None:
        self._exit_poll.cancel()
        if self._output is not None:
            self._output.close()
        elif self._popen.stdout is not None:
            self._popen.stdout.close()

    def _watch_exit(self) -> None:
        """Set `exited` when the process is dead, without reaping it: until then its number and that of its
        group are not reused, so that signalling the group is safe."""
        loop = asyncio.get_running_loop()
        try:
            watch = os.pidfd_open(self.pid)
        except (AttributeError, OSError):  # not Linux, or a sandbox that refuses the call
            self._exit_poll.start()
            return

        def dead() -> None:
            loop.remove_reader(watch)
            os.close(watch)
            self.exited.set()

        loop.add_reader(watch, dead)

    def _poll_exit(self) -> None:
        if self._popen.poll() is not None:
            self.exited.set()
            self._exit_poll.cancel()

    async def _wait_for_group(self) -> None:
        """Reap the process and wait until its group is empty. The kernel does not notify of that, and to
        check it means to read the state of every process, so it is done in a thread, at growing intervals."""
        self._popen.poll()
        pause = _FIRST_PAUSE
        while await threads.run(threads.CHILDREN, self._group_lives):
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LAST_PAUSE)
        self._group_is_gone = True

    def _group_lives(self) -> bool:
        try:
            while os.waitpid(-self.pid, os.WNOHANG)[0]:
                pass  # an orphan that we adopted as process 1 of a container
        except ChildProcessError:
            pass
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return _has_more_than_zombies(self.pid)


def _kill_marked(mark: bytes) -> None:
    """SIGKILL each process that has the mark in its environment: it was started by a child that has ended.

    Each is opened before its environment is read, so that its number cannot be reused meanwhile. Only Linux
    has both (proc(5), pidfd_open(2)).
    """
    found = True
    sweeps = 0
    while found and sweeps < _SWEEPS:  # a process may fork during a sweep
        found = False
        sweeps += 1
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, AttributeError):  # it ended, or is another user's; no pidfd
                held = os.pidfd_open(int(process.name))
                try:
                    if mark in (process / "environ").read_bytes().split(b"\0"):
                        found = True
                        signal.pidfd_send_signal(held, signal.SIGKILL)
                finally:
                    os.close(held)


def _has_more_than_zombies(group: int) -> bool:
    """Whether a process of an existing group still runs. Dead ones may wait long for process 1 to reap them,
    and hold nothing. True on a system without /proc (proc(5))."""
    stats = list(Path("/proc").glob("[0-9]*/stat"))
    for stat in stats:
        try:
            state, _, its_group, *_ = stat.read_text("utf-8", "replace").rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        if int(its_group) == group and state not in "ZX":
            return True
    return not stats
