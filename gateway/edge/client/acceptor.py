"""Takes new connections from a listening socket, a few in each turn of the event loop.

A flood of connections then never holds up a turn; the rest of them waits in the kernel. At the end all that
the kernel has accepted is taken before the socket is closed: it would reset what it still holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import logging
import socket
import struct
import sys
from collections.abc import Callable
from functools import partial

from gateway.edge.client.clients import Clients, Refused
from gateway.edge.client.slots import ConnectionSlots
from gateway.runtime.log_interval import LogInterval

L = logging.getLogger(__name__)
_PAUSE = 0.1  # seconds without accepting, once the process has no descriptor left
# Seconds for handshakes under way at the end: their last packet is still on its way to us.
_HANDSHAKES = 0.1
_LAST_HEADERS = 0.25  # seconds for PROXY headers that are on their way at the end
_OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

MakeProtocol = Callable[[str, bool], asyncio.Protocol]


class Acceptor:
    """Accepts on one socket, from `start` to `stop`, which closes it.

    make: makes the protocol of a connection, given its client, "" where that has no address, and whether it
    speaks TLS with a proxy. slots, clients: say whether it may stay; else it is closed at once. batch:
    connections in a turn of the loop, some 50 µs each. proxied: each begins with a PROXY header, which says
    who the client is.
    """

    def __init__(
        self,
        sock: socket.socket,
        make: MakeProtocol,
        slots: ConnectionSlots,
        batch: int,
        clients: Clients | None = None,
        *,
        proxied: bool = False,
    ) -> None:
        self._sock = sock
        self._make = make
        self._slots = slots
        self._clients = clients or Clients()
        self._proxied = proxied
        self._batch = batch
        self._loop = asyncio.get_running_loop()
        self._beginning: set[asyncio.Task[object]] = set()
        self._retry: asyncio.TimerHandle | None = None
        self._log_interval = LogInterval()
        self._is_open = False

    def start(self) -> None:
        """Accept from now on. The socket listens already."""
        self._is_open = True
        self._loop.add_reader(self._sock, self._accept, self._batch)

    async def stop(self, *, kept: bool = False) -> None:
        """Take what the kernel has accepted, and close the socket: clients that come later are refused. kept:
        another process has the socket too, and takes what comes."""
        if not self._is_open:
            self._sock.close()
            return
        self._is_open = False
        if not kept:
            await self._take_the_last()
        self._loop.remove_reader(self._sock)
        if self._retry is not None:
            self._retry.cancel()
        if not kept:
            self._accept(sys.maxsize)
        self._sock.close()
        if self._beginning:
            _, late = await asyncio.wait(self._beginning, timeout=_LAST_HEADERS if self._proxied else None)
            for task in late:
                task.cancel()

    async def _take_the_last(self) -> None:
        _ignore_new_handshakes(self._sock)
        self._accept(sys.maxsize)
        if not _is_loopback(self._sock):
            await asyncio.sleep(_HANDSHAKES)
        else:
            await asyncio.sleep(0)

    def _accept(self, most: int) -> None:
        """Take up to so many connections."""
        for _ in range(most):
            try:
                connection, address = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno not in _OUT_OF_RESOURCES:
                    continue  # that connection is gone already (accept(2): ECONNABORTED and others)
                self._pause(error)
                return
            peer = _peer(address)
            if not self._admits(peer):
                connection.close()
                continue
            connection.setblocking(False)
            made = self._loop.create_task(self._begin(connection, peer))
            self._beginning.add(made)
            made.add_done_callback(self._beginning.discard)

    def _admits(self, peer: str) -> bool:
        clients = self._clients
        try:
            if self._proxied:
                clients.check_proxy(peer)
            else:
                clients.enter(peer)
        except Refused:
            return False
        if self._slots.admit():
            return True
        if not self._proxied:
            clients.leave(peer)
        return False

    async def _begin(self, connection: socket.socket, peer: str) -> None:
        secure = False
        try:
            if self._proxied:
                peer, secure = await self._clients.client_of(connection, peer)
                self._clients.enter(peer)
        except (Refused, asyncio.CancelledError) as error:
            connection.close()
            if isinstance(error, asyncio.CancelledError):
                raise
            return
        try:
            await self._loop.connect_accepted_socket(partial(self._make, peer, secure), connection)
        except OSError:  # its client has reset it by now
            self._clients.leave(peer)

    def _pause(self, error: OSError) -> None:
        """The socket stays readable as long as a client waits there: to try again at once, again and again,
        would leave no time for the connections that free a descriptor when they end."""
        self._slots.evict()
        if self._log_interval.is_over():
            L.error(
                "no new connection can be taken (%s): idle ones are closed for it. Raise the limit of open"
                " files of this process (ulimit -n, LimitNOFILE, ulimits)",
                error.strerror,
            )
        if self._is_open and self._retry is None:
            self._loop.remove_reader(self._sock)
            self._retry = self._loop.call_later(_PAUSE, self._resume)

    def _resume(self) -> None:
        self._retry = None
        if self._is_open:
            self.start()


def _peer(address: object) -> str:
    """A client's address, as accept(2) gives it; "" of a unix socket."""
    return str(address[0]).removeprefix("::ffff:") if isinstance(address, tuple) else ""


def _is_loopback(sock: socket.socket) -> bool:
    """Whether a handshake is over before connect(2) returns."""
    return sock.family == socket.AF_UNIX or str(sock.getsockname()[0]).startswith(("127.", "::1"))


_SO_ATTACH_FILTER = 26  # asm-generic/socket.h
# Classic BPF (bpf(4)) on the TCP header: drop what has SYN and no ACK, pass all else.
_NO_SYN = b"".join(
    struct.pack("HBBI", *step)
    for step in (
        (0x30, 0, 0, 13),  # load byte 13: the flags
        (0x54, 0, 0, 0x12),  # of them SYN and ACK
        (0x15, 0, 1, 0x02),
        (0x06, 0, 0, 0),
        (0x06, 0, 0, 0xFFFFFFFF),
    )
)


def _ignore_new_handshakes(sock: socket.socket) -> None:
    """Let the kernel ignore new clients from now on, and finish with those whose handshake has begun.

    Between the last accept(2) and the close of the socket one more could come, and would be reset. A client
    that is ignored tries again after a second (RFC 6298), and is then refused, or accepted by the process
    that listens by then. Linux only; elsewhere that gap of some microseconds stays.
    """
    if sys.platform != "linux" or sock.family == socket.AF_UNIX:
        return
    steps = ctypes.create_string_buffer(_NO_SYN, len(_NO_SYN))
    program = struct.pack("HL", len(_NO_SYN) // 8, ctypes.addressof(steps))
    with contextlib.suppress(OSError):  # a sandbox without it
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
