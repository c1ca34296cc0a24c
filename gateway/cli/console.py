"""Output of the command line for people: tables, problems, progress."""

from __future__ import annotations

import difflib
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from gateway.core.model import CallerRule, Route
from gateway.core.routing.problems import Problem
from gateway.runtime.os_errors import explain

BROKEN_PIPE = 128 + signal.SIGPIPE  # the exit code, as a shell reports it


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


def routes(rows: Sequence[Route[Any, Any]]) -> Table:
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


class Meter:
    """A progress bar on stderr, where that is a terminal; removed when the work is done."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(),
            console=err,
            transient=True,
            redirect_stdout=False,  # standard output stays what the caller made it
            disable=not err.is_interactive,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Meter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """Remove the bar until the next begin, so that others can write to the terminal."""
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None
            if not self._progress.disable:
                self._progress.stop()

    def begin(self, text: str) -> None:
        """Show the next piece of work instead of the one before. text: what is done."""
        self.end()
        if not self._progress.disable:
            self._progress.start()
        self._task = self._progress.add_task(escape(text), total=None, text="")

    def show(self, done: int, total: int | None, text: str = "") -> None:
        """Update the bar, from any thread. total: None when unknown. text: beside the bar."""
        task = self._task
        if task is not None:
            self._progress.update(task, completed=done, total=total, text=text)


def _names(scopes: Iterable[str]) -> str:
    return " ".join(sorted(scopes)) or "a token"


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
