"""Worker processes for work that would block the event loop, or could use up the memory.

A library that holds the interpreter lock stops every thread, and an allocator that fails ends the process. So
such work is a job in a process of its own, with limits of memory and processor time: a job beyond them ends
that process alone, and its caller gets an error. Workers are started when they are first needed (a fresh
interpreter, never a fork of this one, whose threads may hold locks), stay warm for a while, run at a lower
priority, and end with the gateway. See worker.py for their side.

Tenants take turns fairly (fair_seats.py). None has all workers, even while nobody else needs one, so that the
next tenant does not wait for a job of the first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from time import monotonic
from typing import Any, ParamSpec, TypeVar

from gateway.core.errors import StoreSaturated, StoreUnavailable, TenantQueueFull
from gateway.runtime.fair_seats import FairSeats
from gateway.runtime.log_interval import LogInterval
from gateway.runtime.processes import worker as process_worker
from gateway.runtime.processes.worker import COUNT, LENGTH, Piece

P = ParamSpec("P")
T = TypeVar("T")
L = logging.getLogger(__name__)

MAX_WAITING = 16  # jobs of one tenant, running and waiting
MAX_WAITING_ALL = 512  # jobs of all; beyond it a tenant may have one
KEPT_IDLE = 60.0  # seconds for which a worker without a job is kept
_GRACE = 0.25  # seconds that a job runs on without its caller: to start a worker costs more than most jobs
_ENDING = 2.0  # seconds for a process that has closed its socket to exit
_START = 30.0  # seconds for an interpreter to start, on a machine that is busy
_MAX_WAIT = 30.0  # seconds that a job waits for a worker
# Relative to the event loop, whose core a busy pool must not take, while it needs some time beside other
# processes. Beside bulks that are costly to check, the 99th percentile of another tenant is 40 to 50 ms with
# 8, 10 with 10; with 12 a busy machine leaves the pool next to nothing.
_NICENESS = 10
_PIECE = 256 * 1024  # bytes that are received at a time
_PROGRAM = f"""\
import sys
sys.path[:] = sys.argv[2:]
from gateway.runtime.scheduling import lower_session_priority
lower_session_priority({_NICENESS})
from gateway.runtime.processes.worker import main
main(int(sys.argv[1]))
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one job. memory: bytes of data of its process, of which the interpreter uses about 10 MiB.
    seconds: of processor time. wall_time: seconds by the clock, after which the machine counts as too
    busy. growth: bytes by which its process may have grown since its start; else it is replaced by a fresh
    one."""

    memory: int = 256 * 1024 * 1024
    seconds: float = 2.0
    wall_time: float = 60.0
    growth: int = 48 * 1024 * 1024


LIMITS = Limits()


class JobTooCostly(Exception):
    """A job reached a limit and was ended. what: "memory" or "time". phase: the job's phase then, see
    process_worker.phase; 0 before the first one."""

    def __init__(self, what: str, phase: int = 0) -> None:
        super().__init__(f"the job takes too much {what}")
        self.what = what
        self.phase = phase


def no_meter(seconds: float) -> None:
    """A `charge` that does nothing."""


class _WorkerEnded(Exception):
    """A worker has closed its socket, or violated the protocol."""


@dataclass(slots=True)
class _TenantJobs:
    """The jobs of one tenant. free: the workers that it may use more. count: jobs, running and waiting."""

    free: asyncio.Semaphore
    count: int = 0


@dataclass(slots=True, eq=False)
class _Worker:
    process: Process
    socket: socket.socket
    retire: asyncio.TimerHandle | None = None

    def is_alive(self) -> bool:
        """Whether an idle worker still runs."""
        try:
            self.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    async def ended_by(self) -> str:
        """The limit that ended it: "time" by its signal; anything else was an allocator that failed, or the
        kernel short of memory."""
        try:
            async with asyncio.timeout(_ENDING):
                code = await self.process.wait()
        except TimeoutError:
            return "memory"
        return "time" if code in (-signal.SIGPROF, -signal.SIGXCPU) else "memory"


class ProcessPool:
    """Runs jobs in worker processes, for one event loop. Nothing is started before the first job. `close` it
    at the end.

    workers: the most that run at a time. limits: those of a job without limits of its own.
    """

    def __init__(self, workers: int | None = None, limits: Limits = LIMITS) -> None:
        self.limits = limits
        self._workers = workers or min(2, os.cpu_count() or 1)
        reserve = min(1, self._workers - 1)
        self._seats = FairSeats(
            "processes for what takes long", self._workers, reserve=reserve, wait=_MAX_WAIT
        )
        self._tenants: dict[str, _TenantJobs] = {}
        self._jobs: set[asyncio.Task[Any]] = set()
        self._idle: list[_Worker] = []
        self._alive: set[_Worker] = set()
        self._ends: set[asyncio.Task[None]] = set()
        self._log_interval = LogInterval()
        self._closed = False

    @property
    def pids(self) -> tuple[int, ...]:
        """The process ids of the workers that run."""
        return tuple(worker.process.pid for worker in self._alive)

    async def run(self, tenant: str, function: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
        """Run a function of a module in a worker and return its result. Arguments and result are pickled,
        which holds the interpreter lock: large ones should be `bytes`, which are sent without a copy.

        Raises what the function raises; JobTooCostly; TenantQueueFull or StoreSaturated, at once, when the
        tenant or all tenants have too many jobs; StoreSaturated also when the machine is too busy;
        StoreUnavailable when no process can be started. When the caller is cancelled, the job leaves the
        queue, or is ended soon.
        """
        return await self.run_within(self.limits, tenant, function, *args, **more)

    async def run_within(
        self, limits: Limits, tenant: str, function: Callable[P, T], *args: P.args, **more: P.kwargs
    ) -> T:
        """As `run`, with other limits."""
        return await self.run_metered(limits, no_meter, tenant, function, *args, **more)

    async def run_metered(
        self,
        limits: Limits,
        charge: Callable[[float], object],
        tenant: str,
        function: Callable[P, T],
        *args: P.args,
        **more: P.kwargs,
    ) -> T:
        """As `run_within`. charge: called before this returns or raises, with the seconds of processor time
        that the job took; for one that was ended, or got no worker, with the seconds that it was there."""
        if self._closed:
            raise StoreUnavailable("The gateway is shutting down.")
        tenant_jobs = self._tenants.get(tenant)
        if tenant_jobs is None:
            tenant_jobs = self._tenants[tenant] = _TenantJobs(asyncio.Semaphore(max(1, self._workers - 1)))
        if tenant_jobs.count >= MAX_WAITING:
            raise TenantQueueFull(f"{MAX_WAITING} of the tenant's requests that take long are under way.")
        if tenant_jobs.count and len(self._jobs) >= MAX_WAITING_ALL:
            raise StoreSaturated(f"{len(self._jobs)} requests that take long are under way.")
        frame = process_worker.pack(limits.memory, limits.seconds, limits.growth, function, args, more)
        running = asyncio.Event()
        work = self._job(tenant_jobs, tenant, limits, frame, running, charge)
        job = asyncio.create_task(work, name=f"job of {tenant}")
        tenant_jobs.count += 1
        self._jobs.add(job)
        job.add_done_callback(lambda job: self._end_job(job, tenant, tenant_jobs))
        try:
            result: T = await asyncio.shield(job)
            return result
        except asyncio.CancelledError:
            if job.cancelled() and self._closed:
                raise StoreUnavailable("The gateway is shutting down.") from None
            if running.is_set():
                asyncio.get_running_loop().call_later(_GRACE, job.cancel)
            else:
                job.cancel()
            raise
        finally:
            del job, work, frame  # breaks the cycle of an error's traceback, this frame and the job

    async def close(self) -> None:
        """End all jobs and workers; no process is left afterwards."""
        self._closed = True
        jobs = list(self._jobs)
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        for worker in list(self._alive):
            self._discard(worker)
        await asyncio.gather(*self._ends)

    # --- turns ---

    def _end_job(self, job: asyncio.Task[Any], tenant: str, tenant_jobs: _TenantJobs) -> None:
        self._jobs.discard(job)
        tenant_jobs.count -= 1
        if not tenant_jobs.count:
            del self._tenants[tenant]
        if not job.cancelled():
            job.exception()  # marks it as retrieved: the caller may have gone

    async def _job(
        self,
        tenant_jobs: _TenantJobs,
        tenant: str,
        limits: Limits,
        frame: Sequence[Piece],
        running: asyncio.Event,
        charge: Callable[[float], object],
    ) -> Any:
        began, spent = monotonic(), None
        try:
            async with tenant_jobs.free, self._seats.seat(tenant):
                running.set()
                kind, result, trace, spent = await self._exchange(limits, frame)
        finally:
            charge(monotonic() - began if spent is None else spent)
        if kind == process_worker.NO_MEMORY:
            raise JobTooCostly("memory", result)
        if kind != process_worker.FAILED:
            return result
        if trace:
            result.add_note(f"In a worker process:\n{trace}")
        try:
            raise result
        finally:
            del result, frame  # breaks the cycle of the error's traceback and this frame

    # --- workers ---

    async def _exchange(self, limits: Limits, frame: Sequence[Piece]) -> tuple[Any, ...]:
        """Send a job to a worker and return the values of its result. Raises JobTooCostly,
        StoreUnavailable."""
        worker = await self._worker()
        stays, phase = False, 0
        try:
            async with asyncio.timeout(limits.wall_time):
                loop = asyncio.get_running_loop()
                for part in frame:
                    await loop.sock_sendall(worker.socket, part)
                (kind_byte,) = await _receive(worker.socket, 1)
                while kind_byte == process_worker.PHASE:
                    (phase,) = await _receive(worker.socket, 1)
                    (kind_byte,) = await _receive(worker.socket, 1)
                parts = await _receive_frame(worker.socket, limits.memory)
        except TimeoutError:  # it used less processor time than its limit, which would have ended it
            detail = f"What takes long got too little of the processors to be done in {limits.wall_time:g} s."
            raise StoreSaturated(detail, retry_after=5) from None
        except (OSError, _WorkerEnded):
            raise JobTooCostly(await worker.ended_by(), phase) from None
        else:
            stays = kind_byte == process_worker.STAYS and not self._closed
        finally:
            if stays:
                self._keep(worker)
            else:
                self._discard(worker)
        kind, result, trace, seconds = process_worker.unpack(parts)
        return kind, phase if kind == process_worker.NO_MEMORY else result, trace, seconds

    async def _worker(self) -> _Worker:
        while self._idle:
            worker = self._idle.pop()
            if worker.retire is not None:
                worker.retire.cancel()
            if worker.is_alive():
                return worker
            self._discard(worker)
        return await self._start()

    async def _start(self) -> _Worker:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        root = str(Path(__file__).parents[3])
        paths = [root, *(str(Path(path).absolute()) for path in sys.path)]
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", "-c", _PROGRAM, str(os.getpid()), *paths),
                stdin=theirs.fileno(),
                stdout=DEVNULL,
                start_new_session=True,  # not in the group that a terminal signals
            )
        except BaseException as error:
            ours.close()
            if isinstance(error, OSError):
                raise self._no_process(error.strerror or "no reason given") from None
            raise
        finally:
            theirs.close()
        worker = _Worker(process, ours)
        self._alive.add(worker)
        try:
            async with asyncio.timeout(_START):
                await _receive_frame(ours, 1024)
        except BaseException as error:
            self._discard(worker)
            if isinstance(error, TimeoutError):
                raise self._no_process(f"it was not ready after {_START:g} s") from None
            if isinstance(error, OSError | _WorkerEnded):
                raise self._no_process("it ended at once; what it said is on standard error") from None
            raise
        return worker

    def _no_process(self, why: str) -> StoreUnavailable:
        if self._log_interval.is_over():
            L.error("no worker process could be started (for large documents and costly schemas): %s", why)
        return StoreUnavailable("No process could be started for what takes long.")

    def _keep(self, worker: _Worker) -> None:
        self._idle.append(worker)
        worker.retire = asyncio.get_running_loop().call_later(KEPT_IDLE, self._retire, worker)

    def _retire(self, worker: _Worker) -> None:
        if worker in self._idle:
            self._idle.remove(worker)
            self._discard(worker)

    def _discard(self, worker: _Worker) -> None:
        """Kill and reap a worker."""
        worker.socket.close()
        if worker.retire is not None:
            worker.retire.cancel()
        end = asyncio.create_task(self._reap(worker), name=f"the end of worker {worker.process.pid}")
        self._ends.add(end)
        end.add_done_callback(self._ends.discard)

    async def _reap(self, worker: _Worker) -> None:
        with contextlib.suppress(ProcessLookupError):
            worker.process.kill()
        await worker.process.wait()
        self._alive.discard(worker)


async def _receive_frame(sock: socket.socket, most: int) -> list[bytes]:
    """The parts of a frame. Raises _WorkerEnded, also for a frame of more bytes than `most`."""
    count = await _receive(sock, COUNT.size)
    head = await _receive(sock, min(most, LENGTH.size * COUNT.unpack(count)[0]))
    lengths = [length for (length,) in LENGTH.iter_unpack(head)]
    if sum(lengths) > most:
        raise _WorkerEnded
    return [await _receive(sock, length) for length in lengths]


async def _receive(sock: socket.socket, length: int) -> bytes:
    loop = asyncio.get_running_loop()
    whole = BytesIO()  # getvalue does not copy, which for ten megabytes would block the event loop
    while length:
        piece = await loop.sock_recv(sock, min(length, _PIECE))
        if not piece:
            raise _WorkerEnded
        whole.write(piece)
        length -= len(piece)
    return whole.getvalue()
