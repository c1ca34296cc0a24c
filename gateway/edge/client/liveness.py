"""Whether a client is still there: one that does not read what waits for it, and one that sends no more.

From the outside, one that only shut down its sending looks like one that has closed its connection. Only what
we write tells: where nobody reads any more, the answer is a reset.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import sys
import termios
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from gateway.call import ResponseWriter
from gateway.core.http.request_reader import Request

_PROBE = b"HTTP/1.1 100 Continue\r\n\r\n"
_ASKED = 5  # seconds between two questions of the kernel's
_FIRST_LOOK, _LAST_LOOK = 0.02, 0.5  # seconds between two looks, doubled each time


class Unread:
    """Watches what waits for one client, here and in the kernel. Slow is who takes a byte."""

    __slots__ = ("_since", "_waits")

    def __init__(self) -> None:
        self._since = 0.0
        self._waits = 0  # bytes, when that was looked at last

    def look(self, transport: asyncio.Transport, now: float, limit: float) -> bool:
        """Whether the client took nothing for `limit` seconds of what waits, be it little or the end of all:
        a transport that was closed stays until the last byte has left. now: on the monotonic clock."""
        here = transport.get_write_buffer_size()
        if not here:
            self._since = 0.0
            return False
        waits = here + unsent(transport)
        if waits != self._waits or not self._since:
            self._waits, self._since = waits, now
            return False
        return now - self._since >= limit


def waiting(transport: asyncio.Transport) -> int:
    """Bytes from the other end that the kernel holds and nobody has read yet (tcp(7), SIOCINQ)."""
    return _count(transport, termios.FIONREAD)


def unsent(transport: asyncio.Transport) -> int:
    """Bytes in the kernel that the other end has not taken (tcp(7), SIOCOUTQ)."""
    return _count(transport, termios.TIOCOUTQ)


def _count(transport: asyncio.Transport, request: int) -> int:
    """What the kernel answers an ioctl(2) of the socket; 0 where it knows none."""
    number = bytearray(4)
    try:
        fcntl.ioctl(transport.get_extra_info("socket").fileno(), request, number)
    except OSError:
        return 0
    return int.from_bytes(number, sys.byteorder)


class _Connection(Protocol):
    """As ClientConnection has them."""

    transport: asyncio.Transport | None

    @property
    def writer(self) -> ResponseWriter | None: ...
    on_gone: Callable[[], object] | None
    request: Request | None


def may_still_read(connection: _Connection, *, is_last: bool) -> HalfClosed | None:
    """The client has ended its side while a request is served that came whole. Who only shut down its sending
    (shutdown(2), SHUT_WR) still gets the answers to what it sent. One that closed its connection looks the
    same, and its work is to be cancelled: who is given watches for it. None: it is taken for gone. is_last:
    nothing came behind that request."""
    writer = connection.writer
    if writer is not None:
        if writer.is_stream():
            return None  # it might have no end, and nothing to write for long
        if is_last:
            writer.close_after()
    return HalfClosed(connection)


class HalfClosed:
    """Looks at the connection until it ends: asyncio reads no more, so nobody else would say that the client
    has reset it."""

    __slots__ = ("_connection", "_probed")

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._probed = False
        self._ask_kernel()
        # Not at once: most answers come before the first look, and are the probe themselves.
        asyncio.get_running_loop().call_later(_FIRST_LOOK, self._look, _FIRST_LOOK)

    def _ask_kernel(self) -> None:
        """Once an answer has begun, nothing but the answer may be written, and it may be long in coming: the
        kernel asks then (tcp(7)). It is told no sooner than the client's system has forgotten the connection,
        which is within a minute or two."""
        assert self._connection.transport is not None
        sock = self._connection.transport.get_extra_info("socket")
        with suppress(OSError, AttributeError):  # a unix socket; a system without these
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _ASKED)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _ASKED)

    def _look(self, waited: float) -> None:
        transport = self._connection.transport
        if transport is None or transport.is_closing():
            return
        if transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            transport.abort()
            return
        wait = min(2 * waited, _LAST_LOOK)
        asyncio.get_running_loop().call_later(wait, self._look, wait)  # first: what follows may fail
        self._probe()

    def _probe(self) -> None:
        """Write what a client may always get while it waits (RFC 9110 section 15.2.1). Once an answer has
        begun, that is the probe; HTTP/1.0 has none."""
        connection = self._connection
        request, writer = connection.request, connection.writer
        waits = not writer.begun if writer is not None else connection.on_gone is not None
        if waits and not self._probed and (request is None or not request.old):
            assert connection.transport is not None
            self._probed = True
            connection.transport.write(_PROBE)
