"""The quiet tenant's latency over time as an SVG, readable on a light page and on a dark one."""

from __future__ import annotations

import math
from html import escape

Answers = list[tuple[float, float, int]]  # due in s, ms, status

_WIDTH, _HEIGHT = 860, 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 700, 64, 380
_LEAST, _MOST = 30.0, 15_000.0  # ms
_TICKS = {50: "50 ms", 100: "100 ms", 500: "0.5 s", 1000: "1 s", 5000: "5 s", 10_000: "10 s"}
_BETWEEN = 17.0  # between two labels, at least
# Okabe and Ito's colours, which the colour-blind tell apart; on dark pages the lighter ones.
_COLOURS = [("#0072b2", "#56b4e9"), ("#d55e00", "#ff9a4d"), ("#009e73", "#3fd0a4"), ("#8a5c87", "#dd9fcb")]
_STYLE = """
 text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #24292f }
 .page { fill: #ffffff } .soft { fill: #59636e } .title { font-size: 15px; font-weight: 600 }
 .grid { stroke: #d8dee4 } .name { font-weight: 600 } .none { stroke-width: 1.6; fill: none }
"""
_DARK = """
  text { fill: #e6edf3 } .page { fill: #0d1117 } .soft { fill: #9198a1 } .grid { stroke: #30363d }
"""


def draw(series: dict[str, Answers], dropped: float) -> str:
    """The picture. series: by front; a request without a good answer is a cross, when it was given up or
    refused. dropped: seconds at the start that the figures leave out."""
    seconds = min(max((row[0] for row in rows), default=1.0) for rows in series.values())
    width = (_RIGHT - _LEFT) / seconds

    def x(due: float) -> float:
        return _LEFT + due * width

    parts = [*_frame(seconds, x(dropped) if dropped < seconds else None, width)]
    ends = []
    for number, (name, rows) in enumerate(series.items()):
        shown = [row for row in rows if row[0] <= seconds]
        line, crosses = [], []
        for due, ms, status in shown:
            if status == 200:
                line.append(f"{x(due):.1f},{_y(ms):.1f}")
            else:
                crosses.append(f"M{x(due) - 3:.1f} {_y(ms) - 3:.1f}l6 6m0 -6l-6 6")
        parts.append(f'<polyline class="s{number} none" points="{" ".join(line)}"/>')
        if crosses:
            parts.append(f'<path class="s{number} none" d="{"".join(crosses)}"/>')
        last = [ms for _, ms, _ in shown[-10:]]
        ends.append((_y(sum(last) / len(last)) if last else _BOTTOM, number, name))
    parts += _names(ends)
    return _document(parts, len(series))


def _frame(seconds: float, measured: float | None, width: float) -> list[str]:
    parts = [
        '<text class="title" x="20" y="26">A quiet tenant (10 requests/s) beside a noisy one (400/s)</text>',
        '<text class="soft" x="20" y="46">its latency, log scale; the backend can do about 160/s;'
        " × refused or given up</text>",
    ]
    for ms, label in _TICKS.items():
        y = _y(ms)
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{_RIGHT}"/>')
        parts.append(f'<text class="soft" text-anchor="end" x="{_LEFT - 8}" y="{y + 4:.1f}">{label}</text>')
    for second in range(0, int(seconds) + 1, 5):
        at = _LEFT + second * width
        parts.append(
            f'<text class="soft" text-anchor="middle" x="{at:.1f}" y="{_BOTTOM + 20}">{second} s</text>'
        )
    middle = (_LEFT + _RIGHT) / 2
    parts.append(
        f'<text class="soft" text-anchor="middle" x="{middle}" y="{_BOTTOM + 42}">since both began</text>'
    )
    if measured is not None:
        parts.append(
            f'<path class="grid" stroke-dasharray="4 4" d="M{measured:.1f} {_TOP}V{_BOTTOM}"/>'
            f'<text class="soft" x="{measured + 6:.1f}" y="{_BOTTOM - 6}">the figures begin here</text>'
        )
    return parts


def _names(ends: list[tuple[float, int, str]]) -> list[str]:
    """Each name beside the end of its line, none over another."""
    parts, free = [], -math.inf
    for y, number, name in sorted(ends):
        free = max(y, free + _BETWEEN)
        place = f'x="{_RIGHT + 10}" y="{free + 4:.1f}"'
        parts.append(f'<text class="t{number} name" {place}>{escape(name)}</text>')
    return parts


def _y(ms: float) -> float:
    share = math.log(min(max(ms, _LEAST), _MOST) / _LEAST) / math.log(_MOST / _LEAST)
    return _BOTTOM - share * (_BOTTOM - _TOP)


def _document(parts: list[str], count: int) -> str:
    colours = [_COLOURS[number % len(_COLOURS)] for number in range(count)]
    light = "".join(f" .s{n} {{ stroke: {a} }} .t{n} {{ fill: {a} }}\n" for n, (a, _) in enumerate(colours))
    dark = "".join(f"  .s{n} {{ stroke: {b} }} .t{n} {{ fill: {b} }}\n" for n, (_, b) in enumerate(colours))
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
        f' width="{_WIDTH}" height="{_HEIGHT}" role="img">\n'
        "<title>The quiet tenant's latency over time</title>\n"
        f"<style>{_STYLE}{light} @media (prefers-color-scheme: dark) {{{_DARK}{dark} }}\n</style>\n"
        f'<rect class="page" width="{_WIDTH}" height="{_HEIGHT}" rx="6"/>\n{body}\n</svg>\n'
    )
