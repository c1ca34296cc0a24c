"""What the command line shows a person: tables, problems, progress."""

from __future__ import annotations

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

from gateway.core.model import Route
from gateway.core.routing.problems import Problem

BROKEN_PIPE = 128 + signal.SIGPIPE  # the exit code, as a shell tells it


class _Output(Console):
    """broken: nobody reads any more."""

    broken = False

    def on_broken_pipe(self) -> None:
        """Rich would end the process, and with it what it serves."""
        self.quiet = self.broken = True
        _discard(self.file.fileno())


def _discard(descriptor: int) -> None:
    """What is left in the buffer goes nowhere at the end, and without a word."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def discard_output() -> None:
    """Nobody reads standard output any more."""
    if sys.stdout is not None:
        _discard(sys.stdout.fileno())


# A pipe has no width; a terminal says its own.
out = _Output(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)
err = _Output(stderr=True, highlight=False, soft_wrap=True)


def short(path: Path | str) -> str:
    """The path as a person would write it from here: relative when it lies below."""
    absolute, here = Path(os.path.abspath(path)), Path.cwd()  # noqa: PTH100 - a link stays as it is written
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else str(absolute)


def program(*, absolute: bool = False) -> str:
    """What to write in a shell to run this gateway: `gateway` only where the PATH leads to this one, else its
    path. absolute: for a shell that is in another folder than we."""
    called = Path(sys.argv[0])
    written = os.path.abspath if absolute else short
    if called.name != "gateway":  # python -m gateway
        return f"{shlex.quote(written(sys.executable))} -m gateway"
    found = shutil.which("gateway")
    if found is not None and Path(found).resolve() == called.resolve():
        return "gateway"
    return shlex.quote(written(called))


def fail(message: str) -> None:
    """An error, in red where the terminal can."""
    err.print(Text("error: ", style="bold red").append(message, style="not bold default"))


def problems(path: Path | str, found: Iterable[Problem]) -> None:
    """Each problem: where in the file, where in the document, why, and the hint."""
    for problem in found:
        place = f"{path}:{problem.line}" if problem.line else str(path)
        line = Text(place, style="bold").append(f"  {problem.where}\n", style="cyan")
        line.append(f"    {problem.reason}\n", style="red").append(f"    hint: {problem.hint}", style="green")
        err.print(line)


def routes(rows: Sequence[Route[Any]]) -> Table:
    """The compiled routes as a table."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("NAME", "METHODS", "HOST", "PATH", "TARGET", "READ NEEDS", "WRITE NEEDS", "TOTAL"):
        table.add_column(title, overflow="fold")
    for route in rows:
        who = ("public",) * 2 if route.public else (_names(route.read_scopes), _names(route.write_scopes))
        table.add_row(
            route.name,
            " ".join(sorted(route.methods)) or "any",
            route.host or "any",
            Text(route.path, style="cyan"),
            route.target_name,
            *who,
            f"{route.timeouts.total:g} s" if route.timeouts.total else "none",
        )
    return table


def amount(size: int) -> str:
    """Bytes for a person."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"


def count(number: int, noun: str) -> str:
    """`1 line`, `1,200 lines`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


class Meter:
    """How far long work has come: on stderr where it is a terminal, gone when the work is done."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[told]}"),
            TimeElapsedColumn(),
            console=err,
            transient=True,
            redirect_stdout=False,  # what is printed must go where it was sent
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
        """Show nothing until the next begin, so that others can write to the terminal."""
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None
            if not self._progress.disable:
                self._progress.stop()

    def begin(self, text: str) -> None:
        """The next piece of work, instead of the one before."""
        self.end()
        if not self._progress.disable:
            self._progress.start()
        self._task = self._progress.add_task(escape(text), total=None, told="")

    def show(self, done: int, total: int | None, told: str = "") -> None:
        """From any thread. total: None when nobody knows. told: beside the bar."""
        task = self._task
        if task is not None:
            self._progress.update(task, completed=done, total=total, told=told)


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
