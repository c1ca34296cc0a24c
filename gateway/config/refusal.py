"""A config that was refused, and its problems as they are shown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.core.routing.problems import Problem


@dataclass(frozen=True, slots=True)
class Refusal:
    """What the source said and was refused; the live snapshot stayed as it was. at: seconds since the epoch.
    digest: of the text, "" when it could not be read."""

    at: float
    digest: str
    problems: list[Problem]


def as_dict(problem: Problem) -> dict[str, Any]:
    """A problem as the admin API and `gateway check --json` show it."""
    return {"path": problem.where, "line": problem.line, "reason": problem.reason, "hint": problem.hint}


def describe(path: Path | str, problems: list[Problem]) -> str:
    """Problems for the log, one a line: file:line, path, reason, hint."""
    lines = []
    for p in problems:
        at = f"{path}:{p.line}" if p.line else str(path)
        lines.append(f"  {at}: {p.where}: {p.reason} ({p.hint})")
    return "\n".join(lines)
