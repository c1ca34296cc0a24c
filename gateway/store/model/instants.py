"""Instants: internally seconds since the epoch, in representations RFC 3339 in UTC with microseconds."""

from __future__ import annotations

import re
import time
from datetime import MINYEAR, UTC, date, datetime

# RFC 3339 section 5.6: any year of four digits, a fraction of any length, and a second of 60 where a leap
# second may be.
_rfc3339 = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9]|60)"
    r"(?:\.([0-9]+))?(?:[Zz]|([+-])([01][0-9]|2[0-3]):([0-5][0-9]))"
)
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_CYCLE_YEARS = 400
_CYCLE_DAYS = 146_097
_LEAP = 60
_DIGITS = 20  # of a fraction that can matter: a double has 16 digits in all
_DAY = 86400


def now() -> float:
    """The current instant, rounded to the microsecond, so that its text is exact."""
    return round(time.time(), 6)


def to_text(seconds: float) -> str:
    """Seconds since the epoch as text: `2026-11-22T09:45:18.123456Z`."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")[:-6] + "Z"  # not +00:00


def parse(text: str) -> float | None:
    """Seconds since the epoch of an RFC 3339 date and time; None when it is not one.

    A leap second is the first second of the next day, as POSIX counts; it is accepted where one may be
    inserted: at the end of a month in UTC (RFC 3339 section 5.7). Two instants that differ by less than a
    quarter of a microsecond may become one.
    """
    found = _rfc3339.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second = map(int, found.groups()[:6])
    fraction, sign, hours, minutes = found.groups()[6:]
    days = _days(year, month, day)
    if days is None:
        return None
    whole = days * _DAY + hour * 3600 + minute * 60 + second
    if sign is not None:
        offset = int(hours) * 3600 + int(minutes) * 60
        whole += offset if sign == "-" else -offset
    if second == _LEAP and (whole % _DAY or not _begins_month(whole // _DAY)):
        return None
    if not fraction:
        return float(whole)
    digits = fraction[:_DIGITS]
    scale = int(10 ** len(digits))
    return (whole * scale + int(digits)) / scale


def _days(year: int, month: int, day: int) -> int | None:
    """Days since the epoch of a date of the Gregorian calendar, from year 0 on, which `date` does not know;
    None when there is no such date. The calendar repeats every 400 years."""
    before = year < MINYEAR
    try:
        days = date(year + _CYCLE_YEARS if before else year, month, day).toordinal() - _EPOCH_DAY
    except ValueError:
        return None
    return days - _CYCLE_DAYS if before else days


def _begins_month(days: int) -> bool:
    """Whether this day since the epoch is the first of a month, of whatever year."""
    return date.fromordinal(days % _CYCLE_DAYS + _EPOCH_DAY).day == 1
