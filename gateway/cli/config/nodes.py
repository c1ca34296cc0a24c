"""gateway nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from gateway.cli import console
from gateway.cli.config import show
from gateway.cli.config.client import V1
from gateway.cli.config.session import Session, print_json


def run(session: Session) -> int:
    """Show the processes. Exit code 1 when one lags."""
    page = session.client.get(f"{V1}/nodes").json()
    lagging = [one for one in page["nodes"] if one.get("lags")]
    if session.json:
        print_json(page)
        return 1 if lagging else 0
    table = show.table("HOST", "PID", "REVISION", "SINCE", "SEEN", "", wide="HOST")
    for one in page["nodes"]:
        table.add_row(*_row(one))
    console.out.print(table)
    return 1 if lagging else 0


def _row(one: Mapping[str, Any]) -> tuple[Text | str, ...]:
    state = Text("lags", style="bold red") if one.get("lags") else Text("")
    return (
        show.plain(one["host"]),
        str(one["pid"]),
        str(one["revision"]),
        show.moment(one["since"]),
        show.moment(one["seen"]),
        state,
    )
