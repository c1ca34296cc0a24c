"""The command line: gateway up | serve | check | routes | explain | token | schema | documents."""

from __future__ import annotations

import argparse
import configparser
import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import hdrs, web
from rich.markup import escape

from gateway import console, documents_cli, explain, new
from gateway.call import Call, Target
from gateway.core.amounts import parse_duration
from gateway.core.compile import Compiled
from gateway.core.errors import GatewayError
from gateway.core.problems import Problems
from gateway.core.process import ProcessConfig, parse_process
from gateway.core.settings import json_schema
from gateway.services import signals
from gateway.services.config import ConfigRefused, as_dict, compile_text, read
from gateway.services.files import read_text
from gateway.services.folders import socket_folder
from gateway.services.keys import Keys, KeysUnusable, ensure_signing_key, issue

_CONFIGS = ("gateway.conf", "config/gateway.conf")  # looked for in this order, from the current folder
_MAX_CONF = 1024 * 1024  # bytes


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Gives the exit code: 0 well, 1 a problem (printed), 2 wrong usage."""
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
        return code
    except Problems as found:
        console.problems(arguments.config, found.items)
    except ConfigRefused as refused:
        console.problems(console.short(refused.path), refused.problems)
    except (KeysUnusable, OSError, ValueError, GatewayError) as error:
        console.fail(str(error))
    except KeyboardInterrupt:
        return 130
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gateway", description="An API gateway in front of polyglot Python backends."
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add = partial(_command, commands)
    about, example = "make a folder that works: config, keys, a token, a backend", "gateway init shop"
    init = _command(commands, "init", _init, about, example, config=False)
    init.add_argument("folder", nargs="?", default=".", help="it may be new (default: this one)")
    add("up", _up, "serve, and run the supervised backends", "gateway up -c config/gateway.conf")
    add("serve", _serve, "serve alone", "gateway serve -c config/gateway.conf")
    check = add(
        "check", _check, "find every problem in the routing config", "gateway check config/routing.yaml"
    )
    check.add_argument("routing", nargs="?", help="the file (default: the one that the process config names)")
    check.add_argument("--json", action="store_true", help="the problems as JSON")
    routes = add("routes", _routes, "show the compiled routing table", "gateway routes")
    routes.add_argument("--json", action="store_true", help="the table as JSON")
    about = "say what would happen to a request, and why"
    example = 'gateway explain GET /catalog/products/7 --token "$(gateway token --tenant acme)"'
    _explain_arguments(add("explain", _explain, about, example))
    example = "gateway token --tenant acme --scope 'documents:read documents:write' --ttl 1h"
    _token_arguments(add("token", _token, "print a signed token", example))
    about = "print the JSON Schema of the routing config"
    add("schema", _schema, about, "gateway schema > config/routing.schema.json")
    about = "look after the stored documents: sizes, export, import, backup, restore, verify"
    documents = commands.add_parser(
        "documents",
        help=about,
        description=about,
        epilog="example:\n  gateway documents backup /backups/today",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    below = documents.add_subparsers(title="commands", metavar="COMMAND", required=True)
    documents_cli.add_commands(partial(_command, below), load_process)
    return parser


def _command(
    commands: Any,
    name: str,
    run: Callable[[argparse.Namespace], int],
    about: str,
    example: str,
    *,
    config: bool = True,
) -> argparse.ArgumentParser:
    added: argparse.ArgumentParser = commands.add_parser(
        name,
        help=about,
        description=about,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if config:
        found = _CONFIGS[0] if os.path.lexists(_CONFIGS[0]) else _CONFIGS[1]
        about = f"the process config (default: {' or '.join(_CONFIGS)})"
        added.add_argument("-c", "--config", default=found, help=about)
    added.set_defaults(run=run)
    return added


def _explain_arguments(explain: argparse.ArgumentParser) -> None:
    explain.add_argument("method", type=str.upper)
    explain.add_argument("path", help="the request target, such as '/orders/7?full=1'")
    explain.add_argument("-H", "--header", action="append", default=[], help="'Name: value', may be repeated")
    explain.add_argument("--token", help="the token that the client would send")


def _token_arguments(token: argparse.ArgumentParser) -> None:
    token.add_argument("--tenant", required=True)
    token.add_argument("--scope", default="", help="names separated by spaces")
    token.add_argument("--subject", default="operator")
    token.add_argument("--ttl", default="1h", help="such as 90s, 15m, 1h (default 1h)")
    token.add_argument("--kid", default="", help="the key to sign with (default: the first that can)")


def load_process(path: str) -> ProcessConfig:
    """Read gateway.conf without starting anything. Raises Problems, OSError."""
    parser = configparser.ConfigParser(interpolation=None)
    if not os.path.lexists(path):
        raise OSError(f"there is no {path}; name the process config with -c, or make one: gateway init")
    try:
        parser.read_string(read_text(Path(path), _MAX_CONF), path)
    except configparser.Error as error:
        raise ValueError(f"{path} is not an ini file: {error.message}") from None
    sections = {name: dict(parser.items(name)) for name in parser.sections()}
    return parse_process(sections, str(Path(path).resolve().parent), path)


def _init(arguments: argparse.Namespace) -> int:
    folder = Path(arguments.folder)
    written = new.make(folder)
    header = new.token(load_process(str(folder / new.CONFIG)))
    new.show(folder, written, header)
    return 0


def _up(arguments: argparse.Namespace) -> int:
    return _run(arguments, supervise=True)


def _serve(arguments: argparse.Namespace) -> int:
    return _run(arguments, supervise=False)


def _run(arguments: argparse.Namespace, *, supervise: bool) -> int:
    signals.outlive_stray()  # the import of ASAB below takes a second
    load_process(arguments.config)  # a clear message before anything begins
    from gateway import application, banner  # the other commands need not wait for ASAB's import

    return application.run(
        arguments.config,
        supervise=supervise,
        prepare=banner.prepare if supervise else None,
        on_ready=lambda gateway: banner.show(gateway, arguments.config, demo=supervise),
    )


def _compile(path: Path) -> Compiled[Target]:
    try:
        return compile_text(read(path), lambda backend: _never, socket_folder("."))  # all are of one length
    except Problems as found:
        raise ConfigRefused(path, found.items) from None


async def _never(call: Call) -> web.StreamResponse:
    """Stands for a target: these commands look at routes, and call none."""
    raise AssertionError


def _routing(arguments: argparse.Namespace) -> Path:
    return Path(load_process(arguments.config).routing)


def _check(arguments: argparse.Namespace) -> int:
    path = Path(arguments.routing) if arguments.routing else _routing(arguments)
    try:
        compiled, found = _compile(path), []
    except ConfigRefused as refused:
        compiled, found = None, refused.problems
    if arguments.json:
        print(json.dumps({"file": str(path), "problems": [as_dict(p) for p in found]}, indent=2))
    elif compiled is None:
        console.problems(console.short(path), found)
        count = "1 problem" if len(found) == 1 else f"{len(found)} problems"
        console.err.print(f"[bold red]{count}[/] in {escape(console.short(path))}")
    else:
        console.out.print(
            f"[bold green]clean[/]  {escape(console.short(path))}: {len(compiled.table.routes)} routes,"
            f" {len(compiled.backends)} backends, {len(compiled.tenants)} tenants"
        )
    return 1 if found else 0


def _routes(arguments: argparse.Namespace) -> int:
    compiled = _compile(_routing(arguments))
    if not arguments.json:
        console.out.print(console.routes(compiled.table.routes))
        return 0
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
        }
        for route in compiled.table.routes
    ]
    print(json.dumps(rows, indent=2))
    return 0


def _explain(arguments: argparse.Namespace) -> int:
    config = load_process(arguments.config)
    keys = Keys(Path(config.keys), config.tokens)
    headers = explain.parse_headers(arguments.header, arguments.token)
    if hdrs.AUTHORIZATION in headers:
        keys.load()
    call, refused = explain.run(
        _compile(Path(config.routing)), keys, arguments.method, arguments.path, headers
    )
    console.out.print(console.pairs(explain.story(call, refused)))
    return 0 if refused is None else 1


def _token(arguments: argparse.Namespace) -> int:
    config = load_process(arguments.config)
    path = Path(config.keys)
    ensure_signing_key(path)
    try:
        ttl = parse_duration(arguments.ttl)
    except ValueError as error:
        raise ValueError(f"--ttl {arguments.ttl!r} {error}; write 90s, 15m or 1h") from None
    if ttl < 1:
        raise ValueError(f"--ttl {arguments.ttl!r}: such a token has expired when it is printed; write 90s")
    token = issue(
        path, config.tokens, arguments.tenant, arguments.scope, arguments.subject, ttl, arguments.kid
    )
    try:
        if arguments.tenant not in _compile(Path(config.routing)).tenants:
            console.err.print(f"[yellow]note:[/] the routing config has no tenant {arguments.tenant!r}")
    except ConfigRefused:
        console.err.print("[yellow]note:[/] the routing config has problems; see gateway check")
    print(token)
    return 0


def _schema(arguments: argparse.Namespace) -> int:
    print(json.dumps(json_schema(), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
