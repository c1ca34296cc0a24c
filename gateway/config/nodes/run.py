"""A run of a gateway on a data folder: told from others, and whether its process is there still.

Each one holds a lock (flock(2)) on a file of its own in `runs` of the data folder, which ends with its
process, however that ends. On a file system without locks a run counts as ended.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
from pathlib import Path
from uuid import uuid4

from gateway.runtime import durable

L = logging.getLogger(__name__)
_FOLDER = "runs"
_NAME = re.compile("[0-9a-f]{32}")


class Run:
    """See ThisRun. folder: the name of the data folder among others. Between start() and close() others see
    that it goes on. It blocks, for as long as the disk takes."""

    def __init__(self, data: Path, folder: str) -> None:
        self.id = f"{folder}/{uuid4().hex}"
        self._runs = data / _FOLDER
        self._descriptor = -1

    def start(self) -> None:
        """Take the lock, and remove the files of those that have ended. What fails is logged: then this run
        counts as ended."""
        try:
            durable.make_folder(self._runs)
            for path in self._runs.iterdir():
                if _NAME.fullmatch(path.name) and _is_free(path):
                    path.unlink(missing_ok=True)
            path = self._path(self.id)
            unlocked = path.with_suffix(".part")  # without its lock it would be removed by who starts now
            self._descriptor = os.open(
                unlocked, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, durable.PRIVATE
            )
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            durable.rename(unlocked, path)
        except OSError as error:
            L.warning(
                "%s: others cannot see that this gateway runs (%s): at the start of another one on this data"
                " folder, what was not confirmed goes back at once",
                *(self._runs, error),
            )

    def close(self) -> None:
        """It has ended. A second call does nothing."""
        if self._descriptor >= 0:
            self._path(self.id).unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1

    def is_ours(self, id: str) -> bool:
        """See ThisRun."""
        return id.rpartition("/")[0] == self.id.rpartition("/")[0]

    def has_ended(self, id: str) -> bool:
        """See ThisRun."""
        if id == self.id or not self.is_ours(id) or not _NAME.fullmatch(id.rpartition("/")[2]):
            return False
        return _is_free(self._path(id))

    def _path(self, id: str) -> Path:
        return self._runs / id.rpartition("/")[2]


def _is_free(path: Path) -> bool:
    """Whether no process holds the lock of a file, or the file is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    finally:
        os.close(descriptor)
    return True
