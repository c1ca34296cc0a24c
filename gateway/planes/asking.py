"""What the admin listener asks of the data planes: that of this process, or those of the workers."""

from __future__ import annotations

import asyncio
import logging
from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import isawaitable
from itertools import chain
from typing import Any, Protocol

from gateway.admin.planes import WAIT
from gateway.core.errors import StoreUnavailable
from gateway.core.merge.metrics import Report, Totals
from gateway.core.openmetrics import END, OTHER, Counter, Gauge
from gateway.planes.shown import Shown
from gateway.runtime.channel import Channel, ChannelError, Handler
from gateway.runtime.log_interval import LogInterval
from gateway.runtime.periodic import PeriodicTask
from gateway.telemetry.metrics import NONE, Metrics
from gateway.telemetry.recent import KEPT

L = logging.getLogger(__name__)
_EVERY = 1.0  # seconds between two looks at what workers count: as much is lost of one that is killed


class Worker(Protocol):
    """A worker process, as the master knows it. number: its place. id: of no other one."""

    number: int
    id: str
    pid: int
    ready: bool
    leaving: bool
    channel: Channel | None

    @property
    def silent(self) -> bool:
        """Whether it does not answer: nobody waits for it."""
        ...


class OnePlane:
    """See admin.planes.DataPlanes: the one of this process. Nothing is sent anywhere."""

    def __init__(self, shown: Shown, metrics: Metrics) -> None:
        self._handlers = shown.handlers()
        self._metrics = metrics

    async def ask(self, name: str, body: Any = None, wait: float = WAIT) -> list[Any]:
        """See DataPlanes."""
        return [await self.ask_one(name, body)]

    async def ask_one(self, name: str, body: Any = None) -> Any:
        """See DataPlanes."""
        answer = self._handlers[name](body)
        return await answer if isawaitable(answer) else answer

    async def metrics(self) -> Iterable[str]:
        """See DataPlanes."""
        return self._metrics.parts()

    async def workers(self, wait: float = WAIT) -> list[dict[str, Any]]:
        """See DataPlanes."""
        return []


class WorkerPlanes:
    """See admin.planes.DataPlanes: those of the workers. workers: gives those that have not ended. own: the
    metrics of this process, the master."""

    def __init__(self, workers: Callable[[], Sequence[Worker]], own: Metrics) -> None:
        self._workers = workers
        self._own = own
        self._totals = Totals()
        self._looking = asyncio.Lock()  # an answer that was overtaken by a newer one would undo that
        self._interval = LogInterval()
        own.add(Gauge("gateway_workers", "Worker processes that serve.", self._numbers))
        self._died = Counter("gateway_workers_died", "Worker processes that ended by themselves.")
        self._died.add(amount=0)
        own.add(self._died)
        self._behind: set[str] = set()  # workers that have not done what was spread last
        self._spread: tuple[str, Any] = "", None

    # --- what the master says of workers ---

    def handlers(self, worker: Worker) -> Mapping[str, Handler]:
        """What a worker tells by itself, from its start on."""
        self._totals.join(worker.id)
        return {"counted": lambda pieces: self._counted(worker, pieces)}

    def _counted(self, worker: Worker, pieces: list[str]) -> None:
        """The last word of one that ends: an answer that is looked at after it is an older one."""
        self._totals.replace(worker.id, _report(pieces))
        self._totals.end(worker.id)

    def gone(self, worker: Worker) -> None:
        """It has ended; what it counted stays."""
        self._behind.discard(worker.id)
        self._totals.end(worker.id)
        if not worker.leaving:
            self._died.add()

    def keep_routes(self, routes: Iterable[str]) -> None:
        """Of a new config."""
        self._totals.keep_routes((*routes, NONE, OTHER))

    async def watch(self) -> None:
        """Look after them, until cancelled."""
        await PeriodicTask("looking after the workers", _EVERY, self.look).run()

    async def look(self) -> None:
        """What they count, and whether they have the config."""
        await self._spread_again()
        async with self._looking:
            serving = self._serving()
            for worker, pieces in await self._answers("counters", of=serving):
                self._totals.update(worker.id, _report(pieces))
                serving.remove(worker)
        if serving:  # what they said is lost, and they would not say it again
            await self.metrics()

    # --- asking ---

    async def ask(self, name: str, body: Any = None, wait: float = WAIT) -> list[Any]:
        """See DataPlanes."""
        return [answer for _, answer in await self._answers(name, body, wait)]

    async def ask_one(self, name: str, body: Any = None) -> Any:
        """See DataPlanes."""
        for worker in self._serving():
            try:
                return await self._answer(worker, name, body)
            except ChannelError as error:
                self._say(worker, name, error)
        raise StoreUnavailable("No worker answers.")

    async def metrics(self) -> Iterable[str]:
        """See DataPlanes. Of one that does not answer it has what was counted until it last did."""
        heard = set()
        async with self._looking:
            for worker, pieces in await self._answers("metrics"):
                heard.add(worker.id)
                report = Report()
                for piece in pieces:
                    report.add(piece)
                    await asyncio.sleep(0)
                self._totals.replace(worker.id, report)
        silent = {worker.id for worker in self._workers()} - heard
        instruments = self._totals.instruments(self._own.instruments(), silent)
        return chain(chain.from_iterable(instrument.lines() for instrument in instruments), (END,))

    async def recent(self) -> list[bytes]:
        """The last requests, for rehearsals: as many as one process keeps."""
        slices = await self.ask("recent", KEPT // max(1, len(self._serving())))
        return [b64decode(one) for one in chain.from_iterable(slices)]

    async def workers(self, wait: float = WAIT) -> list[dict[str, Any]]:
        """See DataPlanes."""
        states = {worker.id: state for worker, state in await self._answers("state", wait=wait)}
        return [self._shown(worker, states.get(worker.id)) for worker in self._workers()]

    def _shown(self, worker: Worker, said: Mapping[str, Any] | None) -> dict[str, Any]:
        state = "leaving" if worker.leaving else "ready" if worker.ready else "starting"
        return {
            "worker": worker.number,
            "id": worker.id,
            "pid": worker.pid,
            "state": "silent" if state == "ready" and said is None else state,
            "revision": said["revision"] if said is not None else None,
            "since": said["since"] if said is not None else None,
        }

    # --- the config ---

    async def spread(self, name: str, body: Any, wait: float = WAIT) -> list[str]:
        """Ask all that have not ended, also those that start, to do something; the ones that have not done it
        in time, as text. wait: seconds."""
        self._spread = name, body
        workers = [worker for worker in self._workers() if worker.channel is not None]
        done = await asyncio.gather(*(self._done(worker, name, body, wait) for worker in workers))
        behind = [worker for worker, did in zip(workers, done, strict=True) if not did]
        self._behind = {worker.id for worker in behind}
        return [f"worker {worker.number} (pid {worker.pid})" for worker in behind]

    async def _spread_again(self) -> None:
        """To those that were too busy, or failed for a while: nothing else would."""
        for worker in [one for one in self._workers() if one.id in self._behind and not one.silent]:
            given = self._spread
            if await self._done(worker, *given, WAIT) and given is self._spread:
                self._behind.discard(worker.id)
                L.info("worker %d (pid %d) has the %s now", worker.number, worker.pid, given[0])

    async def _done(self, worker: Worker, name: str, body: Any, wait: float) -> bool:
        channel = worker.channel
        assert channel is not None
        try:
            await channel.ask(name, body, wait)
        except ChannelError as error:
            if channel.ended:
                return True  # it has ended; the next one begins with what is new
            self._say(worker, name, error)
            return False
        return True

    def _numbers(self) -> dict[tuple[str, ...], float]:
        return {(): len(self._serving())}

    def _serving(self) -> list[Worker]:
        return [worker for worker in self._workers() if worker.ready and not worker.silent]

    async def _answers(
        self, name: str, body: Any = None, wait: float = WAIT, of: Sequence[Worker] | None = None
    ) -> list[tuple[Worker, Any]]:
        async def answer(worker: Worker) -> list[tuple[Worker, Any]]:
            try:
                return [(worker, await self._answer(worker, name, body, wait))]
            except ChannelError as error:
                self._say(worker, name, error)
                return []

        asked = self._serving() if of is None else of
        return list(chain.from_iterable(await asyncio.gather(*map(answer, asked))))

    async def _answer(self, worker: Worker, name: str, body: Any, wait: float = WAIT) -> Any:
        assert worker.channel is not None
        return await worker.channel.ask("show", [name, body], wait)

    def _say(self, worker: Worker, name: str, error: ChannelError) -> None:
        if self._interval.is_over():
            L.warning("worker %d (pid %d), asked for its %s: %s", worker.number, worker.pid, name, error)


def _report(pieces: Iterable[str]) -> Report:
    report = Report()
    for piece in pieces:
        report.add(piece)
    return report
