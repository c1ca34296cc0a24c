"""Connection slots: who may stay connected when not everybody can.

A process has a limited number of file descriptors, and a listener may have fewer connections of its own.
When they are taken, a new client is worth more than one that holds a slot and asks nothing: as nginx does, a
connection without a whole request is closed for it (an idle one, half a head). Such floods come from one
address as a rule, so the address that has the most of them gives first, and of its connections the oldest.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter, deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

from gateway.runtime.log_interval import LogInterval

L = logging.getLogger(__name__)
_SCAN_INTERVAL = 0.05  # seconds between two scans of all connections, when none could be closed
_SCAN_PART = 8  # of the idle connections, one in so many may be closed after a scan, which shares its cost
_DESCRIPTORS_EACH = 2  # of a client, with its connection to a backend, where they cannot be counted
_DESCRIPTORS_AT_MOST = 4  # and with files for its body and its response
_OWN_DESCRIPTORS = "/proc/self/fd"
_RESERVE, _RESERVE_AT_MOST = 4, 256  # a quarter of the descriptors, at most that many
ADMIN_CONNECTIONS = 64


class Connection(Protocol):
    """As ClientConnection has them."""

    peer: str
    busy: bool
    idle_since: float
    transport: asyncio.Transport | None

    @property
    def tunnel(self) -> object: ...


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """connections: at once. descriptors: of the whole process, of which a new client may find no more in use,
    whatever for."""

    connections: int
    descriptors: int


UNLIMITED = ConnectionLimits(2**31, 2**31)


def public_limits(descriptors: int, connections: int = 0) -> ConnectionLimits:
    """The public listener's part of the process's limit of descriptors: the rest is for the admin listener,
    for connections to backends, and for the store's and other files. connections: at most so many, 0 for as
    many as there are descriptors for."""
    reserve = min(descriptors // _RESERVE, _RESERVE_AT_MOST)
    return ConnectionLimits(connections or 2**31, descriptors - reserve)


def admin_limits(descriptors: int) -> ConnectionLimits:
    """The admin listener's: few connections, of which the public listener can take none."""
    own = min(descriptors // 16, ADMIN_CONNECTIONS)
    return ConnectionLimits(max(4, own), descriptors - own)


class OpenDescriptors:
    """Counts the descriptors that this process has open, which Linux gives since 6.2 (proc(5)); 0 elsewhere.

    Its own is opened once, before anybody is served: then the kernel is asked for a number of its own (2 µs),
    and no path is looked up.
    """

    __slots__ = ("_folder",)

    def __init__(self) -> None:
        try:
            self._folder = os.open(_OWN_DESCRIPTORS, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            self._folder = -1

    def __call__(self) -> int:
        return os.fstat(self._folder).st_size if self._folder >= 0 else 0

    def close(self) -> None:
        """Stop counting; from now on it gives 0."""
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1


class ConnectionSlots:
    """The slots of one listener.

    connections: those that are open now, live. key: the listener, for the log. open_descriptors: how many
    the process has open, 0 when that is not known.
    """

    def __init__(
        self,
        limits: ConnectionLimits,
        connections: Collection[Connection],
        key: str,
        open_descriptors: Callable[[], int],
    ) -> None:
        self._limits = limits
        self._connections = connections
        self._key = key
        self._open_descriptors = open_descriptors
        self._evictable: deque[Connection] = deque()
        self._uncounted = 0  # new clients that certainly find a descriptor, so that none are counted for them
        self._scan_at = 0.0
        self._log_interval = LogInterval()

    def admit(self) -> bool:
        """Whether a new connection may stay; if need be another one is closed for it."""
        connections, limits = len(self._connections), self._limits
        full = connections >= limits.connections
        if not full and self._uncounted:
            self._uncounted -= 1
            return True
        spare = limits.descriptors - (self._open_descriptors() or _DESCRIPTORS_EACH * connections)
        self._uncounted = max(0, spare // _DESCRIPTORS_AT_MOST)
        if not full and spare >= 0:
            return True
        evicted = self.evict()
        self._log(full=full, evicted=evicted)
        return evicted

    def evict(self) -> bool:
        """Close one that has no request. False when there is none."""
        evictable, now = self._evictable, monotonic()
        for _ in range(2):
            while evictable:
                connection = evictable.popleft()
                transport = connection.transport
                if transport is not None and _is_evictable(connection):
                    transport.abort()
                    return True
            if now < self._scan_at:
                return False
            self._scan_at = now + _SCAN_INTERVAL
            evictable.extend(_in_order(self._connections))
            if evictable:
                self._scan_at = 0.0  # what was found is used up first
        return False

    def _log(self, *, full: bool, evicted: bool) -> None:
        if not self._log_interval.is_over():
            return
        what = f"all {self._limits.connections} connections" if full else "all file descriptors for clients"
        hint = "" if full else "; raise the limit of open files of this process (ulimit -n, LimitNOFILE)"
        done = "the longest idle ones are closed for new ones" if evicted else "new ones are refused"
        L.warning("%s: %s are taken: %s%s", self._key, what, done, hint)


def _is_evictable(connection: Connection) -> bool:
    """Whether it has no request here that is whole, and is not closed: that takes a turn of the loop."""
    if connection.busy or connection.tunnel is not None:
        return False
    transport = connection.transport
    return transport is not None and not transport.is_closing()


def _in_order(connections: Collection[Connection]) -> list[Connection]:
    """Those to be closed, the first one first: at least one of those that are idle, at most a part."""
    idle = [connection for connection in connections if _is_evictable(connection)]
    of_peer = Counter(connection.peer for connection in idle)
    idle.sort(key=lambda connection: (-of_peer[connection.peer], connection.idle_since))
    return idle[: max(1, len(idle) // _SCAN_PART)]
