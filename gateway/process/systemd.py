"""What systemd is told, and what it gives: sd_notify(3) and sd_listen_fds(3), in a few lines of our own.

Each is told in a datagram to the socket that NOTIFY_SOCKET names. Without one, nothing happens. The variables
are removed from the environment: no child of ours is the service, or has its sockets.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import MutableMapping
from contextlib import suppress

from gateway.runtime.periodic import PeriodicTask

L = logging.getLogger(__name__)
_FIRST = 3  # descriptor of the first socket (SD_LISTEN_FDS_START)


class Notifier:
    """The service's word to systemd. environment: read once."""

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        self._path = environment.pop("NOTIFY_SOCKET", "")
        period = _for_us(environment, "WATCHDOG_PID", "WATCHDOG_USEC")
        self._watchdog: PeriodicTask | None = None
        if self._path and period:
            # Half of the time, as sd_watchdog_enabled(3) says: a loop that stands still is restarted.
            self._watchdog = PeriodicTask(
                "the watchdog of systemd", period / 2e6, lambda: self._tell("WATCHDOG=1")
            )

    def ready(self, status: str) -> None:
        """It serves (again)."""
        self._tell("READY=1", f"MAINPID={os.getpid()}", f"STATUS={status}")
        if self._watchdog is not None and not self._watchdog.running:
            self._watchdog.start()

    def reloading(self) -> None:
        """A reload begins; `ready` ends it."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell("RELOADING=1", f"MONOTONIC_USEC={now}", "STATUS=Reloading")

    def stopping(self) -> None:
        """The drain begins."""
        self._tell("STOPPING=1", "STATUS=Draining")

    async def close(self) -> None:
        """The watchdog is not told any more."""
        if self._watchdog is not None:
            await self._watchdog.stop()

    def _tell(self, *lines: str) -> None:
        if not self._path:
            return
        address = f"\0{self._path[1:]}" if self._path.startswith("@") else self._path
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.connect(address)
                sock.send("\n".join(lines).encode())
        except OSError as error:
            L.warning("systemd is not told %s: %s", lines[0], error.strerror)


def listening(environment: MutableMapping[str, str]) -> list[socket.socket]:
    """The sockets that systemd listens on for this process; none as a rule. They are ours from now on, and no
    child's."""
    count = _for_us(environment, "LISTEN_PID", "LISTEN_FDS")
    environment.pop("LISTEN_FDNAMES", None)
    found = []
    for descriptor in range(_FIRST, _FIRST + count):
        os.set_inheritable(descriptor, False)
        sock = socket.socket(fileno=descriptor)
        sock.setblocking(False)
        found.append(sock)
    return found


def _for_us(environment: MutableMapping[str, str], pid: str, name: str) -> int:
    """The number that a variable has for this process, 0 for none."""
    whose, text = environment.pop(pid, ""), environment.pop(name, "")
    if whose and whose != str(os.getpid()):
        return 0
    with suppress(ValueError):
        return max(0, int(text))
    return 0
