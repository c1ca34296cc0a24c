"""The gateway as an ASAB application: lifecycle, signals, PubSub, metrics, the admin WebContainer."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from time import monotonic
from typing import Any

import asab
import asab.metrics
import asab.web

from gateway.admin import web as admin
from gateway.admin.serve import AdminService
from gateway.app import Gateway
from gateway.call import Snapshot
from gateway.core.policy.forwarding import is_trusted
from gateway.core.process.settings import ProcessConfig, parse_process
from gateway.edge.client import slots
from gateway.edge.client.clients import Clients
from gateway.edge.client.listener import Listener
from gateway.edge.client.sockets import BoundSocket, HeldSockets, ListenError, bind_all, close
from gateway.planes.running import Running
from gateway.process import interpreter, signals
from gateway.process.systemd import Notifier, listening
from gateway.runtime.periodic import Boundary
from gateway.runtime.scheduling import workers
from gateway.telemetry import process_metrics
from gateway.telemetry.logs import LogThread

L = logging.getLogger(__name__)
_LAST_LINES = 0.2  # seconds that the log may take when the process ends at once
_ADMIN_GOES = 0.5  # seconds for the admin listener's clients at the end


class _AdminContainer(asab.web.WebContainer):
    """ASAB's WebContainer, but its application is served by a listener of ours: on sockets that are bound
    already (ASAB only logs a port in use), and with limits for its clients (ASAB has none)."""

    async def _start(self, app: asab.Application) -> None:
        return None

    async def _stop(self, app: asab.Application) -> None:
        return None


class GatewayApplication(asab.Application):
    """The gateway as an ASAB application: lifecycle, signals, PubSub, metrics, the admin WebContainer.

    prepare runs once the public listener serves and before anybody is told so, on_ready once everything
    serves; neither can end what serves.
    """

    def __init__(
        self,
        path: str,
        *,
        supervise: bool,
        held: HeldSockets | None = None,
        prepare: Callable[[Running], Coroutine[Any, Any, None]] | None = None,
        on_ready: Callable[[Running], None] = lambda gateway: None,
    ) -> None:
        asab.Config.add_defaults(_ASAB_DEFAULTS)
        super().__init__(args=["-c", path], modules=[asab.web.Module, asab.metrics.Module])
        logging.getLogger("gateway").setLevel(logging.INFO)
        if self.Logging.ConsoleHandler is not None:
            self.Logging.ConsoleHandler.formatter.UseColor = sys.stderr.isatty()
        # The syslog handler of ASAB is asynchronous by itself.
        self.log = LogThread.before(
            self.Logging.RootLogger, [self.Logging.ConsoleHandler, self.Logging.FileHandler]
        )
        self._prepare = prepare
        self._held = held or HeldSockets()
        self._on_ready = on_ready
        self._starting: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        sections = {name: dict(asab.Config.items(name, raw=True)) for name in asab.Config.sections()}
        config = parse_process(sections, str(Path(path).resolve().parent), path)
        self.gateway = self._gateway(config, supervise=supervise)
        self._admin: Listener | None = None
        self._process: process_metrics.ProcessMetrics | None = None
        self._admin_key = f"[admin] listen in {path}"
        self._reloads: set[asyncio.Task[None]] = set()
        self._stop_signals = 0  # signals to stop
        self._notifier = Notifier(os.environ)
        self._forced_exit = signals.ForcedExit(self._leave_nothing)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):  # the last as nginx
            self._hear(number, self._on_stop_signal, self._count)
        self._hear(signal.SIGUSR1, self._on_usr1)
        self._hear(signal.SIGHUP, self._on_sighup)

    def _gateway(self, config: ProcessConfig, *, supervise: bool) -> Running:
        number = workers(config.workers)
        more: dict[str, Any] = {"on_snapshot": self._publish, "application": self, "held": self._held}
        if number == 1:
            return Gateway(config, supervise=supervise, **more)
        # Only here: one process needs nothing of it.
        from gateway.planes.master import Master

        interpreter.name_process("gateway:master")
        return Master(config, workers=number, supervise=supervise, **more)

    async def initialize(self) -> None:
        """In our order; an exception here ends the process with exit code 1."""
        signals.unblock()
        sockets = self._admin_ports()
        self._starting = asyncio.create_task(self.gateway.start())
        await self._starting
        try:
            if self._prepare is not None:
                with Boundary("preparing what is served"):
                    self._starting = asyncio.create_task(self._prepare(self.gateway))
                    await self._starting
            await self._open_admin(sockets)
        except BaseException:
            await self.gateway.give_up()
            raise
        interpreter.tune_collector()
        with Boundary("telling that it is ready"):
            self._on_ready(self.gateway)
        if unused := self._held.rest():
            L.warning(
                "systemd's sockets that neither [gateway] nor [admin] listens on: %s", ", ".join(unused)
            )
        self._notifier.ready("Serving")

    def _admin_ports(self) -> list[BoundSocket]:
        """Raises ListenError: where these cannot be taken, it also names the public ones."""
        config = self.gateway.config
        try:
            return bind_all(config.admin, self._admin_key, self._held)
        except ListenError as error:
            wrong = [str(error)]
        try:
            for bound in bind_all(config.listen, f"[gateway] listen in {config.path}", self._held):
                close(bound)
        except ListenError as error:
            wrong.insert(0, str(error))
        raise ListenError("\n".join(wrong))

    async def _open_admin(self, sockets: list[BoundSocket]) -> None:
        self._process = process_metrics.ProcessMetrics(self.get_service("asab.MetricsService"))
        self.gateway.metrics.add_source(self._process.instruments)
        web = self.get_service("asab.WebService")
        # ASAB asks for an address, which is not opened.
        container = _AdminContainer(web, "admin", config={"listen": "localhost 0", "servertokens": "prod"})
        admin.install(container.WebApp, self.gateway)
        gateway = self.gateway
        pages = AdminService(container.WebApp, lambda: gateway.draining, lambda: gateway.live.current)
        await pages.setup()
        limits = slots.admin_limits(interpreter.raise_nofile_limit())
        clients = Clients(lambda peer: is_trusted(peer, gateway.live.current.trusted))
        self._admin = Listener(pages, limits, accept_batch=1, clients=clients, sites=gateway.tls)
        self._admin.take(sockets, self._admin_key)
        await self._admin.open()

    async def main(self) -> None:
        """Serve until a signal; then drain here, while /readyz can still say 503 (ASAB closes the admin
        listener before finalize())."""
        signals.unblock()
        await self._stopping.wait()
        self._notifier.stopping()
        self._stop_event.set()  # ASAB forgets a signal that came before its own run time, and would run on
        await self.gateway.drain()
        if self._admin is not None:
            await self._admin.drain(_within(_ADMIN_GOES))
        for task in self._reloads:
            task.cancel()
        await self._notifier.close()
        if self._process is not None:
            self._process.close()  # ASAB waits three seconds for a task that is left

    def _hear(
        self, number: int, call: Callable[[], None], at_once: Callable[[], None] = lambda: None
    ) -> None:
        """Call this once for each signal of this number, in the event loop, in place of what ASAB does; and
        at_once before, in the signal's handler, whatever the loop does.

        By Python's handlers and not by the loop's: uvloop's delivers a signal twice that comes while
        another is being delivered, and not at all, until the next one, what comes while the loop stands
        still.
        """

        def handler(number: int, frame: object) -> None:
            at_once()
            if not self.Loop.is_closed():
                self.Loop.call_soon_threadsafe(call)

        self.Loop.add_signal_handler(number, lambda: None)
        signal.signal(number, handler)

    def _count(self) -> None:
        """The second time: leave within a second, also when the loop stands still."""
        self._stop_signals += 1
        if self._stop_signals > 1:
            self._forced_exit.begin()

    def _on_stop_signal(self) -> None:
        """The first time: drain. The second time: leave now, with nothing left running."""
        if self._stop_signals > 1:
            self.gateway.kill()
            self._leave_nothing()
            os._exit(1)
        self.stop()

    def _leave_nothing(self) -> None:
        """In any thread: end the backends, and write the log."""
        self.gateway.end_children()
        self.log.finish(self.Logging.RootLogger, _LAST_LINES)

    def stop(self, exit_code: int | None = None) -> None:
        """Begin to drain, if that has not begun."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        if self._starting is not None and not self._starting.done():
            self._starting.cancel()
        super().stop(exit_code)

    def _publish(self, snapshot: Snapshot) -> None:
        self.PubSub.publish("Gateway.snapshot!", snapshot)

    def _on_usr1(self) -> None:
        self.log.call(self._reopen_log)
        self._begin(self.gateway.reopen_logs("SIGUSR1"))

    def _on_sighup(self) -> None:
        """In place of ASAB's, which renames its log file by itself: logrotate has done that, and its files
        would be renamed once more."""
        self.log.call(self._reopen_log)
        self._begin(self.gateway.reopen_logs("SIGHUP"))
        if not self.gateway.ready:
            L.warning("SIGHUP is ignored but for the logs: nothing is loaded before the start or in a drain")
            return
        self._begin(self._reload())

    def _reopen_log(self) -> None:
        """Close the file of [logging:file]; the next line opens it again, under its name. In the thread that
        writes the log."""
        handler = self.Logging.FileHandler
        if handler is not None:
            handler.acquire()
            try:
                stream, handler.stream = handler.stream, None
                if stream is not None:
                    stream.close()
            finally:
                handler.release()

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._reloads.add(task)  # the loop itself holds a task weakly
        task.add_done_callback(self._reloads.discard)

    async def _reload(self) -> None:
        self._notifier.reloading()
        with Boundary("loading all again on SIGHUP"):
            await self.gateway.reload()
        self._notifier.ready("Serving")


def _within(seconds: float) -> Callable[[int], bool]:
    until = monotonic() + seconds
    return lambda connections: monotonic() < until


# ASAB's own: no watchdog (it kills the process when the clock jumps), and log lines that a person can read.
_ASAB_DEFAULTS = {
    "general": {"watchdog_threshold": "0", "pidfile": ""},
    "logging": {"level": "WARNING"},
    "logging:console": {
        "format": "%(asctime)s %(levelname)s %(name)s: %(message)s",
        "datefmt": "%Y-%m-%d %H:%M:%S",
    },
}


def run(
    path: str,
    *,
    supervise: bool,
    prepare: Callable[[Running], Coroutine[Any, Any, None]] | None = None,
    on_ready: Callable[[Running], None] = lambda gateway: None,
) -> int:
    """Run the gateway until a signal stops it. Returns the exit code.

    path: gateway.conf. Raises FolderUnusable, ListenError, ConfigRefused, KeysUnusable, Problems
    or GatewayError (the store) when it cannot start.
    """
    held = HeldSockets(listening(os.environ))  # first: nothing else may be opened under their numbers
    signals.survive_stray()
    interpreter.tune_allocator()
    interpreter.use_uvloop()
    signals.block()  # until initialize(), in the loop's first run
    try:
        application = GatewayApplication(
            path, supervise=supervise, held=held, prepare=prepare, on_ready=on_ready
        )
    except BaseException:
        signals.unblock()
        raise
    code = 1
    try:
        code = int(application.run())
    except asyncio.CancelledError:
        code = 0  # told to stop before it was up
    finally:
        if not application.log.finish(application.Logging.RootLogger):
            os._exit(code)  # all is done, and the usual way out would wait for a slow reader of the log
    return code
