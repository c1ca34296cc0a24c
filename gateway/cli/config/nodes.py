"""gateway nodes."""

from __future__ import annotations

import time
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
    lagging = any(one["lags"] for one in page["nodes"])
    if session.json:
        print_json(page)
        return 1 if lagging else 0
    table = show.table("HOST", "PID", "ADMIN", "REV", f"SINCE ({time.strftime('%z')})", "STATE", wide="STATE")
    for one in page["nodes"]:
        table.add_row(*_row(one))
    console.out.print(table)
    if not page["available"]:
        console.err.print("[yellow]note:[/] the others could not be asked for, so there may be more")
    return 1 if lagging else 0


def _row(one: Mapping[str, Any]) -> tuple[Text | str, ...]:
    return (
        show.plain(one["host"]),
        str(one["pid"]),
        show.plain(one["admin"]),
        str(one["revision"]),
        show.moment(one["since"]),
        Text("; ").join(_states(one)),
    )


def _states(one: Mapping[str, Any]) -> list[Text]:
    found = [Text(f"lags: {show.plain(one['why'])}", style="bold red")] if one["lags"] else []
    if one["refused"]:
        found.append(Text("refuses what its source has now", style="yellow"))
    if not one["available"]:
        found.append(Text("its source is away", style="yellow"))
    return found or [Text("ok", style="green")]
