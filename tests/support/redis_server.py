"""A Redis server for tests: Debian's redis-server, or valkey-server."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.eventually import eventually_await

PROGRAM = shutil.which("redis-server") or shutil.which("valkey-server")
if PROGRAM is None and os.environ.get("REDIS") == "required":
    raise AssertionError("REDIS=required, and neither redis-server nor valkey-server is installed")
NEEDS_REDIS = pytest.mark.skipif(PROGRAM is None, reason="no redis-server or valkey-server is installed")


class RedisServer:
    """One server. options: of its command line. It listens on a unix socket, and on a port where the options
    name one."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.socket = folder / "redis.sock"
        self._folder, self._options = folder, options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"unix://{self.socket}"

    async def start(self) -> None:
        """Start it, empty."""
        assert PROGRAM is not None
        mine = [
            "--unixsocket",
            str(self.socket),
            "--dir",
            str(self._folder),
            "--save",
            "",
            "--appendonly",
            "no",
        ]
        port = [] if "--port" in self._options else ["--port", "0"]
        self._process = subprocess.Popen(
            [PROGRAM, *mine, *port, *self._options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        await eventually_await(self._responds)

    async def _responds(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "the server has ended"
        try:
            reader, writer = await asyncio.open_unix_connection(str(self.socket))
        except OSError:
            return False
        writer.write(b"PING\r\n")
        said = await reader.readline()
        writer.close()
        return said.startswith((b"+", b"-")) and not said.startswith(b"-LOADING")

    async def say(self, *words: str) -> bytes:
        """Send a command, as a user that needs no password; gives the first line of the reply."""
        reader, writer = await asyncio.open_unix_connection(str(self.socket))
        writer.write(b"*%d\r\n" % len(words))
        for word in words:
            writer.write(b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()))
        said = await reader.readline()
        writer.close()
        return said

    def pause(self) -> None:
        """It accepts connections and says nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once; what it held is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@asynccontextmanager
async def redis_server(folder: Path, *options: str) -> AsyncIterator[RedisServer]:
    """A server for the block."""
    server = RedisServer(folder, *options)
    try:
        await server.start()
        yield server
    finally:
        server.kill()

