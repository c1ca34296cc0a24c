"""The book of shared rates: one bucket for a key, out of which members take tokens ahead of their use.

A bucket is one float, the theoretical arrival time of GCRA (core/policy/limits.py), which counts what members
hold as used. A member asks for at most one slice ahead, and for nothing ahead where the burst is small; what
it took on credit, before it had asked, is counted whatever the bucket holds. `shared/redis/exchange.lua` does
the same in Redis.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from gateway.core.shared.ports import Body

NAME = "rates"
SLICE = 0.1  # seconds of a rate that a member holds ahead, at most
_PART = 32  # of what a burst has beyond its first so many tokens, a member holds one in so many ahead
# Seconds. What comes in so short a time is held ahead of any burst: at high rates, to ask for each request
# would cost more than exactness within that time is worth.
_SHORT = 0.005
SETTLE = 1.0  # seconds in which members tell what they know to a book that has lost it
# Members whose credit is counted beyond an empty bucket. Beyond it a bucket is taken for one that was filled
# under a slower rate, as core/policy/limits.py does.
_DEBTORS = 16
_ROUNDING = 1e-9
_MOST = 1e15  # of any number in a report


class Asked(NamedTuple):
    """What a member reports of a key. credit: taken without being leased. back: leased, not used and given
    back. want: asked for. owed: as in Granted, where the book may have lost it; else 0."""

    per_second: float
    burst: float
    credit: int = 0
    back: int = 0
    want: int = 0
    owed: float = 0.0


class Granted(NamedTuple):
    """tokens: leased now. owed: seconds until the bucket is full. wait: until it has one more token."""

    tokens: int
    owed: float
    wait: float


def slice_of(per_second: float) -> float:
    """The most tokens that a member holds ahead of any burst, and at least one."""
    return max(1.0, per_second * SLICE)


def ahead_of(per_second: float, burst: float) -> int:
    """The tokens that a member may hold ahead of their use, or take before it has asked. They are missing
    wherever else the next request comes, so there are none of a small burst, and few of any other."""
    return int(max(per_second * _SHORT, min(slice_of(per_second), burst / _PART - 1)))


def room_of(per_second: float, burst: float) -> float:
    """The tokens of a full bucket: its burst, and no less than can be told apart."""
    return max(burst, 1.0, per_second * _SHORT)


def settle(arrival: float, now: float, asked: Asked, scale: float = 1.0) -> tuple[float, Granted]:
    """One member's report on one bucket. arrival: 0.0 for a full one. scale: the part of the rate that there
    is for those who can ask. Gives the bucket afterwards, too."""
    rate = asked.per_second * scale
    room = room_of(rate, asked.burst * scale)
    arrival = max(arrival, now, now + asked.owed)
    arrival = min(arrival, now + (room + _DEBTORS * slice_of(rate)) / rate)
    arrival = max(now, arrival + (asked.credit - asked.back) / rate)
    free = room - (arrival - now) * rate
    tokens = max(0, min(asked.want, math.floor(free + _ROUNDING)))
    arrival += tokens / rate
    wait = (1.0 - (free - tokens)) / rate
    return arrival, Granted(tokens, arrival - now, wait if wait > _ROUNDING else 0.0)


class RateBook:
    """All buckets. scale: the part of the rates that there is to give. settles_at: until then members tell
    what they know, and what is not known has no burst. epoch: another one for each book of a process, so that
    they know when to tell."""

    def __init__(self, scale: float = 1.0, settles_at: float = 0.0, epoch: str = "") -> None:
        self._scale, self._settles_at, self._epoch = scale, settles_at, epoch
        self._members: set[str] = set()
        self._arrivals: dict[str, float] = {}  # the one that was settled last stands last

    def __len__(self) -> int:
        return len(self._arrivals)

    def exchange(self, member: str, report: Body, now: float) -> Body:
        """See `Book`. A report is {key: Asked}; a grant has `keys`, {key: Granted}, the number of `members`,
        and the `epoch`: in another one than before, the next report is to say what is owed."""
        self._members.add(member)
        keys = {key: self._settle(key, asked_of(asked), now) for key, asked in report.items()}
        return {"members": len(self._members), "epoch": self._epoch, "keys": keys}

    def gone(self, member: str, now: float) -> None:
        """What it held counts as used."""
        self._members.discard(member)

    def _settle(self, key: str, asked: Asked, now: float) -> Granted:
        arrivals = self._arrivals
        before = arrivals.pop(key, None)
        if before is None:
            self._forget(now)
        if before is None and now < self._settles_at:
            before = now + asked.burst / asked.per_second
        arrivals[key], granted = settle(before or 0.0, now, asked, self._scale)
        return granted

    def _forget(self, now: float) -> None:
        """A bucket that is full again is as good as none. Two old ones are looked at for each new one."""
        for _ in range(2):
            oldest = next(iter(self._arrivals), None)
            if oldest is None or self._arrivals[oldest] > now:
                return
            del self._arrivals[oldest]


def asked_of(given: object) -> Asked:
    """A member's report of a key, as it came. Raises ValueError."""
    if not isinstance(given, list | tuple) or len(given) != len(Asked._fields):
        raise ValueError("no report of a rate")
    if not all(isinstance(number, int | float) and 0 <= number < _MOST for number in given) or not given[0]:
        raise ValueError("no report of a rate")
    per_second, burst, credit, back, want, owed = given
    return Asked(float(per_second), float(burst), int(credit), int(back), int(want), float(owed))


def granted_of(given: object) -> Granted:
    """A grant for a key, as it came. Raises ValueError."""
    if not isinstance(given, list | tuple) or len(given) != len(Granted._fields):
        raise ValueError("no grant of a rate")
    tokens, owed, wait = map(float, given)
    if not all(0 <= number < _MOST for number in (tokens, owed, wait)):
        raise ValueError("no grant of a rate")
    return Granted(int(tokens), owed, wait)
