"""Instants: inside as seconds since the epoch, outside as RFC 3339 in UTC with microseconds."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta

# RFC 3339 section 5.6: a fraction of any length, and a second of 60 where a leap second may be.
_rfc3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]((?:[01][0-9]|2[0-3]):[0-5][0-9]):([0-5][0-9]|60)"
    r"(?:\.([0-9]+))?([Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DIGITS = 20  # of a fraction that can matter: seconds are kept with 16 digits in all
_DAY = 86400


def now() -> float:
    """This instant, to the microsecond, so that its text is exactly it."""
    return round(time.time(), 6)


def to_text(seconds: float) -> str:
    """`2026-11-22T09:45:18.123456Z`."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")[:-6] + "Z"  # not +00:00


def parse(text: str) -> float | None:
    """Seconds since the epoch of an RFC 3339 date and time; None when it is not one.

    A leap second is the first second of the next day, as POSIX counts; it may be where one was ever inserted:
    at the end of a month in UTC (RFC 3339 section 5.7). Two instants that differ by less than a quarter of a
    microsecond may come out as one.
    """
    found = _rfc3339.fullmatch(text)
    if found is None:
        return None
    date, minute, second, fraction, zone = found.groups()
    leap = second == "60"
    try:
        offset = "+00:00" if zone in "Zz" else zone
        since = datetime.fromisoformat(f"{date}T{minute}:00{offset}") - _EPOCH
        whole = since.days * _DAY + since.seconds + int(second)
        if leap and (whole % _DAY or (_EPOCH + timedelta(seconds=whole)).day != 1):
            return None
    except (ValueError, OverflowError):
        return None
    if not fraction:
        return float(whole)
    digits = fraction[:_DIGITS]
    scale = int(10 ** len(digits))
    return (whole * scale + int(digits)) / scale
