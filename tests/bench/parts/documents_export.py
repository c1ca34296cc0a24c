"""An export over HTTP beside a bare select and write of the same rows, and the gateway's memory meanwhile."""

from __future__ import annotations

import socket
import statistics
import threading
import time
from typing import Any

from tests.bench import machine
from tests.bench.load.closed import LoadFailed
from tests.bench.sites import documents_bare
from tests.bench.sites.documents_site import LARGE, DocumentsSite

_EVERY = 0.05  # seconds between looks at the memory
_CHUNK = 1024 * 1024


def run(site: DocumentsSite, rounds: int) -> dict[str, Any]:
    """Gives MiB/s of both, and by how many MiB the gateway grew. Raises LoadFailed."""
    turns = []
    written = site.site.folder / "exported"
    for _ in range(rounds):
        bare = documents_bare.export(site.store / f"{LARGE}.db", written)
        written.unlink()
        with _Memory(site) as memory:
            seconds, size, lines = _export(site)
        if lines != site.count or size != bare["bytes"]:
            raise LoadFailed(f"the export had {lines} lines, {size} bytes, the file {bare['bytes']}")
        turns.append((size / seconds, size / bare["seconds"], memory.grown))
    return {
        "documents": site.count,
        "mib": size / 2**20,
        "export": statistics.median(turn[0] for turn in turns) / 2**20,
        "bare": statistics.median(turn[1] for turn in turns) / 2**20,
        "ratio": statistics.median(turn[0] / turn[1] for turn in turns),
        "grown_mib": max(turn[2] for turn in turns) / 1024,
    }


class _Memory:
    """By how many KiB the gateway's processes were larger, at most, than when it began."""

    def __init__(self, site: DocumentsSite) -> None:
        self._pids = site.server.pids()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.grown = 0.0

    def __enter__(self) -> _Memory:
        self._first = self._sum()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(_EVERY):
            self.grown = max(self.grown, self._sum() - self._first)

    def _sum(self) -> float:
        return sum(map(machine.memory_kib, self._pids))


def _export(site: DocumentsSite) -> tuple[float, int, int]:
    """Seconds until the last byte, bytes and lines. A bare socket: it must be faster."""
    headers = "".join(f"{name}: {value}\r\n" for name, value in site.headers(LARGE).items())
    request = f"GET /documents/orders/export HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n{headers}\r\n"
    with socket.create_connection(("127.0.0.1", site.server.port), 30) as connection:
        began = time.perf_counter()
        connection.sendall(request.encode())
        with connection.makefile("rb", _CHUNK) as answer:
            if b" 200 " not in answer.readline():
                raise LoadFailed("the export was refused")
            while answer.readline() != b"\r\n":
                pass
            size = lines = 0
            while length := int(answer.readline(), 16):
                data = answer.read(length)
                size, lines = size + len(data), lines + data.count(b"\n")
                answer.readline()
    return time.perf_counter() - began, size, lines
