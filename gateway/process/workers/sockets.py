"""The listening sockets of several workers: each worker has one of its own for each port (SO_REUSEPORT),
and the master holds all of them, so that none closes with its worker. A unix socket is one for all, and so is
one of systemd.

The kernel spreads new connections by their addresses. With 200 kept connections the busiest of two workers
had 1.01 to 1.06 times the mean, of four 1.06 to 1.18; where all accepted from one inherited socket, 1.2 to
1.7, and 1.2 to 2.3 (measured).
"""

from __future__ import annotations

import socket
from collections.abc import Iterable

from gateway.core.process.listeners import Listen
from gateway.edge.client.sockets import (
    BoundSocket,
    HeldSockets,
    ListenError,
    bind_all,
    close,
    is_lost,
    listen,
    problem,
    set_mode,
)


class Address:
    """One address to listen on, with a socket for each worker. listen: the listener there."""

    def __init__(self, first: BoundSocket, key: str, backlog: int = 1024) -> None:
        self._key, self._backlog = key, backlog
        self._first = first
        self._listens = False
        self.listen = first.listen
        self.sockets = [first.sock]
        # One for all: a unix socket cannot be shared so, and one of systemd is another user's.
        self.is_one = bool(first.listen.path) or first.held
        if not self.is_one:
            # After its bind, which so has noticed whether the port is another process's.
            first.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)

    @property
    def held(self) -> bool:
        """Whether systemd holds it open."""
        return self._first.held

    @property
    def bound(self) -> Listen:
        """The listener with the port that the system gave it."""
        return self._first.bound

    def speaks(self, listen: Listen) -> None:
        """Another listener is there for workers that start from now on: the same address, other options.
        Raises ListenError."""
        if listen.mode != self.listen.mode:
            set_mode(self._first, listen.mode)
        self.listen = listen

    def of(self, worker: int) -> socket.socket:
        """That of a worker, which has it listen once it serves: until then no client is given to it. Raises
        ListenError."""
        if self.is_one:
            if not self._listens:
                listen(self._first, self._key, self._backlog)
            self._listens = True
            return self._first.sock
        while len(self.sockets) <= worker:
            self.sockets.append(self._another())
        return self.sockets[worker]

    def pause(self, worker: int) -> None:
        """The worker is away for a while: no client is given to its socket until the next one has it listen,
        and those that wait there are reset, to try again."""
        if self.is_one or worker >= len(self.sockets):
            return
        sock = self.sockets[worker]
        # On one that does not listen, it would shut the read side of each connection accepted later.
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            sock.shutdown(socket.SHUT_RD)

    def resume(self, worker: int) -> None:
        """The worker is there again, and accepts on its socket as before."""
        if not self.is_one and worker < len(self.sockets):
            self.sockets[worker].listen(self._backlog)

    @property
    def is_lost(self) -> bool:
        """Whether the file of a unix socket is not the one that was made for it."""
        return is_lost(self._first)

    def _another(self) -> socket.socket:
        first = self.sockets[0]
        sock = socket.socket(first.family, first.type, first.proto)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.setblocking(False)
            sock.bind(first.getsockname())
        except OSError as error:
            sock.close()
            raise ListenError(problem(self.bound, error, self._key)) from None
        return sock

    def keep(self, workers: int) -> None:
        """Let go of the sockets of further workers: each closes with its worker."""
        for sock in self.sockets[max(workers, 1) :]:
            sock.close()
        del self.sockets[max(workers, 1) :]

    def close(self) -> None:
        """Let go of all of them."""
        self.keep(1)
        close(self._first)


def bind(listens: Iterable[Listen], key: str, held: HeldSockets | None = None) -> list[Address]:
    """Take the addresses. Raises ListenError."""
    return [Address(one, key) for one in bind_all(listens, key, held)]
