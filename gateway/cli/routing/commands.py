"""The parser of gateway check | routes | explain | schema."""

from __future__ import annotations

import argparse

from gateway.cli.commands import Commands, runs


def add_commands(commands: Commands) -> None:
    """Add these commands to the parser."""
    about, example = "find every problem in the routing config", "gateway check config/routing.yaml"
    check = commands.add("check", runs("gateway.cli.routing.check:run"), about, example)
    help_ = "the file, - for standard input (default: the one that the process config names)"
    check.add_argument("routing", nargs="?", help=help_)
    check.add_argument("--json", action="store_true", help="the problems as JSON")
    about = "show the compiled routing table"
    routes = commands.add("routes", runs("gateway.cli.routing.routes:run"), about, "gateway routes")
    routes.add_argument("--json", action="store_true", help="the table as JSON")
    help_ = "what the running gateway has (asks its admin listener), and why the file differs, if it does"
    routes.add_argument("--live", action="store_true", help=help_)
    help_ = "with --live, where the admin listener needs one: as `explain` takes it"
    routes.add_argument("--token", metavar="TOKEN|@FILE|-", help=help_)
    about = "say what would happen to a request, and why; exit code 1 when it would be refused"
    example = "gateway explain GET /catalog/products/7 -H @var/demo-token.header"
    _explain_arguments(commands.add("explain", runs("gateway.cli.routing.explain:run"), about, example))


def _explain_arguments(explain: argparse.ArgumentParser) -> None:
    explain.add_argument("method", type=str.upper)
    explain.add_argument("path", help="the request target, such as '/orders/7?full=1', or a URL")
    help_ = "'Name: value', or @FILE with such lines; may be repeated"
    explain.add_argument("-H", "--header", action="append", default=[], help=help_)
    help_ = "what the client would send: the token or 'Bearer ...', @FILE with it, or - (standard input)"
    explain.add_argument("--token", metavar="TOKEN|@FILE|-", help=help_)
    explain.add_argument("--certificate", metavar="FILE", help="the client's certificate, in PEM")
    help_ = "with --certificate: the section [tls:NAME] of the listener that it is shown to"
    explain.add_argument("--tls", metavar="NAME", default="", help=help_)
    explain.add_argument("--json", action="store_true", help="the same as JSON")


def add_schema(commands: Commands) -> None:
    """Add `gateway schema`."""
    about = "print the JSON Schema of the routing config"
    example = "gateway schema > config/routing.schema.json"
    schema = commands.add("schema", runs("gateway.cli.routing.schema:run"), about, example)
    help_ = "instead: every key of both config files, with its default and an example, as Markdown"
    schema.add_argument("--reference", action="store_true", help=help_)
