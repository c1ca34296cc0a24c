"""gateway config copy: from one source of the config to another, as when the file moves to ZooKeeper."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from gateway.auth.keys import CURSOR_KEY, ensure_secret
from gateway.cli import console
from gateway.cli.keys import AddCommand, operator
from gateway.config.copying import copy, source_of
from gateway.config.parts import ConfigParts
from gateway.config.ports import Found, SourceChanged
from gateway.core.config.revision import Origin
from gateway.core.http.hops import pseudonym
from gateway.core.process.config_source import SOURCES
from gateway.core.process.settings import ProcessConfig
from gateway.process.folders import data_folder


def add_commands(add: AddCommand, load: Callable[[str | None], ProcessConfig]) -> None:
    """Add the commands below `gateway config`. load: reads the process config."""
    about = "copy the config from its file to the source that the process config names, or back"
    example = "gateway config copy --from file --to zookeeper"
    made = add("copy", lambda arguments: _copy(arguments, load(arguments.config)), about, example)
    for option, what in (("--from", "where it is"), ("--to", "what gets it, instead of what it has")):
        made.add_argument(option, dest=option[2:], choices=SOURCES, required=True, help=what)
    help_ = "why, for those who look at the history"
    made.add_argument("-m", "--message", default="", metavar="WHY", help=help_)


def _copy(arguments: argparse.Namespace, config: ProcessConfig) -> int:
    kinds = getattr(arguments, "from"), arguments.to
    try:
        found = asyncio.run(_copied(config, *kinds, Origin(operator(), arguments.message, kinds[1])))
    except SourceChanged:
        raise ValueError(
            f"{kinds[1]} was changed by somebody else meanwhile; look at it, and try again"
        ) from None
    size = console.amount(len(found.text.encode()))
    console.out.print(f"[bold green]copied[/]  {size} from {kinds[0]} to {kinds[1]}")
    return 0


async def _copied(config: ProcessConfig, kind: str, to: str, origin: Origin) -> Found:
    """The audit is left alone: a gateway that runs writes it."""
    data = data_folder(Path(config.data))
    parts = ConfigParts(config, data, pseudonym(ensure_secret(data / CURSOR_KEY)))
    source, target = source_of(parts, kind), source_of(parts, to)
    async with AsyncExitStack() as opened:
        needed = parts.remembered, parts.revisions, parts.zookeeper, parts.seed, parts.source
        for part in dict.fromkeys(one for one in needed if one is not None):  # some are the same
            opened.push_async_callback(part.close)
            await part.start()
        return await copy(source, target, origin, time.time())
