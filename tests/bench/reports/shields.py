"""The shields as tables."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from tests.bench.reports import report


def shields(found: dict[str, Any]) -> RenderableType:
    """A normal client beside slow ones, by front; and the rest."""
    title = f"A normal client beside {found['slow']} slow ones; gunicorn with {found['threads']} threads"
    shown = report.make_table(
        "", "slow", "alone/s", "beside/s", "kept", "p99 ms", "failed", "most inside", "whole"
    )
    for name, front in found["fronts"].items():
        for kind in ("upload", "download"):
            row = front[kind]
            kept = "" if row["kept"] is None else f"{100 * row['kept']:.0f} %"
            shown.add_row(
                Text(name, style="bold green" if name == "gateway" else "bold"),
                f"{kind}s",
                f"{row['alone_rps']:,.0f}",
                f"{row['rps']:,.0f}",
                kept,
                f"{row['p99_ms']:,.1f}",
                f"{row['failed']:,}",
                str(row["most_inside"]),
                f"{row['slow']['whole']} of {found['slow']}",
            )
    lines = [*_heads(found), *_paced(found["paced_requests"])]
    logs = [found["fronts"]["gateway"], found["slow_heads"], found["paced_requests"], found["seats"]]
    lines += [Text(f"the gateway's log: {line}", style="red") for one in logs for line in one["log"]]
    return Group(report.heading(title), shown, *lines, *report.bars(found))


def _heads(found: dict[str, Any]) -> list[Text]:
    heads = found["slow_heads"]
    probes = [
        f"{name} p50 {heads[name]['p50_ms']:.2f}, p99 {heads[name]['p99_ms']:.2f}"
        for name in ("quiet", "beside")
    ]
    return [
        Text(
            f"{found['heads']:,} slow heads: {_statuses(heads['slow']['statuses'])}; {heads['cpu']:.0f} % CPU"
        ),
        Text(f"  probe, ms: {'; '.join(probes)}; {heads['beside']['failed']} failed"),
    ]


def _paced(row: dict[str, Any]) -> list[Text]:
    reused = "none" if row["reused"] is None else f"{100 * row['reused']:.0f} %"
    text = (
        f"{row['requests']:,} paced requests: {_statuses(row['statuses'])}; on reused connections: {reused}"
    )
    return [Text(text)]


def _statuses(found: dict[str, int]) -> str:
    return ", ".join(f"{count:,} x {status}" for status, count in sorted(found.items()))
