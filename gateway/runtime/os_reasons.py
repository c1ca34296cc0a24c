"""What the system's errors of files and folders mean, and what to do about them."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

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


_OF_PROGRAMS = frozenset({errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.ENOTDIR, errno.ELOOP})
_SHEBANG = 256  # bytes of a program's first line that the kernel looks at


def why_not_run(program: str, folder: str, path: str, error: Exception) -> str:
    """Why a program did not start. The kernel says of a script whose interpreter is missing that the script
    is: "No such file". program: the command's first word. folder: where it was to run. path: the PATH.
    Blocks."""
    if not isinstance(error, OSError) or error.errno is None:
        return str(error)
    if error.errno not in _OF_PROGRAMS:  # of the system: no memory, no descriptors
        return "; ".join(why(error))
    if not Path(folder).is_dir():
        return f"the folder {folder} is not there, or is none"
    if "/" not in program:
        on_path = shutil.which(program, os.F_OK, path)
        if on_path is None:
            return f"there is no such program on the PATH ({path})"
        program = on_path
    found = Path(folder) / program
    if not os.path.lexists(found):
        return "there is no such program"
    if not found.exists():
        return "it is a link to what is not there"
    if not found.is_file():
        return "it is no file, and so no program"
    if error.errno == errno.EACCES and not os.access(found, os.X_OK):
        return "it is not executable by this user; see chmod +x"
    return _of_interpreter(found) or error.strerror or str(error)


def _of_interpreter(program: Path) -> str:
    """What is wrong with who was to read the file."""
    try:
        with program.open("rb") as file:
            start = file.read(_SHEBANG)
    except OSError:
        return ""
    if not start.startswith(b"#!"):
        if start.startswith(b"\x7fELF"):
            return "it was built for another system or processor (its loader is not here)"
        return "it is no program for this machine, and its first line names no interpreter, such as #!/bin/sh"
    line = start[2:].split(b"\n")[0]
    name = os.fsdecode(line.strip(b" \t").split(b" ")[0].split(b"\t")[0])
    if not name:
        return "its first line names no interpreter behind #!"
    if name.endswith("\r"):
        return "its first line ends with a carriage return (Windows); save it with line feeds"
    if not Path(name).exists():
        return f"its first line names the interpreter {name!r}, which is not there"
    if not os.access(name, os.X_OK) or not Path(name).is_file():
        return f"its first line names the interpreter {name!r}, which this user cannot execute"
    return ""
