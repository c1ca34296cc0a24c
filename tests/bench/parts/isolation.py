"""Attacks of two tenants, or of a client without a token: what does a third tenant see of them?"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.bench import machine
from tests.bench.load import open as open_load
from tests.bench.load.closed import quantile
from tests.bench.load.open import Stream
from tests.bench.parts.shields import complaints
from tests.bench.reports.bars import bar
from tests.bench.sites.servers import Server
from tests.faults import isolation
from tests.faults.isolation import QUIET, Attack

RATE = 50.0  # requests per second of each kind
P99_BAR = 25.0  # ms
GROWTH_BAR = 256.0 + 256.0  # MiB: beyond the budget for bodies, and that budget
LEFT_BAR = 128.0  # MiB that may still be there when the attackers have been gone for twice their time
_CALM = 1.0  # seconds that the third tenant is there before the attack begins
_PATIENCE = 5.0  # seconds until the third tenant takes a request for failed
_LOOK = 0.1  # seconds between two looks at the memory
PATHS = {
    "reads": "/documents/orders/7",
    "pages": "/documents/orders/?limit=10&filter=" + quote('{"customer":7}'),
    "threaded": "/t/quick",
    "asynchronous": "/a/quick",
}


def run(
    folder: Path, seconds: float, say: Callable[[str], None], only: Callable[[str], bool] = lambda name: True
) -> dict[str, Any]:
    """seconds: of each attack. only: which, by name. Gives what goes into the JSON result.
    Raises ServerFailed, LoadFailed, RuntimeError."""
    machine.raise_open_files(16_000)
    rows = []
    for number, one in enumerate(isolation.load().values()):
        if not only(one.name):
            continue
        place = folder / str(number)
        place.mkdir(parents=True)
        row = _one(place, one, seconds)
        rows.append(row)
        say(
            f"{one.name}: p50 {row['p50_ms']:.1f}, p99 {row['p99_ms']:.1f} ms, {row['failed']} failed;"
            f" memory +{row['growth_mib']:.0f} MiB, later +{row['left_mib']:.0f}"
        )
    return {"seconds": seconds, "rate": RATE, "rows": rows, "bars": _bars(rows)}


def _one(folder: Path, one: Attack, seconds: float) -> dict[str, Any]:
    with isolation.serve(folder, one.routing) as (site, server):
        asyncio.run(isolation.fill(site))
        streams = [Stream(kind, path, site.token(QUIET), RATE, 1.0) for kind, path in PATHS.items()]
        open_load.run([site.port], streams, _PATIENCE)  # caches fill, connections open
        base = _memory(server)
        since = _CALM + one.lead
        token, end = site.token(QUIET), since + seconds
        streams = [Stream(kind, path, token, RATE, end) for kind, path in PATHS.items()]
        with isolation.driving(one.name, site) as driver, _peak(server) as peak:
            begin = threading.Timer(_CALM + open_load.START, driver.begin)
            begin.start()
            seen = open_load.run([site.port], streams, _PATIENCE)
            begin.join()
            faults = driver.complaints()
        left = _left(server, base, 2 * seconds)
        answers = {kind: [a for a in seen.answers.get(kind, []) if a.due >= since] for kind in PATHS}
        every = sorted(a.ms for rows in answers.values() for a in rows if a.status == 200)
        failed = [a.status for rows in answers.values() for a in rows if a.status != 200]
        by_kind = {
            kind: quantile(sorted(a.ms for a in rows if a.status == 200), 0.99)
            for kind, rows in answers.items()
        }
        return {
            "name": one.name,
            "p50_ms": quantile(every, 0.5),
            "p99_ms": max(by_kind.values()),
            "max_ms": every[-1] if every else 0.0,
            "by_kind_p99_ms": by_kind,
            "failed": len(failed),
            "statuses": sorted(set(failed)),
            "late_ms": seen.late_ms,
            "growth_mib": max(peak) - base,
            "left_mib": left - base,
            "driver": faults,
            "log": complaints(server),
        }


def _memory(server: Server) -> float:
    """MiB of all of the gateway's processes."""
    return sum(machine.memory_kib(pid) for pid in server.pids()) / 1024


@contextmanager
def _peak(server: Server) -> Iterator[list[float]]:
    """The memory, looked at again and again until the end of the block."""
    found, over = [_memory(server)], threading.Event()

    def look() -> None:
        while not over.wait(_LOOK):
            found.append(_memory(server))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield found
    finally:
        over.set()
        looking.join()


def _left(server: Server, base: float, seconds: float) -> float:
    """The memory once the attackers are gone: when it has come back, or the time for that is over."""
    deadline = time.monotonic() + seconds
    while (found := _memory(server)) > base + LEFT_BAR and time.monotonic() < deadline:
        time.sleep(_LOOK)
    return found


def _bars(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    def worst(key: str) -> float | None:
        return max((row[key] for row in rows), default=None)

    return [
        bar("the third tenant's p99, the worst of all attacks", worst("p99_ms"), P99_BAR, unit="ms"),
        bar("its failures", sum(row["failed"] for row in rows) if rows else None, 0),
        bar("memory at the most", worst("growth_mib"), GROWTH_BAR, unit="MiB"),
        bar("memory that stays", worst("left_mib"), LEFT_BAR, unit="MiB"),
        bar("errors in the gateway's log", sum(len(row["log"]) for row in rows) if rows else None, 0),
        bar("drivers that broke", sum(bool(row["driver"]) for row in rows) if rows else None, 0),
    ]
