"""Results as tables: one run, or two side by side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

_INSTALL = "apt install nginx haproxy caddy wrk"


def machine(found: dict[str, Any]) -> RenderableType:
    """What was measured on, and what takes part."""
    programs = ("nginx", "haproxy", "caddy", "wrk", "h2load")
    versions = [f"{name} {found[name]}" for name in programs if found.get(name)]
    ours = [f"gateway {found['gateway']}", f"Python {found['python']}", f"aiohttp {found['aiohttp']}"]
    lines = [
        f"{found['cores']} cores, {found['cpu']}, Linux {found['kernel']}",
        ", ".join(ours + versions),
    ]
    absent = [name for name in ("nginx", "haproxy", "caddy", "wrk") if not found.get(name)]
    if absent:
        lines.append(f"not installed, left out: {', '.join(absent)}; to install: {_INSTALL}")
    return Text("\n".join(lines), style="dim")


def proxy(found: dict[str, Any]) -> RenderableType:
    """Requests per second, latency and ratios of all contenders."""
    title = (
        f"GET, 150-byte JSON, {found['connections']} connections; {found['rounds']} rounds of"
        f" {found['seconds']:g} s; load: {found['generator']}, backend: {found['backend']}"
    )
    table = _table(
        "", "requests/s", "p50 ms", "p99 ms", "gateway / it", "spread", "server %", "load %", "void"
    )
    for name, row in found["contenders"].items():
        ceiling = name == "direct"
        unproven = row["void"] == found["rounds"]
        mark = "~" if unproven else ""
        spread = f"{row['ratio_min']:.2f}–{row['ratio_max']:.2f}"
        paired = "~" if not row["valid_pairs"] and not ceiling else ""
        table.add_row(
            Text(name, style="bold green" if name == "gateway" else "bold"),
            f"{mark}{row['rps']:,.0f}",
            f"{mark}{row['p50_ms']:.2f}",
            f"{mark}{row['p99_ms']:.2f}",
            "" if name == "gateway" else f"{paired}{row['ratio']:.2f}",
            "" if name == "gateway" else spread,
            "" if row["cpu"] is None else f"{row['cpu']:.0f}",
            f"{row['load_core']:.0f}",
            Text(f"{row['void']} of {found['rounds']}", style="yellow" if row["void"] else ""),
        )
    notes = [f"{name}: {row['does']}" for name, row in found["contenders"].items()]
    notes.append("~ all void: the tested server was not the limit, or something else was; no proof")
    if found["generator"] == "python":
        notes.append(
            "the load generator is Python, slower than what it measures: void turns are its doing;"
            f" for figures that count: {_INSTALL}"
        )
    return Group(_title(title), table, Text("\n".join(notes), style="dim"))


def table(found: dict[str, Any]) -> RenderableType:
    """The routing table's cost by size."""
    sizes = list(found["rows"][0]["best_ns"])
    title = f"One match in the routing table: ns, best of {found['repeats']} (median)"
    shown = _table(
        "traffic",
        "route",
        *(f"{int(size):,} routes" for size in sizes),
        "ratio",
    )
    for row in found["rows"]:
        cells = [f"{row['best_ns'][size]:,.0f} ({row['median_ns'][size]:,.0f})" for size in sizes]
        style = "green" if row["ratio"] <= found["bar"] else "red"
        shown.add_row(row["traffic"], row["kind"], *cells, Text(f"{row['ratio']:.2f}", style=style))
    verdicts = [
        _verdict(f"{traffic}: worst ratio {worst:.2f}", worst <= found["bar"], f"at most {found['bar']}")
        for traffic, worst in found["worst_ratio"].items()
    ]
    return Group(_title(title), shown, *verdicts)


def reload(found: dict[str, Any]) -> RenderableType:
    """Latency with and without edits, and the time until an edit is live."""
    title = (
        f"Edits of routing.yaml under {found['rate']} requests/s: {found['routes']:,} routes,"
        f" {found['seconds']:g} s of each kind"
    )
    shown = _table("", "requests", "failed", "p50 ms", "p99 ms", "max ms")
    for name in ("quiet", "edited"):
        row = found[name]
        times = [f"{row[key]:.1f}" for key in ("p50_ms", "p99_ms", "max_ms")]
        failed = Text(f"{row['failed']:,}", style="red" if row["failed"] else "")
        shown.add_row(name, f"{row['requests']:,}", failed, *times)
    rise, live = found["p99_rise_ms"], found["live_max_s"]
    bars = [
        _verdict(
            f"p99 rises by {rise:.1f} ms",
            rise <= found["bar_rise_ms"],
            f"at most {found['bar_rise_ms']:g} ms",
        )
    ]
    if live is None:
        bars.append(_verdict("no edit went live", False, "each one"))
    else:
        text = (
            f"{found['edits']} edits live within {found['live_median_s']:.2f} s (median), {live:.2f} s (all)"
        )
        bars.append(_verdict(text, live <= found["bar_live_s"], f"at most {found['bar_live_s']:g} s"))
    failures = [
        Text(f"failed: {text}", style="red") for row in ("quiet", "edited") for text in found[row]["failures"]
    ]
    return Group(_title(title), shown, *bars, *failures)


def compare(first: dict[str, Any], second: dict[str, Any]) -> RenderableType:
    """Two runs side by side, and what changed."""
    shown = _table("", first["when"], second["when"], "change")
    ours, theirs = dict(_figures(first)), dict(_figures(second))
    for name in [*ours, *(name for name in theirs if name not in ours)]:
        one, two = ours.get(name), theirs.get(name)
        change = f"{100 * (two / one - 1):+.1f} %" if one and two is not None else ""
        shown.add_row(name, _number(one), _number(two), change)
    same = all(first["machine"].get(key) == second["machine"].get(key) for key in ("cpu", "cores"))
    note = "" if same else "The machines differ: compare the ratios, nothing else."
    return Group(shown, Text(note, style="yellow"))


def _figures(run: dict[str, Any]) -> Iterator[tuple[str, float | None]]:
    for name, row in run.get("proxy", {}).get("contenders", {}).items():
        yield f"{name} requests/s", row["rps"]
        yield f"{name} p50 ms", row["p50_ms"]
        yield f"{name} p99 ms", row["p99_ms"]
        if name != "gateway":
            yield f"gateway / {name}", row["ratio"]
    for row in run.get("table", {}).get("rows", []):
        for size, cost in row["best_ns"].items():
            yield f"match {row['traffic']} {row['kind']} {int(size):,} ns", cost
    if "reload" in run:
        yield "reload quiet p99 ms", run["reload"]["quiet"]["p99_ms"]
        yield "reload edited p99 ms", run["reload"]["edited"]["p99_ms"]
        yield "reload live s, slowest", run["reload"]["live_max_s"]


def _title(text: str) -> Text:
    return Text(text, style="bold")


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _verdict(text: str, met: bool, bar: str) -> Text:
    style = "bold green" if met else "bold red"
    return Text("met     " if met else "not met ", style=style).append(
        f"{text}; the bar: {bar}", style="not bold default"
    )


def _table(*columns: str) -> Table:
    shown = Table(header_style="bold", box=None, pad_edge=False)
    for index, column in enumerate(columns):
        shown.add_column(column, justify="right" if index else "left", no_wrap=True)
    return shown
