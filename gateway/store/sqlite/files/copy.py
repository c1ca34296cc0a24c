"""Copying a database while it is written: one instant of it, in a file that is there when it is whole."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from gateway.runtime import durable

_PAGES = 1024  # between two reports of progress


def copy(source: sqlite3.Connection, target: Path, progress: Callable[[int, int], None]) -> None:
    """A new file, mode 0600, of one instant, on the disk. Raises FileExistsError.

    progress: called with the pages copied, and those in all.
    """
    if not durable.create_empty(target):
        raise FileExistsError(errno.EEXIST, "it is there already", str(target))
    try:
        with closing(sqlite3.connect(target, isolation_level=None)) as copied:
            # Without a transaction SQLite begins again whenever another process has written.
            source.execute("BEGIN")
            source.execute("SELECT 1 FROM sqlite_schema").fetchone()
            source.backup(copied, pages=_PAGES, progress=lambda _, left, pages: progress(pages - left, pages))
            source.execute("COMMIT")
            copied.execute("PRAGMA journal_mode=DELETE")  # one file, without companions
        durable.sync(target)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def damage(path: Path) -> str:
    """What SQLite's quick check finds wrong with a copy; empty when nothing is. Raises sqlite3.Error."""
    with closing(sqlite3.connect(path)) as connection:
        (checked,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    return "" if checked == "ok" else " ".join(str(checked).split())
