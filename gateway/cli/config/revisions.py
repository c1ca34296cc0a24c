"""gateway revisions."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from rich.text import Text

from gateway.cli import console
from gateway.cli.config import show
from gateway.cli.config.client import V1, Refused
from gateway.cli.config.session import Session, print_json
from gateway.runtime.moments import moment

_NOT_WHOLE = "-shown"  # ends the entity tag of a text of which something is left out
_MADE = ("applied", "rolled_back", "unconfirmed", "recovered")  # what makes a revision
_LINES = 5  # of the audit that are looked through for each revision


def run(session: Session) -> int:
    """List the revisions, or show or pin one."""
    arguments = session.arguments
    if arguments.number is None:
        if arguments.text or arguments.pin or arguments.unpin:
            raise ValueError("name the revision: its number is in the list of `gateway revisions`")
        return _list(session)
    path = f"{V1}/revisions/{arguments.number}"
    if arguments.text:
        text = session.client.get(path, {"text": ""}, "application/yaml")
        if text.etag.endswith(_NOT_WHOLE):
            console.err.print("[yellow]note:[/] without what may be a secret: that is not for this operator")
        sys.stdout.flush()
        sys.stdout.buffer.write(text.body)
        return 0
    if arguments.pin or arguments.unpin:
        pinned = session.client.post(f"{path}:{'pin' if arguments.pin else 'unpin'}", {}).json()
        return _one(session, pinned)
    return _one(session, session.client.get(path).json())


def _list(session: Session) -> int:
    arguments = session.arguments
    query = {"limit": arguments.limit, "before": arguments.before}
    page = session.client.get(f"{V1}/revisions", query).json()
    if session.json:
        print_json(page)
        return 0
    changes = _changed(session, page["revisions"])
    titles = "REV", f"WHEN ({time.strftime('%z')})", "AUTHOR", "WHAT"
    show.listing(titles, [_row(one, page, changes.get(one["number"]) or ()) for one in page["revisions"]])
    return 0


def _changed(session: Session, revisions: Sequence[Mapping[str, Any]]) -> dict[int, Any]:
    """What each of them changed, as the audit says: one request, and not one for each but for those that are
    further back."""
    try:
        lines = session.client.get(f"{V1}/audit", {"limit": _LINES * len(revisions) or 1}).json()["lines"]
    except Refused:
        return {}
    found = {one["to"]: one["diff"] for one in lines if one["to"] and one["action"] in _MADE}
    for one in revisions:
        if one["parent"] and not isinstance(found.get(one["number"]), list):
            with suppress(Refused):  # its parent is not kept any more
                path = f"{V1}/revisions/{one['parent']}/diff/{one['number']}"
                found[one["number"]] = session.client.get(path).json()["changes"]
    return found


def _row(
    revision: Mapping[str, Any], page: Mapping[str, Any], changes: Sequence[Any]
) -> tuple[Text | str, ...]:
    what = Text(show.plain(revision["reason"]))
    if revision["restores"]:
        what = Text(f"back to {revision['restores']}", style="magenta").append(
            f": {what.plain}" if what.plain else "", style="default"
        )
    if changes:
        what.append(f"{'; ' if what.plain else ''}{show.in_short(changes)}", style="dim")
    return (
        Text(str(revision["number"]), style="bold"),
        show.moment(revision["at"]),
        Text(show.plain(revision["author"])).append(f" {show.plain(revision['source'])}", style="dim"),
        Text("; ").join(
            part for part in (_marks(revision, page["live"], page["pending"]), what) if part.plain
        ),
    )


def _marks(revision: Mapping[str, Any], live: Any, pending: Any) -> Text:
    """As `live, pinned`; empty for most."""
    number = revision["number"]
    marks = [
        Text("live", style="bold green") if number == live else None,
        Text("pending", style="bold yellow") if pending and pending["number"] == number else None,
        Text("pinned", style="cyan") if revision["pinned"] else None,
    ]
    return Text(", ").join(mark for mark in marks if mark is not None)


def _one(session: Session, revision: Mapping[str, Any]) -> int:
    if session.json:
        print_json(revision)
        return 0
    rows = [
        ("revision", f"{revision['number']}{', pinned' if revision['pinned'] else ''}"),
        ("when", moment(revision["at"])),
        ("author", show.plain(revision["author"])),
        ("from", show.plain(f"{revision['source']} {revision['address'] or ''}")),
        ("reason", show.plain(revision["reason"]) or "none was given"),
        ("parent", str(revision["parent"] or "none: it is the first one")),
        *([("restores", str(revision["restores"]))] if revision["restores"] else []),
        *([("goes back", moment(revision["confirm_by"]))] if revision["confirm_by"] else []),
        ("text", f"{console.amount(revision['size'])}, SHA-256 {revision['digest']}"),
    ]
    console.out.print(console.pairs(rows))
    for line in _changes(session, revision):
        console.out.print(line)
    return 0


def _changes(session: Session, revision: Mapping[str, Any]) -> list[Text]:
    """What it changed; nothing where the one before is not kept any more."""
    if not revision["parent"]:
        return []
    path = f"{V1}/revisions/{revision['parent']}/diff/{revision['number']}"
    try:
        found = session.client.get(path).json()["changes"]
    except Refused:
        return [Text(f"what it changed is not known: revision {revision['parent']} is gone", style="dim")]
    return list(show.changes(found, console.out.width)) or [
        Text("it means what the one before does", style="dim")
    ]
