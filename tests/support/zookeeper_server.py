"""A real ZooKeeper server, standalone on a free port of loopback: Debian's package `zookeeper`, or the jars
that ZOOKEEPER_CLASSPATH names (the artifact org.apache.zookeeper:zookeeper and what it depends on)."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.eventually import END, poll
from tests.support.ports import free_port

_DEBIAN = Path("/usr/share/java/zookeeper.jar")  # its manifest names all that it depends on
_MAIN = "org.apache.zookeeper.server.ZooKeeperServerMain"
_CONF = """dataDir={folder}
clientPort={port}
clientPortAddress=127.0.0.1
tickTime=200
minSessionTimeout=400
maxSessionTimeout=1600
admin.enableServer=false
"""


class ZooKeeperServer:
    """The port stays the same over its lives, and so do the nodes. servers: for a client."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.servers = f"127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        self._folder = folder

    def start(self) -> None:
        """Blocks until it serves. Skips the test where there is no Java or no ZooKeeper; fails
        it where the environment says ZOOKEEPER=required."""
        assert self.process is None
        (self._folder / "data").mkdir(parents=True, exist_ok=True)
        conf = self._folder / "zoo.cfg"
        conf.write_text(_CONF.format(folder=self._folder / "data", port=self.port))
        java = ["java", "-Xmx64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
        with (self._folder / "zookeeper.out").open("ab") as output:
            self.process = subprocess.Popen(
                [*java, "-cp", classpath(), _MAIN, str(conf)], stdout=output, stderr=output, cwd=self._folder
            )
        poll(self._serves)

    def _serves(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise RuntimeError((self._folder / "zookeeper.out").read_text())
        try:  # it accepts connections before it serves, and may never answer what came by then
            with socket.create_connection(("127.0.0.1", self.port), END) as connection:
                connection.settimeout(0.5)
                connection.sendall(b"srvr")
                return b"Mode: standalone" in connection.makefile("rb").read()
        except OSError:
            return False

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stand_still(self) -> None:
        """Connections stay, and nothing is answered."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)


def classpath() -> str:
    """Skips or fails the test where it cannot be run."""
    found = os.environ.get("ZOOKEEPER_CLASSPATH") or (str(_DEBIAN) if _DEBIAN.exists() else "")
    if found and shutil.which("java"):
        return found
    why = "there is no java on the PATH"
    if not found:
        why = "there is no ZooKeeper: install Debian's package zookeeper, or set ZOOKEEPER_CLASSPATH"
    if os.environ.get("ZOOKEEPER") == "required":
        pytest.fail(why)
    pytest.skip(why)


@contextmanager
def zookeeper_server(folder: Path) -> Iterator[ZooKeeperServer]:
    """One that serves, and ends with the block."""
    server = ZooKeeperServer(folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()
