"""Requests per second and latency: all contenders by turns, in front of one backend."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.bench import machine
from tests.bench.load import closed
from tests.bench.reports.bars import bar
from tests.bench.sites import contenders
from tests.bench.sites.contenders import CONTENDERS, Contender, Site
from tests.bench.sites.servers import Server

CONNECTIONS = 32
POST_BYTES = 4096
# The gateway's requests/s, as a part of the contender's: bar and moonshot.
BARS = {
    "get": {"haproxy": (0.4, 0.6), "caddy": (1.5, 2.2), "client": (4.0, 5.0)},
    "post": {"haproxy": (0.3, 0.45)},
}
_BUSY_ENOUGH, _LOAD_TOO_BUSY = 95.0, 95.0  # percent


@dataclass(frozen=True)
class Turn:
    """One contender in one round. mib: MiB/s received; cpu: how busy the tested server was, load_core: the
    load's core, percent.

    void: why the turn proves nothing, empty when it does.
    """

    rps: float
    p50: float
    p99: float
    errors: int
    mib: float
    cpu: float | None
    load_core: float
    void: str


@dataclass(frozen=True)
class Work:
    """What is asked of each contender. body: bytes of a POST, 0 for GET."""

    path: str = "/item"
    body: int = 0
    connections: int = CONNECTIONS


def run(folder: Path, rounds: int, seconds: float, say: Callable[[str], None]) -> dict[str, Any]:
    """GETs, then POSTs, interleaved. seconds: of each turn. Gives what goes into the JSON result.

    Raises ServerFailed, ContenderWrong, LoadFailed.
    """
    names = [name for name in CONTENDERS if name not in contenders.missing()]
    get, post = rows(folder, names, [Work(), Work(body=POST_BYTES)], rounds, seconds, say)
    return {
        "generator": closed.choose(),
        "backend": "nginx" if machine.find("nginx") else "python",
        "connections": CONNECTIONS,
        "rounds": rounds,
        "seconds": seconds,
        "missing": contenders.missing(),
        "contenders": get,
        "post": {"bytes": POST_BYTES, "contenders": post},
        "bars": [*_bars("GET", get, BARS["get"]), *_bars("POST 4 KiB", post, BARS["post"])],
    }


def rows(
    folder: Path,
    names: list[str],
    works: list[Work],
    rounds: int,
    seconds: float,
    say: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Each work with these contenders by turns: for each work, the figures by contender."""
    site = Site(folder)
    generator = closed.choose()
    with ExitStack() as stack:
        behind = stack.enter_context(contenders.backend(site))
        running: dict[str, Server] = {}
        for name in names:
            running[name] = behind if name == "direct" else stack.enter_context(contenders.server(name, site))
            contenders.check(CONTENDERS[name], running[name].port, site)
        say(f"each answers as it should: {', '.join(names)}; load by {generator}")
        token = site.token()
        return [_rounds(running, generator, token, work, rounds, seconds, say) for work in works]


def _rounds(
    running: dict[str, Server],
    generator: str,
    token: str,
    work: Work,
    rounds: int,
    seconds: float,
    say: Callable[[str], None],
) -> dict[str, Any]:
    for name, server in running.items():  # pools, caches and branch predictors
        _turn(CONTENDERS[name], server, generator, token, work, 1.0)
    turns: dict[str, list[Turn]] = {name: [] for name in running}
    what = f"POST {work.body} bytes" if work.body else f"GET {work.path}"
    for number in range(rounds):
        for name, server in running.items():
            turn = _turn(CONTENDERS[name], server, generator, token, work, seconds)
            turns[name].append(turn)
            void = f"  void: {turn.void}" if turn.void else ""
            say(f"{what}, round {number + 1} of {rounds}: {name:8} {turn.rps:9,.0f}/s{void}")
    return {name: summarise(CONTENDERS[name], turns[name], turns["gateway"]) for name in running}


def _turn(
    contender: Contender, server: Server, generator: str, token: str, work: Work, seconds: float
) -> Turn:
    url = f"http://127.0.0.1:{server.port}{contender.prefix}{work.path}"
    headers = {"Authorization": f"Bearer {token}"}
    used, core, began = server.cpu_seconds(), machine.core_times(machine.LOAD_CORE), time.monotonic()
    found = closed.run(generator, url, headers, work.connections, seconds, work.body)
    wall = time.monotonic() - began
    core_busy = machine.busy_between(core, machine.core_times(machine.LOAD_CORE))
    cpu = None if contender.name == "direct" else 100.0 * (server.cpu_seconds() - used) / wall
    return Turn(**asdict(found), cpu=cpu, load_core=core_busy, void=why_void(cpu, core_busy, found.errors))


def _bars(what: str, found: dict[str, Any], bars: dict[str, tuple[float, float]]) -> list[dict[str, Any]]:
    return [
        bar(
            f"{what}: gateway / {name}",
            found[name]["ratio"],
            *bars[name],
            least=True,
            proven=bool(found[name]["valid_pairs"]),
        )
        for name in bars
        if name in found
    ]


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
        "mib": statistics.median(turn.mib for turn in counted),
        "mib_per_cpu_s": _per_cpu(counted),
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


def _per_cpu(turns: list[Turn]) -> float | None:
    """MiB for each second of CPU time that the tested server used."""
    costs = [100.0 * turn.mib / turn.cpu for turn in turns if turn.cpu]
    return statistics.median(costs) if costs else None
