"""Where a backend keeps its files."""

from __future__ import annotations

import os
from pathlib import Path


def folder(name: str) -> Path:
    """The folder named by the environment's DATA, else var/<name>; made for the owner alone (0700)."""
    path = Path(os.environ.get("DATA") or Path("var") / name).resolve()
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path
