"""gateway documents tenants | export | import | copy | backup | restore | verify: the parser, short ones."""

from __future__ import annotations

import argparse
import asyncio
import errno
import json
import logging
import os
import signal
from collections.abc import Callable, Coroutine
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Protocol

from rich.table import Table
from rich.text import Text

from gateway.cli import console
from gateway.cli.documents.copies import backup, restore
from gateway.cli.documents.copy import copy, uris
from gateway.cli.documents.engine import Engine, Unusable, open_engine, reason, tenant_id
from gateway.cli.documents.export import export
from gateway.cli.documents.imports import DEFAULT_MAX_ERRORS, import_
from gateway.core.errors import GatewayError, NotFound, StoreUnavailable
from gateway.core.process.settings import ProcessConfig
from gateway.store.operator import TenantSize

_INTERRUPTED = 128 + signal.SIGINT
Work = Callable[[argparse.Namespace, Engine], Coroutine[Any, Any, int]]

_OS_HINTS = {
    errno.EACCES: "run this as the user who runs the gateway, or look at the permissions",
    errno.EPERM: "run this as the user who runs the gateway, or look at the permissions",
    errno.ENOSPC: "make room on that disk",
    errno.EDQUOT: "make room on that disk",
    errno.EROFS: "its disk is mounted read-only; choose another place",
    errno.ENOENT: "look at the name, or make its folder first",
    errno.ENOTDIR: "a part of the path is a file; look at the name",
    errno.EISDIR: "name a file",
    errno.EEXIST: "name another place, or move it away",
}


class _Add(Protocol):
    """Adds a command: its name, what runs it, one line about it, an example."""

    def __call__(
        self, name: str, run: Callable[[argparse.Namespace], int], about: str, example: str, /
    ) -> argparse.ArgumentParser: ...


def add_commands(add: _Add, load: Callable[[str], ProcessConfig]) -> None:
    """Add the commands below `gateway documents`. load: reads the process config."""

    def command(name: str, work: Work, about: str, example: str) -> argparse.ArgumentParser:
        return add(name, lambda a: _run(work, a, load(a.config)), about, f"gateway documents {example}")

    def add_json(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="the outcome as JSON")

    def add_tenants(parser: argparse.ArgumentParser, about: str) -> None:
        parser.add_argument("tenants", nargs="*", metavar="TENANT", type=tenant_id, help=about)

    add_json(command("tenants", tenants, "show the tenants that have documents, and how much", "tenants"))
    about = "write documents as NDJSON, as they are at one instant"
    _export_arguments(command("export", export, about, "export acme orders -o orders.ndjson"))
    about = "read documents from NDJSON; those that are there stay, unless --replace says otherwise"
    made = command("import", import_, about, "import acme orders orders.ndjson")
    _import_arguments(made)
    add_json(made)
    about = "copy tenants' data, each as of one instant, while the gateway goes on writing"
    made = command("backup", backup, about, "backup /backups/2026-11-22")
    help_ = "a folder for TENANT.db files (made if need be), or a file NAME.db for one tenant"
    made.add_argument("target", metavar="DIR|FILE.db", help=help_)
    add_tenants(made, "the tenants (default: all)")
    add_json(made)
    about = "put backups in place: each as a whole or not at all, with the gateway stopped"
    made = command("restore", restore, about, "restore /backups/2026-11-22 acme")
    made.add_argument("source", metavar="DIR|FILE.db", help="a folder or a file that backup made")
    add_tenants(made, "the tenants (default: all in the folder; a file needs one)")
    made.add_argument("--force", action="store_true", help="replace documents that are there")
    add_json(made)
    _copy_arguments(add("copy", lambda a: _copy(a, load(a.config)), *_COPY), add_tenants, add_json)
    about = "check files, documents, indexes and counters; exit code 1 when something is wrong"
    made = command("verify", verify, about, "verify")
    add_tenants(made, "the tenants (default: all)")
    add_json(made)


_COPY = (
    "copy tenants to another store, or move them while gateways serve them; it can be ended and run again",
    "gateway documents copy --to mongodb://db.example:27017/shop",
)


def _copy_arguments(
    made: argparse.ArgumentParser,
    add_tenants: Callable[[argparse.ArgumentParser, str], None],
    add_json: Callable[[argparse.ArgumentParser], None],
) -> None:
    add_tenants(made, "the tenants (default: all)")
    made.add_argument("--from", dest="source", metavar="URI", help="default: [store] uri of the config")
    help_ = "default: [store] next of the config, where no list of processes shows its password"
    made.add_argument("--to", dest="target", metavar="URI", help=help_)
    help_ = "serve them from there, too: a tenant's writes wait for less than 2 s, its reads go on"
    made.add_argument("--move", action="store_true", help=help_)
    add_json(made)


def _copy(arguments: argparse.Namespace, config: ProcessConfig) -> int:
    try:
        of = uris(arguments, config)
    except Unusable as error:
        console.fail(reason(error))
        return 1
    return _run(partial(copy, uris=of), arguments, replace(config, store_uri=of.source))


def _export_arguments(made: argparse.ArgumentParser) -> None:
    made.add_argument("tenant", metavar="TENANT", type=tenant_id)
    made.add_argument("collection", metavar="COLLECTION", nargs="?", help="default: all, into a folder")
    help_ = "a file, or - for standard output (default); for all collections a folder"
    made.add_argument("-o", "--output", default="-", metavar="FILE|-|DIR", help=help_)


def _import_arguments(made: argparse.ArgumentParser) -> None:
    made.add_argument("tenant", metavar="TENANT", type=tenant_id)
    made.add_argument("collection", metavar="COLLECTION")
    made.add_argument("source", metavar="FILE|-", nargs="?", default="-", help="default: standard input")
    made.add_argument("--replace", action="store_true", help="replace documents that are there")
    help_ = "begin at this line, to go on where an import stopped"
    made.add_argument("--from-line", type=_positive, default=1, metavar="N", help=help_)
    help_ = f"stop after so many lines that failed (default {DEFAULT_MAX_ERRORS})"
    made.add_argument("--max-errors", type=_positive, default=DEFAULT_MAX_ERRORS, metavar="N", help=help_)
    help_ = "first put these settings (schema, indexes, ...), as export writes them"
    made.add_argument("--settings", metavar="FILE", help=help_)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1")
    return int(text)


def _run(work: Work, arguments: argparse.Namespace, config: ProcessConfig) -> int:
    logging.getLogger("gateway").addHandler(logging.NullHandler())  # the command prints errors itself

    async def run() -> int:
        engine = open_engine(config, meter)
        running, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert running is not None
        loop.add_signal_handler(signal.SIGINT, _interrupt, running, engine)
        try:
            return await work(arguments, engine)
        finally:
            await engine.operator.close()

    try:
        with console.Meter() as meter:
            return asyncio.run(run())
    except asyncio.CancelledError:
        return _INTERRUPTED
    except (GatewayError, Unusable) as error:
        console.fail(reason(error))
    except OSError as error:
        hint = _OS_HINTS.get(error.errno or 0)
        console.fail(f"{reason(error)}; {hint}" if hint else reason(error))
    return 1


def _interrupt(task: asyncio.Task[Any], engine: Engine) -> None:
    """The first Ctrl-C cancels the work, and a copy that runs is undone; the second ends the process at once,
    which does no harm but may leave a temporary file."""
    if engine.stopped.is_set():
        os._exit(_INTERRUPTED)
    engine.stopped.set()
    task.cancel()


async def tenants(arguments: argparse.Namespace, engine: Engine) -> int:
    """Print the tenants with documents, and their sizes. Returns 1 when one cannot be read."""
    sizes: list[TenantSize] = []
    broken: dict[str, str] = {}
    for tenant in await engine.operator.tenants():
        engine.meter.begin(f"reading {tenant}")
        try:
            sizes.append(await engine.operator.size(tenant))
        except NotFound:  # deleted meanwhile
            continue
        except StoreUnavailable as error:
            broken[tenant.value] = reason(error)
    engine.meter.end()
    if arguments.json:
        rows = [{**asdict(size), "tenant": size.tenant.value} for size in sizes]
        failed = [{"tenant": name, "reason": why} for name, why in broken.items()]
        print(json.dumps({"store": engine.location, "tenants": rows, "failed": failed}, indent=2))
    else:
        if sizes:
            console.out.print(_table(sizes))
        elif not broken:
            console.err.print(f"no tenant has documents in {engine.location}", markup=False)
        for why in broken.values():
            console.fail(why)
    return 1 if broken else 0


def _table(sizes: list[TenantSize]) -> Table:
    footer = len(sizes) > 1
    table = Table(box=None, pad_edge=False, show_footer=footer, header_style="bold", footer_style="bold")
    stored = console.amount(sum(size.stored_bytes for size in sizes))
    table.add_column("TENANT", footer=console.count(len(sizes), "tenant"), style="cyan")
    totals = (
        ("COLLECTIONS", f"{sum(size.collections for size in sizes):,}"),
        ("DOCUMENTS", f"{sum(size.documents for size in sizes):,}"),
        ("JSON", console.amount(sum(size.bytes for size in sizes))),
        ("ON DISK", stored),
    )
    for title, total in totals:
        table.add_column(title, footer=total, justify="right")
    for size in sizes:
        texts = console.amount(size.bytes), console.amount(size.stored_bytes)
        table.add_row(size.tenant.value, f"{size.collections:,}", f"{size.documents:,}", *texts)
    return table


async def verify(arguments: argparse.Namespace, engine: Engine) -> int:
    """Verify the data of the named tenants, or of all. Returns 1 when something is wrong."""
    found: dict[str, tuple[str, ...]] = {}
    for tenant in await engine.chosen(arguments.tenants):
        engine.meter.begin(f"verifying {tenant}")
        try:
            found[tenant.value] = await engine.operator.verify(tenant)
        except NotFound:  # deleted meanwhile
            continue
        engine.meter.end()
        if not arguments.json:
            _print_verdict(tenant.value, found[tenant.value])
    wrong = any(found.values())
    if arguments.json:
        rows = [{"tenant": name, "problems": list(problems)} for name, problems in found.items()]
        print(json.dumps({"store": engine.location, "whole": not wrong, "tenants": rows}, indent=2))
    elif not found:
        console.err.print(f"no tenant has documents in {engine.location}", markup=False)
    return 1 if wrong else 0


def _print_verdict(tenant: str, problems: tuple[str, ...]) -> None:
    if not problems:
        console.out.print(Text("whole ", style="bold green").append(tenant, style="not bold default"))
        return
    text = Text("wrong ", style="bold red").append(tenant, style="not bold default")
    for problem in problems:
        text.append(f"\n    {problem}", style="red")
    hint = f"save what can be read (gateway documents export {tenant} -o DIR), stop the gateway, put a backup"
    hint += f" in place (gateway documents restore DIR {tenant} --force); an index alone: declare it anew"
    console.out.print(text.append(f"\n    hint: {hint}", style="green"))
