"""Output of the command line for people: tables, problems."""

from __future__ import annotations

import difflib
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.core.routing.problems import Problem
from gateway.runtime.os_errors import explain

BROKEN_PIPE = 128 + signal.SIGPIPE  # exit codes, as a shell reports them
INTERRUPTED = 128 + signal.SIGINT


class _Output(Console):
    """A console that outlives its reader. broken: whether the pipe behind it was closed."""

    broken = False

    def on_broken_pipe(self) -> None:
        """Drop all further output. Rich would end the process, which may be serving."""
        self.quiet = self.broken = True
        _discard(self.file.fileno())

    def forgive(self) -> None:
        """That the pipe was closed is no failure: clears `broken`."""
        self.broken = False


def _discard(descriptor: int) -> None:
    """Point the descriptor to /dev/null, so that flushing the buffer at exit raises nothing."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)


def discard_output() -> None:
    """Drop all further standard output, whose reader is gone."""
    if sys.stdout is not None:
        _discard(sys.stdout.fileno())


# A pipe has no width; a terminal says its own.
out = _Output(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)
err = _Output(stderr=True, highlight=False, soft_wrap=True)


def short(path: Path | str) -> str:
    """The path for messages: relative when it is below the current folder, else absolute."""
    absolute, here = Path(os.path.abspath(path)), Path.cwd()  # noqa: PTH100 - a link stays as it is written
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else str(absolute)


def program(*, absolute: bool = False) -> str:
    """The words that run this gateway in a shell: `gateway` where PATH leads to this one, else its path.
    absolute: for a shell in another folder."""
    called = Path(sys.argv[0])
    written = os.path.abspath if absolute else short
    if called.name != "gateway":  # python -m gateway
        return f"{shlex.quote(written(sys.executable))} -m gateway"
    found = shutil.which("gateway")
    if found is not None and Path(found).resolve() == called.resolve():
        return "gateway"
    return shlex.quote(written(called))


def fail(message: str) -> None:
    """Print an error to standard error."""
    err.print(Text("error: ", style="bold red").append(message, style="not bold default"))


def system_error(error: OSError) -> str:
    """The text of an error: our own where it has one, else its path, the reason and a hint."""
    if error.errno is None:
        return str(error)
    try:
        Path.cwd()
    except FileNotFoundError:
        return "the folder that you are in was removed; cd to one that is there"
    path = f"{error.filename}: " if isinstance(error.filename, str) else ""
    return path + "; ".join(explain(error))


def problems(path: Path | str, found: Iterable[Problem]) -> None:
    """Print each problem to standard error: file and line, path in the document, reason, hint."""
    for problem in found:
        at = f"{path}:{problem.line}" if problem.line else str(path)
        line = Text(at, style="bold").append(f"  {problem.where}\n", style="cyan")
        line.append(f"    {problem.reason}\n", style="red").append(f"    hint: {problem.hint}", style="green")
        err.print(line)


def near(name: str, known: Iterable[str]) -> str:
    """A question after a name that is not known, "" where none is like it."""
    found = difflib.get_close_matches(name, list(known), 1)
    return f" (did you mean {found[0]!r}?)" if found else ""


def amount(size: int) -> str:
    """A number of bytes with its unit, such as `1.5 MB`."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"


def count(number: int, noun: str) -> str:
    """A number with its noun: `1 line`, `1,200 lines`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


_STYLES = {"passed on": "bold green", "refused:": "bold red"}


def pairs(rows: Iterable[tuple[str, str]]) -> Table:
    """Names and values, one a line; an outcome in its colour."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in rows:
        style = next((style for start, style in _STYLES.items() if value.startswith(start)), "")
        table.add_row(name, Text(value, style=style))
    return table
