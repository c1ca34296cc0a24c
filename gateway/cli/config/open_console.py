"""gateway console."""

from __future__ import annotations

import os
import sys
import webbrowser

from gateway.cli import console
from gateway.cli.config.client import V1
from gateway.cli.config.session import Session, print_json


def run(session: Session) -> int:
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
