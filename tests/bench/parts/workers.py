"""Two workers beside one process: requests for a second of CPU; and workers replaced under load."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.bench.load import closed
from tests.bench.reports.bars import bar
from tests.bench.sites import contenders
from tests.bench.sites.contenders import CONTENDERS, Site
from tests.bench.sites.servers import Server

BAR, MOONSHOT = 0.92, 0.97  # of the requests for a second of CPU that one process serves
CONNECTIONS = 32
KEPT, NEW, EACH = 20, 20, 25.0  # clients on kept and on new connections, and requests of each in a second
_REPLACED = "workers were replaced"


def run(
    folder: Path, rounds: int, seconds: float, restarts: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Gives what goes into the JSON result. Raises ServerFailed, ContenderWrong, LoadFailed. No core is
    pinned: the load and the backend are beside the workers."""
    sites = {number: Site(folder / str(number)) for number in (1, 2)}
    turns: dict[int, list[float]] = {1: [], 2: []}
    with ExitStack() as stack:
        running = {}
        for number, site in sites.items():
            site.folder.mkdir()
            stack.enter_context(contenders.backend(site))
            made = contenders.server("gateway", site, None, workers=number)
            running[number] = stack.enter_context(made)
            contenders.check(CONTENDERS["gateway"], running[number].port, site)
        for number, server in running.items():
            _turn(server, sites[number], 1.0)
        for turn in range(rounds):
            for number, server in running.items():
                turns[number].append(_turn(server, sites[number], seconds))
                say(f"round {turn + 1} of {rounds}: {number} of them {turns[number][-1]:,.0f} requests/CPU s")
        replaced = asyncio.run(_replace(running[2], sites[2], restarts, say))
    ratio = statistics.median(two / one for one, two in zip(turns[1], turns[2], strict=True))
    failed = len(replaced["failures"])
    text = f"requests that failed in {restarts} rolling restarts, on new and kept connections"
    return {
        "turns": turns,
        "rounds": rounds,
        "seconds": seconds,
        "replaced": replaced,
        "bars": [
            bar("requests for a second of CPU, two workers against one", ratio, BAR, MOONSHOT, least=True),
            bar(text, failed, 0, 0),
        ],
    }


def _turn(server: Server, site: Site, seconds: float) -> float:
    """Requests for a second of CPU of all its processes."""
    url = f"http://127.0.0.1:{server.port}/bench/item"
    headers = {"Authorization": f"Bearer {site.token()}"}
    before, began = server.cpu_of_each(), time.monotonic()
    load = closed.run(closed.choose(), url, headers, CONNECTIONS, seconds)
    passed = time.monotonic() - began
    # Processes end meanwhile, such as the ones that compiled the config.
    used = sum(cpu - before.get(pid, 0.0) for pid, cpu in server.cpu_of_each().items())
    return load.rps * min(seconds, passed) / used


async def _replace(server: Server, site: Site, restarts: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Have its workers replaced, again and again, while clients ask."""
    clients = _Clients(server.port, site.token())
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
