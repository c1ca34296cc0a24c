"""Rate limits as values: the generic cell rate algorithm (GCRA, ITU-T I.371).

A bucket is one float, the theoretical arrival time; an absent bucket is a full one, so an idle tenant
costs nothing. Times are seconds on any monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rate:
    """`per_second` sustained, with up to `burst` at once (at least 1)."""

    per_second: float
    burst: int


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
