"""Problems of a config: each with its path, line, reason and hint."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with the config. reason: why it is refused. hint: what to write or to do. line:
    1-based, 0 when unknown."""

    path: Path
    reason: str
    hint: str
    line: int = 0

    @property
    def where(self) -> str:
        """The path as text, `routes[2].timeouts.connect`."""
        text = ""
        for step in self.path:
            text += f"[{step}]" if isinstance(step, int) else (f".{step}" if text else step)
        return text or "(the whole file)"

    def at_line(self, line: int) -> Problem:
        """The same problem, at a line of the text: 1-based."""
        return replace(self, line=line)


@dataclass(slots=True)
class Problems(Exception):
    """All problems of one config."""

    items: list[Problem] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{len(self.items)} problem(s) in the routing config"


def by_line(problems: Iterable[Problem]) -> list[Problem]:
    """The problems in the order of their lines."""
    return sorted(problems, key=lambda problem: problem.line)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question before a hint, about a name that is not known; "" where none is like it."""
    near = difflib.get_close_matches(name, list(known), 1)
    return f"did you mean {near[0]}? " if near else ""


class Wrong(ValueError):
    """A value that is not accepted.

    reason: the rest of a sentence that begins with the value (`is not a name`). hint: what is accepted, or
    what to do. check: the function that refused the value. candidates: values that may have been meant, the
    likeliest first; read only when `example` is called. secret: whether the value may be a secret, so
    that it is not shown.
    """

    def __init__(
        self,
        reason: str,
        hint: str = "",
        check: Callable[[Any], object] | None = None,
        candidates: Iterable[Any] = (),
        *,
        secret: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint
        self.secret = secret
        self._check = check
        self._candidates = candidates

    def example(self) -> Any:
        """The first candidate that is accepted; None without one."""
        check = self._check
        if check is None:
            return None
        for candidate in self._candidates:
            try:
                check(candidate)
            except ValueError:
                continue
            return candidate
        return None
