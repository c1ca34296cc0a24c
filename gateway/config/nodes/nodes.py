"""Each process reports what it runs, where the others can read it: so one that lags behind is named."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from typing import Any, Protocol

from gateway.call import Snapshot
from gateway.config.ports import ConfigSource
from gateway.core.process.listeners import Listen
from gateway.runtime.periodic import PeriodicTask

EVERY = 2.0  # seconds between two reports
LAG = 5.0  # seconds that a process may take for a revision that another one has
SILENCE = 10.0  # seconds without a word, after which a process is missing
FORGOTTEN = 86400.0  # and after which it is none any more


class Unreachable(Exception):
    """The others cannot be asked."""


@dataclass(frozen=True, slots=True)
class Node:
    """What a process says of itself.

    id: of its data folder on its host. admin: the address of its admin listener. revision, digest: what it
    runs; since, started: seconds since the epoch. source: the kind of it, with whether it is available.
    refused: whether it refuses what its source has now.
    """

    id: str
    host: str
    pid: int
    admin: str
    version: str
    revision: int
    digest: str
    since: float
    started: float
    source: str
    available: bool
    refused: bool


@dataclass(frozen=True, slots=True)
class Heard:
    """seen: when it was heard of last, in seconds since the epoch. alive: whether that is not long ago."""

    node: Node
    seen: float
    alive: bool


class Registry(Protocol):
    """Where processes that share a config report. shared: by what; "" when this process is alone. Raises
    Unreachable."""

    shared: str

    async def report(self, node: Node) -> None: ...
    async def leave(self, id: str) -> None:
        """It ends, and is not missed."""
        ...

    async def all(self) -> Sequence[Heard]:
        """Those that have not been silent for FORGOTTEN seconds."""
        ...


class Alone:
    """See Registry. Nobody else has this config: one process works on a data folder."""

    shared = ""

    async def report(self, node: Node) -> None:
        """Nobody wants to know."""

    async def leave(self, id: str) -> None:
        """Nobody misses it."""

    async def all(self) -> Sequence[Heard]:
        """Nobody else."""
        return ()


class Live(Protocol):
    """The live config, as far as it is reported."""

    current: Snapshot
    source: ConfigSource
    refusal: Any


class Nodes:
    """name: of this process's data folder. admin: its listener's addresses. now: a monotonic clock; wall:
    since the epoch."""

    def __init__(
        self,
        registry: Registry,
        live: Live,
        name: str,
        admin: Sequence[Listen],
        *,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._registry = registry
        self._live = live
        self._id = f"{socket.gethostname()}-{name}"
        self._admin = str(admin[0].reached) if admin else ""
        self._now, self._wall = now, wall
        self._started = wall()
        self._newest = 0  # the newest revision that a process was seen to have
        self._newest_at = now()  # and since when it was seen

    async def watch(self) -> None:
        """Report until cancelled."""
        await PeriodicTask("reporting this process to the others", EVERY, self.look).run()

    async def look(self) -> None:
        """Report once, and see what the others have."""
        try:
            await self._registry.report(self._own())
            self._see(await self._registry.all())
        except Unreachable:
            return

    async def close(self) -> None:
        """This process ends, and is not missed."""
        try:
            await self._registry.leave(self._id)
        except Unreachable:
            return

    async def view(self) -> dict[str, Any]:
        """The JSON of GET /admin/v1/nodes: this process first. available: whether the others could be asked.
        lags: whether one is behind, or was not heard of; why: in words."""
        own = self._own()
        try:
            others = [one for one in await self._registry.all() if one.node.id != own.id]
            available = True
        except Unreachable:
            others, available = [], False
        self._see(others)
        nodes = [Heard(own, self._wall(), True), *sorted(others, key=lambda one: one.node.host)]
        return {
            "shared": self._registry.shared or None,
            "available": available,
            "newest": self._newest,
            "nodes": [self._shown(one, own.id) for one in nodes],
        }

    def _own(self) -> Node:
        current = self._live.current
        return Node(
            self._id,
            socket.gethostname(),
            os.getpid(),
            self._admin,
            _version(),
            current.revision,
            current.digest,
            current.loaded_at,
            self._started,
            self._live.source.kind,
            self._live.source.available,
            self._live.refusal is not None,
        )

    def _see(self, others: Sequence[Heard]) -> None:
        """By this process's own clock: those of other hosts may be wrong."""
        newest = max([self._live.current.revision, *(one.node.revision for one in others)])
        if newest != self._newest:
            self._newest, self._newest_at = newest, self._now()

    def _shown(self, heard: Heard, own: str) -> dict[str, Any]:
        node, why = heard.node, ""
        behind = self._now() - self._newest_at
        if not heard.alive:
            why = f"not heard of for more than {SILENCE:g} s"
        elif node.revision < self._newest and behind > LAG:
            why = f"it has revision {node.revision}; {self._newest} was there {behind:.0f} s ago"
        return {
            **asdict(node),
            "seen": heard.seen,
            "self": node.id == own,
            "lags": bool(why),
            "why": why or None,
        }


@cache
def _version() -> str:
    """Of the code that runs. Read once: it takes milliseconds."""
    try:
        return metadata.version("gateway")
    except metadata.PackageNotFoundError:
        return ""
