"""The folders of the process: for data, for sockets, for each supervised backend."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from gateway.runtime import durable
from gateway.runtime.os_errors import explain

_SHORT = 56  # bytes of the path of a temporary folder, which leave room for a backend name of 20


class FolderUnusable(OSError):
    """A folder that cannot be used; the message says which, why, and what to do."""


def socket_folder(data: str) -> str:
    """The folder of the sockets of supervised backends, one for each data folder. Its path is short (that of
    a socket holds 107 bytes) and equally long for all of them."""
    mark = hashlib.sha256(os.path.realpath(data).encode()).hexdigest()[:10]
    folder = temporary_folder()
    if len(os.fsencode(folder)) > _SHORT and os.access("/tmp", os.W_OK):  # noqa: S108 - made for its owner alone
        folder = "/tmp"  # noqa: S108
    return f"{folder}/gateway-{os.getuid()}-{mark}"


def temporary_folder() -> str:
    """The folder for temporary files: sockets, and bodies that wait for slow clients. Raises
    FolderUnusable."""
    try:
        return tempfile.gettempdir()
    except OSError:  # it tries to write a file in each candidate
        text = "no temporary folder can be written; make room in /tmp (see df -h and df -i), or set TMPDIR"
        raise FolderUnusable(text) from None


def temporary_folder_problems(spool: int) -> Iterator[str]:
    """Warnings about the temporary folder for the operator. spool: bytes that it may have to hold."""
    folder, asked = temporary_folder(), os.environ.get("TMPDIR")
    if asked and os.path.realpath(asked) != os.path.realpath(folder):
        yield f"TMPDIR={asked} cannot be written (is it there, full, or read-only?): {folder} is used instead"
    free = shutil.disk_usage(folder).free
    if free < spool:
        yield (
            f"{folder} has {free // 2**20} MiB free, less than the {spool // 2**20} MiB that bodies and"
            " responses may take there ([gateway] spool): make room, set TMPDIR, or lower it"
        )


def data_folder(path: Path) -> Path:
    """Make the folder (mode 0700) where there is none. Returns its absolute path. Raises FolderUnusable.

    One that exists keeps its mode: it may be shared on purpose, or hold the config too. Secrets in it are in
    files of mode 0600 or folders of their own.
    """
    path = _ensure_folder(path)
    if path.stat().st_uid != os.getuid():
        raise FolderUnusable(f"{path} belongs to another user; set another data folder")
    return path


def private_folder(path: Path) -> Path:
    """Make a folder of mode 0700, or change the mode of one that exists. Returns its absolute path.

    Raises FolderUnusable when it belongs to another user, or is a symbolic link.
    """
    path = _ensure_folder(path)
    status = path.lstat()
    if status.st_uid != os.getuid() or path.is_symlink():
        raise FolderUnusable(f"{path} is not a folder of this user; remove it, or set another data folder")
    if status.st_mode & 0o777 != 0o700:
        path.chmod(0o700)
    return path


def _ensure_folder(path: Path) -> Path:
    path = Path(os.path.abspath(path))  # noqa: PTH100 - `..` is resolved, a link is not
    try:
        durable.make_folder(path)
    except OSError as error:
        raise FolderUnusable(f"cannot make the folder {path}: {'; '.join(explain(error))}") from None
    return path
