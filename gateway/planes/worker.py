"""A worker: the data plane in a process of its own, and the channel to its master.

`main` is the program of the fork server that makes workers (process/workers/): all that they need
is imported here.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from gateway.auth.keys import CURSOR_KEY, ensure_secret
from gateway.config.compilation import Compiler
from gateway.config.ports import ConfigRefused
from gateway.config.source import Texts
from gateway.core.errors import GatewayError
from gateway.core.process.listeners import Listen
from gateway.core.process.settings import ProcessConfig
from gateway.core.process.store_uri import SQLITE
from gateway.core.routing.problems import Problem, Problems
from gateway.edge.client.sockets import BoundSocket
from gateway.planes import conf
from gateway.planes.data import DataPlane
from gateway.planes.followed import FollowedConfig
from gateway.planes.ground import Ground
from gateway.planes.shared.host import CIRCUITS, SEATS
from gateway.planes.shared.names import NAMES, Found
from gateway.planes.shown import Shown
from gateway.planes.steps import ENDING, Step, end
from gateway.process import interpreter, signals
from gateway.process.folders import socket_folder
from gateway.process.workers.fork_server import REPLACE, ForkServer, Order
from gateway.runtime.channel import AskFailed, Channel, ChannelError
from gateway.runtime.processes.in_use import InUse
from gateway.telemetry.process_metrics import ProcessNumbers

L = logging.getLogger("gateway.worker")
_CONFIG = 60.0  # seconds for the first config to come


class ChannelLog(logging.Handler):
    """Sends each record to the master, which writes the log of all; without a master, to standard error."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop = loop
        self._channel: Channel | None = None
        self._formatter = logging.Formatter("%(message)s")

    def use(self, channel: Channel) -> None:
        """The channel is open."""
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        """In any thread."""
        item = [record.levelno, record.name, self._formatter.format(record), record.created]
        if self._channel is None or self._channel.ended or self._loop.is_closed():
            sys.stderr.write(f"{record.levelname} {record.name}: {item[2]}\n")
        else:
            self._loop.call_soon_threadsafe(self._channel.tell, "log", item)


class Worker:
    """One worker, from its fork to its end. sock: to the master. table: what it has in use, for the master.
    sockets: to listen on, one for each address of the master's."""

    def __init__(
        self, config: ProcessConfig, sock: socket.socket, table: InUse, sockets: list[BoundSocket]
    ) -> None:
        self._table = table
        self._config, self._sock, self._sockets = config, sock, sockets
        self._loop = asyncio.get_running_loop()
        self._log = ChannelLog(self._loop)
        self._leaving = asyncio.Event()
        # Unless the master says otherwise, it has the sockets, and another worker takes what comes there.
        self._kept: Collection[int] | None = range(len(sockets))
        self._signals = 0
        data = Path(config.data)
        secret = ensure_secret(data / CURSOR_KEY)
        self.ground = Ground(config, data, secret, socket_folder(config.data))

    async def run(self) -> int:
        """Serve until the master says so, or is gone. Gives the exit code."""
        self._install_log()
        self._channel = channel = await Channel.open(self._sock, self._handlers(), self._master_gone)
        self._log.use(channel)
        try:
            ground = replace(self.ground, certificates=await channel.ask("certificates"))
            self.plane = plane = DataPlane(ground, channel, self._table)
        except (OSError, ChannelError) as error:
            channel.tell("failed", str(error))
            await channel.close()
            return 1
        self.live = FollowedConfig(self._compiler(), plane.apply)
        self._shown = shown = Shown(plane, self.live)
        numbers = ProcessNumbers()
        plane.metrics.add_source(numbers.instruments)
        plane.serve(self.live)
        plane.listener.take(self._sockets, f"[gateway] listen in {self._config.path}")
        self._hear()
        code = 0
        try:
            plane.load_keys()
            told = await channel.ask("config", wait=_CONFIG)
            plane.follow_names(told[NAMES])
            await self.live.take(told)
            await plane.start()
            await plane.sharing.settle()
            interpreter.tune_collector()
            await plane.open()
            channel.tell("store", plane.store.available)
            channel.tell("ready")
            await self._leaving.wait()
        except (OSError, ValueError, GatewayError, Problems, ConfigRefused, ChannelError) as error:
            channel.tell("failed", conf.why(self._config.routing, error) or type(error).__name__)
            plane.give_up()
            code = 1
        await self._end()
        numbers.close()
        channel.tell("counted", await shown.metrics())  # all: an answer may have come too late and been lost
        await channel.close()
        return code

    def _compiler(self) -> Compiler:
        config = self._config
        return Compiler(
            self.plane.target,
            self.ground.sockets,
            _no_problems,
            self.plane.callers.authentication,
            str(Path(config.routing).parent),
            config.tokens.issuer,
            Texts(kept=0),  # each is compiled once, and compared with no other
        )

    def _handlers(self) -> dict[str, Callable[[Any], Any]]:
        return {
            **{name: partial(self._of_host, name) for name in (SEATS, CIRCUITS)},
            NAMES: self._names,
            "alive": lambda body: None,
            "leave": self._leave,
            "show": lambda asked: self._shown.show(asked),
            "config": self._take,
            "reopen": lambda why: self.plane.reopen_logs(why),
            "child": lambda body: self.plane.child_event(*body),
        }

    def _of_host(self, name: str, body: Any) -> None:
        host = self.plane.sharing.host
        if host is not None:
            host.handlers()[name](body)

    def _names(self, found: Found) -> None:
        if hasattr(self, "plane"):  # else they come with the first config
            self.plane.follow_names(found)

    async def _take(self, told: dict[str, Any]) -> int:
        try:
            return await self.live.take(told)
        except Problems as problems:  # the master could compile it: a process that helps is not there
            raise AskFailed(str(problems)) from None

    def _leave(self, kept: list[int] | None) -> None:
        self._kept = kept
        self._leaving.set()

    def _ask_to_leave(self) -> None:
        self._asking = self._loop.create_task(self._be_replaced())

    async def _be_replaced(self) -> None:
        try:
            await self._channel.ask(REPLACE)
        except ChannelError:  # no master is there, or it does not serve yet
            self._leaving.set()

    def _master_gone(self) -> None:
        if not self._leaving.is_set():
            L.error("The master has gone: this worker ends what it has in hand, and takes no more")
        self._leaving.set()

    async def _end(self) -> None:
        plane = self.plane
        plane.drain_begins()
        await plane.drain(self._kept)
        await end((Step(plane.end_tasks, "what is done beside the requests", ENDING),))
        await plane.close()

    def _install_log(self) -> None:
        root = logging.getLogger()
        root.handlers[:] = [self._log]
        root.setLevel(logging.WARNING)
        logging.getLogger("gateway").setLevel(logging.INFO)
        logging.getLogger("gateway.audit").setLevel(logging.CRITICAL)  # the master tells of the same store

    def _hear(self) -> None:
        """A worker is driven by its master, and a terminal's signals go to that one too. SIGTERM alone ends a
        worker, once another has its place; the second one at once."""

        def terminate(number: int, frame: object) -> None:
            self._signals += 1
            if self._signals > 1:
                os._exit(1)
            self._loop.call_soon_threadsafe(self._ask_to_leave)

        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, _nothing)
        self._loop.add_signal_handler(signal.SIGTERM, lambda: None)
        signal.signal(signal.SIGTERM, terminate)


def _nothing(number: int, frame: object) -> None:
    pass


def _no_problems(snapshot: object) -> list[Problem]:
    """The master has checked them."""
    return []


def main(descriptor: int, path: str) -> None:
    """The fork server. descriptor: of the socket to the master. path: of the process config."""
    gc.disable()  # no pages are freed before the fork, that a worker would fill and so copy
    sock = socket.socket(fileno=descriptor)
    os.set_inheritable(descriptor, False)
    interpreter.name_process("gateway:forks")
    signals.survive_stray()
    interpreter.tune_allocator()
    try:
        config = conf.read(path)
        if not config.store_uri.startswith(SQLITE):
            importlib.import_module("gateway.store.mongo.engine")
    except conf.Unusable as error:
        sock.send(json.dumps({"refused": conf.why(path, error)}).encode())
        return
    gc.collect()
    gc.freeze()
    ForkServer(sock, lambda order, descriptors: work(config, order, descriptors)).run()


def work(config: ProcessConfig, order: Order, descriptors: list[int]) -> int:
    """What a worker does, in its own process; gives its exit code."""
    gc.enable()
    interpreter.name_process(f"gateway:{order['number']}")
    table = InUse(descriptors.pop(1))
    sock, *sockets = (socket.socket(fileno=descriptor) for descriptor in descriptors)
    for one in sockets:
        one.setblocking(False)
    interpreter.use_uvloop()
    loop = asyncio.get_event_loop_policy().get_event_loop()
    listens = [Listen(**one) for one in order["listen"]]
    all_ = zip(listens, sockets, order["held"], strict=True)
    bound = [BoundSocket(listen, one, held=held) for listen, one, held in all_]
    return loop.run_until_complete(_run(config, sock, table, bound))


async def _run(config: ProcessConfig, sock: socket.socket, table: InUse, sockets: list[BoundSocket]) -> int:
    return await Worker(config, sock, table, sockets).run()
