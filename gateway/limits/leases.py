"""Rates that several processes share: what this one has leased of them (core/shared/rates.py has the book).

A request takes from what is leased, which costs it no more than a bucket of its own does. A key that nobody
here has used lately begins with a little on credit; the book hears of it with the next exchange. Of a small
burst nothing is leased ahead and nothing is on credit: each request of it waits for the book, which gives
what one process would have given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import islice

from gateway.core.policy.limits import Rate
from gateway.core.shared.ports import Body
from gateway.core.shared.rates import NAME, Asked, Granted, ahead_of, granted_of

TICK = 0.1  # seconds between two looks at what is in use
IDLE = 1.0  # seconds after which what is not used goes back
_FAR = 1.0  # seconds of what is used that are leased, where so much may be
_PACE = 0.05  # seconds until a rate that is used up is asked for again, or until half a lease is there
_MOST = 512  # keys in one report,
_MOST_WAITED = 8 * _MOST  # and of those for which calls wait: 15 ms here, and as much where the book is


class Lease:
    """What this process has of one shared rate. left: tokens that may be taken now."""

    __slots__ = (
        *("key", "rate", "left", "low", "waiting", "idle", "_ahead"),
        *("_start", "_leased", "_debt", "_sent", "_wanted", "_target", "_may_owe", "_epoch", "_told_in"),
        *("_window", "_window_at", "_used_at", "_arrival", "_free_at", "_ask_at"),
    )

    def __init__(self, key: str, rate: Rate, now: float) -> None:
        self.key = key
        self.rate = rate
        self.left = self.low = 0
        self._ahead = 0  # tokens that may be held or taken on credit
        self.waiting = 0  # calls that wait for the next grant
        self.idle = True  # holds nothing and has nothing to tell
        self._start = 0  # `left` at the last report or grant
        self._leased = 0  # of it; the rest is credit
        self._debt = 0  # taken on credit, and not told
        self._epoch = self._told_in = ""  # of the book that knows what is owed, and of the last report
        self._sent = self._wanted = 0  # debt, and tokens asked for, of the report that is under way
        self._target = 0  # tokens to hold
        self._may_owe = True  # nothing was taken on credit since the last word of the book
        self._window = 0  # used since `_window_at`
        self._window_at = self._used_at = now
        self._arrival = 0.0  # when the bucket is full, as the book says
        self._free_at = self._ask_at = 0.0  # when it has one more, and when it is asked again

    def begin(self, now: float, ahead: int, waits: bool) -> None:
        """Something is to be taken, and nothing is left. ahead: tokens that may be held before they are used,
        or be taken on credit: by a call that waits where the bucket must be full, by one that cannot as many
        of them as it must have."""
        self._ahead = ahead
        used = math.ceil(max(0.0, self._arrival - now) * self.rate.per_second)
        credit = min(ahead, self.rate.burst - used)
        if self._may_owe and credit > 0 and not (waits and used):
            self._may_owe = False
            self.left += credit
            self._start += credit

    def follow(self, rate: Rate) -> None:
        """The rate is another one since the config changed: what the book said counts no more."""
        if self.rate is not rate and self.rate != rate:
            self._free_at = self._ask_at = 0.0
        self.rate = rate

    def take(self) -> bool:
        """Take one that is left. True: the low mark is reached, and more is to be asked for."""
        self.left = left = self.left - 1
        return left <= self.low

    def ask(self) -> None:
        """A call waits for the next grant."""
        self.waiting += 1

    def wait(self, now: float) -> float:
        """Seconds until the book has one; 0.0 where it may have one now."""
        return max(self._free_at - now, 1e-3) if now < self._ask_at else 0.0

    def bucket(self, now: float) -> float:
        """The bucket as far as it is known here, for the status of the limit."""
        held = self._leased - (self._start - self.left) - self._debt
        return max(self._arrival, now) - held / self.rate.per_second

    def is_full(self, now: float) -> bool:
        """Whether nothing is known of it that a new one would not know."""
        return self.idle and self._arrival <= now

    def report(self, now: float, epoch: str) -> Asked | None:
        """What the book is to be told; None for nothing. In another epoch than before, it may not know what
        is owed."""
        used = self._start - self.left
        self._count(used, now)
        credit = self._debt + max(0, used - self._leased)
        self._leased = max(0, self._leased - used)
        self._start, self._debt = self.left, 0
        back, want = 0, 0
        if now - self._used_at > (IDLE if self._target else TICK) and not self.waiting:
            back, self._leased, self.left, self._start = self._leased, 0, 0, 0
            self.idle = not credit
        elif now >= self._ask_at:
            if self.waiting or self._leased <= self._target // 2:
                want = self.waiting + max(0, self._target - self._leased)
            else:
                self.low = self._low  # there is enough until then
        self._sent, self._wanted, self.waiting = credit, want, 0
        self._told_in = epoch
        owed = max(0.0, self._arrival - now) if epoch != self._epoch else 0.0
        if not (credit or back or want or owed):
            return None
        return Asked(self.rate.per_second, self.rate.burst, credit, back, want, owed)

    def _count(self, used: int, now: float) -> None:
        self._window += used
        if used or self.waiting:
            self._used_at = now
        target, passed = max(1, self._target), now - self._window_at
        if passed >= TICK:
            target = max(1, int(_FAR * self._window / passed))
            self._window, self._window_at = 0, now
        if self.waiting:
            target = max(self.waiting, 2 * target)
        self._target = min(target, self._ahead)

    @property
    def _low(self) -> int:
        """The low mark; none where nothing is to be held."""
        return self._target // 2 if self._target else -1

    def granted(self, granted: Granted, now: float, epoch: str) -> None:
        """The book's word on the last report."""
        arrival = now + granted.owed
        if self._told_in != epoch:  # another book has answered: the next report tells it
            arrival = max(arrival, self._arrival)
        else:
            self._epoch = epoch
        has = self._leased + granted.tokens - (self._start - self.left)
        self._debt += max(0, -has)
        self.left = self._start = self._leased = max(0, has)
        self._arrival, self._free_at = arrival, now + granted.wait
        self._may_owe = True
        if granted.tokens < self._wanted:
            pace = min(_PACE, self._ahead / 2 / self.rate.per_second)
            soon = min(granted.wait, IDLE)  # by then others have given back what they do not use
            self._ask_at, self.low = now + max(soon, pace), -1
        else:
            self._ask_at, self.low = 0.0, self._low
        self._sent = 0

    def lost(self) -> None:
        """The last report may not have been counted: what was taken on credit is told again."""
        self._debt, self._sent = self._debt + self._sent, 0


class Leases:
    """The leases of all keys of one kind. prefix: of its keys in the book. capacity: see
    `limits.rates.Buckets`."""

    def __init__(self, shared: SharedRates, prefix: str, capacity: int = 0) -> None:
        self._shared = shared
        self._prefix = prefix
        self._capacity = capacity
        self._leases: dict[str, Lease] = {}

    def __len__(self) -> int:
        return len(self._leases)

    def take(self, key: str, rate: Rate, now: float, waits: bool = True) -> Lease:
        """The lease of a key, from which `left` may be taken. waits: the call can, for the book."""
        lease = self._leases.get(key)
        if lease is not None and lease.left > 0:
            return lease
        if lease is None:
            self._forget(now)
            lease = self._leases[key] = Lease(f"{self._prefix} {key}", rate, now)
        lease.follow(rate)
        ahead = ahead_of(rate.per_second, rate.burst)
        if not waits:  # those of all members together are one burst
            ahead = max(1, ahead, rate.burst // self._shared.members)
        lease.begin(now, ahead, waits)
        self._shared.use(lease)
        return lease

    def _forget(self, now: float) -> None:
        """As Buckets does. One that holds something lives until it was told."""
        leases = self._leases
        for _ in range(2):
            oldest = next(iter(leases), None)
            if oldest is None:
                return
            lease = leases.pop(oldest)
            full = self._capacity and len(leases) >= self._capacity
            if not lease.is_full(now) and not (full and lease.idle):
                leases[oldest] = lease  # to the end, so that the next one is looked at


class SharedRates:
    """All leases of the process, and what is told of them: a `Part`. kick: asks for an exchange soon.
    members: processes that share, as far as is known. answered: whether the last report was."""

    name = NAME

    def __init__(self, kick: Callable[[], None], members: int = 1) -> None:
        self.members = members
        self.kick = kick
        self.answered = True
        self._epoch = ""
        self._used: dict[str, Lease] = {}
        self._waited_for: dict[str, Lease] = {}
        self._told: dict[str, Lease] = {}

    def use(self, lease: Lease) -> None:
        """This lease has, or will have, something to tell."""
        lease.idle = False
        self._used[lease.key] = lease
        self.kick()

    def ask(self, lease: Lease) -> None:
        """A call waits for the next grant."""
        lease.ask()
        self._waited_for[lease.key] = lease

    def short(self, lease: Lease) -> None:
        """It is at its low mark."""
        lease.low = -1
        self.kick()

    def due(self, now: float) -> float | None:
        """See `Part`."""
        return TICK if self._used else None

    def report(self, now: float) -> Body | None:
        """See `Part`."""
        self._told = {}
        reports = dict(self._reports(now))
        return reports or None

    def _reports(self, now: float) -> Iterator[tuple[str, Asked]]:
        waited_for = dict(islice(self._waited_for.items(), _MOST_WAITED))
        for key in waited_for:
            del self._waited_for[key]
        if self._waited_for:
            self.kick()
        others = [key for key in islice(self._used, 4 * _MOST) if key not in waited_for]
        for key in (*waited_for, *others):
            if len(self._told) >= _MOST and key not in waited_for:
                self.kick()
                return
            lease = self._used.pop(key)
            asked = lease.report(now, self._epoch)
            if not lease.idle:
                self._used[key] = lease  # to the end
            if asked is not None:
                self._told[key] = lease
                yield key, asked

    def granted(self, grant: Body, now: float) -> None:
        """See `Part`."""
        self.answered = True
        self.members = max(1, int(grant["members"]))
        if grant["epoch"] != self._epoch:
            self._epoch = str(grant["epoch"])
            self.kick()  # so that all that is in use is told
        grants, told, self._told = grant["keys"], self._told, {}
        for key, lease in told.items():
            if key in grants:
                lease.granted(granted_of(grants[key]), now, self._epoch)
            else:
                lease.lost()

    def lost(self, now: float) -> None:
        """See `Part`."""
        self.answered = False
        told, self._told = self._told, {}
        for lease in told.values():
            lease.lost()
