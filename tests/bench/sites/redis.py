"""A Redis that gateways share: on a unix socket, and nothing of it is kept."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench import machine
from tests.bench.sites.servers import ServerFailed

PROGRAMS = ("redis-server", "valkey-server")
_READY = 20.0  # seconds


def program() -> str | None:
    """What is installed here, if anything is."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


@contextmanager
def running(path: str, folder: Path, core: int) -> Iterator[str]:
    """Start the program at that path, on that core. Gives its URI for `[shared] uri` once it can be reached.
    Raises ServerFailed."""
    where = folder / "redis.sock"
    options = ["--port", "0", "--unixsocket", str(where), "--save", "", "--appendonly", "no"]
    command = [*machine.pinned(core), path, *options]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _await(process, where)
        yield f"unix://{where}"
    finally:
        process.terminate()
        process.wait()


def _await(process: subprocess.Popen[bytes], where: Path) -> None:
    deadline = time.monotonic() + _READY
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket(socket.AF_UNIX) as client:
            if client.connect_ex(str(where)) == 0:
                return
        time.sleep(0.02)
    raise ServerFailed(f"{process.args!r} does not listen on {where}")
