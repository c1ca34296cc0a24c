"""The command line: gateway init | up | serve | check | routes | explain | token | schema |
documents."""

from __future__ import annotations

import argparse
import codecs
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from gateway.auth.keys import KeysUnusable
from gateway.cli import console, routing
from gateway.cli import init as new
from gateway.cli.documents import commands as documents_cli
from gateway.config.live import ConfigRefused
from gateway.core.errors import GatewayError
from gateway.core.process import ini
from gateway.core.process.settings import ProcessConfig, parse_process
from gateway.core.routing.problems import Problems, by_line
from gateway.process import signals
from gateway.runtime.files import not_utf8, read_file
from gateway.runtime.os_errors import explain

CONFIGS = ("gateway.conf", "config/gateway.conf", "/etc/gateway/gateway.conf")  # the first there is
_MAX_CONF = 1024 * 1024  # bytes
_USUAL_END = 1.0  # seconds that the end of a process that served may take
_INTERRUPTED = 128 + signal.SIGINT  # as a shell tells it
_EXIT_CODES = """\
exit codes:
  0    done
  1    a problem, which is printed
  2    wrong usage
  78   the packages under the gateway are not those that it is made for
  130  Ctrl-C
  141  nobody reads what is printed any more"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Gives the exit code, as `gateway --help` lists them."""
    try:
        try:
            code = _run_command(argv)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # while it can still be told that nobody reads
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
    arguments = _parser().parse_args(argv)
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
        console.fail(_of_the_system(error))
    except (KeysUnusable, ValueError, GatewayError) as error:
        console.fail(str(error))
    return 1


def _of_the_system(error: OSError) -> str:
    """An error without a text of ours, told with its path, the reason and a hint."""
    if error.errno is None:
        return str(error)
    try:
        Path.cwd()
    except FileNotFoundError:
        return "the folder that you are in was removed; cd to one that is there"
    path = f"{error.filename}: " if isinstance(error.filename, str) else ""
    return path + "; ".join(explain(error))


def _version() -> str:
    try:
        return metadata.version("gateway")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def find_config() -> str | None:
    """The process config when none is named; None when there is none."""
    return next((path for path in CONFIGS if os.path.lexists(path)), None)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gateway",
        description="An API gateway in front of polyglot Python backends.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"gateway {_version()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add = partial(_command, commands)
    about, example = "make a folder that works: config, keys, a token, a backend", "gateway init shop"
    init = _command(commands, "init", _init, about, example, config=False)
    init.add_argument("folder", nargs="?", default=".", help="it may be new (default: this one)")
    add("up", _up, "serve, and run the supervised backends", "gateway up -c config/gateway.conf")
    add("serve", _serve, "serve alone", "gateway serve -c config/gateway.conf")
    routing.add_commands(add, load_process)
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
        default = "default: the first there is of " + ", ".join(CONFIGS)
        added.add_argument("-c", "--config", help=f"the process config ({default})")
    added.set_defaults(run=run)
    return added


def load_process(path: str | None) -> ProcessConfig:
    """Read gateway.conf without starting anything. path: None when none was named and none found. Raises
    Problems, OSError."""
    if path is None:
        looked = ", ".join(CONFIGS[:-1])
        reason = f"there is no process config: looked for {looked} in {Path.cwd()}, and for {CONFIGS[-1]}"
        raise OSError(f"{reason}; name it with -c, or make one: gateway init")
    if not os.path.lexists(path):
        raise OSError(f"there is no {path}; name the process config with -c, or make one: gateway init")
    try:
        raw = read_file(Path(path), _MAX_CONF)
        if raw.startswith(codecs.BOM_UTF8):  # ASAB, which reads it again, would stumble over it
            raise ValueError(f"{path} begins with a byte order mark; save it as UTF-8 without one")
        text = raw.decode()
    except UnicodeDecodeError as error:
        reason, hint = not_utf8(raw, error.start)
        raise ValueError(f"{path}: {reason}; {hint}") from None
    found = ini.read(text)
    try:
        return parse_process(found.sections, str(Path(path).resolve().parent), path)
    except Problems as problems:
        raise Problems(by_line(map(found.locate, problems.items))) from None


def _init(arguments: argparse.Namespace) -> int:
    if not arguments.folder.strip():
        raise ValueError("the folder's name is empty; name one, or leave it out for the one that you are in")
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
    signals.survive_stray()  # the import of ASAB below takes a second
    load_process(arguments.config)  # a clear message before anything begins
    from gateway import application
    from gateway.cli import banner  # the other commands need not wait for ASAB's import

    code = application.run(
        arguments.config,
        supervise=supervise,
        prepare=banner.prepare if supervise else None,
        on_ready=lambda gateway: banner.show(gateway, arguments.config, demo=supervise),
    )
    console.out.broken = False  # what serves is not ended by a reader that left
    signals.exit_within(_USUAL_END, code)
    return code


if __name__ == "__main__":
    sys.exit(main())
