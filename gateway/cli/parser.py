"""The parser of the whole command line: every command's name and options, and nothing of what they do."""

from __future__ import annotations

import argparse
from importlib import metadata

from gateway.cli.commands import Commands, below, runs
from gateway.cli.config import commands as config
from gateway.cli.credentials import commands as credentials
from gateway.cli.documents import commands as documents
from gateway.cli.routing import commands as routing

_EXIT_CODES = """\
exit codes:
  0    done
  1    a problem, which is printed
  2    wrong usage; of `diff`: something differs
  78   the packages under the gateway are not those that it is made for
  130  Ctrl-C
  141  nobody reads what is printed any more"""


def parser() -> argparse.ArgumentParser:
    """It gives arguments whose `run` takes them, and returns the exit code."""
    made = argparse.ArgumentParser(
        prog="gateway",
        description="An API gateway in front of polyglot Python backends.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--version", action="version", version=f"gateway {_version()}")
    commands = below(made)  # they are listed in this order
    _add_serving(commands)
    routing.add_commands(commands)
    credentials.add_token(commands)
    routing.add_schema(commands)
    credentials.add_keys(commands)
    credentials.add_revoke(commands)
    documents.add_commands(commands)
    config.add_commands(commands)
    config.add_config(commands)
    return made


def _version() -> str:
    try:
        return metadata.version("gateway")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _add_serving(commands: Commands) -> None:
    about, example = "make a folder that works: config, keys, a token, a backend", "gateway init shop"
    init = commands.add("init", runs("gateway.cli.init:run"), about, example, config=False)
    init.add_argument("folder", nargs="?", default=".", help="it may be new (default: this one)")
    about, example = "serve, and run the supervised backends", "gateway up -c config/gateway.conf"
    commands.add("up", runs("gateway.cli.serving:up"), about, example)
    example = "gateway serve -c config/gateway.conf"
    commands.add("serve", runs("gateway.cli.serving:serve"), "serve alone", example)
