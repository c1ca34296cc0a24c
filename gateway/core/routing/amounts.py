"""Amounts as the routing config writes them: durations, sizes, rates, quotas, statuses."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from gateway.core.routing.problems import Wrong

DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h)?")
SIZE = re.compile(r"([0-9]{1,15})\s*(B|KiB|MiB|GiB)?")
RATE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*/\s*(s|m|h)")
QUOTA = re.compile(r"([1-9][0-9]{0,14})\s*/\s*day")
STATUSES = re.compile(r"[1-5][0-9]{2}(-[1-5][0-9]{2})?(\s*,\s*[1-5][0-9]{2}(-[1-5][0-9]{2})?)*")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_BYTES = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_DAY = 86400
_MAX_RATE = 1_000_000  # per second
_AMOUNT = re.compile(r"\s*([0-9]+(?:[._][0-9]+)*)\s*(?:/|per\b|)\s*([A-Za-z]*)\s*")
# Units that people write, by their first letters in lower case; the longest match counts.
_TIMES = {"ms": "ms", "msec": "ms", "milli": "ms", "s": "s", "m": "m", "h": "h"}
_SIZES = {"b": "B", "k": "KiB", "m": "MiB", "g": "GiB"}


def parse_duration(value: Any) -> float:
    """Seconds of `2`, `0.5`, "500ms", "5s", "2m" or "1h". Raises Wrong."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        found = DURATION.fullmatch(value) if isinstance(value, str) else None
        if found is None:
            hint = "seconds as a number, or a text such as 500ms, 5s, 2m, 1h"
            raise Wrong("is not a duration", hint, parse_duration, _durations(value))
        seconds = float(found[1]) * _SECONDS[found[2] or "s"]
    if not 0 <= seconds <= _DAY:
        near = ["24h"] if seconds > _DAY else []
        raise Wrong("is not a duration between 0 and 24 hours", "", parse_duration, near)
    return seconds


_LONG = re.compile(r"([0-9]{1,4})\s*d")
_LONGEST_DAYS = 3650


def parse_lifetime(value: str) -> float:
    """Seconds of a text as `parse_duration` takes it, or of days ("90d", ten years at most). Raises Wrong."""
    days = _LONG.fullmatch(value)
    if days is None:
        return parse_duration(value)
    if int(days[1]) > _LONGEST_DAYS:
        raise Wrong("is longer than ten years", "choose a shorter time")
    return int(days[1]) * float(_DAY)


def above_zero(seconds: float) -> float:
    """The seconds, for a duration that has no use at 0. Raises Wrong."""
    if seconds <= 0:
        raise Wrong("cannot be 0 here: nothing could be done in that time", "choose a duration above 0")
    return seconds


def whole_seconds(value: Any) -> int:
    """Whole seconds of a duration, rounded down. Raises Wrong below 1 s."""
    seconds = int(parse_duration(value))
    if not seconds:
        raise Wrong("is less than 1 s, and it is counted in whole seconds", "choose a longer time")
    return seconds


def parse_size(value: Any) -> int:
    """Bytes of `65536`, "64KiB" or "10MiB". Raises Wrong."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    found = SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        hint = "bytes as a whole number, or a text such as 64KiB, 10MiB, 1GiB"
        raise Wrong("is not a size", hint, parse_size, _sizes(value))
    return int(found[1]) * _BYTES[found[2] or "B"]


def parse_rate(value: Any) -> float:
    """Requests per second of "100/s", "600/m" or "1.5/h". Raises Wrong."""
    found = RATE.fullmatch(value) if isinstance(value, str) else None
    if found is None or float(found[1]) <= 0:
        hint = "requests per second, minute or hour, such as 100/s, 600/m"
        raise Wrong("is not a rate", hint, parse_rate, _rates(value))
    rate = float(found[1]) / _SECONDS[found[2]]
    if not 1 / _DAY <= rate <= _MAX_RATE:
        raise Wrong("is not a rate between one in 24 hours and 1000000/s")
    return rate


def parse_quota(value: Any) -> int:
    """Requests of a day of "100000/day". Raises Wrong."""
    found = QUOTA.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        number, unit = _amount(value)
        near = [f"{number}/day"] if not unit or unit.startswith("d") else []
        raise Wrong("is not a quota", "requests per day, such as 100000/day", parse_quota, near)
    return int(found[1])


def parse_statuses(value: Any) -> tuple[tuple[int, int], ...]:
    """Ranges of statuses of `200`, "200-399" or "200-299,404". Raises Wrong."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not STATUSES.fullmatch(text):
        parts = value if isinstance(value, list) else str(value).split(",")
        near = ",".join(
            re.sub(r"^([1-5])xx$", r"\g<1>00-\g<1>99", str(part).strip().lower()) for part in parts
        )
        hint = "such as 200, 200-399 or 200-299,404"
        raise Wrong("is no list of statuses", hint, parse_statuses, [near])
    pairs = [part.strip().partition("-") for part in text.split(",")]
    ranges = tuple((int(low), int(high or low)) for low, _, high in pairs)
    if any(low > high for low, high in ranges):
        raise Wrong("has a range that ends before it begins", "write the lower status first")
    return ranges


def _amount(value: Any) -> tuple[str, str]:
    """The number of what may be one with a unit, and the unit in lower case; ("", "") for anything else."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (f"{value:g}" if isinstance(value, float) else str(value)), ""
    found = _AMOUNT.fullmatch(value) if isinstance(value, str) else None
    return (found[1].replace("_", ""), found[2].lower()) if found else ("", "")


def _unit(written: str, known: dict[str, str]) -> str:
    fitting = [start for start in known if written.startswith(start)]
    return known[max(fitting, key=len)] if fitting else ""


def _durations(value: Any) -> Iterable[str]:
    number, unit = _amount(value)
    if number and _unit(unit, _TIMES):
        yield number + _unit(unit, _TIMES)
    if number.isdecimal() and unit.startswith("d"):
        yield f"{int(number) * 24}h"


def _sizes(value: Any) -> Iterable[Any]:
    number, unit = _amount(value)
    unit = _unit(unit, _SIZES) if unit else "B"
    if number and unit:
        yield number + (unit if unit != "B" else "")
        if number.count(".") == 1 and len(number) < 16:
            yield math.ceil(float(number) * _BYTES[unit])


def _rates(value: Any) -> Iterable[str]:
    number, unit = _amount(value)
    if number:
        yield f"{number}/{_unit(unit, _TIMES) or 's'}"
