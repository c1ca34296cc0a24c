"""The composition root of one process: both planes in it, started in order and drained in order.

`Gateway` is plain, so that tests use it directly; application.py makes an ASAB application of it.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, time
from typing import Any

from gateway.call import Snapshot
from gateway.config.following import Following
from gateway.config.refusal import Refusal
from gateway.core.process import changes
from gateway.core.process.listeners import Listen
from gateway.core.process.settings import ProcessConfig
from gateway.edge.client.sockets import HeldSockets
from gateway.planes import conf
from gateway.planes.asking import OnePlane
from gateway.planes.control import ControlPlane, Served
from gateway.planes.data import DataPlane
from gateway.planes.ground import take
from gateway.planes.shown import Shown
from gateway.planes.steps import ENDING, Step, end
from gateway.process.supervisor import Supervisor
from gateway.runtime import threads
from gateway.runtime.periodic import Boundary


class Gateway:
    """Both planes in one process. start() once, drain() once.

    supervise: also run the backends of gateway.conf. on_snapshot(new) is called after each swap.
    application: the ASAB application with which services register, if there is one. held: sockets of systemd.
    now: the monotonic clock of rate limits and circuits, wall: the clock of the daily quotas and of signed
    identities (since the epoch); both in seconds.

    data, control: the planes. The other attributes are theirs, for the admin listener.
    """

    def __init__(
        self,
        config: ProcessConfig,
        *,
        supervise: bool = False,
        on_snapshot: Callable[[Snapshot], None] = lambda snapshot: None,
        application: Any = None,
        held: HeldSockets | None = None,
        now: Callable[[], float] = monotonic,
        wall: Callable[[], float] = time,
    ) -> None:
        self.config = config
        self._on_snapshot = on_snapshot
        self._telling = Boundary("what follows from a new routing config")
        self._ground, self._lock = take(config, application, now, wall, held, supervise=supervise)
        self.sockets = self._ground.sockets
        self.data = data = DataPlane(self._ground)
        served = Served(data.target, lambda: data.listener.bound, lambda: config.tls, data.recent.pickled)
        follows = Following(self._applied, self._refused)
        rooms = self._ground, data.callers, data.signer, served, follows, data.child_event
        self.control = control = ControlPlane(*rooms, supervise=supervise)
        data.serve(control.live)
        for gauge in control.instruments():
            data.metrics.add(gauge)
        self.planes = OnePlane(Shown(data, control.live), data.metrics)
        self._name_rooms()

    def _name_rooms(self) -> None:
        data, control = self.data, self.control
        self.live, self.nodes, self.operators = control.live, control.nodes, control.operators
        self.config_parts, self.rehearsals = control.config_parts, control.rehearsals
        self.listener, self.life, self.tls = data.listener, data.life, data.tls
        self.lost = data.lost
        self.lifetimes, self.memory = data.lifetimes, data.memory
        self.stored, self.issuers = data.callers.stored, data.callers.issuers
        self.credentials, self.authentication = data.callers.credentials, data.callers.authentication
        self.tickets, self.signer, self.oauth = data.callers.tickets, data.signer, data.oauth
        self.health, self.probes, self.admission = data.health, data.probes, data.admission
        self.quotas = data.quotas
        self.limits, self.retries = data.limits, data.retries
        self.pools, self.spools, self.tunnels, self.feeds = data.pools, data.spools, data.tunnels, data.feeds
        self.store, self.documents, self.via = data.store, data.documents, data.via
        self.metrics, self.recent, self.access_log = data.metrics, data.recent, data.access_log

    def shared(self) -> dict[str, str]:
        """What it shares with others, and whether they can be reached."""
        return self.data.sharing.status()

    @property
    def store_available(self) -> bool:
        """Whether documents are served."""
        return self.store.available

    @property
    def supervisor(self) -> Supervisor:
        """That of the backends; another one from the start on."""
        return self.control.supervisor

    @property
    def ready(self) -> bool:
        """Whether it serves, and was not told to stop."""
        return self.data.ready

    @property
    def draining(self) -> bool:
        """Whether the gateway is about to end."""
        return self.data.life.draining

    @property
    def bound(self) -> list[Listen]:
        """The public listeners, with the ports that the system chose."""
        return self.data.listener.bound

    async def start(self) -> None:
        """Config and keys, ports, store, backends, and only then clients. Stops all again when one fails."""
        data, config = self.data, self.config
        try:
            data.load_keys()
            data.listener.bind(config.listen, f"[gateway] listen in {config.path}", self._ground.held)
            await self.control.load()
            await data.start()
            await self.control.start()
            await data.open()
            self.control.watch()
        except BaseException:
            await self.drain()
            raise

    async def give_up(self) -> None:
        """Drain before anybody was told that it serves: no load balancer has to learn first that it ends."""
        self.data.give_up()
        await self.drain()

    async def drain(self) -> None:
        """Refuse readiness, finish what is in flight, stop the backends, close the store."""
        data, control = self.data, self.control
        data.drain_begins()
        await data.drain()
        await control.end_changes()
        await end((Step(data.end_tasks, "what is done beside the requests", ENDING),))
        await control.close()
        await data.close()
        if self._lock is not None:
            self._lock.release()

    async def reload(self) -> dict[str, Any]:
        """What SIGHUP asks for: config and keys again. What is new in gateway.conf takes a restart."""
        await self.data.reload()
        await self.control.reload()
        refused, names = "", []
        try:
            now = await threads.run(threads.CONFIG, conf.read, self.config.path)
            names = changes.named(changes.changed(self.config, now))
        except conf.Unusable as error:
            refused = conf.why(self.config.path, error)
        return {"workers": 0, "restart": names, "refused": refused}

    async def reopen_logs(self, why: str) -> None:
        """Go on in new files, because the old ones were renamed; and say whether that was done."""
        await self.data.reopen_logs(why)

    def end_children(self) -> None:
        """In any thread: leave no process running, at once."""
        self.control.supervisor.kill()

    def kill(self) -> None:
        """Leave nothing running, at once, and lose no line of the access log that can be written."""
        self.end_children()
        self.data.kill()

    def _applied(self, new: Snapshot, old: Snapshot | None) -> None:
        self.data.apply(new, old)
        self.data.metrics.config_reload("applied")
        if old is None:
            self._on_snapshot(new)
        else:
            with self._telling:
                self._on_snapshot(new)

    def _refused(self, refusal: Refusal) -> None:
        self.data.metrics.config_reload("refused")
