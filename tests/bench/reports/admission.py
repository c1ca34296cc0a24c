"""Admission as tables."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from tests.bench.reports import report


def admission(found: dict[str, Any]) -> RenderableType:
    """The quiet tenant by case, then twenty tenants, the hung backend and the costs."""
    title = (
        f"A quiet tenant beside a noisy one; gunicorn with {found['threads']} threads, views of"
        f" {found['view_ms']} ms; capacity {found['capacity']:.1f}/s"
    )
    shown = report.make_table(
        "", "p50 ms", "p99 ms", "answered", "goodput", "refused", "p99 ms", "front %", "load %", "late ms"
    )
    for row in found["rows"]:
        shown.add_row(
            Text(
                row["name"], style="bold green" if row["front"]["name"] != "direct" and row["p99"] else "bold"
            ),
            _ms(row["p50_ms"]),
            _ms(row["p99_ms"]),
            f"{100 * row['answered']:.1f} %",
            f"{100 * row['of_capacity']:.1f} %",
            f"{row['refused']:,}",
            _ms(row["refused_p99_ms"]),
            f"{row['busy']:.0f}",
            f"{row['load_core']:.0f}",
            f"{row['late_ms']:.1f}",
        )
    notes = [
        "p50, p99: of the quiet tenant's answered requests, since they were due; a client leaves after 10 s",
        "goodput: of all tenants, as a part of the capacity; refused: of the noisy ones",
        "front: CPU of what is in front; load: the core of the app and the clients; late: p99 of how much too"
        " late requests were sent",
    ]
    left_out = [
        Text(f"{name}: left out, since {program} is not installed", style="yellow")
        for name, program in found["left_out"].items()
    ]
    limits = [
        Text(f"{row['name']}: void: {row['void']}", style="yellow") for row in found["rows"] if row["void"]
    ]
    note = Text("\n".join(notes), style="dim")
    return Group(report.heading(title), shown, note, *left_out, *limits, *_rest(found), *report.bars(found))


def _rest(found: dict[str, Any]) -> list[RenderableType]:
    if "shares" not in found:  # only some cases were asked for
        return [Text()]
    shares = report.make_table("20 tenants, weights", "asked/s", "served/s", "off the fair share", "load %")
    for row in found["shares"]:
        asked, served = f"{row['asked_s']:.0f}", f"{row['served_s']:.1f}"
        shares.add_row(row["weights"], asked, served, f"{100 * row['off']:.1f} %", f"{row['load_core']:.0f}")
    overload = report.make_table(
        *("3 x overload, reserve", "s", "served/s", "peak/s", "of the peak", "of capacity"),
        *("refusals p99 ms", "normal p99 ms", "normal again s"),
    )
    for row in found["overload"]:
        figures = f"{row['served_s']:.1f}", f"{row['peak_s']:.1f}", f"{100 * (row['kept'] or 0):.1f} %"
        again = f"{row['normal_again_s']:.1f}"
        capacity = f"{100 * row['of_capacity']:.1f} %"
        overload.add_row(
            row["reserve"],
            f"{row['seconds']:g}",
            *figures,
            capacity,
            _ms(row["refused_p99_ms"]),
            f"{row['normal_p99_ms']:.1f}",
            again,
        )
    hung = found["hung"]
    pairs = ", ".join(f"{one:.1f} and {two:.1f}" for one, two in hung["p99_ms"])
    text = f"Beside a hung backend: p99 of the other in ms, without and with requests to it: {pairs}"
    return [Text(), shares, Text(), overload, Text(), Text(text), Text()]


def _ms(found: float | None) -> str:
    return "none" if found is None else f"{found:,.1f}"
