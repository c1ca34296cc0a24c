"""Results as tables: one run, or two side by side."""

from __future__ import annotations

import statistics
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
    how = (
        f"{found['connections']} connections; {found['rounds']} rounds of"
        f" {found['seconds']:g} s; load: {found['generator']}, backend: {found['backend']}"
    )
    shown: list[RenderableType] = [
        heading(f"GET, 150-byte JSON, {how}"),
        contenders(found["contenders"], found["rounds"]),
    ]
    if "post" in found:
        shown += [
            Text(),
            heading(f"POST, {found['post']['bytes']:,} bytes, {how}"),
            contenders(found["post"]["contenders"], found["rounds"]),
        ]
    notes = [f"{name}: {row['does']}" for name, row in found["contenders"].items()]
    notes.append("~ all void: the tested server was not the limit, or something else was; no proof")
    if found["generator"] == "python":
        notes.append(
            "the load generator is Python, slower than what it measures: void turns are its doing;"
            f" for figures that count: {_INSTALL}"
        )
    return Group(*shown, *bars(found), Text("\n".join(notes), style="dim"))


def contenders(rows: dict[str, Any], rounds: int, *, large: bool = False) -> Table:
    """One line for each contender. large: what counts is MiB, not requests."""
    figures = ("MiB/s", "MiB/CPU s") if large else ("requests/s",)
    table = make_table(
        "", *figures, "p50 ms", "p99 ms", "gateway / it", "spread", "server %", "load %", "void"
    )
    for name, row in rows.items():
        mark = "~" if row["void"] == rounds else ""
        paired = "~" if not row["valid_pairs"] and name != "direct" else ""
        ratio = "" if row["ratio"] is None else f"{paired}{row['ratio']:.2f}"
        spread = "" if row["ratio"] is None else f"{row['ratio_min']:.2f}–{row['ratio_max']:.2f}"
        per_cpu = "" if row["mib_per_cpu_s"] is None else f"{row['mib_per_cpu_s']:,.0f}"
        table.add_row(
            Text(name, style="bold green" if name == "gateway" else "bold"),
            *((f"{mark}{row['mib']:,.0f}", per_cpu) if large else (f"{mark}{row['rps']:,.0f}",)),
            f"{mark}{row['p50_ms']:.2f}",
            f"{mark}{row['p99_ms']:.2f}",
            "" if name == "gateway" else ratio,
            "" if name == "gateway" else spread,
            "" if row["cpu"] is None else f"{row['cpu']:.0f}",
            f"{row['load_core']:.0f}",
            Text(f"{row['void']} of {rounds}", style="yellow" if row["void"] else ""),
        )
    return table


def download(found: dict[str, Any]) -> RenderableType:
    """MiB/s of large answers."""
    title = (
        f"GET, {found['bytes'] // 2**20} MiB, {found['at_once']} at once; {found['rounds']} rounds of"
        f" {found['seconds']:g} s; load: {found['generator']}"
    )
    note = "~ void: the load core (backend and generator) was the limit; MiB per CPU second does not mind"
    table = contenders(found["contenders"], found["rounds"], large=True)
    return Group(heading(title), table, *bars(found), Text(note, style="dim"))


def latency(found: dict[str, Any]) -> RenderableType:
    """What each adds to the latency."""
    title = (
        f"{found['rate']:,} requests/s on a schedule; {found['rounds']} rounds of {found['seconds']:g} s;"
        f" load: {found['generator']}"
    )
    shown = make_table("", "requests/s", "p50 ms", "p99 ms", "p50 added", "p99 added", "failed")
    for name, row in found["contenders"].items():
        times = [f"{row[key]:.3f}" for key in ("p50_ms", "p99_ms", "added_p50_ms", "added_p99_ms")]
        failed = Text(f"{row['failed']:,}", style="red" if row["failed"] else "")
        shown.add_row(name, f"{row['rps']:,.0f}", *times, failed)
    return Group(heading(title), shown, *bars(found))


def idle(found: dict[str, Any]) -> RenderableType:
    """Memory of idle connections."""
    shown = make_table("wave", "KiB each", "of the second half", "when all are gone")
    for number, wave in enumerate(found["waves"], 1):
        figures = [f"{wave[key]:.1f}" for key in ("each_kib", "further_kib", "left_kib")]
        shown.add_row(str(number), *figures)
    title = f"{found['connections']:,} idle connections that each served one request"
    return Group(heading(title), shown, *bars(found))


def tls(found: dict[str, Any]) -> RenderableType:
    """TLS with clients."""
    shown = make_table("", "plain", "TLS", "plain a CPU second", "TLS a CPU second", "void")
    for number, turn in enumerate(found["get"], 1):
        figures = [f"{turn[key]:,.0f}" for key in ("plain", "tls", "plain_per_cpu", "tls_per_cpu")]
        shown.add_row(f"round {number}", *figures, turn["void"])
    shaken = ", ".join(f"{name} {count:,.0f}" for name, count in found["handshakes"].items())
    more = f"full handshakes a CPU second: {shaken}; {found['connections']:,} connections with TLS"
    title = "requests/s on kept connections, GET of 150 bytes"
    return Group(heading(title), shown, Text(more, style="dim"), *bars(found))


def shared(found: dict[str, Any]) -> RenderableType:
    """What a limit costs that is shared."""
    shown = make_table("", "requests / CPU second", "ratio")
    for name, row in found["rows"].items():
        shown.add_row(name, f"{row['per_cpu_s']:,.0f}", _number(row["ratio"]))
    title = f"GET with a tenant's limit, {found['rounds']} rounds of {found['seconds']:g} s"
    return Group(heading(title), shown, *bars(found))


def workers(found: dict[str, Any]) -> RenderableType:
    """Two workers beside one process and beside two gateways apart, and their replacement under load."""
    names = {"one": "one process", "workers": "two workers", "apart": "two gateways that share nothing"}
    shown = make_table(
        f"{found['connections']} connections for each process that serves", "requests / CPU second, median"
    )
    for name, turns in found["turns"].items():
        shown.add_row(names[name], f"{statistics.median(turns):,.0f}")
    ratios = make_table("ratio in the same round", "median", "spread")
    for name, row in found["ratios"].items():
        one, _, other = name.partition("/")
        spread = f"{row['min']:.3f}–{row['max']:.3f}"
        ratios.add_row(f"{names[one]} / {names[other]}", f"{row['median']:.3f}", spread)
    done = found["replaced"]
    title = (
        f"Workers, {found['rounds']} rounds of {found['seconds']:g} s;"
        f" {done['served']:,} requests while they were replaced {done['restarts']} times"
    )
    failed = f"{found['failed']:,} requests of the load failed, so that its figures prove nothing"
    note = Text(failed if found["failed"] else "", style="yellow")
    return Group(heading(title), shown, ratios, note, *map(Text, done["failures"][:5]), *bars(found))


def token(found: dict[str, Any]) -> RenderableType:
    """The first verification of a token."""
    shown = make_table("", "gateway µs", "PyJWT alone µs", "ratio")
    for row in found["rows"]:
        times = f"{row['gateway_us']:.1f}", f"{row['pyjwt_us']:.1f}"
        shown.add_row(row["algorithm"], *times, f"{row['ratio']:.2f}")
    return Group(heading(f"First verification, {found['tokens']:,} tokens each, median"), shown, *bars(found))


def bars(found: dict[str, Any]) -> list[Text]:
    """Each bar of a part, met or not, and its moonshot."""
    lines = []
    for one in found.get("bars", []):
        unit = f" {one['unit']}" if one["unit"] else ""
        figure = "nothing measured" if one["found"] is None else f"{one['found']:,.4g}{unit}"
        limit = f"{'at least' if one['least'] else 'at most'} {one['bar']:g}{unit}"
        if one["moonshot"] is not None:
            reached = "met" if one["moonshot_met"] else "not met"
            limit += f"; moonshot {one['moonshot']:g}{unit}: {reached}"
        proof = "" if one["proven"] else " (no proof)"
        lines.append(_verdict(f"{one['text']}: {figure}{proof}", one["met"], limit))
    return lines


def table(found: dict[str, Any]) -> RenderableType:
    """The routing table's cost by size."""
    sizes = list(found["rows"][0]["best_ns"])
    title = f"One match in the routing table: ns, best of {found['repeats']} (median)"
    shown = make_table(
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
    return Group(heading(title), shown, *verdicts)


def reload(found: dict[str, Any]) -> RenderableType:
    """Latency with and without edits, and the time until an edit is live."""
    title = (
        f"Edits of routing.yaml under {found['rate']} requests/s: {found['routes']:,} routes,"
        f" {found['seconds']:g} s of each kind"
    )
    shown = make_table("", "requests", "failed", "p50 ms", "p99 ms", "max ms")
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
    return Group(heading(title), shown, *bars, *failures)


def compare(first: dict[str, Any], second: dict[str, Any]) -> RenderableType:
    """Two runs side by side, and what changed."""
    shown = make_table("", first["when"], second["when"], "change")
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
    parts = ("proxy", "download", "latency", "idle", "tls", "token", "workers", "shields", "shared")
    for part in (*parts, "admission", "isolation", "documents"):
        for one in run.get(part, {}).get("bars", []):
            yield f"{part}: {one['text']}", one["found"]
    for row in run.get("table", {}).get("rows", []):
        for size, cost in row["best_ns"].items():
            yield f"match {row['traffic']} {row['kind']} {int(size):,} ns", cost
    if "reload" in run:
        yield "reload quiet p99 ms", run["reload"]["quiet"]["p99_ms"]
        yield "reload edited p99 ms", run["reload"]["edited"]["p99_ms"]
        yield "reload live s, slowest", run["reload"]["live_max_s"]


def heading(text: str) -> Text:
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


def make_table(*columns: str) -> Table:
    shown = Table(header_style="bold", box=None, pad_edge=False)
    for index, column in enumerate(columns):
        shown.add_column(column, justify="right" if index else "left", no_wrap=True)
    return shown
