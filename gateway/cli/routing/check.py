"""gateway check: every problem of the routing config, and what should be known of it on this machine."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from rich.markup import escape

from gateway.call import Snapshot
from gateway.cli import console, process_config
from gateway.cli.config.given import STDIN, read_config
from gateway.cli.routing.compiled import compile_given
from gateway.cli.routing.notes import mtls_notes, named_files, tls_notes
from gateway.config import own_addresses
from gateway.config.compilation import against_process
from gateway.config.ports import ConfigRefused
from gateway.config.refusal import as_dict, describe
from gateway.core.process.settings import ProcessConfig
from gateway.core.routing.problems import Problem, Problems


def run(arguments: argparse.Namespace) -> int:
    """gateway check: 1 when something keeps the config from being live, or the gateway from starting."""
    given = arguments.routing
    config: ProcessConfig | None
    try:
        config = process_config.load(arguments.config)
    except (Problems, OSError, ValueError):
        if not given:
            raise
        config, path = None, Path(given)  # for an unknown process
    else:
        path = Path(given or config.routing)
    name = STDIN if given == "-" else console.short(path)
    try:
        text, check = read_config(str(path)), partial(_check_against, config)
        compiled, found = compile_given(path, text, config, check), []
    except ConfigRefused as refused:
        compiled, found = None, refused.problems
    own_found, notes = _this_machine(config)
    process = console.short(config.path) if config is not None else ""
    if config is not None and compiled is not None:
        notes += mtls_notes(compiled, config)
    code = 1 if found or own_found else 0
    if arguments.json:
        shown = name if given == "-" else str(path)
        said_of_tls = [describe(process, [one]).strip() for one in own_found] + notes
        said = {"file": shown, "problems": [as_dict(p) for p in found], "tls": said_of_tls}
        print(json.dumps(said, indent=2))
        return code
    for file, problems in ((process, own_found), (name, found)):
        console.problems(file, problems)
        if problems:
            console.err.print(f"[bold red]{console.count(len(problems), 'problem')}[/] in {escape(file)}")
    if compiled is not None:
        _print_clean(name, compiled)
        notes = [*_notes(name, path, compiled, config), *notes]
    for text in notes:
        console.err.print(f"[yellow]note:[/] {escape(text)}")
    return code


def _print_clean(name: str, compiled: Snapshot) -> None:
    """What is in a config without a problem."""
    console.out.print(
        f"[bold green]clean[/]  {escape(name)}: {console.count(len(compiled.table.routes), 'route')},"
        f" {console.count(len(compiled.backends), 'backend')},"
        f" {console.count(len(compiled.tenants), 'tenant')}"
        + (f", {console.count(len(compiled.issuers), 'issuer')}" if compiled.issuers else "")
    )


def _notes(name: str, path: Path, compiled: Snapshot, config: ProcessConfig | None) -> Iterator[str]:
    """What should be known of it all the same, for people."""
    if config is not None and config.live.source != "file" and path == Path(config.routing):
        yield (
            f"[config] source = {config.live.source}: the gateway does not read this file;"
            f" make it live with: {console.program()} apply {name}"
        )
    for where, file in named_files(compiled.issuers):
        if not Path(file).exists():
            yield f"{where}: {file} is not there on this machine"
    yield from tls_notes(compiled.backends)


def _check_against(config: ProcessConfig | None, compiled: Snapshot) -> list[Problem]:
    """What the process config makes wrong in a routing config."""
    if config is None:
        return []
    return against_process(compiled, own_addresses.of(config), config.tls)


def _this_machine(config: ProcessConfig | None) -> tuple[list[Problem], list[str]]:
    """What it lacks that keeps the gateway from starting, and what should be known all the same."""
    if config is None or not (config.tls or config.shared.uri):
        return [], []
    # Only here: they import what serves.
    from gateway.edge.tls.sites import SiteUnusable, TlsSites
    from gateway.planes import conf
    from gateway.planes.shared import sharing

    wrong = [problem] if (problem := sharing.problem(config)) else []
    used = {one.tls for one in (*config.listen, *config.admin)}
    notes = [
        f"[tls:{one.name}] in {config.path}: no listener names it; write tls={one.name} behind its address"
        for one in config.tls
        if one.name not in used
    ]
    try:
        notes += TlsSites(config.tls, config.path).warnings()
    except SiteUnusable as unusable:
        wrong += unusable.problems
    return conf.located(config.path, wrong), notes
