"""The control plane: what is one on a host, the live config and who may change it, and the backends."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from gateway.admin.operators import Operators
from gateway.auth.operator_token import FILE as OPERATOR_TOKEN
from gateway.auth.operator_token import OperatorToken
from gateway.auth.signer import Signer
from gateway.call import Snapshot
from gateway.config import own_addresses
from gateway.config.compilation import Compiler, MakeTarget, against_process
from gateway.config.following import Following
from gateway.config.live import LiveConfig
from gateway.config.nodes.nodes import Nodes
from gateway.config.parts import ConfigParts
from gateway.config.rehearsals import Entries, Rehearsals
from gateway.core.http.hops import pseudonym
from gateway.core.openmetrics import Gauge
from gateway.core.process.command_line import Command
from gateway.core.process.listeners import Listen, url_of
from gateway.core.process.tls import TlsSettings
from gateway.core.routing.problems import Problem
from gateway.planes.callers import Callers
from gateway.planes.ground import Ground
from gateway.planes.steps import ENDING, Step, end, end_tasks
from gateway.process.child import ChildSpec
from gateway.process.folders import private_folder, temporary_folder_problems
from gateway.process.supervisor import OnEvent, Supervisor
from gateway.runtime.periodic import PeriodicTask

L = logging.getLogger(__name__)
_OPERATORS_POLL = 1.0  # seconds between two looks at who is an operator
_BACKENDS_END = 14.0  # seconds that the backends may take at the end: they have 8 s themselves


@dataclass(frozen=True, slots=True)
class Served:
    """What the control plane has to know of what serves requests.

    target: makes the targets of routes. bound: where clients connect to, from the bind on. tls: the sections
    [tls:NAME]. recent: the last requests, for rehearsals.
    """

    target: MakeTarget
    bound: Callable[[], list[Listen]]
    tls: Callable[[], Iterable[TlsSettings]]
    recent: Entries


class ControlPlane:
    """All rooms that are one on a host. In order: load(), start(), watch(); close().

    following: what follows from a new config. supervise: also run the backends of gateway.conf. on_child: is
    told of each event of a backend.
    """

    def __init__(
        self,
        ground: Ground,
        callers: Callers,
        signer: Signer,
        served: Served,
        following: Following,
        on_child: OnEvent,
        *,
        supervise: bool,
    ) -> None:
        config = ground.config
        self._ground, self._config, self._signer, self._served = ground, config, signer, served
        self._on_child = on_child
        self._tasks: list[asyncio.Task[None]] = []
        self.operators = self._operators(callers)
        self.config_parts = ConfigParts(config, ground.data, pseudonym(ground.secret), ground.application)
        self.live = self._live_config(callers, following)
        compiled_with = ground.sockets, str(Path(config.routing).parent), config.tokens.issuer
        self.rehearsals = Rehearsals(lambda: self.live.text, served.recent, compiled_with)
        self.nodes = Nodes(self.config_parts.nodes, self.live, self.config_parts.name, config.admin)
        self._commands, self.supervisor = config.commands if supervise else (), Supervisor([])

    def _operators(self, callers: Callers) -> Operators:
        ground = self._ground
        return Operators(
            self._config.operators,
            OperatorToken(ground.data / OPERATOR_TOKEN),
            callers.authentication.identity,
            callers.stored.revocations.covers,
            lambda: self.live.current.tenants,
            callers.origins,
            ground.now,
            ground.wall,
        )

    def _live_config(self, callers: Callers, following: Following) -> LiveConfig:
        parts, folder = self.config_parts, str(Path(self._config.routing).parent)
        more = self._check, callers.authentication, folder, self._config.tokens.issuer
        return LiveConfig(
            *(parts.source, parts.revisions, parts.audit, parts.remembered),
            Compiler(self._served.target, self._ground.sockets, *more),
            following,
            seed=parts.seed,
            run=parts.run,
            wall=self._ground.wall,
        )

    def _check(self, snapshot: Snapshot) -> list[Problem]:
        """What this process's own config makes wrong in a routing config."""
        own = own_addresses.of(self._config, self._served.bound())
        return against_process(snapshot, own, self._served.tls())

    def instruments(self) -> tuple[Gauge, ...]:
        """For the metrics."""
        about = "1 while the routing config's file says what is live, 0 while it is refused."
        return (
            Gauge("gateway_child_up", "1 while it is healthy.", self._children_up, ("backend",)),
            Gauge(
                "gateway_config_last_reload_successful",
                about,
                lambda: {(): 0 if self.live.refusal is not None else 1},
            ),
        )

    def _children_up(self) -> dict[tuple[str, ...], int]:
        return {(str(s["name"]),): int(s["state"] == "running") for s in self.supervisor.states()}

    # --- the start ---

    async def load(self) -> None:
        """The first config. Raises ConfigRefused, OSError, StoreUnavailable."""
        with self._ground.named("[gateway] data", self._config.data):
            await self.config_parts.start()
        with self._ground.named("[gateway] routing", self._config.routing):
            await self.live.load_first()

    async def start(self) -> None:
        """Operators and backends. Raises OSError."""
        with self._ground.named("[gateway] data", self._config.data):
            self.operators.start()
        private_folder(Path(self._ground.sockets))
        for problem in temporary_folder_problems(self._config.spool):
            L.warning("%s", problem)
        specs = [self.spec(command) for command in self._commands]
        self.supervisor = Supervisor(specs, on_event=self._on_child)
        await self.supervisor.start()

    def watch(self) -> None:
        """Follow the config's source, the clock, and who is an operator, from now on."""
        operators = PeriodicTask("following who is an operator", _OPERATORS_POLL, self.operators.refresh)
        for watch in (self.live.watch(), self.live.watch_time(), self.nodes.watch(), operators.run()):
            self._tasks.append(asyncio.create_task(watch))

    async def reload(self) -> None:
        """What SIGHUP asks for: who is an operator, and the config, again."""
        await self.operators.refresh(due=True)
        await self.live.reload_when_quiet()

    def spec(self, command: Command) -> ChildSpec:
        """How a backend of gateway.conf is run."""
        ground = self._ground
        socket = f"{ground.sockets}/{command.name}.sock"
        data = str(private_folder(private_folder(ground.data / "backends") / command.name))
        return ChildSpec(
            name=command.name,
            command=command.expand(python=sys.executable, socket=socket, data=data),
            env={
                "DATA": data,
                "GATEWAY_URL": url_of(self._served.bound()),
                "PYTHONUNBUFFERED": "1",
                **self._signer.environment(command.name),
            },
            cwd=command.cwd,
            socket="" if "://" in command.health else socket,
            healthz=command.health,
            start_timeout=command.start_timeout,
        )

    # --- the end ---

    async def end_changes(self) -> None:
        """No change of the config from now on."""
        await end((Step(self.live.close, "a change of the config", ENDING),))

    async def close(self) -> None:
        """End the backends, once no request needs them, and close all that is left."""
        await end(
            (
                Step(self._end_tasks, "what is done beside the requests", ENDING),
                Step(self.supervisor.stop, "a backend", _BACKENDS_END),
                Step(self.operators.close, "what is asked of the operators' issuer", ENDING),
                Step(self.nodes.close, "what is told of this process", ENDING),
                Step(self.config_parts.close, "the source of the config", ENDING),
                Step(self.rehearsals.close, "the worker process of rehearsals", ENDING),
            )
        )
        self.supervisor.kill()  # nothing, unless its end failed or hung

    async def _end_tasks(self) -> None:
        await end_tasks(self._tasks)
