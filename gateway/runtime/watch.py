"""What watching a file needs: its stamp, and when it has been left alone."""

from __future__ import annotations

import enum
from pathlib import Path

Stamp = tuple[int, int, int, int, int]
QUIET = 0.25  # seconds without a change after which a file counts as written
RESTLESS = 10.0  # seconds of changes after which somebody should hear of it
_NEVER = (-1, -1, -1, -1, -1)


def stamp(path: Path) -> Stamp | None:
    """What changes whenever the file does; None when it is not there."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    # Any difference counts, also to an older time. A chmod is one too: it may be the mend.
    return status.st_dev, status.st_ino, status.st_ctime_ns, status.st_mtime_ns, status.st_size


def is_cut_off(path: Path) -> bool:
    """Whether the file has no name any more although this path leads to it: it was mounted by itself into a
    container, and has been replaced outside. No edit will ever be seen here."""
    try:
        return path.stat().st_nlink == 0
    except (OSError, ValueError):
        return False


class Look(enum.Enum):
    """What a look at a file says."""

    SAME = "it is what was read last"
    CHANGING = "it changed, and may still be written"
    RESTLESS = "it has been changing for long; said again after twice the time"
    QUIET = "it changed and has been left alone since: it can be read"


class Settling:
    """Tells from looks at a file's stamp when it can be read.

    A file is written in pieces (a shell's `>` empties it first, an editor moves the old one away before it
    writes the new one), and any piece may be a good config that lacks half its routes. So it is read only
    when it has not changed for QUIET seconds, whether it is there or not. A file renamed into place waits as
    well: its stamp cannot tell it from one that was made under this name and is still being written.
    """

    def __init__(self, taken: Stamp | None) -> None:
        self._taken: Stamp | None = taken
        self._last: Stamp | None = taken
        self._last_at = 0.0
        self._began: float | None = None
        self._tell_after = RESTLESS

    def look(self, now: float, then: float, stamp: Stamp | None) -> Look:
        """now, then: before and after the stamp was taken, which may take long where a disk hangs; seconds of
        a clock that never goes back."""
        if stamp != self._last:
            self._last, self._last_at = stamp, then
        if stamp == self._taken:
            self._began = None
            return Look.SAME
        if self._began is None:
            self._began = self._last_at = then
            self._tell_after = RESTLESS
        if now - self._last_at >= QUIET:
            return Look.QUIET
        if now - self._began >= self._tell_after:
            self._tell_after *= 2
            return Look.RESTLESS
        return Look.CHANGING

    @property
    def began(self) -> float | None:
        """Since when it has been changing; None when it is what was read last."""
        return self._began

    def take(self, stamp: Stamp | None) -> None:
        """It was read while it had this stamp."""
        self._taken = self._last = stamp
        self._began = None

    def doubt(self) -> None:
        """What was read is not what is there, though the stamp says so."""
        self._taken = _NEVER
