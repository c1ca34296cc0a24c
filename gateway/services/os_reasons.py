"""What the system's errors of files and folders mean, and what to do about them."""

from __future__ import annotations

import errno
import os

_A_FILE = "it, or a folder above it, is a file", "name another folder, or move the file away"
_REASONS = {
    errno.EISDIR: ("it is a folder, and no file", "name a file in it"),
    errno.ENOTDIR: _A_FILE,
    errno.EEXIST: _A_FILE,
    errno.ENOSPC: (
        "no space is left on its disk",
        "make room there (see df -h and df -i), or name another disk",
    ),
    errno.EDQUOT: ("the quota of its disk is used up", "make room there, or have the quota raised"),
    errno.EROFS: ("its disk is mounted read-only", "mount it to be written, or name another place"),
    errno.ELOOP: ("its links lead in a circle", "correct the links"),
    errno.ENAMETOOLONG: ("its name is too long", "name a shorter one"),
    errno.EMFILE: ("no file descriptors are left", "raise the limit of open files (ulimit -n)"),
}


def why(error: OSError) -> tuple[str, str]:
    """The reason, with `it` for the file or folder, and a hint."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            "permission denied",
            f"let the user with id {os.geteuid()} write there (its mode, its folders')",
        )
    return _REASONS.get(error.errno or 0, (error.strerror or str(error), "look at its disk and its folders"))
