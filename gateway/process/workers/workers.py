"""The workers of a master: started, replaced when they die, replaced one by one by new ones, ended.

A worker is `ready` when it serves. One that dies is replaced at once, and the others do not notice; only when
several die one after the other, their replacements wait.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import asdict
from time import monotonic
from typing import Any

from gateway.process.workers.fork_server import REPLACE
from gateway.process.workers.generation import Generation
from gateway.process.workers.sockets import Address
from gateway.process.workers.worker import Worker
from gateway.runtime.channel import AskFailed, Channel, ChannelError, Handler, NoAnswer
from gateway.runtime.periodic import PeriodicTask

L = logging.getLogger("gateway.workers")
_LOOK, _QUIET = 1.0, 3.0  # seconds between two looks, and without an answer: new clients go to the others
_SILENT, _LEAVING = 30.0, 5.0  # and then, a worker is killed; and one that was told to end
_DEATHS, _WITHIN = 3, 10.0  # so many in so many seconds are a storm
_FIRST, _MOST = 1.0, 30.0  # seconds that a replacement waits then, doubled each time

Handlers = Callable[[Worker], Mapping[str, Handler]]


class Storm:
    """The deaths of all workers, and how long the replacement of one waits."""

    def __init__(self) -> None:
        self._deaths: deque[float] = deque(maxlen=_DEATHS)
        self._delay = 0.0

    def died(self, now: float) -> float:
        """One more. Gives how long its replacement has to wait, 0.0 for not at all. now: seconds on a
        monotonic clock."""
        if self._deaths and now - self._deaths[-1] > self._delay + _WITHIN:
            self._delay = 0.0  # the last one has lived
        self._deaths.append(now)
        if self._delay or (len(self._deaths) == _DEATHS and now - self._deaths[0] <= _WITHIN):
            self._delay = min(_MOST, max(_FIRST, 2 * self._delay))
        return self._delay


class Workers:
    """start() once, stop() once, on the running loop.

    module: the program, see Generation; conf: the process config that it reads. addresses: to listen on.
    number: of workers. handlers: of what a worker asks and tells, beside `ready` and `failed`. patience:
    seconds that a worker may take to end. given(worker): descriptors that it gets before those of its
    sockets. on_ready(worker), on_gone(worker): are told, the second also of one that was asked to end.
    """

    def __init__(
        self,
        module: str,
        conf: str,
        handlers: Handlers,
        *,
        addresses: Sequence[Address],
        number: int,
        patience: float,
        given: Callable[[Worker], list[int]] = lambda worker: [],
        on_ready: Callable[[Worker], None] = lambda worker: None,
        on_gone: Callable[[Worker], None] = lambda worker: None,
        now: Callable[[], float] = monotonic,
    ) -> None:
        self.addresses, self.number, self._patience = list(addresses), number, patience
        self._module, self._conf, self._handlers = module, conf, handlers
        self._given, self._on_ready, self._on_gone, self._now = given, on_ready, on_gone, now
        self._generation: Generation | None = None
        self._generations: list[Generation] = []
        self._slots: dict[int, Worker] = {}
        self._all: dict[str, Worker] = {}
        self._started = 0
        self._storm = Storm()
        self._stopping = False
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def all(self) -> list[Worker]:
        """Those that have not ended, also the ones that start."""
        return list(self._all.values())

    @property
    def living(self) -> list[Worker]:
        """Those that serve, also the ones that finish what they have; in the order of their starts."""
        return [worker for worker in self._all.values() if worker.ready]

    async def start(self) -> None:
        """All of them; the first one makes what is not there yet, alone. Raises NoWorkers."""
        self._generation = await self.new_generation()
        self._slots[0] = await self._start(0)
        others = range(1, self.number)
        started = await asyncio.gather(*map(self._start, others))
        self._slots |= dict(zip(others, started, strict=True))

    async def new_generation(self) -> Generation:
        """A fork server with the code that is installed now. Raises NoWorkers."""
        made = Generation(self._module, self._conf, self._has_pid, self._has_code, self._lost)
        await made.start()
        self._generations.append(made)
        return made

    async def roll(
        self, generation: Generation, number: int, addresses: Sequence[Address], patience: float
    ) -> None:
        """Replace them one by one by workers of this generation: each old one ends what it has in hand once
        its new one serves. The sockets of the addresses stay open. Raises NoWorkers, ListenError: then those
        that were not replaced yet go on."""
        self._patience = max(patience, self._patience)
        before, self.addresses = self.addresses, list(addresses)
        leaving = []
        try:
            for place in range(number):
                new = await self._start(place, generation)
                self._generation = generation
                old, self._slots[place] = self._slots.get(place), new
                if old is not None:
                    leaving.append(asyncio.create_task(self._leave(old, addresses)))
        except BaseException:
            if self._generation is not generation:
                self.addresses = before
                await self._end_generation(generation)
            raise
        self.number, self._patience = number, patience
        for address in self.addresses:
            address.keep(number)  # before those further workers stop: nobody else accepts what comes there
        for place in [place for place in self._slots if place >= number]:
            leaving.append(asyncio.create_task(self._leave(self._slots.pop(place), ())))
        if leaving:
            await asyncio.wait(leaving)
        for old_one in [one for one in self._generations if one is not generation]:
            await self._end_generation(old_one)

    async def stop(self) -> None:
        """Ask all to end, and wait for it."""
        self._stopping = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*(self._leave(worker) for worker in list(self._all.values())))
        for generation in list(self._generations):
            await self._end_generation(generation)

    async def watch(self) -> None:
        """Until cancelled: keep new clients from workers that do not answer, while another one does, and
        kill those that never do again: their clients would wait for ever."""
        await PeriodicTask("looking whether workers answer", _LOOK, self._look).run()

    async def _look(self) -> None:
        await asyncio.gather(*map(self._is_alive, self.living))

    async def _is_alive(self, worker: Worker) -> None:
        assert worker.channel is not None
        asked = self._now()
        try:
            await worker.channel.ask("alive", wait=_LOOK if worker.silent else _QUIET)
        except NoAnswer:
            seconds = worker.is_not_heard(asked, self._now())
            if seconds >= (_LEAVING if worker.leaving else _SILENT):
                L.error("%s has not answered for %.0f s, and is killed", worker, seconds)
                worker.kill()
            elif not worker.paused and self._pause(worker):
                L.warning("%s does not answer; new clients go to the others meanwhile", worker)
        except ChannelError:
            pass  # it has gone, or is of another version
        else:
            if worker.is_heard() and worker.paused and not worker.leaving:
                self._resume(worker)

    def _pause(self, silent: Worker) -> bool:
        """Have no new clients come to it. Gives whether others take them: else they wait for it."""
        if silent.leaving or all(one.silent or one.leaving for one in self.living):
            return False
        for address in silent.addresses:
            address.pause(silent.number)
        silent.is_paused()
        return True

    def _resume(self, heard: Worker) -> None:
        L.info("%s answers again", heard)
        for address in heard.addresses:
            address.resume(heard.number)
        heard.is_resumed()

    def kill(self) -> None:
        """End all of them at once."""
        for worker in list(self._all.values()):
            worker.kill()

    def tell(self, name: str, body: Any = None) -> None:
        """Send a message to all that serve."""
        for worker in self.living:
            worker.tell(name, body)

    # --- one worker ---

    async def _start(self, number: int, generation: Generation | None = None) -> Worker:
        """A worker for a place, ready. Raises NoWorkers, ListenError."""
        generation = generation or await self._current()
        self._started += 1
        worker = Worker(number, f"{number}.{self._started}", tuple(self.addresses))
        ours, theirs = socket.socketpair()
        try:
            sockets = [address.of(number) for address in worker.addresses]
            handlers = {
                **self._handlers(worker),
                "ready": lambda body: self._is_ready(worker),
                "failed": worker.failed,
                REPLACE: lambda body: self._asked_to_replace(worker),
            }
            worker.speaks_over(await Channel.open(ours, handlers, lambda: self._gone(worker)))
            self._all[worker.id] = worker
            listen = [asdict(address.listen) for address in self.addresses]
            held = [address.held for address in self.addresses]
            order = {"number": number, "patience": self._patience, "listen": listen, "held": held}
            given = [theirs.fileno(), *self._given(worker)]
            generation.fork(worker.id, order, [*given, *(sock.fileno() for sock in sockets)])
        finally:
            theirs.close()
            if worker.channel is None:
                ours.close()
        await worker.started()
        return worker

    async def _current(self) -> Generation:
        if self._generation is None or not self._generation.alive:
            self._generation = await self.new_generation()
        return self._generation

    async def _leave(self, worker: Worker, goes_on: Collection[Address] | None = None) -> None:
        """Have it end what it has in hand. goes_on: where another worker takes over, the addresses on which
        that one listens."""
        worker.has_to_leave()
        if goes_on is None:
            worker.tell("leave")
        else:
            worker.tell("leave", [n for n, address in enumerate(worker.addresses) if address in goes_on])
        try:
            async with asyncio.timeout(self._patience):
                await asyncio.shield(worker.gone)
        except TimeoutError:
            L.error("%s has not ended within %g s, and is killed", worker, self._patience)
            worker.kill()
        await worker.exit_text()  # its channel ends a little before the process does

    async def _end_generation(self, generation: Generation) -> None:
        if generation in self._generations:
            self._generations.remove(generation)
        await generation.end()

    # --- what is heard of them ---

    def _is_ready(self, worker: Worker) -> None:
        worker.is_ready()
        L.info("%s serves", worker)
        self._on_ready(worker)

    def _asked_to_replace(self, worker: Worker) -> None:
        """A signal told it to end. It serves until another one does in its place."""
        if self._slots.get(worker.number) is not worker:
            raise AskFailed("it has no place among the workers")
        if not worker.leaving and not self._stopping:
            self._follow(self._replace(worker))

    async def _replace(self, worker: Worker) -> None:
        L.warning("%s was told by a signal to end, and is replaced", worker)
        try:
            new = await self._start(worker.number)
        except OSError as error:
            L.error("%s ends before another serves in its place: %s", worker, error)
            worker.tell("leave", list(range(len(worker.addresses))))
            return
        await self._takes_over(worker, new)

    async def _takes_over(self, old: Worker, new: Worker) -> None:
        if self._slots.get(old.number) is not old:  # another one has its place
            await self._leave(new, self.addresses)
            return
        self._slots[old.number] = new
        if old.ready:
            await self._leave(old, self.addresses)

    def _has_pid(self, id_: str, pid: int) -> None:
        if id_ in self._all:
            self._all[id_].has_pid(pid)

    def _has_code(self, pid: int, code: int) -> None:
        for worker in self._all.values():
            if worker.pid == pid and not worker.code.done():
                worker.code.set_result(code)

    def _lost(self, generation: Generation) -> None:
        if generation in self._generations:
            self._generations.remove(generation)
        if not self._stopping:
            L.error(
                "the process that makes workers has ended; those that it made go on, and the next worker is"
                " made by another one"
            )

    def _gone(self, worker: Worker) -> None:
        was_ready = worker.ready
        worker.has_gone()
        self._follow(self._after(worker, was_ready=was_ready))

    def _follow(self, what: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(what)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _after(self, worker: Worker, *, was_ready: bool) -> None:
        """What follows from the end of a worker."""
        self._on_gone(worker)
        text = await worker.exit_text()
        self._all.pop(worker.id, None)
        worker.forget()
        if worker.leaving or self._stopping or self._slots.get(worker.number) is not worker:
            return
        if was_ready:
            L.error("%s died%s and is replaced", worker, text)
        delay = self._storm.died(self._now())
        while True:
            if delay:
                L.error(
                    "%d workers died or did not start, within seconds: the next one starts in %g s. What they"
                    " said is above; the others serve", *(_DEATHS, delay),
                )  # fmt: skip
                for address in worker.addresses:
                    address.pause(worker.number)
                await asyncio.sleep(delay)
            if self._slots.get(worker.number) is not worker:
                return  # all have been replaced meanwhile
            try:
                new = await self._start(worker.number)
            except OSError as error:
                L.error("worker %d is not replaced: %s", worker.number, error)
                delay = self._storm.died(self._now()) or 1.0
                continue
            await self._takes_over(worker, new)
            return
