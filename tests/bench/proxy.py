"""Requests per second and latency: all contenders by turns, in front of one backend."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.bench import contenders, load, machine
from tests.bench.contenders import CONTENDERS, Contender, Site
from tests.bench.servers import Server

CONNECTIONS = 32
_BUSY_ENOUGH, _LOAD_TOO_BUSY = 95.0, 95.0  # percent


@dataclass(frozen=True)
class Turn:
    """One contender in one round. cpu: how busy the tested server was, load_core: the load's core, percent.

    void: why the turn proves nothing, empty when it does.
    """

    rps: float
    p50: float
    p99: float
    errors: int
    cpu: float | None
    load_core: float
    void: str


def run(folder: Path, rounds: int, seconds: float, say: Callable[[str], None]) -> dict[str, Any]:
    """The interleaved run. seconds: of each turn. Gives what goes into the JSON result.

    Raises ServerFailed, ContenderWrong, LoadFailed.
    """
    site = Site(folder)
    generator = load.choose()
    names = [name for name in CONTENDERS if name not in contenders.missing()]
    with ExitStack() as stack:
        behind = stack.enter_context(contenders.backend(site))
        running: dict[str, Server] = {}
        for name in names:
            running[name] = behind if name == "direct" else stack.enter_context(contenders.server(name, site))
            contenders.check(CONTENDERS[name], running[name].port, site)
        say(f"each answers as it should: {', '.join(names)}; load by {generator}")
        token = site.token()
        for name in names:  # pools, caches and branch predictors
            _turn(CONTENDERS[name], running[name], generator, token, 1.0)
        turns: dict[str, list[Turn]] = {name: [] for name in names}
        for number in range(rounds):
            for name in names:
                turn = _turn(CONTENDERS[name], running[name], generator, token, seconds)
                turns[name].append(turn)
                void = f"  void: {turn.void}" if turn.void else ""
                say(f"round {number + 1} of {rounds}: {name:8} {turn.rps:9,.0f}/s{void}")
    return {
        "generator": generator,
        "backend": "nginx" if machine.find("nginx") else "python",
        "connections": CONNECTIONS,
        "rounds": rounds,
        "seconds": seconds,
        "missing": contenders.missing(),
        "contenders": {name: summarise(CONTENDERS[name], turns[name], turns["gateway"]) for name in names},
    }


def _turn(contender: Contender, server: Server, generator: str, token: str, seconds: float) -> Turn:
    url = f"http://127.0.0.1:{server.port}{contender.prefix}/item"
    headers = {"Authorization": f"Bearer {token}"}
    used, core, began = server.cpu_seconds(), machine.core_times(machine.LOAD_CORE), time.monotonic()
    found = load.run(generator, url, headers, CONNECTIONS, seconds)
    wall = time.monotonic() - began
    core_busy = machine.busy_between(core, machine.core_times(machine.LOAD_CORE))
    cpu = None if contender.name == "direct" else 100.0 * (server.cpu_seconds() - used) / wall
    return Turn(**asdict(found), cpu=cpu, load_core=core_busy, void=why_void(cpu, core_busy, found.errors))


def why_void(cpu: float | None, load_core: float, errors: int) -> str:
    """Why a turn proves nothing; empty when it does. cpu None: nothing is tested, the ceiling is sought."""
    reasons = []
    if errors:
        reasons.append(f"{errors} requests failed")
    if cpu is not None and cpu < _BUSY_ENOUGH:
        reasons.append(f"the tested server was {cpu:.0f} % busy")
    if cpu is not None and load_core > _LOAD_TOO_BUSY:
        reasons.append(f"the load core was {load_core:.0f} % busy")
    return ", ".join(reasons)


def summarise(contender: Contender, turns: list[Turn], gateway: list[Turn]) -> dict[str, Any]:
    """Medians over the turns that are not void (over all, where all are), and the paired ratios."""
    counted = [turn for turn in turns if not turn.void] or turns
    pairs = list(zip(gateway, turns, strict=True))
    valid = [pair for pair in pairs if not pair[0].void and not pair[1].void]
    ratios = [ours.rps / theirs.rps for ours, theirs in valid or pairs if theirs.rps]
    loads = [turn.cpu for turn in counted if turn.cpu is not None]
    return {
        "does": contender.does,
        "rps": statistics.median(turn.rps for turn in counted),
        "p50_ms": statistics.median(turn.p50 for turn in counted),
        "p99_ms": statistics.median(turn.p99 for turn in counted),
        "cpu": statistics.median(loads) if loads else None,
        "load_core": statistics.median(turn.load_core for turn in counted),
        "ratio": statistics.median(ratios) if ratios else None,
        "ratio_min": min(ratios, default=None),
        "ratio_max": max(ratios, default=None),
        "valid_pairs": len(valid),
        "void": sum(1 for turn in turns if turn.void),
        "turns": [asdict(turn) for turn in turns],
    }
