"""One child process: in a process group of its own, tied to the gateway's life, its output in our log.

Nothing here decides when to start or restart; that is the supervisor's.
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

LINE_LIMIT = 64 * 1024  # bytes; a longer line is forwarded in pieces
LAST_LINES = 20
_ROUNDS = 10
_FIRST_PAUSE, _LAST_PAUSE = 0.01, 0.2  # seconds between two looks at a group of processes

_MARK = "GATEWAY_CHILD"  # in the environment of a child, and so of all that it starts
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
# Bound here, once: the child may only call it, see _end_with().
_prctl = ctypes.PyDLL(None, use_errno=True).prctl if sys.platform == "linux" else None


def _end_with(parent: int) -> Callable[[], None] | None:
    """What the child runs between fork and exec, so that it gets SIGTERM when the gateway dies (prctl(2)).

    Code after a fork is dangerous when other threads may hold a lock (an import, an allocator) that then
    nobody ever releases. This is safe: every name is bound before the fork, nothing is imported, PyDLL keeps
    the interpreter lock, and the C library resets its allocator's locks in a forked child.

    The kernel sends the signal when the *thread* that forked ends: spawn from the main thread, which lives
    as long as the process. Elsewhere than on Linux there is no such call, and a gateway that is killed with
    SIGKILL leaves its children.
    """
    prctl, getppid, leave = _prctl, os.getppid, os._exit
    given, setrlimit, number = interpreter.given_descriptors(), resource.setrlimit, resource.RLIMIT_NOFILE
    if prctl is None:
        return None

    def tie() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if getppid() != parent:  # it died before the call above: nobody will ever send the signal
            leave(1)
        if given is not None:
            setrlimit(number, given)

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
    """A running child. Make it on the loop of the main thread, then `await attach()`, then at last `end()`.

    Raises OSError (no such command, no such folder, not executable) or SubprocessError.
    exited: set when the process is dead; what it forked may live on in its group until `end()`.
    last_lines: the end of its stdout and stderr.
    """

    def __init__(self, name: str, command: Sequence[str], env: Mapping[str, str], cwd: str) -> None:
        self.exited = asyncio.Event()
        self.last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self._log = logging.getLogger(f"gateway.backend.{name}")
        self._output: asyncio.ReadTransport | None = None
        self._output_closed = asyncio.Event()
        self._group_is_gone = False
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
            preexec_fn=_end_with(os.getpid()),
        )
        self.pid = self._popen.pid
        self._watch_exit()

    @property
    def exit_text(self) -> str:
        """How it ended, for a person; after `end()`."""
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
        """Forward its output from now on."""
        loop = asyncio.get_running_loop()
        self._output, _ = await loop.connect_read_pipe(
            lambda: _LineForwarder(self._log, self.last_lines, self._output_closed), self._popen.stdout
        )

    def signal_group(self, number: signal.Signals) -> None:
        """Signal the process and all that it forked, unless they are gone."""
        if self._group_is_gone:
            return
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):  # macOS answers EPERM for a group of zombies
            pass

    def kill(self) -> None:
        """SIGKILL to its group, and to what has left it, without waiting. In any thread."""
        self.signal_group(signal.SIGKILL)
        _kill_marked(self._marked)

    def reap(self, until: float) -> None:
        """After `kill`: collect what ends until then (time.monotonic()), so that no zombie is left to who may
        not look for it. In any thread."""
        while time.monotonic() < until:
            if self._popen.poll() is not None and not self._group_lives():
                return
            time.sleep(_FIRST_PAUSE)

    async def end(self, grace: float) -> None:
        """Give the whole group `grace` seconds to end, SIGKILL what is left, and collect it.

        What has left the group, as a daemon does, is killed too.
        """
        try:
            async with asyncio.timeout(grace):
                await self.exited.wait()
                await self._group_gone()
        except TimeoutError:
            pass
        finally:  # also when we are cancelled ourselves
            self.signal_group(signal.SIGKILL)
        try:
            async with asyncio.timeout(2.0):
                await self.exited.wait()
                await self._group_gone()
                await threads.run(threads.CHILDREN, _kill_marked, self._marked)
                if self._output is not None:
                    await self._output_closed.wait()
        except TimeoutError:  # it hangs inside the kernel, or one that left the group holds our pipe
            pass
        finally:
            self._close_output()

    def _close_output(self) -> None:
        if self._output is not None:
            self._output.close()
        elif self._popen.stdout is not None:
            self._popen.stdout.close()

    def _watch_exit(self) -> None:
        """Set `exited` when the process is dead, without reaping it: until it is reaped, its number and its
        group's cannot become another's, so that signalling the group is safe."""
        loop = asyncio.get_running_loop()
        try:
            watch = os.pidfd_open(self.pid)
        except (AttributeError, OSError):  # not Linux, or a sandbox that refuses the call
            self._poll_exit(loop)
            return

        def dead() -> None:
            loop.remove_reader(watch)
            os.close(watch)
            self.exited.set()

        loop.add_reader(watch, dead)

    def _poll_exit(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._popen.poll() is None:
            loop.call_later(0.05, self._poll_exit, loop)
        else:
            self.exited.set()

    async def _group_gone(self) -> None:
        """Reap the process and wait until its group is empty. The kernel tells nobody when that is so; to see
        it takes a look at every process of the machine, so it is done in a thread, and less often in time."""
        self._popen.poll()
        pause = _FIRST_PAUSE
        while await threads.run(threads.CHILDREN, self._group_lives):
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LAST_PAUSE)
        self._group_is_gone = True

    def _group_lives(self) -> bool:
        try:
            while os.waitpid(-self.pid, os.WNOHANG)[0]:
                pass  # an orphan that became ours: we are process 1 of a container
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
    """SIGKILL each process that has the mark in its environment: it is of a child that has ended.

    Each is held by a descriptor from before the look, so that its number cannot be another's by then. Only
    Linux has both (proc(5), pidfd_open(2)).
    """
    found = True
    rounds = 0
    while found and rounds < _ROUNDS:  # one may fork while it is looked at
        found = False
        rounds += 1
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
    """Whether one of a group that exists still runs. The dead ones may wait long for process 1 to reap them,
    and hold nothing. Without /proc (proc(5)) the answer is yes."""
    stats = list(Path("/proc").glob("[0-9]*/stat"))
    for stat in stats:
        try:
            state, _, its_group, *_ = stat.read_text("utf-8", "replace").rpartition(")")[2].split()
        except OSError:  # it ended since it was listed
            continue
        if int(its_group) == group and state not in "ZX":
            return True
    return not stats
