"""gateway routes: the compiled routing table, of the file or of the gateway that runs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from gateway.cli import console, process_config
from gateway.cli.credentials.given import read_token
from gateway.cli.routing import running
from gateway.cli.routing.compiled import compile_file, compile_given
from gateway.config.ports import ConfigRefused
from gateway.core.model import CallerRule, Route


def run(arguments: argparse.Namespace) -> int:
    """gateway routes: 1 when what is live is not the file."""
    config = process_config.load(arguments.config)
    path = Path(config.routing)
    if not arguments.live:
        _show(compile_file(config).table.routes, arguments)
        return 0
    token = read_token(arguments.token) if arguments.token is not None else None
    found = running.fetch(config, token)
    try:
        compiled = compile_given(Path(found.status["path"]), found.text, config)
    except ConfigRefused as refused:
        console.fail("what is live is no config for this version of the command; is it the gateway's?")
        raise refused from None
    _show(compiled.table.routes, arguments)
    console.err.print(escape(found.title()), style="dim")
    differences = list(found.differences(path))
    for sentence in differences:
        console.err.print(f"[bold yellow]the file differs:[/] {escape(sentence)}")
    if differences:
        console.problems(console.short(path), found.problems())
    return 1 if differences else 0


def _show(routes: Iterable[Route[Any, Any]], arguments: argparse.Namespace) -> None:
    if not arguments.json:
        console.out.print(_table(list(routes)))
        return
    rows = [
        {
            "name": route.name,
            "methods": sorted(route.methods),
            "host": route.host,
            "path": route.path,
            "target": route.target_name,
            "strip": route.strip,
            "public": route.public,
            "read_scopes": sorted(route.read_scopes),
            "write_scopes": sorted(route.write_scopes),
            "manage_scopes": sorted(route.manage_scopes),
            "method_scopes": {method: sorted(names) for method, names in route.method_scopes.items()},
            "bind": route.bind,
            **_callers(route.callers or CallerRule()),
        }
        for route in routes
    ]
    print(json.dumps(rows, indent=2))


def _callers(rule: CallerRule) -> dict[str, Any]:
    """Which callers a route takes, beside scopes; nothing in a list is any."""
    claims = {path: sorted(values) for path, values in rule.claims.items()}
    return {"auth": sorted(rule.kinds), "issuers": sorted(rule.issuers), "require": claims}


def _table(rows: Sequence[Route[Any, Any]]) -> Table:
    """The compiled routes as a table."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    chosen, bound = any(route.callers is not None for route in rows), any(route.bind for route in rows)
    titles = ("NAME", "METHODS", "HOST", "PATH", "TARGET", "READ NEEDS", "WRITE NEEDS", "TOTAL")
    for title in (*titles, *(("TAKES",) if chosen else ()), *(("BIND",) if bound else ())):
        table.add_column(title, overflow="fold")
    for route in rows:
        scopes = ("public",) * 2 if route.public else (_names(route.read_scopes), _names(route.write_scopes))
        table.add_row(
            route.name,
            " ".join(sorted(route.methods)) or "any",
            route.host or "any",
            Text(route.path, style="cyan"),
            route.target_name,
            *scopes,
            f"{route.timeouts.total:g} s" if route.timeouts.total else "none",
            *((_takes(route.callers),) if chosen else ()),
            *(("request" if route.bind else "",) if bound else ()),
        )
    return table


def _takes(rule: CallerRule | None) -> str:
    """Which callers a route takes beside scopes, such as `jwt of keycloak; plan: enterprise|pro`."""
    if rule is None:
        return ""
    issuers = f" of {' or '.join(sorted(rule.issuers))}" if rule.issuers else ""
    kinds = ["jwt"] if rule.claims else sorted(rule.kinds or ("api_key", "jwt"))  # an API key has no claims
    parts = [", ".join(f"{kind}{issuers if kind == 'jwt' else ''}" for kind in kinds)]
    parts += [f"{path}: {'|'.join(sorted(values))}" for path, values in rule.claims.items()]
    return "; ".join(parts)


def _names(scopes: Iterable[str]) -> str:
    return " ".join(sorted(scopes)) or "a token"
