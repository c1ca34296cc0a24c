"""What a proxy adds to the latency, at a rate that none finds hard, on a fixed schedule (open loop)."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp

from tests.bench import machine
from tests.bench.load import closed
from tests.bench.load.closed import Load, quantile
from tests.bench.load.pace import Paced, steady
from tests.bench.reports.bars import bar
from tests.bench.sites import contenders
from tests.bench.sites.contenders import CONTENDERS, Contender, Site
from tests.bench.sites.servers import Server

RATE = 1000  # requests per second
P50_BAR, P50_MOONSHOT = 3.0, 2.0  # times what HAProxy adds
P99_BAR, P99_MOONSHOT = 2.0, 1.0  # milliseconds added to the backend's own
_NAMES = ("gateway", "haproxy", "nginx", "direct")


def run(folder: Path, rounds: int, seconds: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Gives what goes into the JSON result. Raises ServerFailed, ContenderWrong, LoadFailed."""
    site = Site(folder)
    generator = "h2load" if machine.find("h2load") else "python"
    names = [name for name in _NAMES if name not in contenders.missing()]
    turns: dict[str, list[Load]] = {name: [] for name in names}
    with ExitStack() as stack:
        behind = stack.enter_context(contenders.backend(site))
        running: dict[str, Server] = {}
        for name in names:
            running[name] = behind if name == "direct" else stack.enter_context(contenders.server(name, site))
            contenders.check(CONTENDERS[name], running[name].port, site)
        headers = {"Authorization": f"Bearer {site.token()}"}
        for name in names:
            _turn(generator, CONTENDERS[name], running[name], headers, 1.0)
        for number in range(rounds):
            for name in names:
                found = _turn(generator, CONTENDERS[name], running[name], headers, seconds)
                turns[name].append(found)
                failed = f"  {found.errors} failed" if found.errors else ""
                times = f"p50 {found.p50:.3f} ms, p99 {found.p99:.3f} ms"
                say(f"round {number + 1} of {rounds}: {name:8} {times}{failed}")
    return {"generator": generator, "rate": RATE, "rounds": rounds, "seconds": seconds, **_summary(turns)}


def _turn(
    generator: str, contender: Contender, server: Server, headers: dict[str, str], seconds: float
) -> Load:
    path = f"{contender.prefix}/item"
    base = f"http://127.0.0.1:{server.port}"
    if generator == "h2load":
        return closed.paced(base + path, headers, RATE, seconds)
    return asyncio.run(_python(base, path, headers, seconds))


async def _python(base: str, path: str, headers: dict[str, str], seconds: float) -> Load:
    connector = aiohttp.TCPConnector(limit=0)
    found = Paced()
    async with aiohttp.ClientSession(base, connector=connector, headers=headers) as client:
        await steady(client, path, RATE, seconds, found)
    ordered = sorted(found.spent)
    rps = len(ordered) / seconds
    return Load(rps, quantile(ordered, 0.5), quantile(ordered, 0.99), len(found.failures))


def _summary(turns: dict[str, list[Load]]) -> dict[str, Any]:
    """Medians over the rounds, and what each adds to `direct` of the same round."""
    rows = {}
    for name, loads in turns.items():
        pairs = list(zip(loads, turns["direct"], strict=True))
        rows[name] = {
            "rps": statistics.median(one.rps for one in loads),
            "p50_ms": statistics.median(one.p50 for one in loads),
            "p99_ms": statistics.median(one.p99 for one in loads),
            "added_p50_ms": statistics.median(one.p50 - base.p50 for one, base in pairs),
            "added_p99_ms": statistics.median(one.p99 - base.p99 for one, base in pairs),
            "failed": sum(one.errors for one in loads),
        }
    ours, theirs = rows["gateway"], rows.get("haproxy")
    bars = [bar("p99 added to direct", ours["added_p99_ms"], P99_BAR, P99_MOONSHOT, unit="ms")]
    if theirs is not None:
        added = theirs["added_p50_ms"]
        times = ours["added_p50_ms"] / added if added > 0 else None
        text = "p50 added, as a multiple of what HAProxy adds"
        bars.insert(0, bar(text, times, P50_BAR, P50_MOONSHOT, proven=added > 0))
    return {"contenders": rows, "bars": bars}
