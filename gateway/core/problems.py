"""Problems of a config: where, why, and how to mend it; all of them at once."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with the config. line: 1-based, 0 when unknown."""

    path: Path
    reason: str
    mend: str
    line: int = 0

    @property
    def where(self) -> str:
        """The path as text, `routes[2].timeouts.connect`."""
        text = ""
        for step in self.path:
            text += f"[{step}]" if isinstance(step, int) else (f".{step}" if text else step)
        return text or "(the whole file)"

    def at_line(self, line: int) -> Problem:
        return replace(self, line=line)


@dataclass(slots=True)
class Problems(Exception):
    """All problems of one config."""

    items: list[Problem] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{len(self.items)} problem(s) in the routing config"
