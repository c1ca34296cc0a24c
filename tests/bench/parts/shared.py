"""What a limit costs that is shared: by two workers through their master, beside two workers without a limit;
by machines through Redis, beside one process with a limit of its own.

The figure is requests per second of the gateway's own processor time, so that two workers on one core can be
compared with one, and what else runs beside counts less.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.bench import machine
from tests.bench.load import closed
from tests.bench.parts.proxy import CONNECTIONS
from tests.bench.reports.bars import bar
from tests.bench.sites import contenders, redis
from tests.bench.sites.contenders import CONTENDERS, Site
from tests.bench.sites.servers import Server

ROUNDS = 8  # by default: one round of a shared machine says little
BARS = {"master": ("workers", 0.95, 0.98), "redis": ("local", 0.92, 0.98)}  # beside what, bar and moonshot
_LIMIT = "    rate_limit:\n      rate: 1000000/s\n      burst: 1000000\n"


def run(folder: Path, rounds: int, seconds: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Gives what goes into the JSON result. Raises ServerFailed, ContenderWrong, LoadFailed."""
    main, generator = Site(folder), closed.choose()
    with ExitStack() as stack:
        stack.enter_context(contenders.backend(main))
        asked = {"local": (1, ""), "workers": (2, ""), "master": (2, "")}
        if (program := redis.program()) is not None:
            asked["redis"] = 1, stack.enter_context(redis.running(program, folder, machine.LOAD_CORE))
        running = {name: stack.enter_context(_gateway(name, main, *how)) for name, how in asked.items()}
        main.write_keys()
        headers = {"Authorization": f"Bearer {main.token()}"}
        found: dict[str, list[float]] = {name: [] for name in running}
        for server in running.values():
            contenders.check(CONTENDERS["gateway"], server.port, main)
            _turn(generator, server, headers, 1.0)
        for number in range(rounds):
            # Each comes first as often as last, since the machine may get slower or faster meanwhile.
            for name in running if number % 2 == 0 else reversed(running):
                found[name].append(_turn(generator, running[name], headers, seconds))
                say(f"round {number + 1} of {rounds}: {name:8} {found[name][-1]:9,.0f} requests / CPU second")
    ratios = {
        name: statistics.median(one / base for one, base in zip(found[name], found[beside], strict=True))
        for name, (beside, *_) in BARS.items()
        if name in found
    }
    bars = [
        bar(f"GET, limits shared by {name} / {beside}", ratios.get(name), *limits, least=True)
        for name, (beside, *limits) in BARS.items()
    ]
    rows = {
        name: {"per_cpu_s": statistics.median(turns), "ratio": ratios.get(name)}
        for name, turns in found.items()
    }
    return {"generator": generator, "rounds": rounds, "seconds": seconds, "rows": rows, "bars": bars}


def _gateway(name: str, main: Site, workers: int, uri: str) -> Server:
    """One with a data folder of its own."""
    site = main.beside(name)
    text = site.routing()
    if name == "workers":
        text = text.replace(f"  acme:\n{_LIMIT}", "  acme: {}\n")
        assert "rate_limit" not in text
    return contenders.server("gateway", site, routing=text, workers=workers, redis=uri)


def _turn(generator: str, server: Server, headers: dict[str, str], seconds: float) -> float:
    """Requests for each second of processor time."""
    before = server.cpu_seconds()
    url = f"http://127.0.0.1:{server.port}/bench/item"
    load = closed.run(generator, url, headers, CONNECTIONS, seconds, 0)
    return load.rps * seconds / max(1e-3, server.cpu_seconds() - before)
