"""The master: the control plane, and the workers that serve requests. It serves none itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from time import monotonic, time
from typing import Any

from gateway.auth.chain import Unlimited
from gateway.auth.signer import Signer
from gateway.auth.signing_keys import SigningKeys
from gateway.call import Call, Snapshot, Target
from gateway.config.following import Following
from gateway.config.refusal import Refusal
from gateway.core.process import changes
from gateway.core.process.listeners import Listen
from gateway.core.process.settings import ProcessConfig
from gateway.core.routing.compile import TargetOf
from gateway.edge.client.sockets import HeldSockets, LostPaths
from gateway.edge.tls.sites import TlsSites
from gateway.limits.quotas import Quotas
from gateway.planes import conf
from gateway.planes.asking import WorkerPlanes
from gateway.planes.callers import KEYS_POLL, Callers
from gateway.planes.control import ControlPlane, Served
from gateway.planes.followed import told
from gateway.planes.ground import take
from gateway.planes.shared.names import NAMES
from gateway.planes.shared.services import Services
from gateway.planes.shared.sharing import QUOTAS
from gateway.planes.steps import ENDING, Step, end, end_tasks
from gateway.process import interpreter
from gateway.process.supervisor import Supervisor
from gateway.process.workers import sockets
from gateway.process.workers.worker import Worker
from gateway.process.workers.workers import Workers
from gateway.runtime import threads
from gateway.runtime.channel import Handler
from gateway.runtime.periodic import Boundary, PeriodicTask
from gateway.runtime.scheduling import workers as workers_of
from gateway.telemetry.metrics import Metrics

L = logging.getLogger(__name__)
_NAMES_POLL = 1.0  # seconds between two looks whether names are due
_WORKER = "gateway.planes.worker"
_SPARE = 15.0  # seconds that a worker may take beyond its drain, to close what it has


class Master:
    """The control plane, and a data plane in each of the workers. start() once, drain() once. As Gateway."""

    def __init__(
        self,
        config: ProcessConfig,
        *,
        workers: int,
        supervise: bool = False,
        on_snapshot: Callable[[Snapshot], None] = lambda snapshot: None,
        application: Any = None,
        held: HeldSockets | None = None,
        now: Callable[[], float] = monotonic,
        wall: Callable[[], float] = time,
    ) -> None:
        self.config, self.draining = config, False
        self._on_snapshot = on_snapshot
        self._telling = Boundary("what follows from a new routing config")
        self._ground, self._lock = take(config, application, now, wall, held, supervise=supervise)
        folder = self._ground.data
        self._started = False
        self._sections = config.tls  # those of the workers
        self._addresses: list[sockets.Address] = []
        self._number = workers
        self._tasks: list[asyncio.Task[None]] = []
        self._rolling: asyncio.Task[dict[str, Any]] | None = None
        self._roll_again = False
        self.callers = Callers(self._ground, Unlimited())
        self.signer = Signer(folder, config.tokens.issuer, wall)
        self.metrics = Metrics()
        self.services = Services(self._ground, Quotas(folder / QUOTAS, wall))
        for instrument in self.services.instruments():
            self.metrics.add(instrument)
        self.tls = self._ground.tls((*config.listen, *config.admin))
        self.planes = WorkerPlanes(self._workers, self.metrics)
        self.lost = LostPaths(lambda: [one.listen.path for one in self._addresses if one.is_lost])
        self.via, self.store_available = config.own_via(self._ground.secret), True
        served = Served(_no_target, lambda: self.bound, lambda: self._sections, self.planes.recent)
        follows = Following(self._applied, self._refused, self._spread)
        rooms = self._ground, self.callers, self.signer, served, follows, self._child_event
        self.control = ControlPlane(*rooms, supervise=supervise)
        for instrument in (*self.control.instruments(), *self.tls.instruments()):
            self.metrics.add(instrument)
        self.workers: Workers | None = None
        self._name_rooms()

    def _name_rooms(self) -> None:
        control, callers = self.control, self.callers
        self.live, self.nodes, self.operators = control.live, control.nodes, control.operators
        self.rehearsals = control.rehearsals
        self.stored, self.issuers = callers.stored, callers.issuers

    @property
    def bound(self) -> list[Listen]:
        """The public listeners, with the ports that the system chose."""
        return [address.bound for address in self._addresses]

    def shared(self) -> dict[str, str]:
        """What the workers share, and whether what keeps it can be reached."""
        return self.services.status()

    @property
    def supervisor(self) -> Supervisor:
        """That of the backends; another one from the start on."""
        return self.control.supervisor

    @property
    def ready(self) -> bool:
        """Whether workers serve: all of them at the start; later one that dies is replaced meanwhile."""
        workers = self.workers
        return self._started and not self.draining and workers is not None and bool(workers.living)

    # --- the start ---

    async def start(self) -> None:
        """Config and keys, ports, backends, and then the workers. Stops all again when one fails."""
        config = self.config
        try:
            with self._ground.named("[tokens] keys", config.keys):
                SigningKeys(Path(config.keys), config.tokens.algorithms).ensure()
                self.callers.load_keys()
            self._addresses = sockets.bind(
                config.listen, f"[gateway] listen in {config.path}", self._ground.held
            )
            await self.control.load()
            with self._ground.named("[gateway] data", config.data):
                self.signer.start()
                await self.stored.start()
                await self.services.start()
            await self.control.start()
            self.workers = self._make_workers()
            await self.workers.start()
            self.control.watch()
            keys = PeriodicTask("loading the keys again", KEYS_POLL, self._refresh_keys)
            names = PeriodicTask("following the names of backends", _NAMES_POLL, self.services.names.refresh)
            watches = keys.run(), names.run(), self.planes.watch(), self.tls.watch(), self.workers.watch()
            self._tasks += map(asyncio.create_task, (*watches, self.lost.watch()))
            self._started = True
        except BaseException:
            await self.drain()
            raise

    def _make_workers(self) -> Workers:
        interpreter.raise_nofile_limit()  # the workers inherit it
        return Workers(
            _WORKER,
            self.config.path,
            self._handlers,
            addresses=self._addresses,
            number=self._number,
            patience=_patience(self.config),
            given=self.services.begins,
            on_ready=lambda worker: self.services.serves(worker.id),
            on_gone=self._gone,
        )

    def _workers(self) -> list[Worker]:
        return self.workers.all if self.workers is not None else []

    def _gone(self, worker: Worker) -> None:
        self.services.gone(worker.id)
        self.planes.gone(worker)

    def _handlers(self, worker: Worker) -> dict[str, Handler]:
        """What a worker may ask and tell."""
        return {
            "config": lambda body: self._first(),
            "certificates": lambda body: self.tls.kept(),
            "log": lambda item: _log(worker, item),
            "store": self._has_store,
            **self.services.of(worker.id),
            **self.planes.handlers(worker),
        }

    def _first(self) -> dict[str, Any]:
        """What a worker begins with."""
        return {**told(self.live.current, self.live.text), NAMES: self.services.names.found()}

    def _has_store(self, available: bool) -> None:
        self.store_available = available

    async def _refresh_keys(self) -> None:
        await self.issuers.refresh(due=False)

    # --- the config ---

    def _applied(self, new: Snapshot, old: Snapshot | None) -> None:
        self.metrics.config_loaded(new.revision, new.loaded_at)
        self.metrics.config_reload("applied")
        self.callers.reconcile(new)
        self.services.names.reconcile(new.backends)
        self.planes.keep_routes(new.route_names())
        if old is None:
            self._on_snapshot(new)
        else:
            with self._telling:
                self._on_snapshot(new)

    async def _spread(self, new: Snapshot, text: str) -> list[str]:
        behind = await self.planes.spread("config", told(new, text))
        self.services.tell_names(self.services.names.found())
        if behind:
            L.error("Revision %d is not yet in force in %s", new.revision, ", ".join(behind))
        return behind

    def _refused(self, refusal: Refusal) -> None:
        self.metrics.config_reload("refused")

    def _child_event(self, name: str, event: str) -> None:
        if event == "healthy":
            self.services.retry_now(name)
        if self.workers is not None:
            self.workers.tell("child", [name, event])

    # --- while it runs ---

    async def reload(self) -> dict[str, Any]:
        """What SIGHUP asks for: config and keys again, and new workers; while they are being replaced, once
        more after that."""
        await self.issuers.refresh(due=True)
        await self.tls.reload()
        self.lost.look()
        await self.control.reload()
        self._roll_again = True
        if self._rolling is None or self._rolling.done():
            self._rolling = asyncio.create_task(self._roll())
        return await asyncio.shield(self._rolling)

    async def _roll(self) -> dict[str, Any]:
        outcome: dict[str, Any] = {}
        while self._roll_again and not self.draining:
            self._roll_again = False
            outcome = {"workers": 0, "restart": [], "refused": ""}
            try:
                config = await threads.run(threads.CONFIG, _read, self.config.path)
                outcome["restart"] = self._left_to_a_restart(config)
                await self._replace_workers(config)
                await self._follow_sections(config)
                outcome["workers"] = self.workers.number if self.workers is not None else 0
            except conf.Unusable as error:
                outcome["refused"] = conf.why(self.config.path, error)
                L.error("The workers go on as they are: %s", outcome["refused"])
        return outcome

    def _left_to_a_restart(self, config: ProcessConfig) -> list[str]:
        """What is changed and does not count yet. Raises OSError where nothing else can be changed either."""
        found = changes.changed(self.config, config)
        if fixed := changes.named([name for name in found if name in changes.FIXED]):
            raise OSError(f"{config.path}: {', '.join(fixed)}: only a restart can change that")
        names = changes.named([name for name in found if name in changes.OF_MASTER])
        if names:
            L.warning("%s: %s: what is changed there counts from a restart on", config.path, ", ".join(names))
        return names

    async def _replace_workers(self, config: ProcessConfig) -> None:
        """Raises OSError."""
        assert self.workers is not None
        workers, number = self.workers, workers_of(config.workers)
        before = {str(address.listen): address for address in self._addresses}
        new = [listen for listen in config.listen if str(listen) not in before]
        bound = {str(a.listen): a for a in sockets.bind(new, f"[gateway] listen in {config.path}")}
        wanted = [before.get(str(listen)) or bound[str(listen)] for listen in config.listen]
        spoke = [(address, address.listen) for address in wanted]
        began = monotonic()
        try:
            for address, listen in zip(wanted, config.listen, strict=True):
                address.speaks(listen)
            generation = await workers.new_generation()
            await workers.roll(generation, number, wanted, _patience(config))
            self._addresses = wanted
        except BaseException:
            if workers.addresses == wanted:  # some were replaced: all of them are in use
                self._addresses = [*wanted, *before.values()]
            else:
                for address, listen in spoke:
                    address.speaks(listen)
            raise
        finally:
            for address in {*before.values(), *bound.values()}.difference(self._addresses):
                address.close()
        what = "The worker was" if number == 1 else f"All {number} workers were"
        L.info("%s replaced, in %.1f s", what, monotonic() - began)

    async def _follow_sections(self, config: ProcessConfig) -> None:
        """The workers have these sections [tls:NAME] now; a routing config that names a new one was refused
        before."""
        if config.tls != self._sections:
            self._sections = config.tls
            await self.live.reload_when_quiet()

    async def reopen_logs(self, why: str) -> None:
        """Have all workers go on in new files."""
        L.info("%s: the logs are opened again", why)
        if self.workers is not None:
            self.workers.tell("reopen", why)

    # --- the end ---

    async def give_up(self) -> None:
        """Drain before anybody was told that it serves: no load balancer has to learn first that it ends."""
        await self.drain()

    async def drain(self) -> None:
        """Refuse readiness, have the workers finish what they have in hand, stop the backends."""
        self.draining = True
        self.metrics.drain_begins()
        control = self.control
        steps = [Step(self._end_rolling), Step(control.end_changes)]
        if self.workers is not None:
            steps.append(Step(self.workers.stop))
        steps.append(Step(lambda: end_tasks(self._tasks), "what is done beside", ENDING))
        await end((*steps, Step(control.close), *self.callers.steps(), *self.services.steps()))
        for address in self._addresses:
            address.close()
        if self._lock is not None:
            self._lock.release()

    async def _end_rolling(self) -> None:
        if self._rolling is not None:
            await end_tasks([self._rolling])

    def kill(self) -> None:
        """Leave nothing running, at once."""
        self.end_children()

    def end_children(self) -> None:
        """In any thread: leave no process running, at once."""
        self.supervisor.kill()
        if self.workers is not None:
            self.workers.kill()


def _patience(config: ProcessConfig) -> float:
    return config.pre_stop + config.drain + _SPARE


class _NoTarget:
    """The target of a route where nothing is served."""

    def try_serve(self, call: Call) -> bool:
        raise AssertionError

    async def serve(self, call: Call) -> Any:
        raise AssertionError


_NOTHING = _NoTarget()


def _read(path: str) -> ProcessConfig:
    """The config for new workers, once its certificates could be read, too. In a thread."""
    config = conf.read(path)
    TlsSites(config.tls, path)
    return config


def _no_target(of: TargetOf) -> Target:
    return _NOTHING


def _log(worker: Worker, item: list[Any]) -> None:
    level, name, text, created = item
    log = logging.getLogger(str(name))
    if log.isEnabledFor(int(level)):
        fields = {"name": log.name, "levelno": int(level), "levelname": logging.getLevelName(int(level))}
        more = {"created": float(created), "msg": f"[{worker.number}] {text}", "args": ()}
        log.handle(logging.makeLogRecord({**fields, **more}))
