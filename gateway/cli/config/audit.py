"""gateway audit | audit verify."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from gateway.cli import console
from gateway.cli.config import show
from gateway.cli.config.client import V1
from gateway.cli.config.session import Session, print_json
from gateway.config.audit import file as audit_file
from gateway.core.config.audit import parse, verify

_STYLES = {"applied": "green", "rolled_back": "magenta", "confirmed": "green", "unconfirmed": "yellow"}


def run(session: Session) -> int:
    """Show the newest lines, or verify all."""
    if session.arguments.what == "verify":
        return _verify(session)
    arguments = session.arguments
    names = ("limit", "before", "author", "action")
    page = session.client.get(f"{V1}/audit", {name: getattr(arguments, name) for name in names}).json()
    if session.json:
        print_json(page)
        return 0
    show.listing(("SEQ", f"WHEN ({time.strftime('%z')})", "WHO", "WHAT"), map(_row, page["lines"]))
    return 0


def _row(line: Mapping[str, Any]) -> tuple[Text | str, ...]:
    who = Text(show.plain(line["author"] or "nobody known"))
    who.append(f" {show.plain(line['address'] or '')}", style="dim")
    refused = line["outcome"] == "refused"
    said = "refused: " if refused and line["action"] != "refused" else ""
    what = Text(f"{said}{line['action']}", style="bold red" if refused else _STYLES.get(line["action"], ""))
    what.append(_numbers(line), style="bold")
    changes = show.in_short(line["diff"]) if isinstance(line["diff"], list) else ""
    for text, style in ((line["reason"], "default"), (line["detail"], "default"), (changes, "dim")):
        if text:
            what.append(f"; {show.plain(text)}", style=f"not bold {style}")
    return str(line["seq"]), show.moment(line["at"]), who, what


def _numbers(line: Mapping[str, Any]) -> str:
    """The revisions of a line: from which to which, the one that it is about, or what was live meanwhile."""
    before, after = line["from"], line["to"]
    if not after:
        return f" (live: {before})" if before else ""
    if line["action"] == "pinned" or before in (None, 0, after):
        return f" {after}"
    return f" {before} -> {after}"


def _verify(session: Session) -> int:
    files: Sequence[str] = session.arguments.files
    if files:
        number, found = _of_files(files)
    else:
        reply = session.client.get(f"{V1}/audit:verify").json()
        number, found = reply.get("lines"), reply["problems"]
    if session.json:
        print_json({"ok": not found, "problems": found})
        return 1 if found else 0
    for problem in found:
        console.err.print(Text(show.plain(problem), style="red"))
    if found:
        console.err.print(f"[bold red]{console.count(len(found), 'problem')}[/] in the audit")
        return 1
    what = "the audit" if number is None else console.count(number, "line")
    console.out.print(f"[bold green]whole[/]  {what}: nothing was changed, and nothing is missing")
    if files:
        note = "whether lines are missing at the end only the gateway knows: gateway audit verify"
        console.err.print(note, style="dim")
    return 0


def _of_files(files: Sequence[str]) -> tuple[int, list[str]]:
    """How many lines there are, and what is wrong. They may begin in the middle of the audit."""
    lines = list(audit_file.lines_of(audit_file.open_all(map(Path, files))))
    first = next((found["seq"] for line in lines if (found := parse(line.content)) is not None), 1)
    return len(lines), verify(lines, None, first)
