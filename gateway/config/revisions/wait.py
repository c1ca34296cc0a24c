"""The live revision's wait for its confirmation: until when, by a clock that nobody can set, and for whom."""

from __future__ import annotations

import logging
from collections.abc import Callable

from gateway.config.ports import ThisRun
from gateway.core.config.revision import EXPIRED, Pending, Revision

L = logging.getLogger(__name__)
MARGIN = 5.0  # seconds that other runs leave to the one that made it live
_AGAIN = 5.0  # seconds after which what could not be taken back is tried again


class Wait:
    """run: this one; None: all there is. now: a monotonic clock; wall: since the epoch; both in seconds.

    pending: what waits; None while nothing does.
    """

    def __init__(self, run: ThisRun | None, now: Callable[[], float], wall: Callable[[], float]) -> None:
        self.pending: Pending | None = None
        self._run = run
        self._now, self._wall = now, wall
        self._due = 0.0  # of the monotonic clock
        self._problem = ""

    @property
    def is_over(self) -> bool:
        """Whether it is to be taken back now."""
        return self.pending is not None and self._now() >= self._due

    def begins(self, revision: Revision, back_to: int, *, at_start: bool) -> None:
        """A revision waits; one that waits already goes on to."""
        pending = Pending(revision.number, back_to, revision.confirm_by)
        if pending != self.pending:
            self.pending = pending
            self._problem = ""
            self._due = self._now() + self._time_for(revision, at_start=at_start)

    def ends(self) -> None:
        """Nothing waits any more."""
        self.pending = None

    def later(self) -> None:
        """It is tried now, and again after a while if it fails."""
        self._due = self._now() + _AGAIN

    def soon(self) -> None:
        """It is tried again at once."""
        self._due = self._now()

    def failed(self, number: int, problem: str) -> None:
        """It could not be taken back: logged once for each problem."""
        if problem != self._problem:
            L.error("Revision %d is not confirmed, and still live: %s", number, problem)
        self._problem = problem

    def was_left(self, revision: Revision) -> bool:
        """Whether it goes back at once: its gateway may have ended because of it."""
        return self._run is None or self._run.has_ended(revision.run)

    def _time_for(self, revision: Revision, *, at_start: bool) -> float:
        """Seconds from now. What another run made live is its own to take back: this one is there for when it
        does not. Its host's clock may be wrong, so that its whole time is counted from when it was seen; at a
        start, from when it says that it was made."""
        left = max(0.0, revision.confirm_by - self._wall())
        if self._run is None or revision.run == self._run.id:
            return left
        if self._run.has_ended(revision.run):
            return 0.0
        whole = 0.0 if revision.confirmation == EXPIRED else max(0.0, revision.confirm_by - revision.at)
        return (min(left, whole) if at_start else whole) + MARGIN
