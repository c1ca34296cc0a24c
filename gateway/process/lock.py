"""One `gateway up` for each data folder: it runs backends on the folder's sockets and with its data.

Several `gateway serve` may share a folder: they need ports of their own, and nothing else is theirs alone.
They may stand beside one `up`, and so reach the backends that it runs.

The lock is the system's (flock(2)), so it dies with its process, however that ends. Who holds it is written
in the file; what a dead process left there means nothing.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gateway.core.process.listeners import Listen, clash, text

L = logging.getLogger(__name__)
_NAME = "up.lock"
_TRIES, _PAUSE = 10, 0.02  # and seconds


class FolderInUse(OSError):
    """Another gateway runs on this data folder; the text says which, and what to do."""


class FolderLock:
    """The right to run backends for a data folder, until `release` or the end of the process.

    Raises FolderInUse when another process has it.
    """

    def __init__(self, folder: Path, listen: Iterable[Listen]) -> None:
        self._fd = os.open(folder / _NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            for _ in range(_TRIES):  # who only looks (see `beside`) holds it for a moment
                if _try_lock(self._fd, fcntl.LOCK_EX):
                    break
                time.sleep(_PAUSE)
            else:
                raise FolderInUse(_told(folder, _read(self._fd)))
        except OSError:
            os.close(self._fd)
            raise
        who = {"pid": os.getpid(), "listen": [list(one) for one in listen]}
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, json.dumps(who).encode(), 0)

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def take(folder: Path, listen: Iterable[Listen], *, supervise: bool) -> FolderLock | None:
    """What a gateway does with its data folder before all else. Raises FolderInUse."""
    if supervise:
        return FolderLock(folder, listen)
    beside(folder, listen)
    return None


def beside(folder: Path, listen: Iterable[Listen]) -> None:
    """What `serve` asks before it begins: whether a `gateway up` runs on the folder. That is said; with the
    same address to listen on it raises FolderInUse."""
    try:
        fd = os.open(folder / _NAME, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if _try_lock(fd, fcntl.LOCK_SH):
            return
        who = _read(fd)
    finally:
        os.close(fd)
    taken = [(str(host), int(port)) for host, port in who.get("listen", [])]
    if any(clash(one, other) for one in listen for other in taken):
        raise FolderInUse(_told(folder, who))
    L.info("shares the data folder %s with gateway up (pid %s)", folder, who.get("pid", "unknown"))


def _try_lock(fd: int, kind: int) -> bool:
    """False when another process has it. A file system without locks is said, and taken for a free one."""
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
            raise
        L.warning("the data folder cannot be locked (%s): let no second gateway run on it", error.strerror)
    return True


def _read(fd: int) -> dict[str, Any]:
    try:
        found = json.loads(os.pread(fd, 65536, 0))
    except ValueError:
        return {}  # it has the lock and has not written yet
    return found if isinstance(found, dict) else {}


def _told(folder: Path, who: dict[str, Any]) -> str:
    pid = who.get("pid")
    where = ", ".join(text((str(host), int(port))) for host, port in who.get("listen", []))
    serves = f", listening on {where}" if where else ""
    name = f"gateway up (pid {pid}{serves})" if pid else "another gateway up"
    end = f"end it (kill {pid})" if pid else "end it"
    return f"{name} runs on the data folder {folder}; {end}, or set another folder: [gateway] data"
