"""Who may stay connected when not everybody can.

A process has a limited number of file descriptors, and a listener may have fewer connections of its own.
When they are taken, a new client is worth more than one that holds a place and asks nothing: as nginx does,
a connection without a whole request is closed for it (an idle one, half a head). Such floods come from one
place as a rule, so the address that has the most of them gives first, and of its connections the oldest.
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

L = logging.getLogger(__name__)
_LOOK = 0.05  # seconds between two looks at all connections, when none could be spared
_SHARE = 8  # of the connections that wait, one in so many is spared at a look: what a look costs is shared
_EACH = 2  # descriptors of a client, with its connection to a backend, where they cannot be counted
_EACH_AT_MOST = 4  # and with files for its body and its answer
_SAID_AGAIN = 60.0  # seconds between two lines that say the same
_OWN = "/proc/self/fd"
_RESERVE, _RESERVE_MOST = 4, 256  # a quarter of the descriptors, at most that many
ADMIN_MOST = 64  # connections


class Client(Protocol):
    """As ClientConnection has them."""

    peer: str
    busy: bool

    @property
    def tunnel(self) -> object: ...
    idle_since: float
    transport: asyncio.Transport | None


@dataclass(frozen=True, slots=True)
class Room:
    """most: connections at once. descriptors: of the whole process, of which a new client may find no more
    in use, whatever for."""

    most: int
    descriptors: int


EVERYTHING = Room(2**31, 2**31)


def public_room(limit: int) -> Room:
    """The public side's part of a limit of descriptors: the rest is for the admin listener, for connections
    to backends, and for the store's and other files."""
    return Room(2**31, limit - min(limit // _RESERVE, _RESERVE_MOST))


def admin_room(limit: int) -> Room:
    """The admin listener's: few connections, of which the public side can take none."""
    return Room(max(4, min(limit // 16, ADMIN_MOST)), limit - min(limit // 16, ADMIN_MOST))


class Descriptors:
    """Counts the descriptors that this process has open, as Linux tells since 6.2 (proc(5)); 0 elsewhere.

    Its own is opened once, before anybody is served: then the kernel is asked for a number of its own (2 µs),
    and no path is looked up.
    """

    __slots__ = ("_folder",)

    def __init__(self) -> None:
        try:
            self._folder = os.open(_OWN, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            self._folder = -1

    def __call__(self) -> int:
        return os.fstat(self._folder).st_size if self._folder >= 0 else 0

    def close(self) -> None:
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1


class Places:
    """The places of one listener. clients: those connected now, live. key: the listener, for the log.
    in_use: how many descriptors the process has open, 0 when that cannot be told."""

    def __init__(
        self,
        room: Room,
        clients: Collection[Client],
        key: str,
        in_use: Callable[[], int],
    ) -> None:
        self._room = room
        self._clients = clients
        self._key = key
        self._in_use = in_use
        self._spare: deque[Client] = deque()
        self._unasked = 0  # clients who certainly find a descriptor, so that it is not asked for each
        self._look_at = self._said_at = 0.0

    def has_room(self) -> bool:
        """Whether a new connection may stay; if need be another one is closed for it."""
        clients, room = len(self._clients), self._room
        full = clients >= room.most
        if not full and self._unasked:
            self._unasked -= 1
            return True
        spare = room.descriptors - (self._in_use() or _EACH * clients)
        self._unasked = max(0, spare // _EACH_AT_MOST)
        if not full and spare >= 0:
            return True
        made = self.make_room()
        self._say(full=full, made=made)
        return made

    def make_room(self) -> bool:
        """Close one that can be spared. False when there is none."""
        spare, now = self._spare, monotonic()
        for _ in range(2):
            while spare:
                client = spare.popleft()
                transport = client.transport
                if transport is not None and _waits(client):
                    transport.abort()
                    return True
            if now < self._look_at:
                return False
            self._look_at = now + _LOOK
            spare.extend(_order(self._clients))
            if spare:
                self._look_at = 0.0  # what was found is used up first
        return False

    def _say(self, *, full: bool, made: bool) -> None:
        now = monotonic()
        if self._said_at and now - self._said_at < _SAID_AGAIN:
            return
        self._said_at = now
        what = f"all {self._room.most} connections" if full else "all file descriptors for clients"
        hint = "" if full else "; raise the limit of open files of this process (ulimit -n, LimitNOFILE)"
        done = "the longest idle ones are closed for new ones" if made else "new ones are refused"
        L.warning("%s: %s are taken: %s%s", self._key, what, done, hint)


def _waits(client: Client) -> bool:
    """Whether it has no request here that is whole, and is not closed: that takes a turn of the loop."""
    transport = client.transport
    return not client.busy and client.tunnel is None and transport is not None and not transport.is_closing()


def _order(clients: Collection[Client]) -> list[Client]:
    """Those that can be spared, the first one first; at least one of those that wait, at most a part."""
    waiting = [client for client in clients if _waits(client)]
    of_peer = Counter(client.peer for client in waiting)
    waiting.sort(key=lambda client: (-of_peer[client.peer], client.idle_since))
    return waiting[: max(1, len(waiting) // _SHARE)]
