"""Who holds a port, as far as this system tells: for the message of one that cannot be listened on."""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Iterator
from pathlib import Path

_LISTENS = "0A"  # proc_net_tcp.txt: TCP_LISTEN


def holder(port: int, proc: Path = Path("/proc")) -> str:
    """The process that listens on a TCP port, `python3 (pid 4242)`, or its user; "" when nobody can tell.

    Only the name of its program: arguments may hold secrets.
    """
    found = dict(_listeners(port, proc))
    if not found:
        return ""
    wanted = {f"socket:[{inode}]" for inode in found}
    for process in proc.glob("[0-9]*"):
        if _holds(process, wanted):
            if process.name == str(os.getpid()):
                return "this gateway itself"
            return f"{_name(process)} (pid {process.name})"
    with contextlib.suppress(KeyError):
        return f"a process of the user {pwd.getpwuid(next(iter(found.values()))).pw_name}"
    return ""


def _listeners(port: int, proc: Path) -> Iterator[tuple[str, int]]:
    """inode and user of the sockets that listen on the port (proc(5), /proc/net/tcp)."""
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in (proc / "net" / table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENS and int(fields[1].rpartition(":")[2], 16) == port:
                    yield fields[9], int(fields[7])


def _holds(process: Path, wanted: set[str]) -> bool:
    """Whether one of its descriptors is one of these sockets. Others' processes do not say."""
    with contextlib.suppress(OSError):
        for descriptor in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                if str(descriptor.readlink()) in wanted:
                    return True
    return False


def _name(process: Path) -> str:
    try:
        name = (process / "comm").read_text("utf-8", "replace").strip()
    except OSError:
        return "a process"
    return "".join(c if c.isprintable() else "?" for c in name) or "a process"
