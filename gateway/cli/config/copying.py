"""gateway config copy: from one source of the config to another, as when the file moves to ZooKeeper."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.text import Text

from gateway.auth.keys import CURSOR_KEY, ensure_secret
from gateway.cli import console, process_config
from gateway.cli.config import show
from gateway.cli.config.session import ask
from gateway.cli.credentials.store import operator
from gateway.config import strict_yaml
from gateway.config.parts import ConfigParts
from gateway.config.ports import NOTHING, ConfigRefused, ConfigSource, Found, SourceChanged
from gateway.core.config import differences
from gateway.core.config.revision import Draft, Origin
from gateway.core.http.hops import pseudonym
from gateway.core.process.settings import ProcessConfig
from gateway.core.routing.problems import Problems
from gateway.process.folders import data_folder


def run(arguments: argparse.Namespace) -> int:
    """gateway config copy: 1 when nobody agreed."""
    config = process_config.load(arguments.config)
    origin = Origin(operator(), arguments.message, arguments.to)
    try:
        return asyncio.run(_copied(config, arguments, origin))
    except SourceChanged:
        raise ValueError(
            f"{arguments.to} was changed by somebody else meanwhile; look at it, and try again"
        ) from None


async def _copied(config: ProcessConfig, arguments: argparse.Namespace, origin: Origin) -> int:
    """The audit is left alone: a gateway that runs writes it."""
    kinds = getattr(arguments, "from"), arguments.to
    data = data_folder(Path(config.data))
    parts = ConfigParts(config, data, pseudonym(ensure_secret(data / CURSOR_KEY)))
    source, target = _source_of(parts, kinds[0], "--from"), _source_of(parts, kinds[1], "--to")
    async with AsyncExitStack() as opened:
        for part in _needed(parts):
            opened.push_async_callback(part.close)
            await part.start()
        found, over = await look(source, target)
        if over != NOTHING and over.text == found.text:
            console.out.print(f"Nothing to do: {kinds[1]} has the text of {kinds[0]}.", markup=False)
            return 0
        if not _agreed(arguments, found, over):
            return 1
        copied = await copy(source, found, target, over, origin, time.time())
    size = console.amount(len(copied.text.encode()))
    console.out.print(f"[bold green]copied[/]  {size} from {kinds[0]} to {kinds[1]}")
    if copied.kept:
        console.out.print(f"What it had is kept in {console.short(copied.kept)}", markup=False)
    return 0


def _needed(parts: ConfigParts) -> list[Any]:
    needed = parts.remembered, parts.revisions, parts.zookeeper
    return list(dict.fromkeys(one for one in needed if one is not None))  # some are the same


def _agreed(arguments: argparse.Namespace, found: Found, over: Found) -> bool:
    """Shows what it changes, and asks. Raises ValueError where nobody can be asked."""
    for line in _changes(arguments.to, found, over):
        console.out.print(line)
    if arguments.yes:
        return True
    if not (sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()):
        raise ValueError("Nothing was changed; say --yes if it is to be done")
    if ask(f"Copy it to {arguments.to}? A gateway on it has it at once."):
        return True
    console.err.print("Nothing was changed.")
    return False


def _changes(to: str, found: Found, over: Found) -> list[Text]:
    if over == NOTHING:
        return [Text(f"{to} has no config that could be read; it gets the whole of it.")]
    try:
        before, after = strict_yaml.parse(over.text).data, strict_yaml.parse(found.text).data
    except Problems as problems:
        return [Text(f"What it changes is not known, for one of the two is no config: {problems}", "yellow")]
    changes = [differences.view(one) for one in differences.differences(before, after)]
    return list(show.changes(changes, console.out.width)) or [
        Text("Only comments, order or notation differ: it means the same.", "dim")
    ]


# --- the copy --------------------------------------------------------------------------------------


def _source_of(parts: ConfigParts, kind: str, option: str) -> ConfigSource:
    """`file` is that of [gateway] routing; else the source that gateway.conf names. option: that said so, for
    the message. Raises ValueError."""
    for one in (parts.seed, parts.source):
        if kind == one.kind:
            return one
    raise ValueError(
        f"{option} {kind}: gateway.conf says [config] source = {parts.source.kind}; a copy is between the"
        f" file and what that says. Write source = {kind} there first, with what it needs; then copy;"
        " then restart the gateway, which goes on with the old one until then"
    )


async def look(source: ConfigSource, target: ConfigSource) -> tuple[Found, Found]:
    """What the source has, and what the target has, NOTHING where that is empty or cannot be read as a text.
    Both are started. Raises ConfigRefused."""
    found = await source.read()
    try:
        return found, await target.read()
    except ConfigRefused as refused:
        if refused.transient:
            raise
        return found, NOTHING


async def copy(
    source: ConfigSource, found: Found, target: ConfigSource, over: Found, origin: Origin, at: float
) -> Found:
    """Replace what the target has (`over`) by what the source has (`found`), as `look` gave them. The text is
    not checked: a gateway refuses a bad one. Nothing is written where the target has it already; what a file
    had is kept beside it. origin: who does it. at: seconds since the epoch. Raises ConfigRefused,
    SourceChanged."""
    if over != NOTHING and over.text == found.text:
        return over
    reason = origin.reason or f"copied from {source.name}"
    return await target.write(Draft(found.text, replace(origin, reason=reason), at), over, keep=True)
