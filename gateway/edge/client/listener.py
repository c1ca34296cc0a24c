"""A listener: its sockets, the connections of its clients, and drain; or its word that they go to HTTPS.

Routes are live, so nothing may be bound to aiohttp's router (ASAB's wrappers are applied there, once).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from functools import partial
from string import punctuation
from time import monotonic
from urllib.parse import quote

from gateway.core.errors import BadRequest, GatewayError
from gateway.core.fairness.turns import Turns
from gateway.core.http.request_reader import Request
from gateway.core.http.request_target import resolve
from gateway.core.process.listeners import Listen
from gateway.core.process.tls import https_port
from gateway.edge.client.acceptor import Acceptor, MakeProtocol
from gateway.edge.client.body import RequestStream
from gateway.edge.client.clients import Clients
from gateway.edge.client.connection import IDLE_GRACE, KEEP_ALIVE, ClientConnection, Service
from gateway.edge.client.memory import RequestMemory
from gateway.edge.client.slots import UNLIMITED, ConnectionLimits, ConnectionSlots, OpenDescriptors
from gateway.edge.client.sockets import BoundSocket, HeldSockets, bind_all, close, is_lost, listen, withdraw
from gateway.edge.reading import CLIENTS_TURN, ReadTurns
from gateway.edge.response.head import refusal_head
from gateway.edge.tls.sites import NO_SITES, TlsSites
from gateway.runtime.periodic import PeriodicTask

_DRAIN_INTERVAL = 0.02  # seconds between two checks of what a drain waits for
_SWEEP_INTERVAL = 1.0  # and between two of all connections
REPLACED_GRACE = 5.0  # and where another process takes over: nobody waits for the end of this one
_CUT_TIME = 0.2  # seconds that the end of a request may take which is cut off
_NO_HOST = "Without a Host it is not known where this would be served."
_AS_IT_IS = punctuation  # a query may hold what is no ASCII
_REDIRECT = 308  # the client sends the same method and the same body again


class Connections(set[ClientConnection]):
    """The open connections of a listener's clients, which are counted there."""

    def __init__(self, clients: Clients) -> None:
        super().__init__()
        self._clients = clients

    def discard(self, connection: object) -> None:
        """It is over; nothing happens when it was over before."""
        if isinstance(connection, ClientConnection) and connection in self:
            self.remove(connection)
            self._clients.leave(connection.peer)


class Redirect:
    """In place of the service where requests are only sent on to HTTPS (RFC 9110 section 15.4.9). What is no
    request is refused in the words of the service. port: of HTTPS."""

    def __init__(self, service: Service, port: int) -> None:
        self._port = "" if port == 443 else f":{port}"
        self.holder = service.holder
        self.gone = service.gone
        self.refused, self.sent_on = service.refused, service.sent_on

    def serve(
        self, client: ClientConnection, request: Request, request_body: bytes, content: RequestStream | None
    ) -> None:
        """Send the client on; a body is not read."""
        if client.transport is not None:
            try:
                location = self._location(request)
            except GatewayError as error:
                client.transport.write(self.refused(error, client.peer, request))
            else:
                id_ = self.sent_on(request, client.peer, _REDIRECT)
                head = refusal_head(_REDIRECT, id_, "text/plain", 0, (("Location", location),))
                client.transport.write(head)
        client.done(keep_alive=False)

    def _location(self, request: Request) -> str:
        """The same address by HTTPS. Raises GatewayError for what would be refused there."""
        host, path, query = resolve(request.method, request.target, request.head.hosts)
        if not host:
            raise BadRequest(_NO_HOST, close=True)
        path = "/" if path == "*" else path
        return quote(f"https://{host}{self._port}{path}{'?' if query else ''}{query}", safe=_AS_IT_IS)


class Listener:
    """One side that clients connect to: opens sockets, hands each request to the service, drains.

    limits: how many connections, and which descriptors, there are for its clients. With all of them taken, a
    new client takes the slot of one that has been without a request for longest (see ConnectionSlots).
    accept_batch: new connections in a turn of the event loop. memory: for what clients have begun to send;
    None for any amount. clients: who may connect. sites: of TLS, for the listeners that name one.
    connections: those that are open. bound: where it listens, with the ports that the system chose.
    is_open: it serves.
    """

    def __init__(
        self,
        service: Service,
        limits: ConnectionLimits = UNLIMITED,
        *,
        accept_batch: int = 4,
        memory: RequestMemory | None = None,
        clients: Clients | None = None,
        sites: TlsSites = NO_SITES,
    ) -> None:
        self._service = service
        self._limits = limits
        self._memory = memory
        self._sites = sites
        self._accept_batch = accept_batch
        self._acceptors: list[Acceptor] = []
        self._clients = clients or Clients()
        self.connections: set[ClientConnection] = Connections(self._clients)
        self.is_open = False
        self._sockets: list[BoundSocket] = []
        self._key = ""
        self._descriptors: OpenDescriptors | None = None  # while it is open
        self._sweep = PeriodicTask(
            "the sweep of clients' connections", _SWEEP_INTERVAL, self._sweep_connections
        )
        self.bound: list[Listen] = []

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of each socket of TCP."""
        return [one.address for one in self.bound if not one.path]

    def bind(self, listens: Iterable[Listen], key: str = "", held: HeldSockets | None = None) -> None:
        """Take the addresses, without listening yet, so that one in use is known before anything starts.

        Port 0: any free one; see `bound`. key: where they are written. Raises ListenError.
        """
        self.take(bind_all(listens, key, held), key)

    def take(self, sockets: list[BoundSocket], key: str = "") -> None:
        """As `bind`, with sockets that are bound already."""
        self._key = key
        self._sockets = sockets
        self.bound = [one.bound for one in sockets]

    def lost(self) -> list[str]:
        """The paths of the unix sockets that clients do not reach any more."""
        return [one.listen.path for one in self._sockets if is_lost(one)] if self._acceptors else []

    def _makes(self, one: Listen, turns: Turns, reads: ReadTurns) -> MakeProtocol:
        """Makes the protocol of each connection to a listener."""
        service: Service = self._service
        if one.redirect:
            service = Redirect(service, https_port(one, self.bound))
        site = self._sites[one.tls] if one.tls else None
        rest = turns, reads, self.connections, KEEP_ALIVE, self._memory, site
        if site is None:
            return partial(ClientConnection, service, *rest)
        return lambda *client: self._sites.layer(one.tls, ClientConnection(service, *rest, *client), turns)

    async def open(self, backlog: int = 1024) -> None:
        """Listen on the ports that were taken."""
        turns, reads = Turns(asyncio.get_running_loop().call_soon, monotonic), ReadTurns(CLIENTS_TURN)
        self.is_open = True
        for bound in self._sockets:
            listen(bound, self._key, backlog)
        self._descriptors = OpenDescriptors()
        slots = ConnectionSlots(self._limits, self.connections, self._key, self._descriptors)
        for bound in self._sockets:
            make = self._makes(bound.listen, turns, reads)
            rest = slots, self._accept_batch, self._clients
            acceptor = Acceptor(bound.sock, make, *rest, proxied=bound.listen.proxy)
            self._acceptors.append(acceptor)
            acceptor.start()
        self._sweep.start()

    def _sweep_connections(self) -> None:
        """Refuse heads that take too long, cut off clients that read no more, end what lingers."""
        now = monotonic()
        self._sweep.boundary.each(list(self.connections), lambda connection: connection.check_timeouts(now))

    async def stop_accepting(self, kept: Collection[int] = ()) -> None:
        """Close the listening sockets, and serve what the kernel had accepted; connections stay. kept: see
        `drain`."""
        for bound in self._sockets:
            withdraw(bound)
        acceptors, self._acceptors = self._acceptors, []
        stays = [number in kept or bound.held for number, bound in enumerate(self._sockets)]
        stops = zip(acceptors, stays, strict=False)  # none accepts before `open`
        await asyncio.gather(*(one.stop(kept=its) for one, its in stops))

    async def drain(self, keep_waiting: Callable[[int], bool], kept: Collection[int] | None = None) -> None:
        """Close idle connections, let active ones finish, then cut them. One is active until its last byte
        has left. keep_waiting(connections): called every 20 ms while any are left, with their number; False
        ends the wait. kept: where another process takes over, the numbers of the sockets on which it goes on
        accepting, as they were taken.

        An idle one is kept for a moment: what its client is just about to send is served, and the response
        says that the connection ends. Closed under a request that is on its way, it would lose it.
        """
        await self.stop_accepting(kept or ())
        if self.is_open:
            await asyncio.sleep(_DRAIN_INTERVAL)  # what has just come is in progress a few turns later
            kept_until = monotonic() + (IDLE_GRACE if kept is None else REPLACED_GRACE)
            while self.connections and keep_waiting(len(self.connections)):
                keeps = monotonic() < kept_until
                for connection in list(self.connections):
                    connection.drain(keeps_idle=keeps)
                await asyncio.sleep(_DRAIN_INTERVAL)
            await asyncio.gather(*[connection.shutdown(_CUT_TIME) for connection in list(self.connections)])
        await self._sweep.stop()
        self.is_open = False
        if self._descriptors is not None:
            self._descriptors.close()
        for bound in self._sockets:
            close(bound)
