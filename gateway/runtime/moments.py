"""A time, for a person."""

from __future__ import annotations

import time


def moment(seconds: float) -> str:
    """A time since the epoch for a person, with its zone."""
    return time.strftime("%Y-%m-%d %H:%M %z", time.localtime(seconds))
