"""The progress of a command that takes a while."""

from __future__ import annotations

from types import TracebackType

from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from gateway.cli import console


class Meter:
    """A progress bar on stderr, where that is a terminal; removed when the work is done."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(),
            console=console.err,
            transient=True,
            redirect_stdout=False,  # standard output stays what the caller made it
            disable=not console.err.is_interactive,
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
