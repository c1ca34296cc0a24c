"""When a worker that died is started again: at once, unless they die one after the other."""

from __future__ import annotations

from collections import deque

DEATHS, WITHIN = 3, 10.0  # so many in so many seconds are a storm
_FIRST, _MOST = 1.0, 30.0  # seconds of back-off


class Storm:
    """The deaths of all workers of a host."""

    def __init__(self) -> None:
        self._deaths: deque[float] = deque(maxlen=DEATHS)
        self._delay = 0.0

    def died(self, now: float) -> float:
        """One more. Gives how long its replacement has to wait, 0.0 for not at all. now: seconds on a
        monotonic clock."""
        if self._deaths and now - self._deaths[-1] > self._delay + WITHIN:
            self._delay = 0.0  # the last one has lived
        self._deaths.append(now)
        if self._delay or (len(self._deaths) == DEATHS and now - self._deaths[0] <= WITHIN):
            self._delay = min(_MOST, max(_FIRST, 2 * self._delay))
        return self._delay
