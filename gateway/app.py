"""The only composition root: plugs the rooms together, starts them in order and drains them in order.

`Gateway` is plain, so that tests use it directly; `GatewayApplication` is the same as an ASAB application.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import aiohttp.web
import asab
import asab.metrics
import asab.web

from gateway.admin import web as admin
from gateway.call import Call, Snapshot, Target
from gateway.core.model import Backend
from gateway.core.openmetrics import Gauge
from gateway.core.process import Command, ProcessConfig, parse_process
from gateway.edge.accesslog import AccessLog
from gateway.edge.listener import Listener, bind, reachable
from gateway.edge.pool import Pools
from gateway.edge.tunnel import Tunnels
from gateway.handlers.documents import Documents
from gateway.handlers.proxy import Proxy
from gateway.life import Life, Policies
from gateway.services import process_metrics, runtime
from gateway.services.admission import Admission
from gateway.services.child import ChildFailed, ChildSpec
from gateway.services.config import ConfigService, Refusal
from gateway.services.folders import data_folder, private_folder, socket_folder
from gateway.services.health import Health
from gateway.services.keys import Keys, ensure_secret, ensure_signing_key
from gateway.services.limits import Limits
from gateway.services.metrics import Metrics
from gateway.services.probes import Probes
from gateway.services.quotas import Quotas
from gateway.services.retries import Retries
from gateway.services.supervisor import Supervisor
from gateway.services.watch import goes_on
from gateway.store.port import DocumentStore
from gateway.store.sqlite import SQLiteDocumentStore

__all__ = ["ChildFailed", "Gateway", "GatewayApplication", "run"]
L = logging.getLogger(__name__)
_KEYS_POLL = 1.0  # seconds between two looks at the key file
_BACKEND_CODES = ("backend_", "store_unavailable")


class Gateway:
    """All rooms of one process. start() once, drain() once.

    supervise: also run the backends of gateway.conf. on_snapshot(new) is called after each swap.
    application: where ASAB's services register.
    """

    def __init__(
        self,
        config: ProcessConfig,
        *,
        supervise: bool = False,
        on_snapshot: Callable[[Snapshot], None] = lambda snapshot: None,
        application: asab.Application | None = None,
    ) -> None:
        self.config = config
        self.ready = False
        self.draining = False
        self._on_snapshot = on_snapshot
        self._tasks: list[asyncio.Task[None]] = []
        data = data_folder(Path(config.data))  # first: whoever else makes it would not make it private
        self.sockets = socket_folder(config.data)
        self.metrics = Metrics()
        self.access_log = AccessLog(config.access_log)
        self.pools = Pools()
        self.tunnels = Tunnels()
        self.health = Health(lambda backend, refusal: self.admission.wake(backend, refusal))
        self.admission = Admission(self.health.usable)
        self.probes = Probes(self.health, self.admission, self.pools)
        self.retries = Retries()
        self.quotas = Quotas(data / "quotas.sqlite")
        self.limits = Limits(self.quotas)
        self.keys = Keys(Path(config.keys), config.tokens, self.metrics.token)
        self.store = _document_store(config.store_uri, ensure_secret(data / "cursor.key"), application)
        self.documents = Documents(self.store)
        self.live = ConfigService(
            Path(config.routing), self._target, self.sockets, self._applied, self._refused
        )
        life = Life(
            Policies(
                snapshot=lambda: self.live.current,
                known=self.keys.known,
                verify=self.keys.verify,
                limit=self.limits.take,
                limit_client=self.limits.take_client,
                observe=self._observe,
                draining=lambda: self.draining,
            )
        )
        self.listener = Listener(life, config.drain)
        self._commands = config.commands if supervise else ()
        self.supervisor = Supervisor([])
        self.metrics.backend_gauges(self.admission.in_use, self.admission.waiting)
        for instrument in (*self.health.instruments(), self.retries.counter):
            self.metrics.add(instrument)
        self.metrics.add(Gauge("gateway_websockets", "WebSockets open.", lambda: {(): len(self.tunnels)}))

    async def start(self) -> None:
        """Config and keys, ports, store, backends, and only then clients. Stops all again when one fails."""
        try:
            ensure_signing_key(Path(self.config.keys))
            self.keys.load()
            self.listener.bind(self.config.listen)
            self.live.load_first()
            await self.store.start()
            await self.quotas.start()
            private_folder(Path(self.sockets))
            specs = [self._spec(command) for command in self._commands]
            self.supervisor = Supervisor(specs, on_event=self._child_event)
            await self.supervisor.start()
            await self.listener.open()
            for watch in (self.live.watch(), self._watch_keys(), self.probes.watch()):
                self._tasks.append(asyncio.create_task(watch))
            self.ready = True
        except BaseException:
            await self.drain()
            raise

    async def drain(self) -> None:
        """Refuse readiness, finish what is in flight, stop the backends, close the store."""
        self.draining = self.metrics.draining = True
        if self.ready:
            await asyncio.sleep(self.config.pre_stop)
        self.ready = False
        await self.listener.stop_accepting()
        self.tunnels.drain()
        await self.listener.drain()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.supervisor.stop()
        self.probes.close()
        self.pools.close()
        await self.quotas.close()
        await self.store.close()
        self.access_log.close()

    async def reload(self) -> None:
        """What SIGHUP asks for: the config and the keys again, and new log files."""
        self.access_log.reopen()
        self.keys.reload_if_changed()
        await self.live.reload()

    def kill(self) -> None:
        """Leave nothing running, at once."""
        for state in self.supervisor.states():
            if state["pid"] is not None:
                try:
                    os.killpg(state["pid"], signal.SIGKILL)
                except ProcessLookupError:
                    continue

    def _target(self, backend: Backend | None) -> Target:
        if backend is None:
            return self.documents
        port = self.listener.addresses[0][1]
        health, retries = self.health, self.retries
        return Proxy(backend, self.pools, self.admission, health, self.tunnels, retries, port)

    def _spec(self, command: Command) -> ChildSpec:
        socket = f"{self.sockets}/{command.name}.sock"
        data = str(private_folder(private_folder(Path(self.config.data) / "backends") / command.name))
        public = f"http://{reachable(*self.listener.addresses[0])}"
        return ChildSpec(
            name=command.name,
            command=command.expand(python=sys.executable, socket=socket, data=data),
            env={"DATA": data, "GATEWAY_URL": public, "PYTHONUNBUFFERED": "1"},
            cwd=command.cwd,
            socket=socket,
        )

    def _applied(self, new: Snapshot, old: Snapshot | None) -> None:
        """Reconcile: what is gone from the config is closed after its last use; the rest lives on."""
        backends = new.backends.values()
        self.pools.reconcile((a, b.reuse_idle) for b in backends for a in b.addresses)
        self.health.reconcile(new.backends)
        self.admission.reconcile(new.backends)
        self.retries.reconcile(new.backends)
        self.tunnels.reconcile(new.tenants)
        self.metrics.revision, self.metrics.loaded_at = new.revision, new.loaded_at
        self.metrics.config_reload("applied")
        self.metrics.keep_routes([route.name for route in new.table.routes])
        self._on_snapshot(new)

    def _refused(self, refusal: Refusal) -> None:
        self.metrics.config_reload("refused")

    def _observe(self, call: Call) -> None:
        route = call.route
        name = route.name if route is not None else ""
        tenant = call.tenant.id.value if call.tenant is not None else ""
        if call.status == 101:
            self.metrics.websocket_ended(name, tenant)
        else:
            self.metrics.observe(name, call.status, tenant, perf_counter() - call.started)
        if call.code and route is not None and call.code.startswith(_BACKEND_CODES):
            self.metrics.backend_error(route.target_name, call.code)
        self.access_log.write(call)

    def _child_event(self, name: str, event: str) -> None:
        if event == "healthy":
            self.health.retry_now(name)
        if event == "restarting":
            self.metrics.child_restarted(name)

    async def _watch_keys(self) -> None:
        while True:
            await asyncio.sleep(_KEYS_POLL)
            with goes_on("loading the keys again"):
                self.keys.reload_if_changed()


def _document_store(uri: str, cursor_key: bytes, application: asab.Application | None) -> DocumentStore:
    if uri.startswith("sqlite:"):
        return SQLiteDocumentStore(Path(uri.removeprefix("sqlite:")), cursor_key)
    # Only here: importing Motor takes a tenth of a second, and sets its number of threads.
    from gateway.store.mongo import MongoDocumentStore
    from gateway.store.mongo_driver import Driver

    return MongoDocumentStore(Driver(uri, application), cursor_key)


class _AdminContainer(asab.web.WebContainer):
    """ASAB's WebContainer on a socket that is bound already: ASAB logs a port in use and goes on."""

    async def _start(self, app: asab.Application) -> None:
        return None

    async def open(self, sockets: list[socket.socket]) -> None:
        await self.WebAppRunner.setup()
        for sock in sockets:
            await aiohttp.web.SockSite(self.WebAppRunner, sock).start()


class GatewayApplication(asab.Application):
    """The gateway as an ASAB application: lifecycle, signals, PubSub, metrics, the admin WebContainer.

    on_ready runs once everything serves; it cannot end what serves.
    """

    def __init__(
        self, path: str, *, supervise: bool, on_ready: Callable[[Gateway], None] = lambda gateway: None
    ) -> None:
        asab.Config.add_defaults(_ASAB_DEFAULTS)
        super().__init__(args=["-c", path], modules=[asab.web.Module, asab.metrics.Module])
        logging.getLogger("gateway").setLevel(logging.INFO)
        if self.Logging.ConsoleHandler is not None:
            self.Logging.ConsoleHandler.formatter.UseColor = sys.stderr.isatty()
        self._on_ready = on_ready
        self._starting: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        sections = {name: dict(asab.Config.items(name, raw=True)) for name in asab.Config.sections()}
        config = parse_process(sections, str(Path(path).resolve().parent))
        self.gateway = Gateway(config, supervise=supervise, on_snapshot=self._publish, application=self)
        self._admin_sockets: list[socket.socket] = []
        self._admin: _AdminContainer | None = None
        self._reloads: set[asyncio.Task[None]] = set()
        self.PubSub.subscribe("Application.hup!", self._on_hup)

    async def initialize(self) -> None:
        """In our order; an exception here ends the process with exit code 1."""
        config = self.gateway.config
        self._admin_sockets = [bind(host, port) for host, port in config.admin]
        self._starting = asyncio.create_task(self.gateway.start())
        await self._starting
        try:
            await self._open_admin()
        except BaseException:
            self.gateway.ready = False  # no load balancer knows of it yet: nothing to wait for
            await self.gateway.drain()
            raise
        runtime.settle()
        with goes_on("telling that it is ready"):
            self._on_ready(self.gateway)

    async def _open_admin(self) -> None:
        process = process_metrics.ProcessMetrics(self.get_service("asab.MetricsService"))
        self.gateway.metrics.add_source(process.render)
        listen = "\n".join(f"{host} {port}" for host, port in self.gateway.config.admin)
        web = self.get_service("asab.WebService")
        self._admin = _AdminContainer(web, "admin", config={"listen": listen, "servertokens": "prod"})
        admin.install(self._admin.WebApp, self.gateway)
        await self._admin.open(self._admin_sockets)

    async def main(self) -> None:
        """Serve until a signal; then drain here, while /readyz can still say 503 (ASAB closes the admin
        listener before finalize())."""
        await self._stopping.wait()
        await self.gateway.drain()

    def stop(self, exit_code: int | None = None) -> None:
        """SIGTERM or SIGINT: drain. The second one: leave now, with nothing left running."""
        if self._stopping.is_set():
            self.gateway.kill()
            os._exit(1)
        self._stopping.set()
        if self._starting is not None and not self._starting.done():
            self._starting.cancel()
        super().stop(exit_code)

    def _publish(self, snapshot: Snapshot) -> None:
        self.PubSub.publish("Gateway.snapshot!", snapshot)

    def _on_hup(self, message_type: str) -> None:
        if not self.gateway.ready:
            L.warning("SIGHUP is ignored: there is nothing to load again before the start or after the end")
            return
        task = asyncio.ensure_future(self._reload())
        self._reloads.add(task)  # the loop itself holds a task weakly
        task.add_done_callback(self._reloads.discard)

    async def _reload(self) -> None:
        with goes_on("loading all again on SIGHUP"):
            await self.gateway.reload()


# ASAB's own: no watchdog (it kills the process when the clock jumps), and log lines that a person can read.
_ASAB_DEFAULTS = {
    "general": {"watchdog_threshold": "0", "pidfile": ""},
    "logging": {"level": "WARNING"},
    "logging:console": {
        "format": "%(asctime)s %(levelname)s %(name)s: %(message)s",
        "datefmt": "%Y-%m-%d %H:%M:%S",
    },
}


def run(path: str, *, supervise: bool, on_ready: Callable[[Gateway], None] = lambda gateway: None) -> int:
    """Run the gateway until it is told to stop. Gives the exit code.

    path: gateway.conf. Raises FolderUnusable, ListenError, ConfigRefused, KeysUnusable, ChildFailed, Problems
    or GatewayError (the store) when it cannot start.
    """
    runtime.keep_memory()
    runtime.use_fast_loop()
    application = GatewayApplication(path, supervise=supervise, on_ready=on_ready)
    try:
        return int(application.run())
    except asyncio.CancelledError:
        return 0  # told to stop before it was up
