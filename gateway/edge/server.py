"""One client's connection: its bytes become requests, one at a time, and the answers keep their order.

aiohttp's server owns the socket; requests are read by our own reader, so that what a client sends has one
reading, and are handed over whole or with a stream of their body. Of aiohttp's, only public methods are used.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any, Protocol

from aiohttp import StreamReader, web
from aiohttp.web_protocol import RequestHandler

from gateway.call import new_id
from gateway.core.errors import GatewayError, RequestTimeout
from gateway.core.request_reader import Request, RequestReader
from gateway.edge import reply
from gateway.edge.gathering import Gathering
from gateway.edge.half_closed import HalfClosed, may_still_read
from gateway.edge.linger import Lingering
from gateway.edge.unread import Unread, waiting

L = logging.getLogger(__name__)
KEEP_ALIVE = 65.0  # seconds that a client's idle connection stays open
HEAD_TIME = 10.0  # seconds that a request's head may take from its first byte
REST_TIME = 10.0  # seconds that the rest of a body may take whose request is answered
READ_TIME = 60.0  # seconds that a client may take no byte of what waits for it
_HELD = 64 * 1024  # bytes that a client may send ahead while its request is served
_STREAMED = 64 * 1024  # bytes of a body that wait for who reads it; twice as many, and the client has to


class Service(Protocol):
    """Who serves requests.

    serve: one request. request_body: all of its body; or content: the body as it comes. It ends with
    `ClientConnection.done`. refused: told of what never became a request: its request id, what was answered,
    the peer, and the request as far as it could be read, for the log.
    """

    def serve(
        self, client: ClientConnection, request: Request, request_body: bytes, content: StreamReader | None
    ) -> None: ...
    def refused(self, request_id: str, error: GatewayError, peer: str, request: Request | None) -> None: ...


class ClientConnection(RequestHandler):
    """One client's connection. peer: its address. busy: a request is being served; what comes behind it is
    not read before that is over. serving: the task that serves it, if it needs one. broken: its body is, so
    that nothing behind it can be read. relay, tunnel, on_gone: as in gateway.call.Client. half_closed: the
    client sends no more. lingering: all is answered, the rest is dropped. idle_since: its last request."""

    __slots__ = (
        "_content", "_ending", "_gathering", "_keep_alive", "_reader", "_rest_since",
        "_service", "_unread", "_wants_to_go_on", "broken", "busy", "half_closed", "head_since", "idle_since",
        "lingering", "on_gone", "peer", "relay", "request", "serving", "tunnel",
    )  # fmt: skip

    def __init__(
        self, server: web.Server, service: Service, loop: asyncio.AbstractEventLoop, keep_alive: float
    ) -> None:
        super().__init__(server, loop=loop, keepalive_timeout=0)
        self._service = service
        self._keep_alive = keep_alive
        self._reader = RequestReader()
        self._content: StreamReader | None = None  # of the request that is served, until its end has come
        self._gathering: Gathering | None = None
        self.idle_since = monotonic()
        self._unread = Unread()
        self._ending = False
        self._wants_to_go_on = False  # what was sent ahead waits until the client has read
        self.peer = ""
        self.busy = self.broken = False
        self.request: Request | None = None
        self.serving: asyncio.Task[None] | None = None
        self.relay: Any = None
        self.tunnel: Any = None
        self.on_gone: Callable[[], object] | None = None
        self.half_closed: HalfClosed | None = None
        self.lingering: Lingering | None = None
        self.head_since = self._rest_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        name = transport.get_extra_info("peername")
        if isinstance(name, tuple) and name:
            self.peer = str(name[0]).removeprefix("::ffff:")

    async def start(self) -> None:
        """aiohttp's loop over requests: they are served as they come, see `data_received`."""

    # --- bytes from the client ---

    def data_received(self, data: bytes) -> None:
        if self.tunnel is not None:
            self.tunnel.from_client(data)
            return
        if self.lingering is not None:
            self.lingering.throw_away(data)
            return
        if self.broken:
            return
        self._reader.feed(data)
        if self.busy:
            if self._content is not None:
                self._go_on_with_body(self._content)
            if len(self._reader.unread) > _HELD:
                self.pause_reading()
        elif self._gathering is not None:
            self._gather(self._gathering.request)
        elif self._rest_since:
            self._throw_rest_away()
        else:
            self._take()

    def _take(self) -> None:
        """Serve the next request, if its head is here."""
        reader = self._reader
        try:
            request = reader.read_head()
        except GatewayError as error:
            self._refuse(error)
            return
        if request is None:
            if reader.unread and not self.head_since:
                self.head_since = monotonic()
            if self.half_closed is not None:
                self._end()
            return
        self.head_since = 0.0
        if reader.whole:
            self._serve(request, b"", None)
        else:
            self._gather(request)

    def _gather(self, request: Request) -> None:
        """The body of a request, as far as it is here. What breaks before it is served is no request."""
        reader, gathering = self._reader, self._gathering
        try:
            piece = reader.read_body()
        except GatewayError as error:
            self._refuse(error, request)
            return
        if reader.whole:
            self._gathering = None
            self._serve(request, gathering.whole(piece) if gathering is not None else piece, None)
        elif self.half_closed is not None:
            self._end()
        else:
            if gathering is None:
                self._gathering = gathering = Gathering(request, self._stream)
            gathering.add(piece)

    def _stream(self, request: Request, pieces: list[bytes]) -> None:
        """Serve a request whose body takes its time."""
        self._gathering = None
        self._content = content = StreamReader(self, _STREAMED, loop=asyncio.get_running_loop())
        for piece in pieces:
            content.feed_data(piece)
        self._serve(request, b"", content)

    def _serve(self, request: Request, body: bytes, content: StreamReader | None) -> None:
        self.busy = True
        self.request = request
        self._service.serve(self, request, body, content)

    def _go_on_with_body(self, content: StreamReader) -> None:
        """Of the request that is served. Where it breaks, whoever reads it is told, and the connection ends
        with the answer."""
        try:
            piece = self._reader.read_body()
        except GatewayError as error:
            self.broken = True
            self._content = None
            if self.relay is not None:
                self.relay.keep_alive = False
            content.set_exception(error)
            return
        content.feed_data(piece)
        if self._reader.whole:
            self._content = None
            content.feed_eof()

    def _throw_rest_away(self) -> None:
        """Of the body of a request that is answered; after it the connection can go on."""
        try:
            self._reader.read_body()
        except GatewayError:
            self.linger()
        else:
            if self._reader.whole:
                self._rest_since = 0.0
                self._next()

    def pause_reading(self) -> None:
        """Whoever reads the content has enough of it, or too much was sent ahead."""
        if self.transport is not None:
            self.transport.pause_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:
        transport = self.transport
        if transport is not None and len(self._reader.unread) <= _HELD and not transport.is_closing():
            transport.resume_reading()

    def begin_tunnel(self, tunnel: Any) -> bytes:
        """The connection is no longer HTTP, to its end. Gives what came behind the request."""
        self.tunnel = self.relay = tunnel
        early = self._reader.take()
        self.resume_reading()
        return early

    # --- requests, one after the other ---

    def work(self, coroutine: Coroutine[None, None, None]) -> None:
        """Go on with the request in hand in a task, which ends with `done`."""
        self.serving = asyncio.get_running_loop().create_task(coroutine)
        self.serving.add_done_callback(self._worked)

    def _worked(self, task: asyncio.Task[None]) -> None:
        """Whatever became of the task, no client waits for ever."""
        bug = None if task.cancelled() else task.exception()
        if bug is not None:
            L.error("A bug in the gateway left a request without an answer", exc_info=bug)
        if task is self.serving:
            self.done(keep_alive=False)

    @property
    def goes_on(self) -> bool:
        """Whether anything may follow the request in hand."""
        return not self.broken and not self._ending

    def done(self, *, keep_alive: bool, expected: bool = True) -> None:
        """The request in hand is answered (or its client gone). expected: an end of the connection is no
        surprise to the client, if it has sent all of its request."""
        if not self.busy:
            return
        self.busy = False
        self.serving = self.request = self._content = None
        if self.transport is None:
            return
        whole = self._reader.whole and not self.broken
        if not (keep_alive and self.goes_on):
            if expected and whole and not self._reader.unread:
                self._end()
            else:
                self.linger()
        elif whole:
            self._next()
        else:
            self._rest_since = monotonic()
            self.resume_reading()
            self._throw_rest_away()  # the end of a body may be there by now

    def _next(self) -> None:
        """A request is over, and its body; what was sent ahead comes next."""
        self.idle_since = monotonic()
        if self.half_closed is not None and not self._reader.unread:
            self._end()
            return
        # What comes before the loop turns is held behind it.
        self.busy = bool(self._reader.unread) or self.writing_paused
        if self.busy:
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        """Not before the client has read: answers of ours, too, would pile up."""
        if self.writing_paused:
            self._wants_to_go_on = True
            return
        self.busy = False
        transport = self.transport
        if transport is not None and not transport.is_closing():
            transport.resume_reading()
            self._take()

    def _is_idle(self) -> bool:
        return not (self.busy or self.head_since or self._rest_since or self._gathering is not None)

    # --- refusals, and the end ---

    def _refuse(self, error: GatewayError, request: Request | None = None) -> None:
        """What is no request: nothing of it is echoed, nothing behind it is read. request: of a bad body."""
        request_id = new_id()
        if self.transport is not None:
            self.transport.write(reply.refusal(error, request_id))
        self._service.refused(request_id, error, self.peer, request or self._reader.begun())
        self.linger()

    def linger(self) -> None:
        """End the connection after what was written; what the client may still be sending must not keep it
        from reading that."""
        self.busy = False
        self.head_since = self._rest_since = 0.0
        if self._gathering is not None:
            self._gathering.forget()
            self._gathering = None
        self._reader.take()
        transport = self.transport
        if transport is None or self.lingering is not None:
            return
        if self.half_closed is not None or transport.is_closing():
            transport.close()
            return
        self.lingering = Lingering(transport)

    def _end(self) -> None:
        """Nothing more is read; what was written still leaves."""
        self._reader.take()
        if self.transport is not None:
            self.transport.close()

    def close(self) -> None:
        """The connection ends with the request in hand."""
        self._ending = True
        if self._is_idle() and self.lingering is None:
            self._end()

    def drain(self, *, keeps_idle: bool = False) -> None:
        """Close it if it is idle (and not to be kept so). What has begun to come is served whole."""
        if self._gathering is not None:
            self._gathering.give_up()
        if self.lingering is not None:
            self.lingering.look(monotonic(), draining=True)
        elif self._rest_since:
            self.linger()
        elif self._is_idle() and not keeps_idle and self.transport and not waiting(self.transport):
            self._end()

    async def shutdown(self, timeout: float | None = 15.0) -> None:
        """The time to drain is over: what is not answered is cut off."""
        self._ending = True
        if self.serving is not None:
            self.serving.cancel()
            await asyncio.wait([self.serving], timeout=timeout)
        if self.transport is not None:
            if self.busy:
                reply.reset(self.transport)
            else:
                self.transport.close()

    # --- what the sweep looks at, and bytes to the client ---

    def look(self, now: float) -> None:
        """Once a second: refuse a head that takes too long, cut off who reads no more, end what is over.
        now: on the monotonic clock."""
        transport = self.transport
        if transport is None:
            return
        if self._unread.look(transport, now, READ_TIME):
            reply.reset(transport)
        elif self.lingering is not None:
            self.lingering.look(now)
        elif self.head_since:
            if now - self.head_since >= HEAD_TIME:
                self._refuse(RequestTimeout("The request's head did not come in time."))
        elif self._rest_since:
            if now - self._rest_since >= REST_TIME:
                self.linger()
        elif self._is_idle() and now - self.idle_since >= self._keep_alive:
            self._end()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.relay is not None:  # a turn later: see Connection.resume_writing
            asyncio.get_running_loop().call_soon(self._resume_relay)
        if self._wants_to_go_on:
            self._wants_to_go_on = False
            asyncio.get_running_loop().call_soon(self._go_on)

    def _resume_relay(self) -> None:
        if self.relay is not None:
            self.relay.resume()

    # --- the client's end ---

    def eof_received(self) -> bool:  # type: ignore[override]  # aiohttp's gives None, asyncio takes both
        """The client has ended its side; True keeps ours open, for who still waits for an answer to what came
        whole."""
        if self.half_closed is not None:
            return True  # asyncio says so again when reading was paused meanwhile
        whole = self.busy and self._reader.whole and not self.broken
        if self.lingering is None and self.tunnel is None and self.transport is not None and whole:
            self.half_closed = may_still_read(self, is_last=not self._reader.unread)
        return self.half_closed is not None

    def connection_lost(self, exc: BaseException | None) -> None:
        content = self._content
        if self._gathering is not None:
            self._gathering.forget()
        super().connection_lost(exc)
        self._reader.take()
        if content is not None:
            content.set_exception(ConnectionResetError("The client left."))
        if self.relay is not None:
            self.relay.client_lost()
        elif self.on_gone is not None:
            self.on_gone()
