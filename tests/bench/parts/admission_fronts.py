"""The threaded app of the part admission, and what stands before it: the gateway as one process, as workers
or as nodes, nginx, HAProxy, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from tests.bench import machine
from tests.bench.load import closed
from tests.bench.load import open as open_load
from tests.bench.load.open import Seen, Stream
from tests.bench.parts import shields
from tests.bench.sites import contenders, redis
from tests.bench.sites.contenders import Site
from tests.bench.sites.servers import Server

THREADS = 8
PATIENCE = 10.0  # seconds until a client leaves
_CONFIGS = {"nginx": "shield_nginx.conf", "haproxy": "seats_haproxy.cfg"}


@dataclass(frozen=True)
class Front:
    """What stands before the app; the name `direct` means nothing. reserve, workers, nodes: the gateway's;
    several nodes share the seats by Redis, and the clients go to them by turns."""

    name: str = "gateway"
    reserve: int | None = None
    workers: int = 1
    nodes: int = 1

    def missing(self) -> str:
        """What it needs and is not installed here, if anything is."""
        if self.nodes > 1 and redis.program() is None:
            return " or ".join(redis.PROGRAMS)
        return self.name if self.name in contenders.missing() else ""


GATEWAY = Front()


class Bench:
    """Each turn has an app and a front of its own, so that what one leaves undone delays no other."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.say = say
        self._folder = folder
        self._turns = 0

    def capacity(self, view: int, seconds: float) -> float:
        """Requests/s that eight clients in a closed loop get from the app directly. view: milliseconds."""
        with self._app() as (_, app):
            url = f"http://127.0.0.1:{app.port}/wait/{view}"
            found = closed.run(closed.choose(), url, {}, THREADS, seconds).rps
        self.say(f"capacity: {found:.1f}/s")
        return found

    def play(
        self,
        streams: list[Stream],
        front: Front = GATEWAY,
        weights: dict[str, float] | None = None,
        hung: int = 0,
        patience: float = PATIENCE,
    ) -> tuple[Seen, float]:
        """Play the streams, with paths as the app knows them. hung: the port of another backend, below /hung.
        Gives what was seen, and how busy the front was in percent of a core."""
        with ExitStack() as stack:
            site, app = stack.enter_context(self._app())
            servers = [app]
            if front.name == "gateway":
                names = {one.tenant: 1.0 for one in streams} | (weights or {})
                servers = _gateways(
                    stack, site, front, routing(site.backend_port, front.reserve, names, hung)
                )
                tokens = {name: site.token(tenant=name) for name in names}
                streams = [replace(one, token=tokens[one.tenant]) for one in streams]
            elif front.name != "direct":
                made = contenders.server(front.name, site, config=_CONFIGS[front.name])
                servers = [stack.enter_context(made)]
            prefix = "" if front.name == "direct" else "/bench"
            streams = [
                one if one.path.startswith("/hung/") else replace(one, path=prefix + one.path)
                for one in streams
            ]
            used = _cpu_seconds(servers)
            seen = open_load.run([server.port for server in servers], streams, patience)
            return seen, 100 * (_cpu_seconds(servers) - used) / max(one.end for one in streams)

    @contextmanager
    def _app(self) -> Iterator[tuple[Site, Server]]:
        self._turns += 1
        folder = self._folder / str(self._turns)
        folder.mkdir()
        site = Site(folder)
        with shields.app(site, 1, THREADS) as server:
            yield site, server


def _gateways(stack: ExitStack, site: Site, front: Front, text: str) -> list[Server]:
    """The gateway's nodes, started. All are on the one core, with what they share."""
    site.write_keys()
    uri, program = "", redis.program()
    if front.nodes > 1 and program is not None:
        uri = stack.enter_context(redis.running(program, site.folder, machine.SERVER_CORE))
    return [
        stack.enter_context(
            contenders.server(
                "gateway", site.beside(f"node-{number}"), routing=text, workers=front.workers, redis=uri
            )
        )
        for number in range(front.nodes)
    ]


def _cpu_seconds(servers: list[Server]) -> float:
    return sum(server.cpu_seconds() for server in servers)


def routing(port: int, reserve: int | None, weights: dict[str, float], hung: int = 0) -> str:
    """The gateway's routing config. weights: by tenant. hung: the port of a second backend, 0 for none."""
    seats: dict[str, Any] = {"kind": "gunicorn", "threads": THREADS}
    seats |= {} if reserve is None else {"reserve": reserve}
    ports = {"bench": port} | ({"hung": hung} if hung else {})
    scopes = {"read": ["bench:read"], "write": ["bench:write"]}
    document = {
        "version": 1,
        "backends": {
            name: {**seats, "addresses": [f"http://127.0.0.1:{number}"]} for name, number in ports.items()
        },
        "tenants": {name: {"weight": weight} for name, weight in weights.items()},
        "routes": [
            {"name": n, "path": f"/{n}/{{rest*}}", "strip": f"/{n}", "target": n, "scopes": scopes}
            for n in ports
        ],
    }
    return yaml.dump(document, Dumper=yaml.CSafeDumper, sort_keys=False)
