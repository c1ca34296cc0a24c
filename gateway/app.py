"""The only composition root: plugs the rooms together, starts them in order and drains them in order.

`Gateway` is plain, so that tests use it directly; application.py makes an ASAB application of it.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from time import monotonic, time
from typing import Any, NamedTuple

from gateway.admin.operators import Operators
from gateway.admission.admission import Admission
from gateway.auth.chain import AuthenticationChain
from gateway.auth.credentials import Credentials
from gateway.auth.issuers import Issuers
from gateway.auth.keys import CURSOR_KEY, ensure_secret
from gateway.auth.oauth.server import AuthorizationServer
from gateway.auth.oauth.tickets import Tickets
from gateway.auth.operator_token import FILE as OPERATOR_TOKEN
from gateway.auth.operator_token import OperatorToken
from gateway.auth.signer import Signer
from gateway.auth.signing_keys import SigningKeys
from gateway.auth.store import FILE as AUTH_STORE
from gateway.auth.stored import StoredCredentials
from gateway.call import Snapshot, Target
from gateway.config import own_addresses
from gateway.config.compilation import Compiler
from gateway.config.following import Following
from gateway.config.live import LiveConfig
from gateway.config.nodes.nodes import Nodes
from gateway.config.parts import ConfigParts
from gateway.config.refusal import Refusal
from gateway.config.rehearsals import Rehearsals
from gateway.core.errors import Draining
from gateway.core.front_page import FrontPage
from gateway.core.http.hops import pseudonym
from gateway.core.jwt.issuer import LOCAL
from gateway.core.model import Backend
from gateway.core.openmetrics import Gauge
from gateway.core.own_endpoints import OwnEndpoint
from gateway.core.policy.budget import Budget
from gateway.core.policy.retry import RetryBudgets
from gateway.core.process.command_line import Command
from gateway.core.process.settings import ProcessConfig
from gateway.core.routing.compile import TargetOf
from gateway.core.routing.problems import Problem
from gateway.documents.changes import Feeds
from gateway.documents.target import Documents
from gateway.edge.backend.origin import Origins
from gateway.edge.backend.pool import Pools
from gateway.edge.client.listener import Listener, reachable
from gateway.edge.client.memory import RequestMemory
from gateway.edge.client.slots import public_limits
from gateway.edge.lifetimes import Lifetimes
from gateway.edge.response.front_page import FrontPageTarget
from gateway.edge.response.own import OwnTarget
from gateway.edge.spool import Spools
from gateway.edge.websocket.tunnel import Tunnels
from gateway.health.circuits import Health
from gateway.health.probes import Probes
from gateway.life import Life, Policies
from gateway.limits.quotas import Quotas
from gateway.limits.rates import Limits
from gateway.process import interpreter, lock
from gateway.process.child import ChildSpec
from gateway.process.drain import Drain
from gateway.process.folders import (
    data_folder,
    private_folder,
    socket_folder,
    temporary_folder_problems,
)
from gateway.process.supervisor import Supervisor
from gateway.proxy.target import Proxy
from gateway.runtime.periodic import Boundary, PeriodicTask
from gateway.runtime.processes.pool import ProcessPool
from gateway.setting_errors import named_by
from gateway.store.json.large import Jobs
from gateway.store.port import DocumentStore
from gateway.store.sqlite.engine import SQLiteDocumentStore
from gateway.telemetry.access_log import AccessLog
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.recent import RecentRequests

L = logging.getLogger(__name__)
_ENDING = 4.0  # seconds that each part may take at the end
_BACKENDS_END = 14.0  # and the backends: they have 8 s themselves
_LAST_LINES = 0.3  # seconds that the access log may take when the process ends at once
_REOPENING = 5.0  # seconds that are waited for it
_KEYS_POLL = 1.0  # seconds between two looks whether keys are due


class _DrainStep(NamedTuple):
    """One step of the drain. name: for the log, of one that may hang. seconds: after which it is left then,
    0.0 for no limit."""

    end: Callable[[], Awaitable[None] | None]
    name: str = ""
    seconds: float = 0.0


class Gateway:
    """All rooms of one process. start() once, drain() once.

    supervise: also run the backends of gateway.conf. on_snapshot(new) is called after each swap.
    application: the ASAB application with which services register, if there is one. now: the monotonic clock
    of rate limits and circuits, wall: the clock of the daily quotas and of signed identities (since the
    epoch); both in seconds.
    """

    ready = False

    def __init__(
        self,
        config: ProcessConfig,
        *,
        supervise: bool = False,
        on_snapshot: Callable[[Snapshot], None] = lambda snapshot: None,
        application: Any = None,
        now: Callable[[], float] = monotonic,
        wall: Callable[[], float] = time,
    ) -> None:
        self.config = config
        self._on_snapshot = on_snapshot
        self._tasks: list[asyncio.Task[None]] = []
        self._following = Boundary("what follows from a new routing config")
        self._ending = Boundary("the end of the gateway")
        with self._named("[gateway] data", config.data):
            data = data_folder(Path(config.data))  # first: whoever else makes it would not make it private
            self._lock = lock.acquire(data, config.listen + config.admin, supervise=supervise)
            secret = ensure_secret(data / CURSOR_KEY)
        self.sockets = socket_folder(config.data)
        self.metrics = Metrics()
        with self._named("[log] access", config.access_log):
            self.access_log = AccessLog(config.access_log, queries=config.log_query)
        self.pools = Pools()
        self.stored = StoredCredentials(data / AUTH_STORE, wall)
        self.lifetimes = Lifetimes(self.stored.revocations.expires)
        self.stored.revocations.on_change(self.lifetimes.recheck)
        self.spools, self.tunnels = Spools(config.spool), Tunnels(self.lifetimes)
        self.health = Health(lambda backend: self.admission.wake(backend), now)
        self.admission = Admission(
            share=config.share, usable=self.health.usable, unavailable=self.health.unavailable
        )
        self.probes = Probes(self.health, self.admission, self.pools)
        self.retries, self.recent = RetryBudgets(), RecentRequests()
        self.quotas = Quotas(data / "quotas.sqlite", wall)
        self.limits = Limits(self.quotas, now)
        self.credentials, self.origins = Credentials(), Origins()
        self.issuers = Issuers(self.credentials, self.origins, now=now)
        self.tickets = Tickets(now)
        self.authentication = AuthenticationChain(
            self.credentials, self.issuers, self.stored, self.limits.take_client, self.tickets
        )
        self.operators = self._operators(data, now, wall)
        self.signer = Signer(data, config.tokens.issuer, wall)
        self.oauth = self._authorization_server(wall)
        self.pool = ProcessPool()
        self.store = document_store(config.store_uri, secret, application, patient=True, jobs=Jobs(self.pool))
        self.via = config.own_via(secret)
        self.feeds = Feeds(self.lifetimes)
        bodies, self.memory = Budget(config.body_memory), RequestMemory(config.memory)
        self.documents = Documents(self.store, self.feeds, bodies, self.admission.enter)
        self.config_parts = ConfigParts(config, data, pseudonym(secret), application)
        self.live = self._live_config(wall)
        self.rehearsals = self._rehearsals()
        self.nodes = Nodes(self.config_parts.nodes, self.live, self.config_parts.name, config.admin)
        self.life = Life(self._policies())
        slots = public_limits(interpreter.raise_nofile_limit())
        self.listener = Listener(self.life, slots, memory=self.memory)
        self._commands, self.supervisor = config.commands if supervise else (), Supervisor([])
        self._instrument()

    @property
    def draining(self) -> bool:
        """Whether the gateway is about to end."""
        return self.life.draining

    def _named(self, setting: str, path: str) -> AbstractContextManager[None]:
        return named_by(setting, self.config.path, path)

    def _live_config(self, wall: Callable[[], float]) -> LiveConfig:
        parts, folder = self.config_parts, str(Path(self.config.routing).parent)
        more = self._own_addresses, self.authentication, folder, self.config.tokens.issuer
        return LiveConfig(
            *(parts.source, parts.revisions, parts.audit, parts.remembered),
            Compiler(self._target, self.sockets, *more),
            Following(self._applied, self._refused),
            seed=parts.seed,
            run=parts.run,
            wall=wall,
        )

    def _operators(self, data: Path, now: Callable[[], float], wall: Callable[[], float]) -> Operators:
        return Operators(
            self.config.operators,
            OperatorToken(data / OPERATOR_TOKEN),
            self.authentication.identity,
            self.stored.revocations.covers,
            lambda: self.live.current.tenants,
            self.origins,
            now,
            wall,
        )

    def _rehearsals(self) -> Rehearsals:
        compiled_with = self.sockets, str(Path(self.config.routing).parent), self.config.tokens.issuer
        return Rehearsals(lambda: self.live.text, self.recent.entries, compiled_with)

    def _authorization_server(self, wall: Callable[[], float]) -> AuthorizationServer:
        keys = SigningKeys(Path(self.config.keys), self.config.tokens.algorithms)
        rooms = keys, self.signer.keys, self.stored.api_keys, self.tickets, wall
        return AuthorizationServer(self.config.tokens, *rooms)

    def _policies(self) -> Policies:
        """What the life of a request asks of them."""
        chain = self.authentication
        return Policies(
            live=self.live,
            known=chain.known,
            peek=chain.peek,
            limit=self.limits.take,
            limit_client=self.limits.take_client,
            count=self.metrics.call_ended,
            log=self.access_log.write,
            keep=self.recent.call_ended if self.config.recent else lambda call: None,
            check_via=self.via.check,
        )

    def _instrument(self) -> None:
        """What the metrics show of all of them."""
        self.metrics.backend_gauges(self.admission.in_use, self.admission.waiting)
        rooms = self.health, self.admission, self.spools, self.credentials, self.issuers
        for instruments in (*(room.instruments() for room in rooms), (self.retries.counter,)):
            for instrument in instruments:
                self.metrics.add(instrument)
        self.metrics.add(Gauge("gateway_websockets", "WebSockets open.", lambda: {(): len(self.tunnels)}))
        self.metrics.add(Gauge("gateway_child_up", "1 while it is healthy.", self._children_up, ("backend",)))
        self.metrics.add(Gauge("gateway_feeds", "Change feeds open.", lambda: {(): len(self.feeds)}))
        about = "1 while the routing config's file says what is live, 0 while it is refused."
        self.metrics.add(
            Gauge(
                "gateway_config_last_reload_successful",
                about,
                lambda: {(): 0 if self.live.refusal is not None else 1},
            )
        )
        up = "1 while the documents' store can be reached; 0: requests to documents get 503."
        self.metrics.add(Gauge("gateway_store_up", up, lambda: {(): int(self.store.available)}))
        followed = "1 while API keys and revocations can be read; 0: what is revoked now is not in force."
        self.metrics.add(Gauge("gateway_auth_store_up", followed, lambda: {(): int(self.stored.available)}))
        held = "Bytes of memory that the bodies of requests to documents take."
        unfinished = "Bytes of memory that unfinished heads and bodies take."
        self.metrics.add(Gauge("gateway_memory_bytes", unfinished, lambda: {(): self.memory.budget.used}))
        self.metrics.add(Gauge("gateway_body_memory_bytes", held, lambda: {(): self.documents.memory.used}))

    def _children_up(self) -> dict[tuple[str, ...], int]:
        return {(str(s["name"]),): int(s["state"] == "running") for s in self.supervisor.states()}

    async def start(self) -> None:
        """Config and keys, ports, store, backends, and only then clients. Stops all again when one fails."""
        try:
            with self._named("[tokens] keys", self.config.keys):
                self.oauth.keys.ensure()
                self.issuers.reconcile(self.config.tokens, {})
                self.issuers.load(LOCAL)
            self.listener.bind(self.config.listen, f"[gateway] listen in {self.config.path}")
            with self._named("[gateway] data", self.config.data):
                await self.config_parts.start()
            with self._named("[gateway] routing", self.config.routing):
                await self.live.load_first()
            with self._named("[store] uri", self.config.data):
                await self.store.start()
            with self._named("[gateway] data", self.config.data):
                await self.quotas.start()
                self.signer.start()
                self.operators.start()
                await self.stored.start()
            private_folder(Path(self.sockets))
            for problem in temporary_folder_problems(self.config.spool):
                L.warning("%s", problem)
            specs = [self._spec(command) for command in self._commands]
            self.supervisor = Supervisor(specs, on_event=self._child_event)
            await self.supervisor.start()
            await self.listener.open()
            keys = self._watches_of_keys()
            live = self.live.watch(), self.live.watch_time(), self.nodes.watch()
            for watch in (*live, *keys, self.probes.watch(), self.admission.watch()):
                self._tasks.append(asyncio.create_task(watch))
            self.ready = True
        except BaseException:
            await self.drain()
            raise

    async def give_up(self) -> None:
        """Drain before anybody was told that it serves: no load balancer has to learn first that it ends."""
        self.ready = False
        await self.drain()

    async def drain(self) -> None:
        """Refuse readiness, finish what is in flight, stop the backends, close the store."""
        self.life.drain_begins()
        self.metrics.drain_begins()
        steps = (
            _DrainStep(self._end_clients),
            _DrainStep(self._lose_calls),
            _DrainStep(self.live.close, "a change of the config", _ENDING),
            _DrainStep(self._end_tasks, "what is done beside the requests", _ENDING),
            _DrainStep(self.supervisor.stop, "a backend", _BACKENDS_END),
            _DrainStep(self.issuers.close, "what is asked of issuers", _ENDING),
            _DrainStep(self.operators.close, "what is asked of the operators' issuer", _ENDING),
            _DrainStep(self.origins.close, "the connections to issuers", _ENDING),
            _DrainStep(self.probes.close),
            _DrainStep(self.pools.close),
            _DrainStep(self.quotas.close, "the file of the quotas", _ENDING),
            _DrainStep(self.stored.close, "the file of API keys and revocations", _ENDING),
            _DrainStep(self.nodes.close, "what is told of this process", _ENDING),
            _DrainStep(self.config_parts.close, "the source of the config", _ENDING),
            _DrainStep(self.store.close, "the document store", _ENDING),
            _DrainStep(self.pool.close, "the worker processes", _ENDING),
            _DrainStep(self.rehearsals.close, "the worker process of rehearsals", _ENDING),
            _DrainStep(self.access_log.close),
        )
        for step in steps:
            with self._ending:  # one that fails must not leave the others open, or a backend running
                if (waits := step.end()) is not None:
                    await _at_most(step.seconds, step.name, waits)
        self.supervisor.kill()  # nothing, unless its end failed or hung
        if self._lock is not None:
            self._lock.release()

    async def _end_clients(self) -> None:
        """Take no more of them, and serve or end those that are there. It has its own ends."""
        config = self.config
        if self.ready and config.pre_stop:
            text = "told to stop: not ready any more; accepting for %g s still ([gateway] pre_stop)"
            L.info(text, config.pre_stop)
            await asyncio.sleep(config.pre_stop)
        self.ready = False
        calls = self.life.inside, self.life.drained
        drain = Drain(*calls, self._end_streams, time=config.drain, grace=config.stream_grace)
        await self.listener.drain(drain.step)

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def reload(self) -> None:
        """What SIGHUP asks for: the config and the keys again."""
        await self._load_keys(due=True)
        await self.operators.refresh(due=True)
        await self.lifetimes.reask()
        await self.live.reload_when_quiet()

    async def reopen_logs(self, why: str) -> None:
        """Go on in new files, because the old ones were renamed; and say whether that was done."""
        L.info("%s: the logs are opened again", why)
        before = self.access_log.reopened
        self.access_log.reopen()
        end = monotonic() + _REOPENING
        while self.access_log.reopened == before and monotonic() < end:  # noqa: ASYNC110 - a thread does it
            await asyncio.sleep(0.05)
        self.access_log.tell()

    def _end_streams(self) -> None:
        self.tunnels.drain()
        self.feeds.drain()

    def _lose_calls(self) -> None:
        """What the end of the process cuts off is logged too."""
        for call in list(self.life.inside):
            call.status, call.code = call.status or Draining.status, Draining.code
            self.life.observe(call)

    def kill(self) -> None:
        """Leave nothing running, at once, and lose no line of the access log that can be written."""
        self.supervisor.kill()
        self._lose_calls()
        self.access_log.close(_LAST_LINES)

    def _target(self, of: TargetOf) -> Target:
        if of is None:
            return self.documents
        if isinstance(of, FrontPage):
            return FrontPageTarget(of)
        if isinstance(of, OwnEndpoint):
            return OwnTarget(self.oauth.handlers[of])
        rooms = self.pools, self.admission, self.health, self.tunnels, self.retries, self.via
        return Proxy(of, *rooms, self.lifetimes, self.spools, self.signer)

    def _own_addresses(self, backends: Mapping[str, Backend]) -> list[Problem]:
        return own_addresses.problems(backends, own_addresses.of(self.config, self.listener.addresses))

    def _spec(self, command: Command) -> ChildSpec:
        socket = f"{self.sockets}/{command.name}.sock"
        data = str(private_folder(private_folder(Path(self.config.data) / "backends") / command.name))
        public = f"http://{reachable(*self.listener.addresses[0])}"
        return ChildSpec(
            name=command.name,
            command=command.expand(python=sys.executable, socket=socket, data=data),
            env={
                "DATA": data,
                "GATEWAY_URL": public,
                "PYTHONUNBUFFERED": "1",
                **self.signer.environment(command.name),
            },
            cwd=command.cwd,
            socket="" if "://" in command.health else socket,
            healthz=command.health,
            start_timeout=command.start_timeout,
        )

    def _applied(self, new: Snapshot, old: Snapshot | None) -> None:
        """Reconcile: what is gone from the config is closed after its last use; the rest lives on."""
        addresses = [(a, b.reuse_idle) for b in new.backends.values() for a in b.addresses]
        self.metrics.config_loaded(new.revision, new.loaded_at)
        steps: tuple[Callable[[], None], ...] = (
            lambda: self.pools.reconcile(addresses),
            lambda: self.health.reconcile(new.backends),
            lambda: self.admission.reconcile(new.backends),
            lambda: self.retries.reconcile(new.backends),
            lambda: self.issuers.reconcile(self.config.tokens if new.local_issuer else None, new.issuers),
            lambda: self.lifetimes.reconcile(new.tenants),
            lambda: self.metrics.config_reload("applied"),
            lambda: self.metrics.keep_routes([route.name for route in new.table.routes]),
            lambda: self._on_snapshot(new),
        )
        if old is None:  # a bug ends the start
            for step in steps:
                step()
        else:
            self._following.each(steps, lambda step: step())

    def _refused(self, refusal: Refusal) -> None:
        self.metrics.config_reload("refused")

    def _child_event(self, name: str, event: str) -> None:
        if event == "healthy":
            self.health.retry_now(name)
        if event == "restarting":
            self.metrics.child_restarted(name)

    def _watches_of_keys(self) -> list[Coroutine[Any, Any, None]]:
        periodic = (
            ("loading the keys again", self._load_keys),
            ("loading the identity keys again", self.signer.refresh),
            ("following who is an operator", self.operators.refresh),
            ("asking issuers again about the tokens of streams", self.lifetimes.reask),
        )
        return [PeriodicTask(what, _KEYS_POLL, work).run() for what, work in periodic]

    async def _load_keys(self, *, due: bool = False) -> None:
        if await self.issuers.refresh(due=due):
            self.lifetimes.doubt()
        await self.oauth.keys.reload_if_changed()  # after it: what is signed by a new key is verified by it


async def _at_most(seconds: float, what: str, end: Awaitable[None]) -> None:
    """Wait for an end, 0.0 for as long as it takes; one that hangs is said and left."""
    try:
        async with asyncio.timeout(seconds or None):
            await end
    except TimeoutError:
        L.error(
            "%s has not ended within %g s, and is left: a disk or a process hangs. Acknowledged writes are"
            " stored",
            *(what, seconds),
        )


def document_store(
    uri: str,
    cursor_key: bytes,
    application: Any = None,
    *,
    patient: bool = False,
    jobs: Jobs | None = None,
) -> DocumentStore:
    """The engine that `[store] uri` asks for, not started. patient: its start waits for no server. jobs:
    where large documents are worked on; without them, here."""
    if uri.startswith("sqlite:"):
        return SQLiteDocumentStore(Path(uri.removeprefix("sqlite:")), cursor_key, jobs=jobs)
    # Only here: importing Motor takes a tenth of a second, and sets its number of threads.
    from gateway.store.mongo.driver import Driver
    from gateway.store.mongo.engine import MongoDocumentStore

    return MongoDocumentStore(Driver(uri, application), cursor_key, patient=patient, jobs=jobs)
