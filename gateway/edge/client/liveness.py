"""Whether a client is still there: one that does not read what waits for it, and one that sends no more.

From the outside, one that only shut down its sending looks like one that has closed its connection. Only
writing tells them apart: where nobody reads any more, a write is answered with a reset.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import sys
import termios
from contextlib import suppress
from typing import Protocol

from gateway.call import ResponseWriter
from gateway.core.http.request_reader import Request
from gateway.edge.response.head import CONTINUE

_KEEPALIVE = 5  # seconds between two probes by the kernel
_FIRST_CHECK, _LAST_CHECK = 0.02, 0.5  # seconds between two checks, doubled each time


class StallWatch:
    """Watches what waits for one client, here and in the kernel. A client that takes a byte now and then is
    slow, and not stalled."""

    __slots__ = ("_bytes", "_since")

    def __init__(self) -> None:
        self._since = 0.0
        self._bytes = 0  # that waited at the last check

    def is_stalled(self, transport: asyncio.Transport, now: float, limit: float) -> bool:
        """Whether the client took nothing for `limit` seconds of what waits, be it little or the end of all:
        a transport that was closed stays until the last byte has left. now: on the monotonic clock."""
        buffered = transport.get_write_buffer_size()
        if not buffered:
            self._since = 0.0
            return False
        waiting = buffered + send_queue(transport)
        if waiting != self._bytes or not self._since:
            self._bytes, self._since = waiting, now
            return False
        return now - self._since >= limit


def receive_queue(transport: asyncio.Transport) -> int:
    """Bytes from the other end that the kernel holds and nobody has read yet (tcp(7), SIOCINQ)."""
    return _queue_size(transport, termios.FIONREAD)


def send_queue(transport: asyncio.Transport) -> int:
    """Bytes in the kernel that the other end has not taken (tcp(7), SIOCOUTQ)."""
    return _queue_size(transport, termios.TIOCOUTQ)


def _queue_size(transport: asyncio.Transport, request: int) -> int:
    """What an ioctl(2) of the socket gives; 0 where the kernel knows none."""
    number = bytearray(4)
    try:
        fcntl.ioctl(transport.get_extra_info("socket").fileno(), request, number)
    except OSError:
        return 0
    return int.from_bytes(number, sys.byteorder)


class _Connection(Protocol):
    """As ClientConnection has them."""

    transport: asyncio.Transport | None
    request: Request | None

    @property
    def writer(self) -> ResponseWriter | None: ...
    @property
    def awaits_response(self) -> bool: ...


def watch_half_closed(connection: _Connection, *, is_last: bool) -> HalfClosed | None:
    """The client has ended its side while a request is served that came whole. One that only shut down its
    sending (shutdown(2), SHUT_WR) still gets the responses to what it sent. One that closed its connection
    looks the same, and its work is to be cancelled: what is given watches for that. None: it is taken for
    gone. is_last: nothing came behind that request."""
    writer = connection.writer
    if writer is not None:
        if writer.is_stream():
            return None  # it might have no end, and nothing to write for long
        if is_last:
            writer.close_after()
    return HalfClosed(connection)


class HalfClosed:
    """Checks the connection until it ends: asyncio reads no more, so that nothing else would notice a reset
    by the client."""

    __slots__ = ("_connection", "_probed")

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._probed = False
        self._enable_keepalive()
        # Not at once: most responses come before the first check, and are the probe themselves.
        asyncio.get_running_loop().call_later(_FIRST_CHECK, self._check, _FIRST_CHECK)

    def _enable_keepalive(self) -> None:
        """Once a response has begun, nothing but the response may be written, and it may be long in coming:
        the kernel probes then (tcp(7)). It learns no sooner than the client's system has forgotten the
        connection, which is within a minute or two."""
        assert self._connection.transport is not None
        sock = self._connection.transport.get_extra_info("socket")
        with suppress(OSError, AttributeError):  # a unix socket; a system without these
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE)

    def _check(self, waited: float) -> None:
        transport = self._connection.transport
        if transport is None or transport.is_closing():
            return
        if transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            transport.abort()
            return
        wait = min(2 * waited, _LAST_CHECK)
        asyncio.get_running_loop().call_later(wait, self._check, wait)  # first: what follows may fail
        self._probe()

    def _probe(self) -> None:
        """Write what a client may always get while it waits (RFC 9110 section 15.2.1). Once a response has
        begun, that is the probe; HTTP/1.0 has none."""
        connection = self._connection
        request = connection.request
        if connection.awaits_response and not self._probed and (request is None or not request.old):
            assert connection.transport is not None
            self._probed = True
            connection.transport.write(CONTINUE)
