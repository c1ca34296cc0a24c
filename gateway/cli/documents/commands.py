"""The parser of gateway documents tenants | export | import | copy | backup | restore | verify."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from gateway.cli import process_config
from gateway.cli.commands import Commands, imported, runs

if TYPE_CHECKING:
    from gateway.core.model import TenantId

_MAX_ERRORS = 100


def add_commands(commands: Commands) -> None:
    """Add `gateway documents` and the commands below it."""
    about = "look after the stored documents: sizes, export, import, copy, backup, restore, verify"
    documents = commands.group("documents", about, "gateway documents backup /backups/today")

    def command(name: str, work: str, about: str, example: str) -> argparse.ArgumentParser:
        """work: in which module of this folder, and its function."""
        run = partial(_run, f"gateway.cli.documents.{work}")
        return documents.add(name, run, about, f"gateway documents {example}")

    def add_json(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="the outcome as JSON")

    def add_tenants(parser: argparse.ArgumentParser, about: str) -> None:
        parser.add_argument("tenants", nargs="*", metavar="TENANT", type=_tenant, help=about)

    about = "show the tenants that have documents, and how much"
    add_json(command("tenants", "looking:tenants", about, "tenants"))
    about = "write documents as NDJSON, as they are at one instant"
    _export_arguments(command("export", "export:export", about, "export acme orders -o orders.ndjson"))
    about = "read documents from NDJSON; those that are there stay, unless --replace says otherwise"
    made = command("import", "imports:import_", about, "import acme orders orders.ndjson")
    _import_arguments(made)
    add_json(made)
    about = "copy tenants' data, each as of one instant, while the gateway goes on writing"
    made = command("backup", "copies:backup", about, "backup /backups/2026-11-22")
    help_ = "a folder for TENANT.db files (made if need be), or a file NAME.db for one tenant"
    made.add_argument("target", metavar="DIR|FILE.db", help=help_)
    add_tenants(made, "the tenants (default: all)")
    add_json(made)
    about = "put backups in place: each as a whole or not at all, with the gateway stopped"
    made = command("restore", "copies:restore", about, "restore /backups/2026-11-22 acme")
    made.add_argument("source", metavar="DIR|FILE.db", help="a folder or a file that backup made")
    add_tenants(made, "the tenants (default: all in the folder; a file needs one)")
    made.add_argument("--force", action="store_true", help="replace documents that are there")
    add_json(made)
    made = documents.add("copy", runs("gateway.cli.documents.copy:run"), *_COPY)
    _copy_arguments(made, add_tenants, add_json)
    about = "check files, documents, indexes and counters; exit code 1 when something is wrong"
    made = command("verify", "looking:verify", about, "verify")
    add_tenants(made, "the tenants (default: all)")
    add_json(made)


def _run(work: str, arguments: argparse.Namespace) -> int:
    config = process_config.load(arguments.config)
    from gateway.cli.documents import running  # only here: it imports the stores

    return running.run(imported(work), arguments, config)


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


def _export_arguments(made: argparse.ArgumentParser) -> None:
    made.add_argument("tenant", metavar="TENANT", type=_tenant)
    made.add_argument("collection", metavar="COLLECTION", nargs="?", help="default: all, into a folder")
    help_ = "a file, or - for standard output (default); for all collections a folder"
    made.add_argument("-o", "--output", default="-", metavar="FILE|-|DIR", help=help_)


def _import_arguments(made: argparse.ArgumentParser) -> None:
    made.add_argument("tenant", metavar="TENANT", type=_tenant)
    made.add_argument("collection", metavar="COLLECTION")
    made.add_argument("source", metavar="FILE|-", nargs="?", default="-", help="default: standard input")
    made.add_argument("--replace", action="store_true", help="replace documents that are there")
    help_ = "begin at this line, to go on where an import stopped"
    made.add_argument("--from-line", type=_positive, default=1, metavar="N", help=help_)
    help_ = f"stop after so many lines that failed (default {_MAX_ERRORS})"
    made.add_argument("--max-errors", type=_positive, default=_MAX_ERRORS, metavar="N", help=help_)
    help_ = "first put these settings (schema, indexes, ...), as export writes them"
    made.add_argument("--settings", metavar="FILE", help=help_)


def _tenant(text: str) -> TenantId:
    from gateway.core.model import TenantId  # only here: most commands have none

    try:
        return TenantId(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no tenant: {error}") from None


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1")
    return int(text)
