"""A time, for a person."""

from __future__ import annotations

import time


def moment(seconds: float, *, exact: bool = False) -> str:
    """A time since the epoch for a person, with its zone. exact: to the second."""
    form = "%Y-%m-%d %H:%M:%S %z" if exact else "%Y-%m-%d %H:%M %z"
    return time.strftime(form, time.localtime(seconds))
