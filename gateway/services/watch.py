"""What watching a file needs: its stamp, and a wall for what runs again and again."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

L = logging.getLogger(__name__)
Stamp = tuple[int, int, int]


def stamp(path: Path) -> Stamp | None:
    """What changes whenever the file does; None when it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_ctime_ns, status.st_size  # a chmod counts: it may be the mend


@contextmanager
def goes_on(what: str) -> Iterator[None]:
    """Log a bug in what runs inside and go on: for a watch, which must outlive any bug, and for those who
    listen to it. Never for a request: its wall is in life.py."""
    try:
        yield
    except Exception:  # noqa: BLE001 - the wall of the loops that watch
        L.exception("A bug in the gateway: %s failed; it goes on", what)
