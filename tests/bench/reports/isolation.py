"""The attacks as one table."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from tests.bench.parts.isolation import GROWTH_BAR, LEFT_BAR, P99_BAR
from tests.bench.reports import report


def isolation(found: dict[str, Any]) -> RenderableType:
    """What the third tenant saw of each attack."""
    title = (
        f"A third tenant's reads, pages and proxied GETs ({found['rate']:g}/s of each) beside each attack of"
        f" {found['seconds']:g} s"
    )
    shown = report.make_table("attack", "p50 ms", "p99 ms", "max ms", "failed", "memory MiB", "later")
    shown.columns[0].no_wrap = False
    for row in found["rows"]:
        failed = f"{row['failed']:,}" + (f" {row['statuses']}" if row["statuses"] else "")
        shown.add_row(
            row["name"],
            f"{row['p50_ms']:.1f}",
            _judged(row["p99_ms"], P99_BAR, ".1f"),
            f"{row['max_ms']:.1f}",
            Text(failed, style="red" if row["failed"] else ""),
            _judged(row["growth_mib"], GROWTH_BAR, "+.0f"),
            _judged(row["left_mib"], LEFT_BAR, "+.0f"),
        )
    lines = [Text(f"{row['name']}: {line}", style="red") for row in found["rows"] for line in row["log"]]
    lines += [
        Text(f"{row['name']}, the driver: {line}", style="yellow")
        for row in found["rows"]
        for line in row["driver"]
    ]
    return Group(report.heading(title), shown, *lines, *report.bars(found))


def _judged(value: float, bar: float, form: str) -> Text:
    return Text(format(value, form), style="red" if value > bar else "")
