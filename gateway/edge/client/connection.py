"""One client's connection: its bytes become requests, one at a time, and the responses keep their order.

Requests are read by our own reader (intake.py), so that what a client sends has one reading, and are handed
over whole or with a stream of their body. What one client sends holds up no other: what was sent ahead, and
what is more than a turn of the event loop has room for, waits for its turn (core/fairness/turns.py).
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine
from functools import partial
from time import monotonic
from typing import Protocol, cast

from gateway.call import ClientTunnel, ResponseWriter
from gateway.core.errors import BadRequest, GatewayError, RequestTimeout
from gateway.core.fairness.turns import Turns
from gateway.core.http.request_reader import Request
from gateway.edge.client.body import RequestStream
from gateway.edge.client.intake import AHEAD, BODY, TURN, Intake
from gateway.edge.client.linger import Lingering
from gateway.edge.client.liveness import StallWatch, receive_queue, watch_half_closed
from gateway.edge.client.memory import SMALL, RequestMemory
from gateway.edge.reading import ReadTurns
from gateway.edge.response import reply
from gateway.edge.tls.client_certificate import ClientCertificate
from gateway.edge.tls.site import TlsSite

L = logging.getLogger(__name__)
KEEP_ALIVE = 65.0  # seconds that a client's idle connection stays open
HEAD_TIME = 10.0  # seconds that a request's head may take from its first byte
REST_TIME = 10.0  # seconds for the rest of a body after the response to its request
READ_TIME = 60.0  # seconds that a client may go without reading any of what waits for it
IDLE_GRACE = 0.25  # seconds that idle connections are kept in a drain
_FEW = 16 * 1024  # bytes sent ahead, from which on more is read: each read moves what is left together once


class Service(Protocol):
    """Serves the requests of a listener."""

    def serve(
        self, client: ClientConnection, request: Request, request_body: bytes, content: RequestStream | None
    ) -> None:
        """One request, with all of its body, or (content) with a stream of it. It ends with
        `ClientConnection.done`."""
        ...

    def holder(self, request: Request, peer: str) -> str:
        """The tenant or the address that a request counts for, where requests take turns."""
        ...

    def gone(self, request: Request, peer: str) -> None:
        """The client left before its request had its turn."""
        ...

    def sent_on(self, request: Request, peer: str, status: int) -> str:
        """The listener itself sent the client on to another address. Gives the request's id."""
        ...

    def refused(self, error: GatewayError, peer: str, request: Request | None) -> bytes:
        """What came never became a request. request: as far as it could be read. Gives the whole
        response."""
        ...


class ClientConnection(Intake):
    """One client's connection.

    service: serves its requests. turns, reads, connections, memory: of its listener; it is one of the
    connections while it is open. keep_alive: seconds that it may be idle. site: of TLS, None without.
    peer: the client's address, "" of a unix socket; secure: it speaks TLS with a proxy; both as the PROXY
    protocol says, where it is spoken.
    scheme, fields, certificate: as in gateway.call.Client.
    writing_paused: what was written waits for the client.
    serving: the task that serves the request in hand, if it needs one. idle_since: when the last request
    ended, on the monotonic clock.
    """

    __slots__ = (
        "_connections", "_ending", "_has_turn", "_keep_alive", "_next_waits", "_on_gone", "_service",
        "_shakes_hands", "_stall", "certificate", "fields", "idle_since", "peer", "scheme", "serving",
        "site", "writing_paused",
    )  # fmt: skip

    def __init__(
        self,
        service: Service,
        turns: Turns,
        reads: ReadTurns,
        connections: set[ClientConnection],
        keep_alive: float = KEEP_ALIVE,
        memory: RequestMemory | None = None,
        site: TlsSite | None = None,
        peer: str = "",
        secure: bool = False,
    ) -> None:
        super().__init__(turns, reads, memory)
        self.peer = peer
        self.site = site
        self.scheme = "https" if secure or site is not None else "http"
        self.fields = site.fields if site is not None else b""
        self.certificate: ClientCertificate | None = None
        self._shakes_hands = site is not None
        self.writing_paused = False
        self._service = service
        self._connections = connections
        self._keep_alive = keep_alive
        self.idle_since = monotonic()
        self._stall = StallWatch()
        self._ending = False
        self._next_waits = False  # what was sent ahead waits until the client has read
        self._has_turn = False  # the next request waited for its turn already
        self.serving: asyncio.Task[None] | None = None
        self._on_gone: Callable[[], object] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client has connected (asyncio.Protocol, as the other events)."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass of it
        sock = transport.get_extra_info("socket")
        if sock.family != socket.AF_UNIX:
            # A client that vanished without a word is noticed by the kernel.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._connections.add(self)

    def secured(self, certificate: ClientCertificate | None) -> None:
        """The handshake of TLS is over. certificate: the client's, verified; None when it showed none."""
        self._shakes_hands = False
        self.certificate = certificate
        self.idle_since = monotonic()

    def spoke_plainly(self) -> None:
        """The client spoke plain HTTP where TLS is spoken; the response to that is plain too."""
        self._shakes_hands = False
        self._refuse(BadRequest("This port speaks HTTPS: the address begins with https://.", close=True))

    # --- requests, one after the other ---

    def _serve(self, request: Request, body: bytes, content: RequestStream | None) -> None:
        self.busy = True
        self.request = request
        if len(body) > SMALL:
            self._body_size = len(body)
            if (error := self._count_memory()) is not None:
                self._refuse(error, request)
                return
        if self._has_turn:
            self._has_turn = False
        elif not self._turns.try_begin():
            holder = self._service.holder(request, self.peer)
            self._turns.later(holder, partial(self._begin, request, body, content))
            return
        self._service.serve(self, request, body, content)

    def _holder(self, request: Request | None) -> str:
        return self._service.holder(request, self.peer) if request is not None else self.peer

    def _begin(self, request: Request, body: bytes, content: RequestStream | None) -> None:
        """It is this request's turn."""
        if self.transport is not None:
            self._service.serve(self, request, body, content)
        else:
            self._service.gone(request, self.peer)

    def done(self, *, keep_alive: bool, expected: bool = True) -> None:
        """The request in hand has its response (or its client is gone). keep_alive: the response lets the
        connection go on. expected: the client expects its end, so it may be closed at once if all of the
        request has come."""
        request = self.request
        if request is None:
            return
        self.busy = False
        self.serving = self.request = self._content = None
        self._body_size = 0
        if self._memory.size:
            self._count_memory()
        if self.transport is None:
            return
        whole = self._reader.whole and not self.broken
        if not (keep_alive and self.can_keep_alive):
            if expected and whole and not self._reader.held:
                self._close_transport()
            else:
                self.linger()
        elif whole:
            self._request_over(request)
        else:
            self._discarding_since = monotonic()
            self.resume_reading(BODY | AHEAD)
            if not self._rest_scheduled:
                self._discard_rest()  # the end of a body may be there by now

    def _request_over(self, request: Request | None) -> None:
        """This request is over, and its body; what was sent ahead comes next, when it is its turn."""
        self.idle_since = monotonic()
        held = self._reader.held
        if self.half_closed is not None and not held:
            self._close_transport()
            return
        self.busy = bool(held) or self.writing_paused
        if self.busy:  # what comes before the turn is held behind it
            self._turns.later(self._holder(request), self._next_request)
        else:
            self.resume_reading(BODY | AHEAD)

    def _next_request(self) -> None:
        """Not before the client has read: responses of ours, too, would pile up. More is read when almost
        nothing is left of what is here: if each request admitted a read, they would pile up likewise. A
        request of which only a part is here gets the rest, however large that part is."""
        if self.writing_paused:
            self._next_waits = True
            return
        self.busy = False
        if self.transport is None or self.transport.is_closing():
            return
        self.resume_reading(BODY)
        self._has_turn = True
        self._read_head()
        self._has_turn = False
        if not self.busy or self._content is not None or self._reader.held <= _FEW:
            self.resume_reading(AHEAD)

    def _is_idle(self) -> bool:
        return not (
            self.busy
            or self.head_since
            or self._discarding_since
            or self._pending is not None
            or self._shakes_hands
        )

    def _is_fresh(self) -> bool:
        """Whether its first request may be on its way, a round trip behind the handshake."""
        return self.site is not None and monotonic() - self.idle_since < IDLE_GRACE

    # --- for the call in hand (see gateway.call.Client) ---

    def run(self, coroutine: Coroutine[None, None, None]) -> None:
        """Serve the request in hand in a task, which ends with `done`."""
        self.serving = asyncio.get_running_loop().create_task(coroutine)
        self.serving.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        """Whatever became of the task, no client waits for ever."""
        bug = None if task.cancelled() else task.exception()
        if bug is not None:
            L.error("A bug in the gateway left a request without a response", exc_info=bug)
        if task is self.serving:
            self.done(keep_alive=False)

    def attach(self, writer: ResponseWriter) -> None:
        """It writes the response to the request in hand, and gets the events of the client's connection."""
        self.writer = writer

    def detach(self, writer: ResponseWriter) -> None:
        """It is done. Nothing happens when it is not the one that is attached."""
        if self.writer is writer:
            self.writer = None

    def when_gone(self, callback: Callable[[], object] | None) -> None:
        """Have it called when the client leaves while no writer is attached; None: nothing any more."""
        self._on_gone = callback

    def cancel_call(self) -> None:
        """Call what `when_gone` was given."""
        if self._on_gone is not None:
            self._on_gone()

    @property
    def awaits_response(self) -> bool:
        """Whether a call is in hand, and no byte of its response was written yet."""
        return not self.writer.begun if self.writer is not None else self._on_gone is not None

    @property
    def can_keep_alive(self) -> bool:
        """Whether anything may follow the request in hand."""
        return not self.broken and not self._ending

    def begin_tunnel(self, tunnel: ClientTunnel) -> bytes:
        """The connection is no longer HTTP, to its end. Gives the bytes that came behind the request."""
        self.tunnel = self.writer = tunnel
        early = self._reader.take()
        self.resume_reading(BODY | AHEAD | TURN)
        return early

    # --- refusals, and the end ---

    def _refuse(self, error: GatewayError, request: Request | None = None) -> None:
        """What is no request: nothing of it is echoed, nothing behind it is read. request: of a bad body."""
        response = self._service.refused(error, self.peer, request or self._reader.begun())
        if self.transport is not None:
            self.transport.write(response)
        self.linger()

    def linger(self) -> None:
        """End the connection after what was written; what the client may still be sending must not keep it
        from reading that."""
        self.busy = False
        self.head_since = self._discarding_since = 0.0
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None
        self._reader.take()
        self._body_size = 0
        self._memory.clear()
        transport = self.transport
        if transport is None or self.lingering is not None:
            return
        if self.half_closed is not None or transport.is_closing():
            transport.close()
            return
        self.lingering = Lingering(transport)
        self.resume_reading(BODY | AHEAD | TURN)

    def _close_transport(self) -> None:
        """Nothing more is read; what was written still leaves."""
        self._reader.take()
        if self.transport is not None:
            self.transport.close()

    def close(self) -> None:
        """The connection ends with the request in hand."""
        self._ending = True
        if self._is_idle() and self.lingering is None:
            self._close_transport()

    def drain(self, *, keeps_idle: bool = False) -> None:
        """The gateway drains: close the connection if it is idle (and idle ones are not kept yet). What has
        begun to come is served whole."""
        if self._pending is not None:
            self._pending.stop_waiting()
        if self.lingering is not None:
            self.lingering.check_timeouts(monotonic(), draining=True)
        elif self._discarding_since:
            self.linger()
        elif keeps_idle or not self._is_idle() or self._is_fresh():
            return
        elif self.transport is not None and not receive_queue(self.transport):
            self._close_transport()

    async def shutdown(self, timeout: float | None = 15.0) -> None:
        """The time to drain is over: a request without its whole response is cut off. timeout: seconds that
        its task may take to end."""
        self._ending = True
        if self.serving is not None:
            self.serving.cancel()
            await asyncio.wait([self.serving], timeout=timeout)
        if self.transport is not None:
            if self.busy:
                reply.reset(self.transport)
            else:
                self.transport.close()

    def check_timeouts(self, now: float) -> None:
        """Once a second: refuse a head that takes too long, cut off a client that reads no more, end what is
        over. now: on the monotonic clock, in seconds."""
        transport = self.transport
        if transport is None:
            return
        if self._stall.is_stalled(transport, now, READ_TIME):
            reply.reset(transport)
        elif self.lingering is not None:
            self.lingering.check_timeouts(now)
        elif self.head_since:
            if now - self.head_since >= HEAD_TIME:
                self._refuse(RequestTimeout("The request's head did not come in time."))
        elif self._discarding_since:
            if now - self._discarding_since >= REST_TIME:
                self.linger()
        elif self._is_idle() and now - self.idle_since >= self._keep_alive and not receive_queue(transport):
            self._close_transport()

    # --- what the transport says (asyncio.Protocol) ---

    def pause_writing(self) -> None:
        """So much waits for the client that no more should be written."""
        self.writing_paused = True

    def resume_writing(self) -> None:
        """The client has read most of what waited."""
        self.writing_paused = False
        if self.writer is not None:  # a turn later: see Connection.resume_writing
            asyncio.get_running_loop().call_soon(self._resume_writer)
        if self._next_waits:
            self._next_waits = False
            self._turns.later(self.peer, self._next_request)

    def _resume_writer(self) -> None:
        if self.writer is not None:
            self.writer.resume()

    def eof_received(self) -> bool:
        """The client has ended its side. True keeps ours open, for one that still waits for the response to
        what came whole."""
        if self.half_closed is not None:
            return True  # asyncio says so again when reading was paused meanwhile
        whole = self.busy and self._reader.whole and not self.broken
        if self.lingering is None and self.tunnel is None and self.transport is not None and whole:
            self.half_closed = watch_half_closed(self, is_last=not self._reader.held)
        return self.half_closed is not None

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection is gone, whichever side ended it. exc: does not matter here."""
        content = self._content
        self._connections.discard(self)
        if self._pending is not None:
            self._pending.cancel()
        self.transport = None
        self._reader.take()
        self._memory.clear()
        if content is not None:
            content.fail(ConnectionResetError("The client left."))
        if self.writer is not None:
            self.writer.client_lost()
        else:
            self.cancel_call()
