"""A config that was refused: its problems as they are shown, and when it is tried again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.core.routing.problems import Problem

_RETRY = 5.0  # seconds after a failure that may pass; each next one waits twice as long
_MAX_RETRY = 300.0
BUG = Problem(
    (),
    "a bug in the gateway keeps it from being loaded",
    "undo the last edit, and report what the log says",
)
RESTLESS = Problem((), "it changes again and again", "end what writes it, and try again")


@dataclass(frozen=True, slots=True)
class Refusal:
    """What the source said and was refused; the live snapshot stayed as it was. at: seconds since the epoch.
    digest: of the text, "" when it could not be read."""

    at: float
    digest: str
    problems: list[Problem]

    def view(self) -> dict[str, Any]:
        """It as JSON."""
        return {"at": self.at, "digest": self.digest, "problems": [as_dict(one) for one in self.problems]}


class Retry:
    """When to try again what failed for a while: each time later. now: a monotonic clock, in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._at: float | None = None
        self._after = _RETRY

    @property
    def due(self) -> bool:
        """Whether to try it now."""
        return self._at is not None and self._now() >= self._at

    def later(self) -> None:
        """It failed once more."""
        self._at = self._now() + self._after
        self._after = min(2 * self._after, _MAX_RETRY)

    def begins(self) -> None:
        """It is being tried."""
        self._at = None

    def ended(self) -> None:
        """Another try would find the same."""
        self._at, self._after = None, _RETRY


def as_dict(problem: Problem) -> dict[str, Any]:
    """A problem as the admin API and `gateway check --json` show it."""
    return {"path": problem.where, "line": problem.line, "reason": problem.reason, "hint": problem.hint}


def summary(problems: list[Problem]) -> str:
    """The first problem on one line, and how many more there are."""
    first, more = problems[0], len(problems) - 1
    at = f"line {first.line}, {first.where}" if first.line else first.where
    return f"{at}: {first.reason} ({first.hint})" + (f", and {more} more problem(s)" if more else "")


def describe(path: Path | str, problems: list[Problem]) -> str:
    """Problems for the log, one a line: file:line, path, reason, hint."""
    lines = []
    for p in problems:
        at = f"{path}:{p.line}" if p.line else str(path)
        lines.append(f"  {at}: {p.where}: {p.reason} ({p.hint})")
    return "\n".join(lines)
