"""Two workers beside one process and beside two gateways that share nothing: requests for a second of CPU;
and workers replaced under load.

Each process that serves has the same load, so that each does as much in a turn of its loop. The two that
share nothing show what the machine gives at best: two busy cores are slower than one, each.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.load import closed
from tests.bench.load.closed import Load
from tests.bench.reports.bars import bar
from tests.bench.sites import contenders
from tests.bench.sites.contenders import CONTENDERS, Site
from tests.bench.sites.servers import Server

ROUNDS = 8  # by default: one round of a shared machine says little
BAR, MOONSHOT = 0.92, 0.97  # of the requests for a second of CPU that one process serves
CONNECTIONS = 32  # for each process that serves
KEPT, NEW, EACH = 20, 20, 25.0  # clients on kept and on new connections, and requests of each in a second
_REPLACED = "workers were replaced"
_RATIOS = (("workers", "one"), ("workers", "apart"), ("apart", "one"))
_SERVING = {"one": [1], "workers": [2], "apart": [1, 1]}  # processes that serve, of each gateway


@dataclass(frozen=True)
class _Contender:
    """Gateways, and the port that each process has its connections through."""

    servers: list[Server]
    ports: list[int]


def run(
    folder: Path, rounds: int, seconds: float, restarts: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Gives what goes into the JSON result. Raises ServerFailed, ContenderWrong, LoadFailed. No process of a
    gateway is pinned: the load and the backend are beside them."""
    main = Site(folder)
    main.write_keys()
    turns: dict[str, list[float]] = {name: [] for name in _SERVING}
    failed = 0
    with ExitStack() as stack:
        stack.enter_context(contenders.backend(main))
        running = {name: _start(stack, main, name) for name in _SERVING}
        for contender in running.values():
            _turn(contender, main.token(), 1.0)
        for number in range(rounds):
            # Each comes first as often as last, since the machine may get slower or faster meanwhile.
            for name in running if number % 2 == 0 else reversed(running):
                found, errors = _turn(running[name], main.token(), seconds)
                turns[name].append(found)
                failed += errors
                say(f"round {number + 1} of {rounds}: {name:8} {found:9,.0f} requests / CPU second")
        replaced = asyncio.run(_replace(running["workers"].servers[0], main.token(), restarts, say))
    ratios = {f"{one}/{other}": ratio(turns[one], turns[other]) for one, other in _RATIOS}
    text = f"requests that failed in {restarts} rolling restarts, on new and kept connections"
    return {
        "turns": turns,
        "rounds": rounds,
        "seconds": seconds,
        "connections": CONNECTIONS,
        "failed": failed,
        "ratios": ratios,
        "replaced": replaced,
        "bars": [
            bar(
                "requests for a second of CPU, two workers / one process",
                ratios["workers/one"]["median"],
                BAR,
                MOONSHOT,
                least=True,
                proven=not failed,
            ),
            bar(text, len(replaced["failures"]), 0, 0),
        ],
    }


def ratio(one: list[float], other: list[float]) -> dict[str, float]:
    """The first by the second in the same round: the median, the smallest and the largest."""
    found = [mine / theirs for mine, theirs in zip(one, other, strict=True)]
    return {"median": statistics.median(found), "min": min(found), "max": max(found)}


def _start(stack: ExitStack, main: Site, name: str) -> _Contender:
    """Start a contender, before the one backend."""
    servers, ports = [], []
    for number, processes in enumerate(_SERVING[name]):
        site = main.beside(f"{name}-{number}")
        server = stack.enter_context(contenders.server("gateway", site, None, workers=processes))
        contenders.check(CONTENDERS["gateway"], server.port, site)
        servers.append(server)
        ports += [server.port] * processes
    return _Contender(servers, ports)


def _turn(contender: _Contender, token: str, seconds: float) -> tuple[float, int]:
    """Requests for a second of CPU of all its processes, and how many failed."""
    generator, headers = closed.choose(), {"Authorization": f"Bearer {token}"}

    def load(port: int) -> Load:
        return closed.run(generator, f"http://127.0.0.1:{port}/bench/item", headers, CONNECTIONS, seconds)

    before, began = _cpu_of_each(contender), time.monotonic()
    with ThreadPoolExecutor(len(contender.ports)) as at_once:
        loads = list(at_once.map(load, contender.ports))
    passed = time.monotonic() - began
    # Processes end meanwhile, such as the ones that compiled the config.
    used = sum(cpu - before.get(pid, 0.0) for pid, cpu in _cpu_of_each(contender).items())
    served = sum(one.rps for one in loads) * min(seconds, passed)
    return served / used, sum(one.errors for one in loads)


def _cpu_of_each(contender: _Contender) -> dict[int, float]:
    return {pid: cpu for server in contender.servers for pid, cpu in server.cpu_of_each().items()}


async def _replace(server: Server, token: str, restarts: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Have its workers replaced, again and again, while clients ask."""
    clients = _Clients(server.port, token)
    tasks = [asyncio.create_task(clients.ask(keep=number < KEPT)) for number in range(KEPT + NEW)]
    master = min(server.pids())  # the one that leads the group
    for number in range(restarts):
        os.kill(master, signal.SIGHUP)
        while server.log.read_text().count(_REPLACED) <= number:
            await asyncio.sleep(0.1)
        say(f"restart {number + 1} of {restarts}: {clients.served:,} served, {len(clients.failures)} failed")
    clients.over = True
    await asyncio.gather(*tasks)
    return {"restarts": restarts, "served": clients.served, "failures": clients.failures[:20]}


class _Clients:
    """Plain clients: none tries again, as aiohttp's would."""

    def __init__(self, port: int, token: str) -> None:
        self.over = False
        self.served = 0
        self.failures: list[str] = []
        self._port = port
        self._head = (
            f"GET /bench/item HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        )

    async def ask(self, *, keep: bool) -> None:
        """Ask EACH times a second, on one connection as long as it is kept, or on a new one each time."""
        writer, due = None, time.monotonic()
        while not self.over:
            due += 1 / EACH
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            try:
                if writer is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                writer.write(self._head)
                ends = await self._response(reader)
            except (OSError, EOFError) as error:
                self.failures.append(f"{'kept' if keep else 'new'} connection: {error!r}")
                ends = True
            if writer is not None and (ends or not keep):
                writer.close()
                writer = None

    async def _response(self, reader: asyncio.StreamReader) -> bool:
        """Read it. Gives whether the connection ends."""
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        status, length = int(head.split()[1]), re.search(rb"content-length: (\d+)", head)
        await reader.readexactly(int(length[1]) if length else 0)
        if status == 200:
            self.served += 1
        else:
            self.failures.append(f"status {status}")
        return b"connection: close" in head
