"""The data plane: all that serves requests, from the listener to the stores."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Mapping
from pathlib import Path
from time import monotonic
from typing import Any

from gateway.admission.admission import Admission
from gateway.auth.oauth.server import AuthorizationServer
from gateway.auth.signer import Signer
from gateway.auth.signing_keys import SigningKeys
from gateway.call import Snapshot, Target
from gateway.core.errors import Draining
from gateway.core.front_page import FrontPage
from gateway.core.model import Backend
from gateway.core.openmetrics import Gauge
from gateway.core.own_endpoints import OwnEndpoint
from gateway.core.policy.budget import Budget
from gateway.core.policy.forwarding import is_trusted
from gateway.core.policy.retry import RetryBudgets
from gateway.core.routing.backends.each import each_address
from gateway.core.routing.compile import TargetOf
from gateway.documents.changes import Feeds
from gateway.documents.target import Documents
from gateway.edge.backend.pool import Pools
from gateway.edge.client.clients import Clients
from gateway.edge.client.listener import Listener
from gateway.edge.client.memory import RequestMemory
from gateway.edge.client.slots import public_limits
from gateway.edge.client.sockets import LostPaths
from gateway.edge.lifetimes import Lifetimes
from gateway.edge.response.own import FrontPageTarget, OwnTarget
from gateway.edge.spool import Spools
from gateway.edge.websocket.tunnel import Tunnels
from gateway.health.circuits import Health
from gateway.health.probes import Probes
from gateway.life import Life, Live, Policies
from gateway.planes.callers import KEYS_POLL, Callers
from gateway.planes.ground import Ground
from gateway.planes.shared.sharing import Sharing
from gateway.planes.steps import ENDING, Step, end, end_tasks
from gateway.process import interpreter
from gateway.process.drain import Drain
from gateway.proxy.target import Proxy
from gateway.runtime.channel import Channel
from gateway.runtime.periodic import Boundary, PeriodicTask
from gateway.runtime.processes.in_use import InUse
from gateway.runtime.processes.pool import ProcessPool
from gateway.store.json.large import Jobs
from gateway.store.opening import served_store
from gateway.telemetry.access_log import AccessLog
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.recent import RecentRequests

L = logging.getLogger(__name__)
_LAST_LINES = 0.3  # seconds that the access log may take when the process ends at once
_REOPENING = 5.0  # seconds that are waited for it


class DataPlane:
    """All rooms that serve requests. In order: serve(live), load_keys(), start(), open(); drain(), close().

    channel, table: to the master, of a worker, and what it has in use. config: of the process. ready: it
    serves, and is not told to stop. listener, life: from `serve` on.
    """

    listener: Listener
    clients: Clients
    life: Life
    lost: LostPaths
    ready = False

    def __init__(self, ground: Ground, channel: Channel | None = None, table: InUse | None = None) -> None:
        config, data, now, wall = ground.config, ground.data, ground.now, ground.wall
        self.config, self._ground = config, ground
        self._tasks: list[asyncio.Task[None]] = []
        self._following = Boundary("what follows from a new routing config")
        self.metrics = Metrics()
        with ground.named("[log] access", config.access_log):
            self.access_log = AccessLog(config.access_log, queries=config.log_query)
        self.pools = Pools(when_resolved=self._resolved)
        # What stands behind names: as resolved here, or as the master says, whose workers have to agree.
        self._resolves = channel is None
        self._known = self.pools.names.known if self._resolves else lambda host: ()
        self._backends: Mapping[str, Backend] = {}  # as in the live config, and as they are now
        self._reached: Mapping[str, Backend] = {}
        self.sharing = Sharing(ground, channel, table)
        self.quotas, self.limits = self.sharing.quotas, self.sharing.limits
        shared = self.sharing
        self.callers = Callers(ground, self.limits, shared.once, shared.flights)
        revocations = self.callers.stored.revocations
        self.lifetimes = Lifetimes(revocations.expires)
        revocations.on_change(self.lifetimes.recheck)
        quiet = channel is not None  # the master says it once, and has the admin listener
        listens = config.listen if quiet else (*config.listen, *config.admin)
        self.tls = ground.tls(listens, on_verified=self.lifetimes.doubt, quiet=quiet)
        self.spools, self.tunnels = Spools(config.spool), Tunnels(self.lifetimes)
        host = self.sharing.host
        make_health = host.health if host else Health
        health = self.health = make_health(lambda backend: self.admission.wake(backend), now)
        self.admission: Admission = self.sharing.admission(
            share=config.share, usable=health.usable, age=health.age, unavailable=health.unavailable
        )
        self.probes = Probes(self.health, self.admission, self.pools)
        self.retries, self.recent = RetryBudgets(), RecentRequests()
        self.signer = Signer(data, config.tokens.issuer, wall)
        self.oauth = self._authorization_server()
        self.pool = ProcessPool()
        jobs = Jobs(self.pool)
        stores = config.store_uri, config.store_next
        self.store = served_store(*stores, ground.secret, ground.application, jobs=jobs)
        self.via = config.own_via(ground.secret)
        self.feeds = Feeds(self.lifetimes)
        bodies, self.memory = Budget(config.body_memory), RequestMemory(config.memory)
        self.documents = Documents(self.store, self.feeds, bodies, self.admission.enter)
        self._instrument()

    def serve(self, live: Live) -> None:
        """Make what serves requests by this live config."""
        self.life = Life(self._policies(live))
        config = self.config
        slots = public_limits(interpreter.raise_nofile_limit(), config.connections)
        self.clients = Clients(lambda peer: is_trusted(peer, live.current.trusted), config.client_connections)
        self.metrics.add(self.clients.refused)
        self.lost = LostPaths(lambda: self.listener.lost())
        self.listener = Listener(self.life, slots, memory=self.memory, clients=self.clients, sites=self.tls)

    def _authorization_server(self) -> AuthorizationServer:
        config = self.config
        keys = SigningKeys(Path(config.keys), config.tokens.algorithms)
        rooms = keys, self.signer.keys, self.callers.stored.api_keys, self.callers.tickets, self._ground.wall
        return AuthorizationServer(config.tokens, *rooms, once=self.sharing.once)

    def _policies(self, live: Live) -> Policies:
        """What the life of a request asks of them."""
        chain = self.callers.authentication
        return Policies(
            live=live,
            known=chain.known,
            peek=chain.peek,
            limit=self.limits.take,
            limit_later=self.limits.take_later,
            limit_client=self.limits.take_client,
            limit_client_later=self.limits.take_client_later,
            limit_client_now=self.limits.take_client_now,
            count=self.metrics.call_ended,
            log=self.access_log.write,
            keep=self.recent.call_ended if self.config.recent else lambda call: None,
            check_via=self.via.check,
        )

    def _instrument(self) -> None:
        """What the metrics show of all of them."""
        self.metrics.backend_gauges(self.admission.in_use, self.admission.waiting)
        callers = self.callers
        rooms = self.health, self.admission, self.pools, self.spools, callers.credentials, callers.issuers
        for instruments in (
            *(room.instruments() for room in (*rooms, self.sharing, self.tls)),
            (self.retries.counter,),
        ):
            for instrument in instruments:
                self.metrics.add(instrument)
        self.metrics.add(Gauge("gateway_websockets", "WebSockets open.", lambda: {(): len(self.tunnels)}))
        self.metrics.add(Gauge("gateway_feeds", "Change feeds open.", lambda: {(): len(self.feeds)}))
        up = "1 while the documents' store can be reached; 0: requests to documents get 503."
        self.metrics.add(Gauge("gateway_store_up", up, lambda: {(): int(self.store.available)}, merge="min"))
        followed = "1 while API keys and revocations can be read; 0: what is revoked now is not in force."
        stored, name = self.callers.stored, "gateway_auth_store_up"
        self.metrics.add(Gauge(name, followed, lambda: {(): int(stored.available)}, merge="min"))
        held = "Bytes of memory that the bodies of requests to documents take."
        unfinished = "Bytes of memory that unfinished heads and bodies take."
        self.metrics.add(Gauge("gateway_memory_bytes", unfinished, lambda: {(): self.memory.budget.used}))
        self.metrics.add(Gauge("gateway_body_memory_bytes", held, lambda: {(): self.documents.memory.used}))

    # --- the start ---

    def load_keys(self) -> None:
        """The keys that it signs with, and those of its own tokens. Raises KeysUnusable."""
        with self._ground.named("[tokens] keys", self.config.keys):
            self.oauth.keys.ensure()
            self.callers.load_keys()

    async def start(self) -> None:
        """The store, and what is known of credentials and quotas; the config is live by now."""
        with self._ground.named("[store] uri", self.config.data):
            await self.store.start()
        with self._ground.named("[gateway] data", self.config.data):
            await self.sharing.start()
            self.signer.start()
            await self.callers.stored.start()

    async def open(self) -> None:
        """Take clients from now on; ready from then."""
        await self.listener.open()
        watches = self.probes.watch(), self.admission.watch(), self.tls.watch(), self.lost.watch()
        for watch in (*self._watches_of_keys(), *watches):
            self._tasks.append(asyncio.create_task(watch))
        self.ready = True

    def _watches_of_keys(self) -> list[Coroutine[Any, Any, None]]:
        periodic = (
            ("loading the keys again", self.refresh_keys),
            ("loading the identity keys again", self.signer.refresh),
            ("following the names and certificates of backends", self.pools.follow),
            ("asking issuers again about the tokens of streams", self.lifetimes.reask),
        )
        return [PeriodicTask(what, KEYS_POLL, work).run() for what, work in periodic]

    async def refresh_keys(self, *, due: bool = False) -> None:
        """Load the keys that are due again, or (due) all of them."""
        if await self.callers.issuers.refresh(due=due):
            self.lifetimes.doubt()
        await self.oauth.keys.reload_if_changed()  # after it: what is signed by a new key is verified by it

    async def reload(self) -> None:
        """What SIGHUP asks for, beside the config: the keys again, and whether streams may go on."""
        await self.refresh_keys(due=True)
        await self.tls.reload()
        await self.lifetimes.reask()

    # --- the config ---

    def target(self, of: TargetOf) -> Target:
        """What serves the requests of a route to this."""
        if of is None:
            return self.documents
        if isinstance(of, FrontPage):
            return FrontPageTarget(of)
        if isinstance(of, OwnEndpoint):
            return OwnTarget(self.oauth.handlers[of])
        rooms = self.pools, self.admission, self.health, self.tunnels, self.retries, self.via
        return Proxy(of, *rooms, self.lifetimes, self.spools, self.signer)

    def apply(self, new: Snapshot, old: Snapshot | None) -> None:
        """Reconcile: what is gone from the config is closed after its last use; the rest lives on. old: None
        the first time, and then a bug is raised."""
        self._backends = new.backends
        self.metrics.config_loaded(new.revision, new.loaded_at)
        steps: tuple[Callable[[], None], ...] = (
            *self._steps_to_reach(),
            lambda: self.retries.reconcile(new.backends),
            lambda: self.callers.reconcile(new),
            lambda: self.lifetimes.reconcile(new.tenants),
            lambda: self.metrics.keep_routes(new.route_names()),
        )
        if old is None:  # a bug ends the start
            for step in steps:
                step()
        else:
            self._following.each(steps, lambda step: step())

    def _steps_to_reach(self) -> tuple[Callable[[], None], ...]:
        """What has to know at which addresses the backends are now."""
        now = self._reached = {name: each_address(one, self._known) for name, one in self._backends.items()}
        # Who resolves goes on with a name, also where its addresses stand in its place.
        both = (*(self._backends.values() if self._resolves else ()), *now.values())
        addresses = [(address, backend.reuse_idle) for backend in both for address in backend.addresses]
        return (
            lambda: self.pools.reconcile(addresses),
            lambda: self.health.reconcile(now),
            lambda: self.admission.reconcile(now),
        )

    def follow_names(self, found: Mapping[str, list[str]]) -> None:
        """A worker's master has resolved the names that stand for several servers: their addresses."""
        self._known = lambda host: tuple(found.get(host, ()))
        self._resolved()

    def _resolved(self) -> None:
        before = self._reached
        steps = self._steps_to_reach()
        if self._reached != before:
            self._following.each(steps, lambda step: step())

    def child_event(self, name: str, event: str) -> None:
        """Something happened to a supervised backend."""
        if event == "healthy":
            self.health.retry_now(name)
        if event == "restarting":
            self.metrics.child_restarted(name)

    # --- the end ---

    def give_up(self) -> None:
        """Nobody was told that it serves: no load balancer has to learn first that it ends."""
        self.ready = False

    def drain_begins(self) -> None:
        """Connections should end from now on."""
        self.life.drain_begins()
        self.metrics.drain_begins()

    async def drain(self, kept: Collection[int] | None = None) -> None:
        """Take no more clients, and serve or end those that are there. kept: see Listener.drain."""
        await end((Step(lambda: self._end_clients(kept)), Step(self.lose_calls)))

    async def _end_clients(self, kept: Collection[int] | None) -> None:
        """It has its own ends."""
        config = self.config
        if self.ready and config.pre_stop and kept is None:
            text = "told to stop: not ready any more; accepting for %g s still ([gateway] pre_stop)"
            L.info(text, config.pre_stop)
            await asyncio.sleep(config.pre_stop)
        self.ready = False
        calls = self.life.inside, self.life.drained
        times: dict[str, Any] = {"time": config.drain, "grace": config.stream_grace}
        if kept is not None:  # nobody waits for it
            times["report"] = lambda text: L.debug("%s", text)
        drain = Drain(*calls, self._end_streams, **times)
        await self.listener.drain(drain.step, kept)

    def _end_streams(self) -> None:
        self.tunnels.drain()
        self.feeds.drain()

    def lose_calls(self) -> None:
        """What the end of the process cuts off is logged too."""
        for call in list(self.life.inside):
            call.status, call.code = call.status or Draining.status, Draining.code
            self.life.observe(call)

    async def end_tasks(self) -> None:
        """What is done beside the requests."""
        await end_tasks(self._tasks)

    async def close(self) -> None:
        """Close all that is left, once nobody needs it any more."""
        await end(
            (
                *self.callers.steps(),
                Step(self.probes.close),
                Step(self.pools.close),
                *self.sharing.steps(),
                Step(self.store.close, "the document store", ENDING),
                Step(self.pool.close, "the worker processes", ENDING),
                Step(self.access_log.close),
            )
        )

    def kill(self) -> None:
        """The process ends at once: lose no line of the access log that can be written."""
        self.lose_calls()
        self.access_log.close(_LAST_LINES)

    async def reopen_logs(self, why: str) -> None:
        """Go on in new files, because the old ones were renamed; and say whether that was done."""
        L.info("%s: the logs are opened again", why)
        before = self.access_log.reopened
        self.access_log.reopen()
        until = monotonic() + _REOPENING
        while self.access_log.reopened == before and monotonic() < until:  # noqa: ASYNC110 - a thread does it
            await asyncio.sleep(0.05)
        self.access_log.tell()
