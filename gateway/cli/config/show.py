"""How changes, rehearsals, revisions and problems look on a terminal of 80 columns."""

from __future__ import annotations

import difflib
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from gateway.cli import console
from gateway.core.redact import escape_controls

_SIGNS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}
_ONE = {"routes": "route", "backends": "backend", "tenants": "tenant", "issuers": "issuer"}
_KINDS = {
    "refused": ("bold red", "would be refused that was served"),
    "allowed": ("yellow", "would be served that was refused"),
    "rerouted": ("bold yellow", "would go another way: to another route, backend or address"),
    "limited": ("yellow", "would have other limits"),
}
_FEW = 20  # requests whose answers say little about those that come
_REQUEST = 100  # characters of a request line
_COLUMN = 28  # characters of the longest path that the values beside it are aligned to
_MOST_IN_SHORT = 3  # objects that a line of the list of revisions names
_REASON = 60  # characters of a reason where there are others beside it
_Change = Mapping[str, Any]


def plain(value: Any) -> str:
    """What others wrote, as a terminal may show it: in one line, control characters escaped."""
    return " ".join(escape_controls(str(value)).split())


def short(text: str, longest: int) -> str:
    """A text in one line of so many characters at most."""
    text = plain(text)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def moment(seconds: float) -> str:
    """A time in this machine's zone, to the second; its year where it is another."""
    at = time.localtime(seconds)
    year = "" if at.tm_year == time.localtime().tm_year else "%Y-"
    return time.strftime(f"{year}%m-%d %H:%M:%S", at)


# --- changes --------------------------------------------------------------------------------------


def changes(found: Iterable[_Change], width: int) -> Iterator[Text]:
    """The changes by meaning, a line for each object and each of its fields. width: of the terminal; what
    does not fit in has a line for each side."""
    for change in found:
        sign, style = _SIGNS[change["action"]]
        renamed = f"  (as {plain(change['renamed'])})" if change.get("renamed") else ""
        yield Text(f"{sign} {named(change)}", style=f"bold {style}").append(renamed, style="dim")
        column = min(max((len(plain(one["path"])) for one in change["fields"]), default=0), _COLUMN)
        for one in change["fields"]:
            yield from _field(one, change["action"], column, width)


def named(change: _Change) -> str:
    """The object, as `route orders`."""
    kind = _ONE.get(change["kind"], "setting")
    return f"{kind} {plain(change['name']) or '(the whole file)'}"


def _field(one: Mapping[str, Any], action: str, column: int, width: int) -> Iterator[Text]:
    before, after, path = one["before"], one["after"], plain(one["path"])
    if action == "changed":
        action = "added" if before is None else "removed" if after is None else "changed"
    sign, style = _SIGNS[action]
    head = Text(f"    {sign} ", style=style)
    if path:
        head.append(f"{path.ljust(column)}  ", style="default")
    if action != "changed":
        yield head.append(_value(after if action == "added" else before), style)
        return
    line = head.copy().append(_value(before), "red").append(" -> ", "dim").append(_value(after), "green")
    if len(line) <= width:
        yield line
        return
    head.rstrip()
    yield head
    yield Text(f"        - {_value(before)}", style="red")
    yield Text(f"        + {_value(after)}", style="green")


def _value(value: Any) -> str:
    return plain(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def in_short(found: Sequence[_Change]) -> str:
    """The changes in a few words, as `~route orders +backend new`."""
    words = [_word(one) for one in found if not (one.get("renamed") and one["action"] == "added")]
    words, more = words[:_MOST_IN_SHORT], len(words) - _MOST_IN_SHORT
    return ", ".join([*words, f"and {more} more"] if more > 0 else words)


def _word(change: _Change) -> str:
    if change.get("renamed"):  # its other side is not shown
        return f"~{named(change)} -> {plain(change['renamed'])}"
    return f"{_SIGNS[change['action']][0]}{named(change)}"


def lines(before: str, after: str, names: tuple[str, str]) -> list[str]:
    """A unified diff, as diff -u gives it; nothing for equal texts."""
    old, new = (text.splitlines(keepends=True) for text in (before, after))
    found = []
    for line in difflib.unified_diff(old, new, *names):
        found.append(line.rstrip("\n"))
        if not line.endswith("\n"):
            found.append("\\ No newline at end of file")
    return found


def coloured(line: str) -> Text:
    """A line of a unified diff."""
    if line.startswith(("+++", "---")):
        return Text(escape_controls(line), style="bold")
    style = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
    return Text(escape_controls(line), style=style)


# --- rehearsal ------------------------------------------------------------------------------------


def rehearsal(outcome: Mapping[str, Any]) -> Iterator[Text]:
    """What the config would do to the last requests."""
    number = outcome["requests"]
    if not number:
        yield Text(
            "rehearsal: no request was recorded since the gateway started: nothing can be said", "yellow"
        )
        return
    kinds = {kind: one for kind, one in outcome["kinds"].items() if one["count"]}
    unknown = outcome.get("unknown") or []
    title = Text("rehearsal: ", style="bold").append(
        f"the last {console.count(number, 'request')}, since {moment(outcome['since'])}:", style="not bold"
    )
    if not kinds and not unknown:
        few = " (too few to say much)" if number < _FEW else ""
        yield title.append(f" all would be answered as they were{few}", style="not bold green")
        return
    yield title
    for kind, one in kinds.items():
        style, says = _KINDS.get(kind, ("yellow", kind))
        yield Text(f"  {one['count']:,} {says}", style=style)
        for example in one["examples"]:
            yield from _example(kind, example)
    for one in unknown:
        yield Text(f"  {one['count']:,} not known: {plain(one['reason'])}", style="dim")


def _example(kind: str, example: Mapping[str, Any]) -> Iterator[Text]:
    times = f" ×{example['count']:,}" if example["count"] > 1 else ""
    tenant = f"  tenant {plain(example['tenant'])}" if example["tenant"] else ""
    request = f"{example['method']} {example['host'] or ''}{example['path']}"
    yield Text(f"    {short(request, _REQUEST)}").append(f"{tenant}{times}", style="dim")
    before, after = example["before"], example["after"]
    line = Text("      ").append(_outcome(before), style="dim").append(" -> ").append(_outcome(after))
    if kind == "rerouted" and all(before[key] == after[key] for key in ("route", "target")):
        line.append(" (at other addresses, or with another path or Host)", style="dim")
    if after["detail"]:
        line.append(f" ({plain(after['detail'])})", style="dim")
    yield line
    if after["status"]:
        return  # what is refused has no limits
    for name in sorted(before["limits"].keys() | after["limits"].keys()):
        was, now = (_value(side["limits"].get(name, "none")) for side in (before, after))
        if was != now:
            yield (
                Text(f"      limit of {plain(name)}: ").append(was, "red").append(" -> ").append(now, "green")
            )


def _outcome(side: Mapping[str, Any]) -> str:
    """As `200 by docs to catalog`, or `404 no_route`."""
    words = [str(side[key]) for key in ("status", "code") if side[key]] or ["served"]
    words += [f"{word} {side[key]}" for word, key in (("by", "route"), ("to", "target")) if side[key]]
    return plain(" ".join(words))


# --- revisions ------------------------------------------------------------------------------------


def by_whom(revision: Mapping[str, Any]) -> str:
    """As `15 by alice, 2026-11-28 14:02:11: "why"`."""
    reason = short(revision["reason"], _REASON)
    why = f": {reason!r}" if reason else ""
    return f"{revision['number']} by {plain(revision['author'])}, {moment(revision['at'])}{why}"


def listing(titles: Sequence[str], rows: Iterable[Sequence[Text | str]]) -> None:
    """Print a table, whose last column gives way on a narrow terminal. In a pipe a row is one line, neither
    wrapped nor filled up at its end."""
    if console.out.is_terminal:
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for title in titles:
            table.add_column(title, overflow="fold", no_wrap=title != titles[-1], ratio=None)
        for row in rows:
            table.add_row(*row)
        console.out.print(table)
        return
    cells = [[str(cell) for cell in row] for row in (titles, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        console.out.print(Text(line.rstrip()), soft_wrap=True)
