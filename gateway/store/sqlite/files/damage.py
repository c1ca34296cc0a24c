"""What has the name of a tenant's file and cannot be one, found before SQLite opens it: that would
take an empty file for a new database, and delete the log that belongs to it."""

from __future__ import annotations

from pathlib import Path

from gateway.store.sqlite.errors import RESTORE

LOG_SUFFIXES = ("-wal", "-journal")


def of_file(path: Path) -> str:
    """What is wrong with what has the name, with a hint; empty when nothing is. Raises OSError."""
    if path.is_dir():
        return "it is a folder and not a tenant's file; move it away, and " + RESTORE
    if not path.is_file():
        return "it is no file that could hold documents; move it away, and " + RESTORE
    if path.stat().st_size == 0:
        return f"it has no bytes, and has lost what it held; {_with_log(path)}{RESTORE}"
    return ""


def of_log(path: Path) -> str:
    """As of_file, where nothing has the name: whether a log of it is left."""
    left = logs(path)
    if not left or path.exists():  # by now: another process has just made it, and its log
        return ""
    return f"it is gone, and {left[0].name} is left; put the file back, or move that away and {RESTORE}"


def logs(path: Path) -> list[Path]:
    """The logs of a file that hold something."""
    found = [path.with_name(path.name + suffix) for suffix in LOG_SUFFIXES]
    return [log for log in found if _size(log)]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # a log may go at any moment
        return 0


def _with_log(path: Path) -> str:
    names = " and ".join(log.name for log in logs(path))
    return f"keep a copy of it and of {names}, which hold the latest writes; " if names else ""
