"""The command line: gateway init | up | serve | check | routes | explain | token | schema |
keys | revoke | documents | config | revisions | diff | apply | rollback | edit | confirm | audit | nodes |
reload | console.

The commands that ask a running gateway begin at once: what the others import takes a second.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from gateway.cli import console
from gateway.cli.config import LIGHT
from gateway.cli.config import commands as config_commands
from gateway.cli.config import copying as config_copying
from gateway.config.ports import ConfigRefused
from gateway.core.errors import GatewayError
from gateway.core.process.settings import ProcessConfig
from gateway.core.routing.problems import Problems
from gateway.planes import conf
from gateway.process import signals

CONFIGS = (
    "gateway.conf",
    "config/gateway.conf",
    "/etc/gateway/gateway.conf",
)  # the first that exists is used
_USUAL_END = 1.0  # seconds that the interpreter's shutdown may take after serving
_INTERRUPTED = 128 + signal.SIGINT  # as a shell reports it
_EXIT_CODES = """\
exit codes:
  0    done
  1    a problem, which is printed
  2    wrong usage; of `diff`: something differs
  78   the packages under the gateway are not those that it is made for
  130  Ctrl-C
  141  nobody reads what is printed any more"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; `gateway --help` lists them. argv: without the program's name;
    None for that of the process."""
    try:
        try:
            code = _run_command(argv)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # here, where a broken pipe can still be reported
    except BrokenPipeError:
        console.discard_output()
        return console.BROKEN_PIPE
    except KeyboardInterrupt:
        return _INTERRUPTED
    return console.BROKEN_PIPE if console.out.broken and not code else code


def _run_command(argv: Sequence[str] | None) -> int:
    if any("\0" in word for word in argv or ()):
        console.fail("an argument holds a NUL, which no path and no text of a command can")
        return 1
    words = sys.argv[1:] if argv is None else argv
    arguments = _parser(light=bool(words) and words[0] in (*LIGHT, "config")).parse_args(words)
    try:
        arguments.config = getattr(arguments, "config", None) or find_config()
        return int(arguments.run(arguments))
    except BrokenPipeError:
        raise
    except Problems as found:
        console.problems(arguments.config, found.items)
    except ConfigRefused as refused:
        console.problems(console.short(refused.path), refused.problems)
    except OSError as error:
        console.fail(console.system_error(error))
    except (ValueError, GatewayError) as error:
        console.fail(str(error))
    return 1


def _version() -> str:
    try:
        return metadata.version("gateway")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def find_config() -> str | None:
    """The path of the process config that is used when none is named; None when there is none."""
    return next((path for path in CONFIGS if os.path.lexists(path)), None)


def _parser(*, light: bool) -> argparse.ArgumentParser:
    """light: with those commands alone that import nothing that serves."""
    parser = argparse.ArgumentParser(
        prog="gateway",
        description="An API gateway in front of polyglot Python backends.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"gateway {_version()}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add = partial(_command, subparsers)
    if not light:
        _add_others(subparsers, add)
    config_commands.add_commands(add, load_process)
    about = "where the live config is kept: copy it from one source to another"
    add_config = _group(subparsers, "config", about, "gateway config copy --from file --to zookeeper")
    config_copying.add_commands(add_config, load_process)
    return parser


def _add_others(subparsers: Any, add: partial[argparse.ArgumentParser]) -> None:
    from gateway.cli import commands, keys, revoke, signing_keys
    from gateway.cli.documents import commands as documents_commands

    about, example = "make a folder that works: config, keys, a token, a backend", "gateway init shop"
    made = _command(subparsers, "init", _init, about, example, config=False)
    made.add_argument("folder", nargs="?", default=".", help="it may be new (default: this one)")
    add("up", _up, "serve, and run the supervised backends", "gateway up -c config/gateway.conf")
    add("serve", _serve, "serve alone", "gateway serve -c config/gateway.conf")
    commands.add_commands(add, load_process)
    about = "API keys of tenants' machines, and the keys that sign: create, list, revoke, rotate"
    add_key = _group(subparsers, "keys", about, "gateway keys list")
    keys.add_commands(add_key, load_process, commands.print_notes)
    signing_keys.add_commands(add_key, load_process)
    revoke.add_command(add, load_process, commands.issuers)
    about = "look after the stored documents: sizes, export, import, copy, backup, restore, verify"
    add_document = _group(subparsers, "documents", about, "gateway documents backup /backups/today")
    documents_commands.add_commands(add_document, load_process)


def _group(
    subparsers: Any, name: str, about: str, example: str
) -> Callable[[str, Callable[[argparse.Namespace], int], str, str], argparse.ArgumentParser]:
    """A command with commands below it; gives what adds them."""
    group = _described(subparsers, name, about, example)
    return partial(_command, group.add_subparsers(title="commands", metavar="COMMAND", required=True))


def _described(subparsers: Any, name: str, about: str, example: str) -> argparse.ArgumentParser:
    added: argparse.ArgumentParser = subparsers.add_parser(
        name,
        help=about,
        description=about,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return added


def _command(
    subparsers: Any,
    name: str,
    run: Callable[[argparse.Namespace], int],
    about: str,
    example: str,
    *,
    config: bool = True,
) -> argparse.ArgumentParser:
    added = _described(subparsers, name, about, example)
    if config:
        default = "default: the first there is of " + ", ".join(CONFIGS)
        added.add_argument("-c", "--config", help=f"the process config ({default})")
    added.set_defaults(run=run)
    return added


def load_process(path: str | None) -> ProcessConfig:
    """Read gateway.conf without starting anything. path: None when none was named and none found. Raises
    Problems, OSError."""
    if path is None:
        tried = ", ".join(CONFIGS[:-1])
        reason = f"there is no process config: looked for {tried} in {Path.cwd()}, and for {CONFIGS[-1]}"
        raise OSError(f"{reason}; name it with -c, or make one: gateway init")
    if not os.path.lexists(path):
        raise OSError(f"there is no {path}; name the process config with -c, or make one: gateway init")
    return conf.read(path)


def _init(arguments: argparse.Namespace) -> int:
    if not arguments.folder.strip():
        raise ValueError("the folder's name is empty; name one, or leave it out for the one that you are in")
    from gateway.cli import init

    folder = Path(arguments.folder)
    written = init.make(folder)
    header = init.token(load_process(str(folder / init.CONFIG)))
    init.show(folder, written, header)
    return 0


def _up(arguments: argparse.Namespace) -> int:
    return _run_gateway(arguments, supervise=True)


def _serve(arguments: argparse.Namespace) -> int:
    return _run_gateway(arguments, supervise=False)


def _run_gateway(arguments: argparse.Namespace, *, supervise: bool) -> int:
    signals.survive_stray()  # the import of ASAB below takes a second
    load_process(arguments.config)  # reports problems before anything starts
    from gateway import application
    from gateway.cli import banner  # the other commands need not wait for ASAB's import

    option = "" if arguments.config == find_config() else f" -c {shlex.quote(arguments.config)}"
    code = application.run(
        arguments.config,
        supervise=supervise,
        prepare=banner.prepare if supervise else None,
        on_ready=lambda gateway: banner.show(gateway, arguments.config, with_demo=supervise, option=option),
    )
    console.out.forgive()  # a closed standard output does not end a gateway that serves
    signals.exit_within(_USUAL_END, code)
    return code


if __name__ == "__main__":
    sys.exit(main())
