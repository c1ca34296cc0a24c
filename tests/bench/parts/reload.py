"""What an edit of the routing config costs the requests that are served meanwhile, and when it is live."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.bench.load.closed import quantile
from tests.bench.load.pace import Paced, steady
from tests.bench.sites import contenders
from tests.bench.sites.contenders import ROUTES, Site

RATE = 200  # requests per second
EVERY = 0.5  # seconds between two edits
RISE_BAR, LIVE_BAR = 20.0, 1.0  # milliseconds of p99, seconds until an edit is live
_WARM_UP = 1.0  # seconds
_PATH = "/bench/item"
_EDITED = "/edited-path"
_LOOK = 0.01  # seconds between two looks whether an edit is live


@dataclass
class _Phase(Paced):
    """What was seen in the phases of one kind; live: seconds until each edit was."""

    live: list[float] = field(default_factory=list)


def run(folder: Path, phases: int, seconds: float, say: Callable[[str], None]) -> dict[str, Any]:
    """phases: of each kind, by turns. Gives what goes into the JSON result. Raises ServerFailed."""
    site = Site(folder)
    with ExitStack() as stack:
        stack.enter_context(contenders.backend(site))
        server = stack.enter_context(contenders.server("gateway", site, core=None))
        quiet, edited = asyncio.run(_measure(site, server.port, phases, seconds, say))
    still, during = quiet.figures(), edited.figures()
    rise = during["p99_ms"] - still["p99_ms"]
    live = sorted(edited.live)
    failed = still["failed"] + during["failed"]
    return {
        "rate": RATE,
        "routes": ROUTES,
        "seconds": phases * seconds,
        "quiet": still,
        "edited": during,
        "edits": len(live),
        "live_median_s": quantile(live, 0.5),
        "live_max_s": live[-1] if live else None,
        "p99_rise_ms": rise,
        "bar_rise_ms": RISE_BAR,
        "bar_live_s": LIVE_BAR,
        "met": bool(live) and rise <= RISE_BAR and live[-1] <= LIVE_BAR and not failed,
    }


async def _measure(
    site: Site, port: int, phases: int, seconds: float, say: Callable[[str], None]
) -> tuple[_Phase, _Phase]:
    quiet, edited = _Phase(), _Phase()
    connector = aiohttp.TCPConnector(limit=0)
    headers = {"Authorization": f"Bearer {site.token()}"}
    base = f"http://127.0.0.1:{port}"
    text = site.routing(_EDITED)
    async with aiohttp.ClientSession(base, connector=connector, headers=headers) as client:
        await steady(client, _PATH, RATE, _WARM_UP, _Phase())
        for number in range(phases):
            await steady(client, _PATH, RATE, seconds, quiet)
            editing = asyncio.create_task(_edits(client, site, text, edited, seconds, number))
            await steady(client, _PATH, RATE, seconds, edited)
            await editing
            say(f"phase {number + 1} of {phases}: {len(edited.live)} edits went live so far")
    return quiet, edited


async def _edits(
    client: aiohttp.ClientSession, site: Site, text: str, phase: _Phase, seconds: float, turn: int
) -> None:
    """An edit each half second, or when the last one is live; each adds a public path and drops the last.

    text: the config, made beforehand, since making it would stall the requests that are timed.
    """
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end:
        path = f"/edit-{turn}-{number}"
        began = time.monotonic()
        replace(site.folder / "routing.yaml", text.replace(_EDITED, path))
        while not await _is_live(client, path):
            if time.monotonic() - began > 10:
                phase.failures.append(f"the edit {path} was not live after 10 s")
                return
            await asyncio.sleep(_LOOK)
        phase.live.append(time.monotonic() - began)
        number += 1
        await asyncio.sleep(max(0.0, began + EVERY - time.monotonic()))


async def _is_live(client: aiohttp.ClientSession, path: str) -> bool:
    try:
        async with client.get(path) as answer:
            await answer.read()
    except (aiohttp.ClientError, TimeoutError):
        return False  # the steady requests count what fails
    return answer.status == 200


def replace(path: Path, text: str) -> None:
    """Put a new text under the name at once, as an editor or a deployment does."""
    beside = path.with_suffix(".new")
    beside.write_text(text)
    os.replace(beside, path)
