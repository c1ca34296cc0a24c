"""A listener: its sockets, the connections of its clients, and drain.

Routes are live, so nothing may be bound to aiohttp's router (ASAB's wrappers are applied there, once).
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Iterable
from functools import partial
from time import monotonic

from gateway.core.fairness.turns import Turns
from gateway.core.process import listeners
from gateway.edge.client.acceptor import Acceptor
from gateway.edge.client.connection import KEEP_ALIVE, ClientConnection, Service
from gateway.edge.client.holding import Memory
from gateway.edge.client.places import EVERYTHING, Descriptors, Places, Room
from gateway.edge.reading import CLIENTS_TURN, ReadTurns
from gateway.runtime.periodic import PeriodicTask
from gateway.runtime.ports import holder

_LOOK = 0.02  # seconds between two looks at what a drain waits for
_SWEEP = 1.0  # and between two at all connections
IDLE_GRACE = 0.25  # seconds that idle connections are kept in a drain
_CUT = 0.2  # seconds that the end of a request may take which is cut off


class ListenError(OSError):
    """A listener that cannot be opened; the text says which, why and how to mend it."""


class Listener:
    """One side that clients connect to: opens sockets, hands each request to the service, drains.

    room: how many connections, and which descriptors, there are for its clients. With all of them taken, a
    new client takes the place of one that has been waiting longest without a request (see Places).
    accept_at_once: new connections in a turn of the event loop. memory: for what their clients have begun to
    send; None for any amount.
    """

    def __init__(
        self,
        service: Service,
        room: Room = EVERYTHING,
        *,
        accept_at_once: int = 4,
        memory: Memory | None = None,
    ) -> None:
        self._service = service
        self._room = room
        self._memory = memory
        self._accept_at_once = accept_at_once
        self._acceptors: list[Acceptor] = []
        self.connections: set[ClientConnection] = set()
        self.is_open = False
        self._sockets: list[socket.socket] = []
        self._key = ""
        self._descriptors: Descriptors | None = None  # while it is open
        self._sweep = PeriodicTask("the sweep of clients' connections", _SWEEP, self._look)
        self.addresses: list[tuple[str, int]] = []

    def bind(self, addresses: Iterable[tuple[str, int]], key: str = "") -> None:
        """Take the ports, without listening yet, so that a port in use is known before anything starts.

        Port 0: any free one; see `addresses`. key: where the addresses are written. Raises ListenError.
        """
        self.take(bind_all(addresses, key), key)

    def take(self, sockets: list[socket.socket], key: str = "") -> None:
        """As `bind`, with sockets that are bound already."""
        self._key = key
        self._sockets = sockets
        self.addresses = [sock.getsockname()[:2] for sock in self._sockets]

    def _connection(self, turns: Turns, reads: ReadTurns) -> ClientConnection:
        return ClientConnection(
            self._service, turns, reads, self.connections, KEEP_ALIVE, self._memory
        )

    async def open(self, backlog: int = 1024) -> None:
        """Listen on the ports that were taken."""
        turns, reads = Turns(asyncio.get_running_loop().call_soon, monotonic), ReadTurns(CLIENTS_TURN)
        self.is_open = True
        for sock in self._sockets:
            listen(sock, self._key, backlog)
        self._descriptors = Descriptors()
        places = Places(self._room, self.connections, self._key, self._descriptors)
        for sock in self._sockets:
            acceptor = Acceptor(sock, partial(self._connection, turns, reads), places, self._accept_at_once)
            self._acceptors.append(acceptor)
            acceptor.start()
        self._sweep.start()

    def _look(self) -> None:
        """Refuse heads that take too long, cut off who reads no more, end what lingers."""
        now = monotonic()
        self._sweep.boundary.each(list(self.connections), lambda connection: connection.look(now))

    async def stop_accepting(self) -> None:
        """Close the listening sockets, and serve what the kernel had accepted; connections stay."""
        acceptors, self._acceptors = self._acceptors, []
        await asyncio.gather(*(acceptor.stop() for acceptor in acceptors))

    async def drain(self, goes_on: Callable[[int], bool]) -> None:
        """Close idle connections, let active ones finish, then cut them. One is active until its last byte
        has left. goes_on(connections): asked again and again, while there are any, whether to wait for them.

        An idle one is kept for a moment: what its client is just about to send is served, and told that the
        connection ends. Closed under a request that is on its way, it would lose it.
        """
        await self.stop_accepting()
        if self.is_open:
            await asyncio.sleep(_LOOK)  # what has just come is in progress a few turns later
            kept_until = monotonic() + IDLE_GRACE
            while self.connections and goes_on(len(self.connections)):
                keeps = monotonic() < kept_until
                for connection in list(self.connections):
                    connection.drain(keeps_idle=keeps)
                await asyncio.sleep(_LOOK)
            await asyncio.gather(*[connection.shutdown(_CUT) for connection in list(self.connections)])
        await self._sweep.stop()
        self.is_open = False
        if self._descriptors is not None:
            self._descriptors.close()
        for sock in self._sockets:
            sock.close()


def listen(sock: socket.socket, key: str, backlog: int = 128) -> None:
    """Listen on what `bind` gave. That fails where two have bound one port before either listened, and the
    event loop (uvloop) would keep it to itself. Raises ListenError."""
    try:
        sock.listen(backlog)
    except OSError as error:
        host, port = sock.getsockname()[:2]
        raise ListenError(listen_problem(host, port, error, key)) from None


def bind(host: str, port: int, key: str = "") -> socket.socket:
    """A bound TCP socket, not listening yet. key: where the address is written. Raises ListenError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            listeners.plain(host), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ListenError(listen_problem(host, port, error, key)) from None
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setblocking(False)
        sock.bind(address)
    except OSError as error:
        sock.close()
        raise ListenError(listen_problem(host, port, error, key)) from None
    return sock


def bind_all(addresses: Iterable[tuple[str, int]], key: str = "") -> list[socket.socket]:
    """As `bind`, all of them or none. The ListenError has a line for each that cannot be taken."""
    taken, wrong = [], []
    for host, port in addresses:
        try:
            taken.append(bind(host, port, key))
        except ListenError as error:
            wrong.append(str(error))
    if wrong:
        for sock in taken:
            sock.close()
        raise ListenError("\n".join(wrong))
    return taken


def listen_problem(host: str, port: int, error: OSError, key: str = "") -> str:
    """Why a port cannot be listened on, who holds it, and where another one can be chosen."""
    where, at = listeners.text((host, port)), f" ({key})" if key else ""
    if error.errno == errno.EADDRINUSE:
        who = holder(port)
        by, it = (f" by {who}", "stop it") if who else ("", "stop what uses it")
        return f"cannot listen on {where}: the port is in use{by}; {it}, or choose another port{at}"
    if error.errno == errno.EACCES:
        return f"cannot listen on {where}: not permitted; choose a port above 1023{at}"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"cannot listen on {where}: no interface of this machine has the address{at}"
    if isinstance(error, socket.gaierror):
        return f"cannot listen on {where}: the host is not known here{at}"
    return f"cannot listen on {where}: {error.strerror or error}{at}"


def reachable(host: str, port: int) -> str:
    """The authority by which a listener on host and port is called from this machine, for a URL."""
    return listeners.text(listeners.reachable((host, port)))
