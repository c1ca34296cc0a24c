"""Explains errors of the system to an operator: of files and folders, of programs that do not start, of ports
in use. All of it may block."""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import shutil
from collections.abc import Iterator
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


def explain(error: OSError) -> tuple[str, str]:
    """The reason of an error of a file or folder, called `it`, and a hint."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            "permission denied",
            f"let the user with id {os.geteuid()} write there (its mode, its folders')",
        )
    return _REASONS.get(error.errno or 0, (error.strerror or str(error), "look at its disk and its folders"))


_OF_PROGRAMS = frozenset({errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.ENOTDIR, errno.ELOOP})
_SHEBANG = 256  # bytes of a program's first line that the kernel reads


def explain_start_failure(program: str, folder: str, path: str, error: Exception) -> str:
    """The reason why a program did not start, in more detail than the kernel's: its "No such file" may also
    mean the interpreter of a script. program: the first word of the command. folder: its working directory.
    path: the PATH."""
    if not isinstance(error, OSError) or error.errno is None:
        return str(error)
    if error.errno not in _OF_PROGRAMS:  # of the system: no memory, no descriptors
        return "; ".join(explain(error))
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
    return _interpreter_fault(found) or error.strerror or str(error)


def _interpreter_fault(program: Path) -> str:
    """What is wrong with the interpreter or loader of a program; "" when nothing is found."""
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


_LISTENS = "0A"  # proc_net_tcp.txt: TCP_LISTEN


def port_holder(port: int, proc: Path = Path("/proc")) -> str:
    """The process that listens on a TCP port, such as `python3 (pid 4242)`, or its user; "" when the system
    does not tell. Only the name of its program: arguments may hold secrets."""
    found = dict(_listeners(port, proc))
    if not found:
        return ""
    wanted = {f"socket:[{inode}]" for inode in found}
    for process in proc.glob("[0-9]*"):
        if _holds(process, wanted):
            if process.name == str(os.getpid()):
                return "this gateway itself"
            return f"{_program_name(process)} (pid {process.name})"
    with contextlib.suppress(KeyError):
        return f"a process of the user {pwd.getpwuid(next(iter(found.values()))).pw_name}"
    return ""


def _listeners(port: int, proc: Path) -> Iterator[tuple[str, int]]:
    """Inode and user id of the sockets that listen on the port (proc(5), /proc/net/tcp)."""
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in (proc / "net" / table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENS and int(fields[1].rpartition(":")[2], 16) == port:
                    yield fields[9], int(fields[7])


def _holds(process: Path, wanted: set[str]) -> bool:
    """Whether one of its descriptors is one of these sockets; False for a process of another user."""
    with contextlib.suppress(OSError):
        for descriptor in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                if str(descriptor.readlink()) in wanted:
                    return True
    return False


def _program_name(process: Path) -> str:
    try:
        name = (process / "comm").read_text("utf-8", "replace").strip()
    except OSError:
        return "a process"
    return "".join(c if c.isprintable() else "?" for c in name) or "a process"
