"""Watching files by their stamps: whether they have changed, and whether they are still being written."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from pathlib import Path

FileStamp = tuple[int, int, int, int, int]  # device, inode, ctime, mtime, size
FileStamps = tuple[FileStamp | None, ...]  # of files that are read together
QUIET = 0.25  # seconds without a change after which a file counts as written
RESTLESS = 10.0  # seconds of changes after which that should be reported
_NEVER = (-1, -1, -1, -1, -1)


def file_stamp(path: Path) -> FileStamp | None:
    """A value that changes whenever the file does; None when there is none. Blocks."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    # Any difference counts, also to an older time, also of the mode: a chmod may be the correction.
    return status.st_dev, status.st_ino, status.st_ctime_ns, status.st_mtime_ns, status.st_size


def file_stamps(paths: Iterable[str]) -> FileStamps:
    """Those of several files. Blocks."""
    return tuple(file_stamp(Path(path)) for path in paths)


def is_cut_off(path: Path) -> bool:
    """Whether the file at this path has no name any more: it was mounted by itself into a container, and has
    been replaced outside. No later edit can be seen here. Blocks."""
    try:
        return path.stat().st_nlink == 0
    except (OSError, ValueError):
        return False


class FileState(enum.Enum):
    """The state of a watched file."""

    SAME = "it is as it was read last"
    CHANGING = "it changed, and may still be written"
    RESTLESS = "it has been changing for long; reported again after twice the time"
    QUIET = "it has changed, and not again for QUIET seconds: it can be read"


class ChangeDebouncer:
    """Tells from a file's stamps when it can be read.

    A file is written in pieces (a shell's `>` empties it first, an editor moves the old one away before it
    writes the new one), and any piece may be a valid config that lacks half its routes. So it is read only
    when it has not changed for QUIET seconds, whether it exists or not. A file renamed into place waits as
    well: its stamp does not differ from that of one that is still being written.

    read: the stamp of what was read last. changing_since: when it began to change, None while it is as it was
    read last.
    """

    def __init__(self, read: FileStamp | None) -> None:
        self._read: FileStamp | None = read
        self._last: FileStamp | None = read
        self._last_at = 0.0
        self.changing_since: float | None = None
        self._report_after = RESTLESS

    def observe(self, now: float, then: float, stamp: FileStamp | None) -> FileState:
        """Take a stamp into account. now, then: before and after it was taken, which may take long where a
        disk hangs; in seconds of a monotonic clock."""
        if stamp != self._last:
            self._last, self._last_at = stamp, then
        if stamp == self._read:
            self.changing_since = None
            return FileState.SAME
        if self.changing_since is None:
            self.changing_since = self._last_at = then
            self._report_after = RESTLESS
        if now - self._last_at >= QUIET:
            return FileState.QUIET
        if now - self.changing_since >= self._report_after:
            self._report_after *= 2
            return FileState.RESTLESS
        return FileState.CHANGING

    def mark_read(self, stamp: FileStamp | None) -> None:
        """The file was read while it had this stamp."""
        self._read = self._last = stamp
        self.changing_since = None

    def invalidate(self) -> None:
        """What was read is not the content of the file, although the stamp is the same."""
        self._read = _NEVER


class SettledFiles:
    """Tells from the stamps of files that are read together when they can be: one after the other is written,
    so all are to be as they were at the look before, about a second ago.

    read: the stamps of what was read last.
    """

    def __init__(self, read: FileStamps) -> None:
        self._read = self._last = read

    def observe(self, stamps: FileStamps) -> bool:
        """Take a look into account. Whether they have changed since they were read, and can be read now."""
        settled, self._last = stamps == self._last, stamps
        return settled and stamps != self._read

    def mark_read(self, stamps: FileStamps) -> None:
        """They are read, and had these stamps before that."""
        self._read = stamps
