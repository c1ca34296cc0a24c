"""Rate limits as values: the generic cell rate algorithm (GCRA, ITU-T I.371).

A bucket is one float, the theoretical arrival time; an absent bucket is a full one, so an idle tenant
costs nothing. Times are seconds on any monotonic clock.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from gateway.core.errors import ROUNDING, whole_seconds

FieldsForm = Literal["none", "draft", "legacy"]
Fields = tuple[tuple[str, str], ...]
_MAX_JITTER = 60.0  # seconds: a quota is waited for by the hour, and a quarter of that would be no help


@dataclass(frozen=True, slots=True)
class Rate:
    """`per_second` sustained, with up to `burst` at once (at least 1)."""

    per_second: float
    burst: int


@dataclass(frozen=True, slots=True)
class LimitRules:
    """What holds for all tenants. client: for each client address, of calls whose token was not verified
    before. fields: the form in which responses tell the status of limits."""

    client: Rate | None = None
    fields: FieldsForm = "none"


NO_LIMITS = LimitRules()


class LimitStatus(NamedTuple):
    """What is left of one limit. quota: so many in `window` seconds. left: so many more now. reset: seconds
    until all of it is there again; of a limit that refuses, until it takes the next one."""

    name: str
    quota: int
    window: int
    left: int
    reset: float


def take(bucket: float | None, now: float, rate: Rate) -> tuple[float, float]:
    """Take one from the bucket at `now`.

    Gives the bucket afterwards and the wait in seconds until one would be there: 0.0 means taken. A
    refusal takes nothing. A bucket that was filled under a slower rate counts as an empty one of this rate.
    """
    interval = 1.0 / rate.per_second
    arrival = bucket if bucket is not None and bucket > now else now
    arrival = min(arrival, now + rate.burst * interval)
    wait = arrival - now - (rate.burst - 1) * interval
    if wait > 1e-9:
        return arrival, wait
    return arrival + interval, 0.0


class Pace:
    """A rate that is checked after the work was done: a caller that went beyond it stops, or waits."""

    __slots__ = ("_arrival", "_rate")

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._arrival = 0.0

    def spend(self, count: int, now: float) -> float:
        """Count so many more. Gives the seconds until the rate has room for what was counted up to now, 0.0
        when it has."""
        each = 1.0 / self._rate.per_second
        self._arrival = max(self._arrival, now) + count * each
        return max(0.0, self._arrival - now - self._rate.burst * each)


def limit_status(name: str, bucket: float, now: float, rate: Rate) -> LimitStatus:
    """The status of a rate limit whose bucket is `bucket` at `now` (seconds)."""
    used = max(0.0, bucket - now)
    left = math.floor(rate.burst - used * rate.per_second + ROUNDING)
    window = max(1, whole_seconds(rate.burst / rate.per_second))
    return LimitStatus(name, rate.burst, window, max(0, left), used)


def with_jitter(wait: float, chance: float) -> float:
    """`wait` seconds and up to a quarter (at least 1 s, at most 1 min) more, so that those who were refused
    together do not come back together. chance: random, 0 to 1."""
    return wait + chance * max(1.0, min(wait * 0.25, _MAX_JITTER))


def fields(form: FieldsForm, statuses: Sequence[LimitStatus]) -> Fields:
    """The header fields of a response that tell the status of limits.

    draft: draft-ietf-httpapi-ratelimit-headers-10, all of them. legacy: X-RateLimit-*, the one with the
    least left; its reset is in seconds from now.
    """
    if form == "none" or not statuses:
        return ()
    if form == "draft":
        policies = ", ".join(f'"{s.name}";q={s.quota};w={s.window}' for s in statuses)
        state = ", ".join(f'"{s.name}";r={s.left};t={whole_seconds(s.reset)}' for s in statuses)
        return ("RateLimit-Policy", policies), ("RateLimit", state)
    least = min(statuses, key=lambda s: (s.left, -s.reset))
    return (
        ("X-RateLimit-Limit", str(least.quota)),
        ("X-RateLimit-Remaining", str(least.left)),
        ("X-RateLimit-Reset", str(whole_seconds(least.reset))),
    )
