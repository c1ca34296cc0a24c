"""What is measured of a tenant in a fair queue: its recent seat time, and how long its requests take."""

from __future__ import annotations

from collections import deque

WINDOW = 5.0  # seconds
_SLOTS = 10
_SLOT = WINDOW / _SLOTS

_MEMORY = 100  # measurements; the mean of exponentially distributed times is then within 10 %
_GUESS = 25  # measurements that a guess counts for: the first of a burst to end are the quick ones
# So many in a row above twice the mean, or below half of it, are no coincidence: the mean restarts with them.
# Slow requests end seldom, and the queue grows meanwhile; quick ones end often, and where requests are of two
# kinds, long runs of quick ones are normal.
_SLOWER = 5
_FASTER = 32


class Usage:
    """The seat time (seconds x seats) of the last `WINDOW` seconds, seats still held included. A sliding
    window with a constant cost for each step.

    inside: seats held now. at: when the usage was brought up to date last; call `advance` before `inside`
    changes. The window moves in slots of half a second; the oldest one counts by the part still covered.
    """

    __slots__ = ("_past", "_slots", "at", "inside", "slot", "slot_end")

    def __init__(self, now: float) -> None:
        self.inside = 0
        self.at = now
        self.slot = 0.0  # seat time in the current slot
        self.slot_end = now + _SLOT
        self._slots: deque[float] = deque(maxlen=_SLOTS)
        self._past = 0.0

    def advance(self, now: float) -> None:
        """Add what was used until now."""
        if now >= self.slot_end:
            self.close_slots(now)
        self.slot += self.inside * (now - self.at)
        self.at = now

    def recent(self, now: float) -> float:
        """Seat time of the last `WINDOW` seconds."""
        self.advance(now)
        if len(self._slots) < _SLOTS:
            return self._past + self.slot
        covered = (self.slot_end - now) / _SLOT
        return self._past - self._slots[0] * (1.0 - covered) + self.slot

    def peek(self, now: float) -> float:
        """As `recent`; a tenant that holds no seat goes on counting as idle since it held one."""
        idle_since = self.at
        recent = self.recent(now)
        if not self.inside:
            self.at = idle_since
        return recent

    def close_slots(self, now: float) -> None:
        """Close the slots that ended before now. Part of `advance`, which the fair queue inlines."""
        if now - self.slot_end > WINDOW:  # all that was counted has left the window
            self._slots.extend([self.inside * _SLOT] * _SLOTS)
            self.slot, self.at, self.slot_end = 0.0, now, now + _SLOT
        while now >= self.slot_end:
            self._slots.append(self.slot + self.inside * (self.slot_end - self.at))
            self.slot, self.at = 0.0, self.slot_end
            self.slot_end += _SLOT
        self._past = sum(self._slots)


class Estimate:
    """How long requests take: a mean that is steady while they vary, and adapts soon after a real change.

    mean: seconds, 0.0 while nothing is known.
    """

    __slots__ = ("_count", "_run", "_run_sum", "mean")

    def __init__(self) -> None:
        self.mean = 0.0
        self._count = 0
        self._run = 0  # measurements in a row far above the mean; negative: far below it
        self._run_sum = 0.0  # seconds, of these

    def learn(self, seconds: float) -> None:
        """Take one more measurement into account."""
        mean, count = self.mean, self._count
        if seconds > 2.0 * mean or 2.0 * seconds < mean:
            if self._restarts(seconds, 1 if seconds > mean else -1):
                return
        else:
            self._run = 0
        if count < _MEMORY:
            self._count = count = count + 1
        self.mean = mean + (seconds - mean) / count

    def _restarts(self, seconds: float, side: int) -> bool:
        run = self._run
        if run * side > 0:
            self._run = run = run + side
            self._run_sum += seconds
        else:
            self._run = run = side
            self._run_sum = seconds
        if -_FASTER < run < _SLOWER:
            return False
        self._count = abs(run)
        self.mean = self._run_sum / self._count
        self._run = 0
        return True

    def guess(self, mean: float) -> None:
        """Start with the mean of others, in seconds."""
        self.mean, self._count = mean, _GUESS

    def forget(self) -> None:
        """Discard all measurements."""
        self.mean, self._count, self._run = 0.0, 0, 0
