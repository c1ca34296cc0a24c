"""A config folder of its own for a test: gateway.conf and routing.yaml, on free ports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

EMPTY: dict[str, Any] = {"version": 1}


def write_conf(
    folder: Path,
    routing: str | dict[str, Any] = EMPTY,
    *,
    listen: str = "127.0.0.1:0",
    admin: str = "127.0.0.1:0",
    extra: str = "",
) -> Path:
    """Write both files into `folder`; the data folder is `folder`/var. Gives the path of gateway.conf.

    routing: text, or plain data. Port 0 is any free one. extra: more lines of ini, whole sections.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = routing if isinstance(routing, str) else yaml.safe_dump(routing, sort_keys=False)
    (folder / "routing.yaml").write_text(text, "utf-8")
    conf = folder / "gateway.conf"
    conf.write_text(
        f"[gateway]\nlisten = {listen}\nworkers = 1\nrouting = routing.yaml\ndata = var\ndrain = 5\n\n"
        f"[admin]\nlisten = {admin}\n\n{extra}",
        "utf-8",
    )
    return conf
