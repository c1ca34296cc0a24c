"""A connection to a backend, and what it tells whoever uses it.

One read from a socket holds up to 256 KiB, and libuv makes up to 32 of them before it serves another
socket: a fast backend's downloads would keep all others waiting. So after a large read the next one waits
for another turn of the loop; with many connections, also after a small read of an unfinished response.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Protocol, cast

from gateway.core.model import Address
from gateway.edge.backend.tls import tls_words
from gateway.edge.reading import LARGE, LARGE_COST, REST_COST, SMALL_COST, PausableReader, ReadTurns

USER, TURN, REST = 1, 2, 4  # why nothing is read at the moment; any of them is enough


class User(Protocol):
    """What a connection carries: an exchange or a tunnel."""

    def feed(self, data: bytes) -> None:
        """Bytes from the backend; none at all when it is time for the rest of what came before."""
        ...

    def connection_lost(self) -> None:
        """The connection is gone."""
        ...

    def writable(self) -> None:
        """The backend takes more again."""
        ...


class Connection(PausableReader):
    """A connection to a backend. It carries one exchange at a time; bytes that no request asked for end it.

    reads: of all connections to backends, in a turn of the loop. lost: it is gone, or to carry no other
    request. ended: a body without a length may end with it. fault: what ended it, for an operator.
    """

    __slots__ = ("__weakref__", "_reads", "address", "idle_since", "lost", "user", "writable")
    ended = True
    fault = ""

    def __init__(self, address: Address, reads: ReadTurns) -> None:
        super().__init__()
        self._reads = reads
        self.address = address
        self.user: User | None = None
        self.idle_since = 0.0
        self.lost = False
        self.writable: asyncio.Event | None = None  # there while the backend takes no more

    @property
    def peer(self) -> str:
        """The IP address that it leads to, "" of a unix socket."""
        name = self.transport.get_extra_info("peername") if self.transport is not None else None
        return str(name[0]) if isinstance(name, tuple) else ""

    def retire(self) -> None:
        """It carries no other request than the one that it carries."""
        self.lost = True

    def carry(self, user: User | None) -> None:
        """From now on what comes is this user's; None: it carries nothing."""
        self.user = user

    def rest(self, now: float) -> None:
        """It is idle from now on. now: on the monotonic clock."""
        self.idle_since = now

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass of it

    def data_received(self, data: bytes) -> None:
        """Feeds its user; ends the connection when there is none."""
        user = self.user
        if user is None:
            self.abort()
            return
        if len(data) >= LARGE:
            self.pause_reading(TURN)
            self._reads.later(self._read_on, LARGE_COST)
            user.feed(data)
            return
        user.feed(data)
        if user is self.user and not self._reads.has_room():
            self.pause_reading(TURN)
            self._reads.later(self._read_on, SMALL_COST)

    def _read_on(self) -> None:
        self.resume_reading(TURN)

    def rest_later(self) -> None:
        """What came takes long to be taken apart: its user is fed b"" for the rest, in another turn of the
        loop, and nothing more is read before that."""
        if not self.paused_for & REST:
            self.pause_reading(REST)
            self._reads.later(self._read_rest, REST_COST)

    def _read_rest(self) -> None:
        self.resume_reading(REST)
        if self.user is not None:
            self.user.feed(b"")

    def eof_received(self) -> None:
        """The transport closes itself; connection_lost says the rest, a turn later."""
        self.lost = True

    def connection_lost(self, exc: Exception | None) -> None:
        """Wakes the task that waits to write, and tells its user."""
        self.lost = True
        if self.writable is not None:
            self.writable.set()
        if self.user is not None:
            self.user.connection_lost()

    def pause_writing(self) -> None:
        """The backend takes no more for now."""
        self.writable = asyncio.Event()

    def resume_writing(self) -> None:
        """Its user hears of it a turn later: asyncio (3.11) says twice that a connection is lost when it is
        closed in here."""
        if self.writable is not None:
            self.writable.set()
            self.writable = None
        if self.user is not None:
            asyncio.get_running_loop().call_soon(self._tell_writable)

    def _tell_writable(self) -> None:
        if self.user is not None:
            self.user.writable()

    async def drained(self) -> None:
        """Until what was written has left, down to the low-water mark."""
        if self.writable is not None:
            await self.writable.wait()

    def abort(self) -> None:
        """End it now; what was written and has not left is lost."""
        if self.transport is not None:
            self.transport.abort()
        self.lost = True

    def close(self) -> None:
        """End it when what was written has left."""
        if self.transport is not None:
            self.transport.close()
        self.lost = True


class SecuredConnection(Connection):
    """The same with TLS."""

    __slots__ = ("_heard", "ended", "fault")

    def __init__(self, address: Address, reads: ReadTurns) -> None:
        super().__init__(address, reads)
        self._heard = self.ended = False
        self.fault = ""

    def data_received(self, data: bytes) -> None:
        """Feeds its user."""
        self._heard = True
        super().data_received(data)

    def eof_received(self) -> None:
        """The server ended TLS: nothing is missing of what it sent. The end of the connection below says
        nothing, since whoever is between can make it (RFC 9112 section 9.8). uvloop calls this for the first
        alone; asyncio's own loop calls it for both."""
        self.ended = True
        super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Also why, for an operator: with TLS 1.3 a server says only after the handshake that it does not
        take our certificate, and what it says may be lost with the connection."""
        if isinstance(exc, ssl.SSLError):
            self.fault = tls_words(exc)
        elif not self._heard:
            self.fault = "it ended the connection right after the handshake; it may ask for a certificate"
        super().connection_lost(exc)
