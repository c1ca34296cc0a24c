"""Large answers: MiB/s beside nginx, by turns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench.load import closed
from tests.bench.parts.proxy import Work, rows
from tests.bench.reports.bars import bar
from tests.bench.sites import contenders
from tests.bench.sites.backend import LARGE

AT_ONCE = 8
BAR, MOONSHOT = 0.7, 0.9  # of nginx's MiB/s


def run(folder: Path, rounds: int, seconds: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Gives what goes into the JSON result. Raises ServerFailed, ContenderWrong, LoadFailed."""
    names = [name for name in ("gateway", "nginx", "haproxy", "direct") if name not in contenders.missing()]
    (found,) = rows(folder, names, [Work("/large", connections=AT_ONCE)], rounds, seconds, say)
    bars = []
    if "nginx" in found:
        ratio, proven = found["nginx"]["ratio"], bool(found["nginx"]["valid_pairs"])
        bars = [bar("MiB/s: gateway / nginx", ratio, BAR, MOONSHOT, least=True, proven=proven)]
        ours, theirs = found["gateway"]["mib_per_cpu_s"], found["nginx"]["mib_per_cpu_s"]
        if ours and theirs:
            bars.append(bar("MiB per CPU second: gateway / nginx", ours / theirs, BAR, MOONSHOT, least=True))
    return {
        "generator": closed.choose(),
        "bytes": LARGE,
        "at_once": AT_ONCE,
        "rounds": rounds,
        "seconds": seconds,
        "contenders": found,
        "bars": bars,
    }
