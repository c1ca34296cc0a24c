"""The process config that a command works with: which file it is, and what is in it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.core.process.settings import ProcessConfig

PLACES = (
    "gateway.conf",
    "config/gateway.conf",
    "/etc/gateway/gateway.conf",
)  # the first that exists is used


def find() -> str | None:
    """The path of the process config that is used when none is named; None when there is none."""
    return next((path for path in PLACES if os.path.lexists(path)), None)


def load(path: str | None) -> ProcessConfig:
    """Read gateway.conf without starting anything. path: None when none was named and none found. Raises
    Problems, OSError."""
    if path is None:
        tried = ", ".join(PLACES[:-1])
        reason = f"there is no process config: looked for {tried} in {Path.cwd()}, and for {PLACES[-1]}"
        raise OSError(f"{reason}; name it with -c, or make one: gateway init")
    if not os.path.lexists(path):
        raise OSError(f"there is no {path}; name the process config with -c, or make one: gateway init")
    from gateway.planes import conf  # only here: --help reads none

    return conf.read(path)
