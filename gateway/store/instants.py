"""Instants: inside as seconds since the epoch, outside as RFC 3339 in UTC with microseconds."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

# RFC 3339 section 5.6; a second of 60 is left out, the Python datetime has none.
_rfc3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}"
    r"(\.[0-9]{1,6})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


def now() -> float:
    """This instant, to the microsecond, so that its text is exactly it."""
    return round(time.time(), 6)


def to_text(seconds: float) -> str:
    """`2026-11-22T09:45:18.123456Z`."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse(text: str) -> float | None:
    """Seconds since the epoch of an RFC 3339 date and time; None when it is not one."""
    found = _rfc3339.fullmatch(text)
    if found is None:
        return None
    try:
        zone = "+00:00" if found[2] in "Zz" else found[2]
        return datetime.fromisoformat(text[:10] + "T" + text[11:19] + (found[1] or "") + zone).timestamp()
    except (ValueError, OverflowError):
        return None
