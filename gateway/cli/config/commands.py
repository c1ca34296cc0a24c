"""The parser of gateway revisions | diff | apply | rollback | edit | confirm | audit | nodes | console |
reload | config."""

from __future__ import annotations

import argparse
from functools import partial

from gateway.cli.commands import Commands, imported, runs
from gateway.cli.config import TOKEN_VARIABLE
from gateway.core.process.config_source import SOURCES


def add_commands(commands: Commands) -> None:
    """Add these commands to the parser."""

    def command(name: str, work: str, about: str, example: str) -> argparse.ArgumentParser:
        """work: in which module of this folder, and its function that takes the session."""
        run = partial(_run, f"gateway.cli.config.{work}")
        made = commands.add(name, run, about, f"gateway {example}")
        where = made.add_argument_group("which gateway")
        help_ = "its admin listener (default: that of the process config)"
        where.add_argument("--admin", metavar="URL", help=help_)
        help_ = f"the operator's token (default: {TOKEN_VARIABLE}, else the local one of the process config)"
        where.add_argument("--token-file", metavar="FILE|-", help=help_)
        help_ = "send the token to another machine although nothing encrypts it"
        where.add_argument("--insecure-http", action="store_true", help=help_)
        made.add_argument("--json", action="store_true", help="the outcome as JSON")
        return made

    about, example = "list the configs that were live, or show one", "revisions 12 --text > routing.yaml"
    _revisions_arguments(command("revisions", "revisions:run", about, example))
    about = "what differs between two configs; exit code 2 when something does, 1 on errors"
    _diff_arguments(command("diff", "diff:run", about, "diff config/routing.yaml"))
    about = "make a config live: checked, shown, rehearsed on the last requests"
    made = command("apply", "apply:run", about, "apply config/routing.yaml -m 'orders: longer timeout'")
    made.add_argument("file", metavar="FILE|-", help="the config, - for standard input")
    _change_arguments(made)
    about = "make a config live again that was so before"
    made = command("rollback", "apply:roll_back", about, "rollback 12 -m 'the new timeout was worse'")
    help_ = "whose text is to be live (default: the one before; again and again for the ones before that)"
    made.add_argument("number", metavar="N", type=_number, nargs="?", help=help_)
    _change_arguments(made)
    about = "edit the live config in $VISUAL or $EDITOR; it is checked before it is live"
    _change_arguments(command("edit", "edit:run", about, "edit -m 'a route for the shop'"))
    about = "keep a config that was applied with --confirm-within"
    made = command("confirm", "apply:confirm", about, "confirm")
    help_ = "the revision (default: the one that waits)"
    made.add_argument("number", metavar="N", type=_number, nargs="?", help=help_)
    about = "who did what to the config, refused tries too; verify finds any change or gap"
    _audit_arguments(command("audit", "audit:run", about, "audit verify"))
    about = "which process on which host runs which revision"
    command("nodes", "nodes:run", about, "nodes")
    about = "have the running gateway load all again: keys, configs, and new workers where it has some"
    command("reload", "nodes:reload", about, "reload")
    about = "open the console in the browser, signed in by a ticket that is good once"
    made = command("console", "nodes:open_console", about, "console")
    made.add_argument("--no-browser", action="store_true", help="only print the URL")


def _run(work: str, arguments: argparse.Namespace) -> int:
    from gateway.cli.config import session  # only here: --help asks nobody

    return session.run(imported(work), arguments)


def _revisions_arguments(made: argparse.ArgumentParser) -> None:
    made.add_argument("number", metavar="N", type=_number, nargs="?", help="the one to show")
    made.add_argument("--text", action="store_true", help="its text, to the byte")
    pinned = made.add_mutually_exclusive_group()
    pinned.add_argument("--pin", action="store_true", help="keep it for good")
    pinned.add_argument("--unpin", action="store_true", help="let it go with the others of its age")
    made.add_argument("--limit", type=_number, default=20, metavar="N", help="so many (default 20)")
    made.add_argument("--before", type=_number, metavar="N", help="only those before this one")


def _diff_arguments(made: argparse.ArgumentParser) -> None:
    help_ = "a revision's number, live, or a file (- for standard input)"
    made.add_argument("first", metavar="A", nargs="?", help=help_)
    help_ = "the same; A alone is what would change by it, and nothing is the file of the process config"
    made.add_argument("second", metavar="B", nargs="?", help=help_)
    made.add_argument("--text", action="store_true", help="by lines, and not by meaning")


def _change_arguments(made: argparse.ArgumentParser) -> None:
    help_ = "why, for those who look at the history"
    made.add_argument("-m", "--message", default="", metavar="WHY", help=help_)
    help_ = "ask nothing, although requests would be refused that were served"
    made.add_argument("-y", "--yes", action="store_true", help=help_)
    help_ = "go back by itself after this time unless it is confirmed, such as 60s"
    made.add_argument("--confirm-within", metavar="TIME", help=help_)
    help_ = "only if this is live: a revision's number, or a digest"
    made.add_argument("--if-match", metavar="N|DIGEST", help=help_)


def _audit_arguments(made: argparse.ArgumentParser) -> None:
    help_ = "verify: find any change or gap"
    made.add_argument("what", nargs="?", choices=["verify"], help=help_)
    help_ = "with verify: files of the audit, the oldest first (default: what the gateway keeps)"
    made.add_argument("files", nargs="*", metavar="FILE", help=help_)
    made.add_argument("--limit", type=_number, default=20, metavar="N", help="so many (default 20)")
    made.add_argument("--before", type=_number, metavar="SEQ", help="only lines before this one")
    made.add_argument("--author", help="only what this operator did")
    made.add_argument("--action", help="only this, such as applied, rolled_back, refused")


def add_config(commands: Commands) -> None:
    """Add `gateway config` and the command below it."""
    about = "where the live config is kept: copy it from one source to another"
    example = "gateway config copy --from file --to zookeeper"
    config = commands.group("config", about, example)
    about = "copy the config from its file to the source that the process config names, or back"
    made = config.add("copy", runs("gateway.cli.config.copying:run"), about, example)
    for option, what in (("--from", "where it is"), ("--to", "what gets it, instead of what it has")):
        made.add_argument(option, dest=option[2:], choices=SOURCES, required=True, help=what)
    help_ = "why, for those who look at the history"
    made.add_argument("-m", "--message", default="", metavar="WHY", help=help_)
    made.add_argument("-y", "--yes", action="store_true", help="ask nothing")


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or not 0 < int(text) < 2**53:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1")
    return int(text)
