"""From rows to a table (CSV) and a chart (the numbers that the SVG template draws). Pure."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

MOST_BARS = 24
MOST_TEXT = 200  # characters of a group's name


@dataclass(frozen=True, slots=True)
class Group:
    name: str
    documents: int
    total: float


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of the chart; lengths in units of the drawing."""

    label: str
    figure: str
    y: int
    width: float
    negative: bool


def summarise(rows: Iterable[dict[str, Any]], group_by: str, value: str) -> list[Group]:
    """Groups, the largest total first. A document without the group is under "(none)"; one whose value is no
    finite number counts as a document and adds nothing. An empty `value` counts documents."""
    totals: dict[str, tuple[int, float]] = {}
    for row in rows:
        name = _name(row.get(group_by))
        documents, total = totals.get(name, (0, 0.0))
        totals[name] = (documents + 1, total + (_number(row.get(value)) if value else 1))
    groups = [Group(name, documents, total) for name, (documents, total) in totals.items()]
    return sorted(groups, key=lambda group: (-group.total, group.name))


def as_csv(groups: Iterable[Group], group_by: str, value: str) -> str:
    """RFC 4180, and safe to open in a spreadsheet."""
    output = io.StringIO()
    writer = csv.writer(output)
    writer.writerow([_inert(group_by), "documents", _inert(f"sum of {value}" if value else "count")])
    for group in groups:
        writer.writerow([_inert(group.name), group.documents, _figure(group.total)])
    return output.getvalue()


def bars(groups: list[Group], width: int, step: int) -> list[Bar]:
    """The first groups as bars, the longest `width` wide, each `step` below the last; the rest in one."""
    shown = groups[:MOST_BARS]
    rest = groups[MOST_BARS:]
    if rest:
        total = math.fsum(group.total for group in rest)
        shown = [*shown, Group(f"{len(rest)} more", sum(group.documents for group in rest), total)]
    longest = max((abs(group.total) for group in shown), default=0) or 1
    return [
        Bar(
            label=group.name if len(group.name) <= 24 else group.name[:23] + "…",
            figure=_figure(group.total),
            y=index * step,
            width=round(abs(group.total) / longest * width, 1),
            negative=group.total < 0,
        )
        for index, group in enumerate(shown)
    ]


def printable(text: str) -> str:
    """Without the characters that XML 1.0 cannot hold, even escaped."""
    return "".join(
        character
        for character in text
        if character in "\t\n\r"
        or " " <= character <= "\ud7ff"
        or "\ue000" <= character <= "\ufffd"
        or character >= "\U00010000"
    )


def _name(value: Any) -> str:
    if value is None or value == "":
        return "(none)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list):
        return "(not a single value)"
    return printable(str(value))[:MOST_TEXT]


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0.0
    try:
        number = float(value)
    except OverflowError:
        return 0.0
    return number if math.isfinite(number) else 0.0


def _figure(total: float) -> str:
    return f"{total:.0f}" if total == int(total) and abs(total) < 1e15 else f"{total:.6g}"


def _inert(text: str) -> str:
    """A spreadsheet runs a cell that starts with one of these; after an apostrophe it is text (OWASP)."""
    return "'" + text if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else text
