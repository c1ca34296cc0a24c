"""gateway nodes | console | reload."""

from __future__ import annotations

import os
import shlex
import sys
import time
import webbrowser
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.text import Text

from gateway.cli import console
from gateway.cli.config import show
from gateway.cli.config.client import V1, Unreachable
from gateway.cli.config.session import Session, print_json
from gateway.core.config.operator import TOKEN_FILE


def run(session: Session) -> int:
    """Show the gateways, and the workers of this one. Exit code 1 when one lags."""
    page = session.client.get(f"{V1}/nodes").json()
    rows = [row for node in page["nodes"] for row in (node, *node.get("workers", ()))]
    lagging = any(one["lags"] for one in rows)
    if session.json:
        print_json(page)
        return 1 if lagging else 0
    titles = "HOST", "PID", "ADMIN", "REV", f"SINCE ({time.strftime('%z')})", "STATE"
    show.listing(titles, map(_row, rows))
    if not page["available"]:
        console.err.print("[yellow]note:[/] the others could not be asked for, so there may be more")
    return 1 if lagging else 0


def _row(one: Mapping[str, Any]) -> tuple[Text | str, ...]:
    return (
        show.plain(one["host"]) if "host" in one else f"  worker {one['worker']}",
        str(one["pid"]),
        show.plain(one.get("admin", "")),
        str(one["revision"] or ""),
        show.moment(one["since"]) if one["since"] else "",
        Text("; ").join(_states(one)),
    )


def _states(one: Mapping[str, Any]) -> list[Text]:
    found = [Text(f"lags: {show.plain(one['why'])}", style="bold red")] if one["lags"] else []
    if "worker" in one:
        return found or [Text("ok", style="green") if one["state"] == "ready" else Text(one["state"])]
    if one["refused"]:
        found.append(Text("refuses what its source has now", style="yellow"))
    if not one["available"]:
        found.append(Text("its source is away", style="yellow"))
    return found or [Text("ok", style="green")]


def open_console(session: Session) -> int:
    """Print a URL that signs in once, and open it where there is a screen."""
    made = session.client.post(f"{V1}/tickets", {}).json()
    url = f"{session.client.url}/#ticket={made['ticket']}"
    if session.json:
        print_json({**made, "url": url})
    else:
        print(url, flush=True)
    if session.arguments.no_browser:
        return 0
    if not _has_screen():
        console.err.print("There is no screen here: open the URL in a browser that reaches it.", style="dim")
    elif not webbrowser.open(url):
        console.err.print("No browser could be opened: open the URL in one.", style="dim")
    return 0


def _has_screen() -> bool:
    """Whether a browser would open a window, and not take this terminal."""
    if os.environ.get("SSH_CONNECTION"):
        return False
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def reload(session: Session) -> int:
    """Have it load all again, and say what came of it. Exit code 1 when a part of it was refused."""
    try:
        outcome = session.client.post(f"{V1}/gateway:reload", {}).json()
    except Unreachable as error:
        if session.arguments.admin is not None:
            raise
        token = shlex.quote(console.short(Path(session.config.data) / TOKEN_FILE))
        text = "if you have just changed [admin] listen, it is still where it was: gateway reload"
        raise Unreachable(f"{error}\n{text} --admin OLD --token-file {token}, or: kill -HUP PID") from None
    if session.json:
        print_json(outcome)
        return 1 if outcome["refused"] else 0
    if outcome["refused"]:
        console.fail(f"what runs goes on as it is: {outcome['refused']}")
    elif outcome["workers"]:
        number = outcome["workers"]
        print("the worker was replaced" if number == 1 else f"all {number} workers were replaced")
    else:
        print("keys and routing config were loaded again; it runs without workers, so its code is the same")
    if outcome["restart"]:
        text = f"counts from the next restart on: {', '.join(outcome['restart'])}"
        console.err.print(f"[yellow]note:[/] {escape(text)}")
    return 1 if outcome["refused"] else 0
