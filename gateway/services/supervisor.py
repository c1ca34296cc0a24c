"""Supervised backends: child processes that are started, restarted and stopped with the gateway.

Plain asyncio. A child is ready when GET on its health path answers 200. A dead child is started again after
a back-off; when the gateway ends, nothing of a child is left.
"""

from __future__ import annotations

import asyncio
import logging
import subprocess
import time
from collections.abc import Callable, Sequence
from signal import SIGKILL, SIGTERM, Signals
from typing import Any

from gateway.services.child import ChildFailed, ChildSpec, answers_200, remove_stale_socket
from gateway.services.child_process import ChildProcess

__all__ = ["ChildFailed", "ChildSpec", "Supervisor"]

L = logging.getLogger("gateway.supervisor")

BACK_OFF_FIRST = 0.1  # seconds
BACK_OFF_MOST = 10.0
_HEALTH_INTERVAL = 0.05

OnEvent = Callable[[str, str], None]


def back_off(previous: float, ran: float) -> float:
    """Seconds to wait before the next start, given the wait before this one and how long it ran."""
    if previous == 0.0 or ran >= BACK_OFF_MOST:
        return BACK_OFF_FIRST
    return min(previous * 2, BACK_OFF_MOST)


class _Child:
    """One backend from the first start to the end; `ready` resolves, or fails, with the first start."""

    def __init__(self, spec: ChildSpec, on_event: OnEvent, ready_timeout: float, grace: float) -> None:
        self.spec = spec
        self.state = "stopped"
        self.restarts = 0
        self.started_at: float | None = None
        self.last_exit: str | None = None
        self.process: ChildProcess | None = None
        self._on_event = on_event
        self._ready_timeout = ready_timeout
        self._grace = grace
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> asyncio.Future[None]:
        """Start it and keep it running. The future is done at the first health, or raises ChildFailed."""
        self.state = "starting"
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(ready), name=f"supervise {self.spec.name}")
        self._task.add_done_callback(lambda task: self._ended(task, ready))
        return ready

    async def stop(self) -> None:
        """SIGTERM to its group, SIGKILL after the grace; nothing is left afterwards."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        await self._end_process(SIGTERM, self._grace)
        if self.state != "stopped":
            self.state = "stopped"
            self._on_event(self.spec.name, "stopped")

    async def _run(self, ready: asyncio.Future[None]) -> None:
        delay = 0.0
        while True:
            began = time.monotonic()
            try:
                await self._start()
                if not ready.done():
                    ready.set_result(None)
                assert self.process is not None
                await self.process.exited.wait()
                await self._end_process(SIGKILL, 0.0)
                reason = f"it {self.last_exit}"
            except ChildFailed as failed:
                if not ready.done():
                    ready.set_exception(failed)
                    return
                reason = failed.reason
            delay = back_off(delay, time.monotonic() - began)
            self.state = "backing-off"
            L.warning("backend %s is down: %s; starting it again in %.1f s", self.spec.name, reason, delay)
            self._on_event(self.spec.name, "exited")
            await asyncio.sleep(delay)
            self.restarts += 1
            self._on_event(self.spec.name, "restarting")

    async def _start(self) -> None:
        """Spawn it and wait until it is healthy; ChildFailed when it is not, and then nothing of it runs."""
        self.state = "starting"
        try:
            await self._free_socket()
            self.started_at = time.time()
            process = ChildProcess(self.spec.name, self.spec.command, self.spec.env, self.spec.cwd)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            raise ChildFailed(self.spec.name, f"cannot run {self.spec.command[0]}: {error}") from error
        self.process = process
        await process.attach()
        if await self._becomes_healthy(process):
            self.state = "running"
            L.info("backend %s is healthy (pid %d)", self.spec.name, process.pid)
            self._on_event(self.spec.name, "healthy")
            return
        if process.exited.is_set():
            await self._end_process(SIGKILL, 0.0)
            reason = f"it {self.last_exit} before {self.spec.healthz} answered 200"
        else:
            await self._end_process(SIGTERM, self._grace)
            reason = f"{self.spec.healthz} did not answer 200 within {self._ready_timeout:g} s"
        raise ChildFailed(self.spec.name, reason, process.last_lines)

    async def _free_socket(self) -> None:
        """A child of a gateway that was just killed may still be ending: it gets as long as a start does."""
        deadline = time.monotonic() + self._ready_timeout
        while self.spec.socket and not remove_stale_socket(self.spec.socket):
            if time.monotonic() > deadline:
                reason = f"another process listens on {self.spec.socket}: does a second gateway run?"
                raise ChildFailed(self.spec.name, reason)
            await asyncio.sleep(_HEALTH_INTERVAL)

    async def _becomes_healthy(self, process: ChildProcess) -> bool:
        try:
            async with asyncio.timeout(self._ready_timeout):
                while not process.exited.is_set():
                    if await answers_200(self.spec):
                        return True
                    await asyncio.sleep(_HEALTH_INTERVAL)
        except TimeoutError:
            pass
        return False

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
                remove_stale_socket(self.spec.socket)
            except OSError as error:
                L.warning("backend %s: %s", self.spec.name, error)

    def _ended(self, task: asyncio.Task[None], ready: asyncio.Future[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:  # a bug of ours: a backend that nobody watches must be seen
            L.error("backend %s is no longer supervised", self.spec.name, exc_info=error)
        if not ready.done():
            ready.set_exception(error or ChildFailed(self.spec.name, "it was stopped before it was healthy"))


def _nothing(name: str, event: str) -> None:
    pass


class Supervisor:
    """Runs the children of `specs`. Use it on the main thread's loop.

    on_event(name, event) is called with "healthy", "exited", "restarting" and "stopped"; it must not raise.
    ready_timeout: seconds from a start to the first healthy answer. grace: seconds from SIGTERM to SIGKILL.
    """

    def __init__(
        self,
        specs: Sequence[ChildSpec],
        *,
        on_event: OnEvent | None = None,
        ready_timeout: float = 10.0,
        grace: float = 8.0,
    ) -> None:
        names = [spec.name for spec in specs]
        if len(set(names)) != len(names):
            raise ValueError(f"two supervised backends have one name: {', '.join(names)}")
        self._children = [_Child(spec, on_event or _nothing, ready_timeout, grace) for spec in specs]

    async def start(self) -> None:
        """Start all at once; returns when all are healthy.

        Raises ChildFailed for the first one that is not; by then all the others are stopped again.
        """
        try:
            await asyncio.gather(*[child.begin() for child in self._children])
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop all at once. May be called at any time and more than once."""
        await asyncio.gather(*[child.stop() for child in self._children])

    def states(self) -> list[dict[str, Any]]:
        """name, pid, state (starting, running, backing-off, stopped), restarts, started_at (seconds since the
        epoch) and last_exit of each child."""
        return [
            {
                "name": child.spec.name,
                "pid": child.process.pid if child.process is not None else None,
                "state": child.state,
                "restarts": child.restarts,
                "started_at": child.started_at,
                "last_exit": child.last_exit,
            }
            for child in self._children
        ]
