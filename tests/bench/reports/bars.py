"""Bars: what was found beside what is asked for."""

from __future__ import annotations

from typing import Any


def bar(
    text: str,
    found: float | None,
    wanted: float,
    moonshot: float | None = None,
    *,
    least: bool = False,
    unit: str = "",
    proven: bool = True,
) -> dict[str, Any]:
    """One line of the verdict. least: the figure must be at least the bar, else at most. found None: nothing
    was measured, so nothing is met. proven False: the measurement was void, so neither is proven."""

    def reaches(limit: float | None) -> bool | None:
        if limit is None:
            return None
        return found is not None and (found >= limit if least else found <= limit)

    return {
        "text": text,
        "found": found,
        "bar": wanted,
        "moonshot": moonshot,
        "least": least,
        "unit": unit,
        "proven": proven,
        "met": reaches(wanted),
        "moonshot_met": reaches(moonshot),
    }
