"""The lock of a data folder: one `gateway up` for each, which runs backends with its sockets and its data.

Several `gateway serve` may share a folder, also with one `up`, to use its backends: each needs its own ports,
and nothing else is exclusive.

The lock is the system's (flock(2)), so it ends with its process, however that ends. The file says who holds
it; the content that a dead process left has no meaning.
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

from gateway.core.process.listeners import UNIX, Listen, first_clash

L = logging.getLogger(__name__)
_NAME = "up.lock"
_TRIES, _PAUSE = 10, 0.02  # pause in seconds


class FolderInUse(OSError):
    """Another gateway runs on this data folder; the message says which, and what to do."""


class FolderLock:
    """The right to run backends for a data folder, until `release` or the end of the process. listen: the
    addresses of this gateway, for the message to others.

    Raises FolderInUse when another process has it.
    """

    def __init__(self, folder: Path, listen: Iterable[Listen]) -> None:
        self._fd = os.open(folder / _NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            for _ in range(_TRIES):  # `check_shared` holds it for a moment
                if _try_lock(self._fd, fcntl.LOCK_EX):
                    break
                time.sleep(_PAUSE)
            else:
                raise FolderInUse(_in_use_message(folder, _read(self._fd)))
        except OSError:
            os.close(self._fd)
            raise
        holder = {
            "pid": os.getpid(),
            "listen": [(str(one), 0) if one.path else one.address for one in listen],
        }
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, json.dumps(holder).encode(), 0)

    def release(self) -> None:
        """Give it up; a second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def acquire(folder: Path, listen: Iterable[Listen], *, supervise: bool) -> FolderLock | None:
    """Lock the data folder for a gateway that supervises backends; for another one check that it may share
    the folder (see check_shared). Raises FolderInUse."""
    if supervise:
        return FolderLock(folder, listen)
    check_shared(folder, listen)
    return None


def check_shared(folder: Path, listen: Iterable[Listen]) -> None:
    """Check whether a `gateway up` runs on the folder, and log that. Raises FolderInUse when it listens on
    one of the same addresses."""
    try:
        fd = os.open(folder / _NAME, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if _try_lock(fd, fcntl.LOCK_SH):
            return
        holder = _read(fd)
    finally:
        os.close(fd)
    if first_clash(listen, _taken(holder)) is not None:
        raise FolderInUse(_in_use_message(folder, holder))
    L.info("shares the data folder %s with gateway up (pid %s)", folder, holder.get("pid", "unknown"))


def _try_lock(fd: int, kind: int) -> bool:
    """False when another process has it. A file system without locks is logged, and counts as not locked."""
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


def _taken(holder: dict[str, Any]) -> list[Listen]:
    """Where the holder listens."""
    found = []
    for host, port in holder.get("listen", []):
        path = str(host).removeprefix(UNIX)
        found.append(Listen(path=path) if path != host else Listen(str(host), int(port)))
    return found


def _in_use_message(folder: Path, holder: dict[str, Any]) -> str:
    pid = holder.get("pid")
    where = ", ".join(map(str, _taken(holder)))
    serves = f", listening on {where}" if where else ""
    name = f"gateway up (pid {pid}{serves})" if pid else "another gateway up"
    end = f"end it (kill {pid})" if pid else "end it"
    return f"{name} runs on the data folder {folder}; {end}, or set another folder: [gateway] data"
