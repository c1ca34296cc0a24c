"""The documents as tables."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from tests.bench.reports import report


def documents(found: dict[str, Any]) -> RenderableType:
    """What each load gave, then the rest as lines."""
    title = (
        f"Documents: {found['documents']:,} filled in {found['fill_s']:.0f} s;"
        f" {found['rounds']} rounds of {found['seconds']:g} s"
    )
    busy_columns = "server %", "load %"
    shown = report.make_table("", "clients", "requests/s", "p50 ms", "p99 ms", "ratio", *busy_columns)
    clients = found["connections"]
    parts = [
        ("", clients, found["proxied"], "rps"),
        *(("", clients, part, "rps") for part in found["kinto"].values()),
        ("page by an indexed field, ", 1, found["large"], "p99"),
        ("by id, page ", 1, found["deep"], "p50"),
        ("by an indexed field, page ", 1, found["deep_sorted"], "p50"),
    ]
    for prefix, count, part, figure in parts:
        ratio = part["ratios"].get(figure)
        text = "" if ratio is None else f"{figure} {ratio:.2f}"
        for number, (name, row) in enumerate(part["rows"].items()):
            figures = [f"{row['rps']:,.0f}", f"{row['p50_ms']:.2f}", f"{row['p99_ms']:.2f}"]
            busy = [f"{row['server']:.0f}", f"{row['load_core']:.0f}"]
            shown.add_row(prefix + name, str(count), *figures, "" if number else text, *busy)
    lines = [*_lines(found), *_failed(parts)]
    return Group(report.heading(title), shown, *lines, *report.bars(found))


def _lines(found: dict[str, Any]) -> list[Text]:
    lines = []
    for clients, row in found["writes"].items():
        over_http = found["created"][clients]
        lines.append(
            f"create, {clients} clients: {row['store']:,.0f}/s in the store; {over_http['rps']:,.0f}/s over"
            f" HTTP ({over_http['errors']} failed); bare sqlite3: {row['bare']:,.0f}/s"
        )
    export, events = found["export"], found["events"]
    lines.append(
        f"export of {export['mib']:,.0f} MiB: {export['export']:,.0f} MiB/s;"
        f" bare: {export['bare']:,.0f} MiB/s; the gateway grew by {export['grown_mib']:.1f} MiB"
    )
    for name, text in (("through", "sent through the gateway"), ("other", "committed by another process")):
        times = ", ".join(f"{key.removesuffix('_ms')} {value:.1f}" for key, value in events[name].items())
        lines.append(f"events at {events['subscribers']} subscribers, ms since the write was {text}: {times}")
    if found["missing"]:
        lines.append(f"without Kinto: {found['missing']}")
    return [Text(line) for line in lines]


def _failed(parts: list[tuple[str, int, dict[str, Any], str]]) -> list[Text]:
    return [
        Text(f"failed: {prefix}{name}: {row['errors']}", style="red")
        for prefix, _, part, _ in parts
        for name, row in part["rows"].items()
        if row["errors"]
    ]
