"""Names that processes of one host tell each other through a folder: who listens has a datagram socket in it.

A name that is lost (the listener's queue is full) is not told again: it hurries those who look for themselves
now and then.
"""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from gateway.runtime import durable

_SUFFIX = ".sock"
_KIND = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
_MOST = 512  # bytes of a name
_AT_ONCE = 64  # names that are taken in one turn of the event loop


class ToldNames:
    """One process's part. on_name: called on the event loop with each name that another process told while
    this one listens. `tell` looks at the folder, so it is called in a writer thread; all others on the event
    loop."""

    def __init__(self, folder: Path, on_name: Callable[[str], None]) -> None:
        self._folder = folder
        self._on_name = on_name
        self._own = f"{os.getpid()}-{secrets.token_hex(4)}{_SUFFIX}"
        self._lock = threading.Lock()  # of all that follows
        self._directory = -1  # paths of sockets are short: 107 bytes with the folder
        self._listening: socket.socket | None = None
        self._sending: socket.socket | None = None
        self._stamp = -1  # of the folder when the listeners were read
        self._listeners: list[str] = []

    def listen(self) -> None:
        """Hear of names from now on; a second call does nothing. Where the folder has no room for a socket,
        none is heard."""
        if self._listening is not None:
            return
        listening = socket.socket(socket.AF_UNIX, _KIND)
        try:
            durable.make_folder(self._folder)
            with self._lock:
                self._open()
            listening.bind(self._path(self._own))
        except OSError:
            listening.close()
            return
        self._listening = listening
        asyncio.get_running_loop().add_reader(listening.fileno(), self._receive, listening)

    def rest(self) -> None:
        """Hear of none any more."""
        listening, self._listening = self._listening, None
        if listening is None:
            return
        asyncio.get_running_loop().remove_reader(listening.fileno())
        listening.close()
        self._forget(self._own)

    def tell(self, name: str) -> None:
        """Tell all who listen in other processes. In any thread; never fails, since a commit came before."""
        with self._lock, suppress(OSError):  # as a rule: nobody has ever listened, and there is no folder
            stamp = self._folder.stat().st_mtime_ns
            if stamp != self._stamp:
                self._stamp = stamp
                self._read_listeners()
            for listener in self._listeners:
                self._send(name, listener)

    def close(self) -> None:
        """Neither hear nor tell any more."""
        self.rest()
        with self._lock:
            if self._sending is not None:
                self._sending.close()
                self._sending = None
            if self._directory >= 0:
                os.close(self._directory)
                self._directory = -1
            self._stamp, self._listeners = -1, []

    def _open(self) -> None:
        if self._directory < 0:
            self._directory = os.open(self._folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def _path(self, name: str) -> str:
        return f"/proc/self/fd/{self._directory}/{name}"

    def _read_listeners(self) -> None:
        with suppress(OSError):
            self._open()
            names = [path.name for path in self._folder.iterdir()]
            self._listeners = [name for name in names if name.endswith(_SUFFIX) and name != self._own]

    def _send(self, name: str, listener: str) -> None:
        if self._sending is None:
            self._sending = socket.socket(socket.AF_UNIX, _KIND)
        try:
            self._sending.sendto(name.encode(), self._path(listener))
        except OSError as error:
            if error.errno == errno.ECONNREFUSED:  # its process has died
                self._forget(listener)

    def _forget(self, name: str) -> None:
        with suppress(OSError):
            os.unlink(self._path(name))  # noqa: PTH108 - it is below a descriptor

    def _receive(self, listening: socket.socket) -> None:
        names = set()
        with suppress(BlockingIOError):
            for _ in range(_AT_ONCE):
                names.add(listening.recv(_MOST).decode())
        for name in names:
            self._on_name(name)
