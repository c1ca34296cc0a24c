"""gateway check: every problem of the routing config, and what should be known of it on this machine."""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path

from rich.markup import escape

from gateway.call import Snapshot
from gateway.cli import console, process_config
from gateway.cli.config.given import STDIN, read_config
from gateway.cli.routing.compiled import compile_given
from gateway.cli.routing.notes import mtls_notes, named_files, tls_notes
from gateway.config import own_addresses
from gateway.config.ports import ConfigRefused
from gateway.config.refusal import as_dict, describe
from gateway.core.process.settings import ProcessConfig
from gateway.core.process.tls import unknown_sections
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
    if arguments.json:
        shown = name if given == "-" else str(path)
        said_of_tls = [describe(process, [one]).strip() for one in own_found] + notes
        said = {"file": shown, "problems": [as_dict(p) for p in found], "tls": said_of_tls}
        print(json.dumps(said, indent=2))
        return 1 if found or own_found else 0
    for file, problems in ((process, own_found), (name, found)):
        console.problems(file, problems)
        if problems:
            console.err.print(f"[bold red]{console.count(len(problems), 'problem')}[/] in {escape(file)}")
    if compiled is not None:
        console.out.print(
            f"[bold green]clean[/]  {escape(name)}: {console.count(len(compiled.table.routes), 'route')},"
            f" {console.count(len(compiled.backends), 'backend')},"
            f" {console.count(len(compiled.tenants), 'tenant')}"
            + (f", {console.count(len(compiled.issuers), 'issuer')}" if compiled.issuers else "")
        )
        if config is not None and config.live.source != "file" and path == Path(config.routing):
            console.err.print(
                f"[yellow]note:[/] \\[config] source = {config.live.source}: the gateway does not read this"
                f" file; make it live with: {escape(console.program())} apply {escape(name)}"
            )
        for where, file in named_files(compiled.issuers):
            if not Path(file).exists():
                console.err.print(f"[yellow]note:[/] {where}: {escape(file)} is not there on this machine")
        for note in tls_notes(compiled.backends):
            console.err.print(f"[yellow]note:[/] {escape(note)}")
    for text in notes:
        console.err.print(f"[yellow]note:[/] {escape(text)}")
    return 1 if found or own_found else 0


def _check_against(config: ProcessConfig | None, compiled: Snapshot) -> list[Problem]:
    """What the process config makes wrong in a routing config."""
    if config is None:
        return []
    found = own_addresses.problems(compiled.backends, own_addresses.of(config))
    return [*found, *unknown_sections(compiled.certificates, config.tls)]


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
