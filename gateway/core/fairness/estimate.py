"""How long requests take: a mean that is steady while they vary, and follows when something has changed."""

from __future__ import annotations

_MEMORY = 100  # measurements; of times that vary exponentially the mean is then within 10 %
_GUESS = 25  # measurements that a guess counts for: of a burst, those that end first are the quick ones
# So many in a row at more than twice the mean, or at less than half of it, are no chance: the mean begins
# anew with them. Slow ones come seldom, and a queue grows meanwhile; quick ones are soon there in any number,
# and among requests of two kinds many quick ones do follow each other.
_SLOWER = 5
_FASTER = 32


class Estimate:
    """mean: seconds, 0.0 while nothing is known."""

    __slots__ = ("_count", "_row", "_sum", "mean")

    def __init__(self) -> None:
        self.mean = 0.0
        self._count = 0
        self._row = 0  # measurements in a row far above the mean; far below it, less than zero
        self._sum = 0.0  # of these

    def learn(self, seconds: float) -> None:
        """One more measurement."""
        mean, count = self.mean, self._count
        if seconds > 2.0 * mean or 2.0 * seconds < mean:
            if self._begins_anew(seconds, 1 if seconds > mean else -1):
                return
        else:
            self._row = 0
        if count < _MEMORY:
            self._count = count = count + 1
        self.mean = mean + (seconds - mean) / count

    def _begins_anew(self, seconds: float, side: int) -> bool:
        row = self._row
        if row * side > 0:
            self._row = row = row + side
            self._sum += seconds
        else:
            self._row = row = side
            self._sum = seconds
        if -_FASTER < row < _SLOWER:
            return False
        self._count = abs(row)
        self.mean = self._sum / self._count
        self._row = 0
        return True

    def guess(self, mean: float) -> None:
        """Begin with what is known of others."""
        self.mean, self._count = mean, _GUESS

    def forget(self) -> None:
        """All of it."""
        self.mean, self._count, self._row = 0.0, 0, 0
