"""Supervised backends: child processes that are started, restarted and stopped with the gateway.

A child is healthy when GET of its health path has the status 200 within its start_timeout. One that is not,
or dies, is started again after a back-off, while everything else is served. When the gateway ends, no process
of a child is left.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from signal import SIGKILL, SIGTERM, Signals
from typing import Any

from gateway.edge.backend.resolver import Names
from gateway.process.child import ChildFailed, ChildSpec, ask_health, remove_stale_socket
from gateway.process.child_process import ChildProcess
from gateway.runtime import threads
from gateway.runtime.os_errors import explain_start_failure
from gateway.runtime.periodic import Boundary

__all__ = ["ChildFailed", "ChildSpec", "Supervisor"]

L = logging.getLogger("gateway.supervisor")

BACK_OFF_FIRST, BACK_OFF_MOST = 0.1, 10.0  # seconds
_HEALTH_INTERVAL = 0.05
_HANGS = 0.2  # seconds without a response, beyond which a child is said to hang
_REPORT_AFTER = 1.0  # seconds of waiting, after which it is logged
_REAPED = 0.2  # seconds to wait for killed processes
_REPEATED = 60.0  # seconds between two lines of the log about the same failure

OnEvent = Callable[[str, str], None]


def back_off(previous: float, ran: float) -> float:
    """Seconds to wait before the next start. previous: the wait before this start, 0.0 for the first. ran:
    how long the child was healthy, in seconds."""
    if previous == 0.0 or ran >= BACK_OFF_MOST:
        return BACK_OFF_FIRST
    return min(previous * 2, BACK_OFF_MOST)


class _Child:
    """One supervised backend from the first start to the end. failure: why it does not run, None while it
    does."""

    def __init__(self, spec: ChildSpec, on_event: OnEvent, grace: float) -> None:
        self.spec = spec
        self.state = "stopped"
        self.restarts = 0
        self.started_at: float | None = None
        self.last_exit: str | None = None
        self.process: ChildProcess | None = None
        self.failure: ChildFailed | None = None
        self._on_event = on_event
        self._grace = grace
        self._task: asyncio.Task[None] | None = None
        self._first: asyncio.Future[None] | None = None
        self._log = _FailureLog(spec.name)
        self._names = Names()
        self._boundary = Boundary(f"supervising backend {spec.name}")

    def start(self) -> asyncio.Future[None]:
        """Start it and keep it running. The future is done once the first start has an outcome: the child is
        healthy, or has failed and will be started again."""
        self.state = "starting"
        self._first = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(), name=f"supervise {self.spec.name}")
        self._task.add_done_callback(self._ended)
        return self._first

    async def stop(self) -> None:
        """SIGTERM to its group, SIGKILL after the grace; no process is left afterwards."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        await self._end_process(SIGTERM, self._grace)
        if self.state != "stopped":
            self.state = "stopped"
            self._notify("stopped")

    async def _run(self) -> None:
        delay = 0.0
        while True:
            failure, ran = ChildFailed(self.spec.name, "a bug in the gateway, which is in its log"), 0.0
            with self._boundary:
                failure, ran = await self._run_once()
            delay = back_off(delay, ran)
            with self._boundary:
                await self._end_process(SIGKILL, 0.0)  # only a bug leaves one
                self._log.failed(failure, delay)
            self.state = "backing-off"
            self._set_outcome(failure)
            self._notify("exited")
            await asyncio.sleep(delay)
            self.restarts += 1
            self._notify("restarting")

    async def _run_once(self) -> tuple[ChildFailed, float]:
        """From a start to the end of the process. Returns why it ended, and for how many seconds it was
        healthy."""
        try:
            process = await self._spawn()
        except ChildFailed as failed:
            return failed, 0.0
        healthy_at = time.monotonic()
        self._set_outcome(None)
        await process.exited.wait()
        await self._end_process(SIGKILL, 0.0)
        failure = ChildFailed(self.spec.name, self._exit(), process.last_lines)
        return failure, time.monotonic() - healthy_at

    def _notify(self, event: str) -> None:
        with self._boundary:
            self._on_event(self.spec.name, event)

    def _set_outcome(self, failure: ChildFailed | None) -> None:
        self.failure = failure
        if self._first is not None and not self._first.done():
            self._first.set_result(None)

    async def _spawn(self) -> ChildProcess:
        """Spawn it and wait until it is healthy. Raises ChildFailed when it is not; then no process of it is
        left."""
        spec = self.spec
        self.state = "starting"
        try:
            await self._free_socket()
            self.started_at = time.time()
            process = ChildProcess(spec.name, spec.command, spec.env, spec.cwd)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            path = {**os.environ, **spec.env}.get("PATH", os.defpath)
            program = spec.command[0]
            why = await threads.run(threads.CHILDREN, explain_start_failure, program, spec.cwd, path, error)
            reason = f"cannot run {program}: {why}"
            raise ChildFailed(spec.name, reason, hint=f"check {self._keys('command', 'cwd')}") from error
        self.process = process
        await process.attach()
        last = await self._becomes_healthy(process)
        if not last:
            self.state = "running"
            self._log.healthy(process.pid)
            self._notify("healthy")
            return process
        if process.exited.is_set():
            await self._end_process(SIGKILL, 0.0)
            reason = f"{self._exit()} before {spec.healthz} answered 200"
            hint = f"correct what it printed, or {self._keys('command')}"
            if self.last_exit == "exited with code 0":
                hint = f"it must stay in the foreground, and be no daemon: {self._keys('command')}"
        else:
            await self._end_process(SIGTERM, self._grace)
            reason = f"{spec.healthz} did not answer 200 within {spec.start_timeout:g} s ({last})"
            hint = f"name a path that does, or a longer time: {self._keys('health', 'start_timeout')}"
            if last.startswith("nothing listens") and spec.socket:
                hint = f"let it listen on unix:{{socket}}: {self._keys('command')}; if it is slow, {hint}"
        raise ChildFailed(spec.name, reason, process.last_lines, hint)

    def _exit(self) -> str:
        killed = self.last_exit is not None and self.last_exit.startswith("killed")
        return f"it was {self.last_exit}" if killed else f"it {self.last_exit}"

    def _keys(self, *names: str) -> str:
        return f"{' and '.join(names)} in [backend:{self.spec.name}] of the process config"

    async def _remove_stale_socket(self) -> bool:
        return await threads.run(threads.CHILDREN, remove_stale_socket, self.spec.socket)

    async def _free_socket(self) -> None:
        """Remove a stale socket. A child of a gateway that was just killed may still be ending: it gets as
        long as a start does."""
        deadline = time.monotonic() + self.spec.start_timeout
        while self.spec.socket and not await self._remove_stale_socket():
            if time.monotonic() > deadline:
                reason = f"another process listens on {self.spec.socket}"
                raise ChildFailed(self.spec.name, reason, hint="end it, if it was left by a gateway")
            await asyncio.sleep(_HEALTH_INTERVAL)

    async def _becomes_healthy(self, process: ChildProcess) -> str:
        """Returns "" once it is healthy; else the result of the last check, when it is dead or its time is
        over."""
        last, asked_at = "it was not asked", math.inf
        try:
            async with asyncio.timeout(self.spec.start_timeout):
                while not process.exited.is_set():
                    asked_at = time.monotonic()
                    last = await ask_health(self.spec, self._names)
                    if not last:
                        return ""
                    asked_at = math.inf
                    await asyncio.sleep(_HEALTH_INTERVAL)
        except TimeoutError:
            if time.monotonic() - asked_at > _HANGS:
                last = "it takes the request and does not answer"
        return last

    async def _end_process(self, number: Signals, grace: float) -> None:
        process = self.process
        if process is None:
            return
        process.signal_group(number)
        await process.end(grace)
        self.last_exit = process.exit_text
        self.process = None
        if self.spec.socket:
            try:
                await self._remove_stale_socket()
            except OSError as error:
                L.warning("backend %s: %s", self.spec.name, error)

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:  # a bug of the gateway: that a backend is not supervised must be seen
            L.error("backend %s is no longer supervised", self.spec.name, exc_info=error)
        reason = "it is no longer supervised" if error is not None else "it was stopped"
        self._set_outcome(ChildFailed(self.spec.name, reason))


class _FailureLog:
    """Logs the failures of one backend that fails repeatedly: each reason in full once, its repetition in one
    line at most once a minute, and when the backend is healthy again."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._since: float | None = None
        self._tries = 0
        self._reason = ""
        self._logged_at = 0.0

    def failed(self, failure: ChildFailed, delay: float) -> None:
        """delay: seconds until the next start."""
        now = time.monotonic()
        self._tries += 1
        if self._since is None:
            self._since = now
        if failure.reason != self._reason:
            self._reason, self._logged_at = failure.reason, now
            hint = f"\n    hint: {failure.hint}" if failure.hint else ""
            L.warning("%s%s\n    all else is served; it is started again in %.1f s", failure, hint, delay)
        elif now - self._logged_at >= _REPEATED:
            self._logged_at = now
            L.warning(
                "backend %s still does not run, %.0f s and %d tries later: %s",
                *(self._name, now - self._since, self._tries, failure.reason),
            )

    def healthy(self, pid: int) -> None:
        again = ""
        if self._since is not None:
            again = f" again, after {time.monotonic() - self._since:.1f} s"
        L.log(
            logging.WARNING if again else logging.INFO,
            "backend %s is healthy%s (pid %d)",
            *(self._name, again, pid),
        )
        self._since, self._tries, self._reason = None, 0, ""


def _ignore(name: str, event: str) -> None:
    pass


class Supervisor:
    """Runs the children of `specs`, on the loop of the main thread.

    on_event(name, event) is called with "healthy", "exited", "restarting" and "stopped". grace: seconds from
    SIGTERM to SIGKILL. Raises ValueError when two specs have one name.
    """

    def __init__(
        self, specs: Sequence[ChildSpec], *, on_event: OnEvent | None = None, grace: float = 8.0
    ) -> None:
        names = [spec.name for spec in specs]
        if len(set(names)) != len(names):
            raise ValueError(f"two supervised backends have one name: {', '.join(names)}")
        self._grace = grace
        self._children = [_Child(spec, on_event or _ignore, grace) for spec in specs]

    async def start(self) -> None:
        """Start all at once. Returns when each is healthy or has failed (see `failures`). One that has failed
        is started again, with a back-off, until `stop`."""
        waiting = {child.start(): child for child in self._children}
        try:
            _, left = await asyncio.wait(waiting, timeout=_REPORT_AFTER) if waiting else (set(), set())
            if left:
                longest = max(waiting[first].spec.start_timeout for first in left)
                names = _names(waiting[first] for first in left)
                L.info("waiting for %s to become healthy, at most %g s", names, longest)
                await asyncio.wait(left)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop all at once. May be called at any time and more than once."""
        stops = {asyncio.ensure_future(child.stop()): child for child in self._children}
        if not stops:
            return
        _, left = await asyncio.wait(stops, timeout=_REPORT_AFTER)
        if left:
            L.info("waiting for %s to end, at most %g s", _names(stops[stop] for stop in left), self._grace)
        await asyncio.gather(*stops)

    def kill(self) -> None:
        """SIGKILL all their processes and reap those that end at once. May be called in any thread."""
        processes = [child.process for child in self._children if child.process is not None]
        for process in processes:
            process.kill()
        until = time.monotonic() + _REAPED
        for process in processes:
            process.reap(until)

    @property
    def failures(self) -> list[ChildFailed]:
        """The failures of the children that do not run."""
        return [child.failure for child in self._children if child.failure is not None]

    def states(self) -> list[dict[str, Any]]:
        """For each child: name, pid, state (starting, running, backing-off, stopped), restarts, started_at
        (seconds since the epoch), last_exit and failure (why it does not run, None while it does)."""
        return [
            {
                "name": child.spec.name,
                "pid": child.process.pid if child.process is not None else None,
                "state": child.state,
                "restarts": child.restarts,
                "started_at": child.started_at,
                "last_exit": child.last_exit,
                "failure": child.failure.reason if child.failure is not None else None,
            }
            for child in self._children
        ]


def _names(children: Iterable[_Child]) -> str:
    return "backend " + ", ".join(sorted(child.spec.name for child in children))
