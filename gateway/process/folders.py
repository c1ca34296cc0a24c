"""The folders of the process: for data, for sockets, for each backend that it runs."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from gateway.runtime import durable
from gateway.runtime.os_reasons import why

_SHORT = 56  # bytes of the path of a temporary folder: with ours in it, room is left for a name of 20


class FolderUnusable(OSError):
    """A folder that cannot be used; the text says which, why and how to mend it."""


def socket_folder(data: str) -> str:
    """Where supervised backends listen: short (a socket's path holds 107 bytes), one for each data folder,
    and of the same length for all of them."""
    mark = hashlib.sha256(os.path.realpath(data).encode()).hexdigest()[:10]
    folder = temporary_folder()
    if len(os.fsencode(folder)) > _SHORT and os.access("/tmp", os.W_OK):  # noqa: S108 - made for its owner alone
        folder = "/tmp"  # noqa: S108
    return f"{folder}/gateway-{os.getuid()}-{mark}"


def temporary_folder() -> str:
    """Where sockets are, and what waits for slow clients. Raises FolderUnusable."""
    try:
        return tempfile.gettempdir()
    except OSError:  # it tries to write a file in each of them
        text = "no temporary folder can be written; make room in /tmp (see df -h and df -i), or set TMPDIR"
        raise FolderUnusable(text) from None


def temporary_folder_problems(spool: int) -> Iterator[str]:
    """What an operator should know of it before clients come. spool: bytes that it may have to hold."""
    folder, asked = temporary_folder(), os.environ.get("TMPDIR")
    if asked and os.path.realpath(asked) != os.path.realpath(folder):
        yield f"TMPDIR={asked} cannot be written (is it there, full, or read-only?): {folder} is used instead"
    free = shutil.disk_usage(folder).free
    if free < spool:
        yield (
            f"{folder} has {free // 2**20} MiB free, less than the {spool // 2**20} MiB that bodies and"
            " answers may take there ([gateway] spool): make room, set TMPDIR, or lower it"
        )


def data_folder(path: Path) -> Path:
    """Make the folder, for its owner alone, where there is none. Gives its absolute path.

    One that is there keeps its mode: it may be shared on purpose, or hold the config too. What is secret in
    it has a file of mode 0600 or a folder of its own. Raises FolderUnusable.
    """
    path = _made(path)
    if path.stat().st_uid != os.getuid():
        raise FolderUnusable(f"{path} belongs to another user; set another data folder")
    return path


def private_folder(path: Path) -> Path:
    """Make a folder that is ours alone (mode 0700), whatever it was before. Gives its absolute path.

    Raises FolderUnusable when it is somebody else's, or a link to elsewhere.
    """
    path = _made(path)
    status = path.lstat()
    if status.st_uid != os.getuid() or path.is_symlink():
        raise FolderUnusable(f"{path} is not a folder of this user; remove it, or set another data folder")
    if status.st_mode & 0o777 != 0o700:
        path.chmod(0o700)
    return path


def _made(path: Path) -> Path:
    path = Path(os.path.abspath(path))  # noqa: PTH100 - `..` is resolved, a link is not
    try:
        durable.make_folder(path)
    except OSError as error:
        raise FolderUnusable(f"cannot make the folder {path}: {'; '.join(why(error))}") from None
    return path
