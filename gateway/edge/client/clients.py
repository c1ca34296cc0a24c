"""Who may connect: how many connections one client may have, and whom a proxy speaks for.

The client of a connection is its peer, or whom the PROXY protocol names, and an IPv6 client is its /64, of
which it has all addresses. Proxies that are trusted have as many connections as they want.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from gateway.core import openmetrics
from gateway.core.http import proxy_header
from gateway.core.http.proxy_header import NoProxyHeader
from gateway.core.policy.forwarding import site_of
from gateway.runtime.log_interval import LogInterval

L = logging.getLogger(__name__)
HEADER_TIME = 5.0  # seconds that a PROXY header may take

Trusts = Callable[[str], bool]


class Refused(Exception):
    """A connection that is closed without a word. Its text is the reason, as metrics name it."""


class Clients:
    """The clients of one side, on all of its listeners.

    trusts: whether a peer ("" for a unix socket) is a trusted proxy, as of now. most: connections of one
    client, 0 for any number.
    """

    def __init__(self, trusts: Trusts = lambda peer: False, most: int = 0) -> None:
        self._trusts = trusts
        self._most = most
        self._connections: Counter[str] = Counter()
        self._log_intervals: dict[str, LogInterval] = {}
        about = "Connections closed unread: no trusted proxy, no good PROXY header, more than one may have."
        self.refused = openmetrics.Counter("gateway_connections_refused", about, ("reason",))

    def enter(self, peer: str) -> None:
        """One more connection of a client. Raises Refused."""
        if not self._most or not peer:
            return
        client = site_of(peer)
        if self._connections[client] >= self._most and not self._trusts(peer):
            text = "%s has all the %d connections that one client may have ([gateway] client_connections)"
            raise self._refused("client_limit", text, client, self._most)
        self._connections[client] += 1

    def leave(self, peer: str) -> None:
        """A connection that had entered is over."""
        if not self._most or not peer:
            return
        client = site_of(peer)
        self._connections[client] -= 1
        if not self._connections[client]:
            del self._connections[client]

    def check_proxy(self, peer: str) -> None:
        """Only trusted proxies may connect where the PROXY protocol is spoken. Raises Refused."""
        if not self._trusts(peer):
            text = "%s may not speak the PROXY protocol here: add it to trusted_proxies of the routing config"
            raise self._refused("untrusted_proxy", text, peer or "a unix socket's peer (unix)")

    async def client_of(self, sock: socket.socket, peer: str) -> tuple[str, bool]:
        """The client whom the header on this connection of a trusted proxy names, and whether it speaks TLS
        with that; what comes behind it is not read. The proxy itself, where the connection is its own. Raises
        Refused."""
        try:
            async with asyncio.timeout(HEADER_TIME):
                header = await _read_header(sock)
        except TimeoutError:
            text = "A connection of %s is closed: its PROXY header did not come within %g s"
            raise self._refused("proxy_header", text, peer or "unix", HEADER_TIME) from None
        except (NoProxyHeader, OSError) as error:
            if isinstance(error, OSError) or not str(error):  # it left: a check whether the port is open
                raise Refused("gone") from None
            text = "A connection of %s is closed: %s; the listener has the option proxy"
            raise self._refused("proxy_header", text, peer or "unix", error) from None
        return header.client or peer, header.secure

    def _refused(self, reason: str, text: str, *values: object) -> Refused:
        self.refused.add(reason)
        if self._log_intervals.setdefault(reason, LogInterval()).is_over():
            L.warning(text, *values)
        return Refused(reason)


async def _read_header(sock: socket.socket) -> proxy_header.ProxyHeader:
    """Read no byte more than the header. Raises NoProxyHeader, without a text when the peer has left first;
    OSError."""
    came = b""
    while True:
        try:
            seen = sock.recv(proxy_header.LIMIT, socket.MSG_PEEK)
        except BlockingIOError:
            await _readable(sock)
            continue
        if not seen:
            raise NoProxyHeader("its header is cut off" if came else "")
        header = proxy_header.read(came + seen)
        if header is not None:
            sock.recv(header.size - len(came))
            return header
        came += sock.recv(len(seen))


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()
    loop.add_reader(sock, _wake, waiter)
    try:
        await waiter
    finally:
        with suppress(OSError, ValueError):
            loop.remove_reader(sock)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
