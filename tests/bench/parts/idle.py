"""What an idle connection costs: many that each served one request, and what is left when they are gone."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench import machine
from tests.bench.reports.bars import bar
from tests.bench.sites import contenders
from tests.bench.sites.contenders import Site
from tests.bench.sites.servers import Server

BAR, MOONSHOT = 20.0, 12.0  # KiB of each connection
_WAVES = 2  # the second shows whether what the first left behind is used again
_WARM_UP = 500  # requests over one connection


def run(folder: Path, connections: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Gives what goes into the JSON result. Raises ServerFailed, OSError."""
    machine.raise_open_files(connections + 500)
    site = Site(folder)
    with ExitStack() as stack:
        stack.enter_context(contenders.backend(site))
        server = stack.enter_context(contenders.server("gateway", site))
        head = f"GET /bench/item HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {site.token()}\r\n\r\n"
        asked = Asked(server.port, head.encode())
        with _connected(asked, 1) as (client,):
            for _ in range(_WARM_UP):
                _ask(client, asked.head)
        before = kib(server)
        waves = []
        for number in range(_WAVES):
            waves.append(wave(server, connections, asked, before))
            found = waves[-1]
            text = f"{found['each_kib']:.1f} KiB each, {found['left_kib']:.1f} KiB each when they are gone"
            say(f"wave {number + 1} of {_WAVES}: {connections:,} connections, {text}")
    # What the start left free is filled first, so that the further ones tell more than the mean of all.
    each = max(max(wave["each_kib"] for wave in waves), waves[0]["further_kib"])
    grown = waves[-1]["left_kib"] - waves[0]["left_kib"]
    return {
        "connections": connections,
        "before_kib": before,
        "waves": waves,
        "bars": [
            bar("memory of an idle connection", each, BAR, MOONSHOT, unit="KiB"),
            bar("what the second wave left behind more than the first, each", grown, 1.0, unit="KiB"),
        ],
    }


@dataclass(frozen=True)
class Asked:
    """What each connection asks, and where. authority: the file of the CA that a server with TLS is of."""

    port: int
    head: bytes
    authority: str = ""

    def context(self) -> ssl.SSLContext | None:
        """That the connections have in common."""
        if not self.authority:
            return None
        context = ssl.create_default_context(cafile=self.authority)
        context.check_hostname = False
        return context


def wave(server: Server, connections: int, asked: Asked, before: float) -> dict[str, Any]:
    """So many connections at once: memory of each, of each of the second half, and what they leave behind.
    before: KiB of the server without them."""
    half = connections // 2
    with _connected(asked, half) as some:
        middle = kib(server)
        with _connected(asked, connections - half) as more:
            there = kib(server)
            alive = sum(_is_open(client) for client in [*some, *more])
    time.sleep(2.0)
    gone = kib(server)
    if alive < connections:
        raise OSError(f"the gateway closed {connections - alive} of {connections} idle connections at once")
    return {
        "each_kib": (there - before) / connections,
        "further_kib": (there - middle) / (connections - half),
        "left_kib": (gone - before) / connections,
    }


@contextlib.contextmanager
def _connected(asked: Asked, count: int) -> Iterator[list[socket.socket]]:
    """So many connections, each of which was served one request."""
    with ExitStack() as stack:
        clients = []
        context = asked.context()
        for _ in range(count):
            client = socket.create_connection(("127.0.0.1", asked.port), 10)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as clients do
            if context is not None:
                client = context.wrap_socket(client)
            clients.append(stack.enter_context(contextlib.closing(client)))
            _ask(client, asked.head)
        time.sleep(0.5)
        yield clients


def _ask(client: socket.socket, head: bytes) -> None:
    """One request and its whole answer. Raises OSError when it is not a 200."""
    client.sendall(head)
    data = b""
    while True:
        piece = client.recv(65536)
        data += piece
        top, mark, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: *(\d+)", top)
        if not piece or (mark and not top.startswith(b"HTTP/1.1 200")):
            raise OSError(f"the gateway answered {data[:100]!r}")
        if mark and length and len(body) >= int(length[1]):
            return


def _is_open(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return bool(client.recv(1))
    except (BlockingIOError, ssl.SSLWantReadError):
        return True
    except OSError:
        return False


def kib(server: Server) -> float:
    """Memory of the server's processes that is theirs alone, or their part of what is shared."""
    return sum(machine.memory_kib(pid) for pid in server.pids())
