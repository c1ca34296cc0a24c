"""A backend's response on its way to the client, written to the client's connection as bytes.

The head and what is already there of the body leave in one write. When the client reads slowly, an
asynchronous backend is paused; the response of a threaded one is taken in (memory, then disk), so that its
thread is free while the slow client still reads.
"""

from __future__ import annotations

import logging
from typing import Protocol

from gateway.call import Call, Client
from gateway.core.errors import GatewayError, InternalError
from gateway.core.http.hops import Via
from gateway.core.http.response_head import ResponseHead
from gateway.core.http.server_sent_events import EventEnds
from gateway.edge.backend.exchange import Exchange
from gateway.edge.client.liveness import send_queue
from gateway.edge.response.head import interim_head, relayed_head
from gateway.edge.response.reply import reset
from gateway.edge.spool import Outbox, Spools

L = logging.getLogger(__name__)


class Observer(Protocol):
    """What is told how a relayed response goes."""

    def head_came(self, head: ResponseHead) -> None:
        """The head is here; nothing of it has left. Raises the error that is to be the response instead."""
        ...

    def exchange_failed(self, error: GatewayError) -> bool:
        """True: there will be another exchange (`Relay.follow`), and the client gets nothing yet."""
        ...

    def waits_for_client(self) -> None:
        """The buffer of a threaded backend's response is full: a thread waits for a slow client now."""
        ...

    def client_lost(self) -> None:
        """The client is gone; the exchange may still be under way."""
        ...

    def response_ended(self) -> None:
        """Called once: the response has left, or `Relay.error` says why not."""
        ...


class Relay:
    """The sink at the client's end of one exchange, or of several in turn, and what writes to the client.

    keep_alive: whether the client's connection may go on; old: the client speaks HTTP/1.0. begun: the head
    has left, so an error can only cut the connection. threaded: the backend is, so its response is buffered.
    exchange: that whose response this is. observer: None once it was told of the end.
    """

    __slots__ = (
        "_chunked",
        "_client",
        "_events",
        "_leaving",
        "_observer",
        "_outbox",
        "_over",
        "_spools",
        "_taken",
        "begun",
        "call",
        "ended",
        "error",
        "exchange",
        "head",
        "keep_alive",
        "old",
        "threaded",
        "via",
    )

    def __init__(
        self, call: Call, client: Client, spools: Spools, observer: Observer, *, via: Via, threaded: bool
    ) -> None:
        self.call = call
        self._client = client
        self._observer: Observer | None = observer
        self._spools = spools
        self.via = via
        self.threaded = threaded
        self.keep_alive = call.keep_alive
        self.old = call.old
        self.exchange: Exchange | None = None
        self.head = b""
        self._chunked = False
        self._outbox: Outbox | None = None
        self._events: EventEnds | None = None  # of an event stream whose end a client can see
        self._leaving = False
        self._taken = 0  # bytes that left the outbox
        self._over = False  # the backend has given all
        self.begun = False
        self.ended = False
        self.error: GatewayError | None = None
        client.attach(self)

    def follow(self, exchange: Exchange) -> None:
        """This exchange is the one whose response comes, and which is paused for a slow client."""
        self.exchange = exchange

    def abandon(self) -> None:
        """Nothing comes; the client gets its response by other means."""
        self.ended = True
        self._observer = None
        self._client.detach(self)

    def upgraded(self) -> None:
        """The response was a 101, which has left by other means."""
        self.call.status, self.begun, self.keep_alive = 101, True, False

    # --- from the backend (exchange.Sink) ---

    def interim(self, head: ResponseHead) -> None:
        """Passed on at once where the route says so, and never to HTTP/1.0, which has none (RFC 9110 section
        15.2)."""
        route = self.call.route
        if route is not None and route.interim and not self.old:
            self._send(interim_head(self.call, head))

    def begin(self, head: ResponseHead) -> None:
        """The head is kept until there is something to send with it, or the loop turns."""
        if self._observer is not None:
            self._observer.head_came(head)
        call = self.call
        call.status = head.status
        self.begun = True
        if self.exchange is not None and not self.exchange.sent:
            self.keep_alive = False  # the rest of the request would be read as the next one
        if call.draining():
            self.keep_alive = False
        if head.length < 0 and not head.bodyless:
            if self.old:
                self.keep_alive = False  # the body ends with the connection
            else:
                self._chunked = True
            if head.stream and not head.encoded:
                self._events = EventEnds()
        self.head = relayed_head(call, head, self.via, chunked=self._chunked, keep_alive=self.keep_alive)

    def write(self, data: bytes) -> None:
        """A piece of the body. A stream that is to end is ended behind its last event in it."""
        if self._events is not None:
            last = self._events.feed(data)
            if self._leaving and last >= 0:
                self._leave(data[:last])
                return
        self._pass(data)

    def _pass(self, data: bytes) -> None:
        if self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        if self.head:
            data, self.head = self.head + data, b""
        self._send(data)

    def flush(self) -> None:
        """Send a head whose body keeps the client waiting."""
        if self.head:
            data, self.head = self.head, b""
            self._send(data)

    def end(self) -> None:
        """The backend has given all of it. A client that has not read what came before waits with its next
        request: else it could have as many responses in our memory as it sends requests."""
        data, self.head = self.head, b""
        if self._chunked:
            data += b"0\r\n\r\n"
        if data:
            self._send(data)
        self._over = True
        if self._outbox is None and not self._client.writing_paused:
            self.finish()

    def fail(self, error: GatewayError) -> None:
        """Unless it is tried again: before the head has left, the error is the response. After that the
        connection is cut."""
        try:
            if self._observer is not None and self._observer.exchange_failed(error):
                return
        except BaseException:  # a bug: the client does not wait for ever
            self._fail(error)
            raise
        self._fail(error)

    def _fail(self, error: GatewayError) -> None:
        self.error = error
        if self.begun and not self.head:
            self.cut()
        else:
            self.begun, self.head = False, b""
        self.finish()

    # --- to the client ---

    def _send(self, data: bytes) -> None:
        client = self._client
        transport = client.transport
        if transport is None or self.ended:
            return
        self.call.bytes_out += len(data)
        if self._outbox is not None:
            self._spool(data)
            return
        transport.write(data)
        if client.writing_paused:
            self._hold_back()

    def _hold_back(self) -> None:
        if self.threaded:
            self._outbox = Outbox(self._disk_moved, self._spools.use(self.call))
        elif self.exchange is not None:
            self.exchange.pause()

    def _spool(self, data: bytes) -> None:
        """A disk that has no room, or is slow, makes the thread wait for the client, as it would without
        us."""
        assert self._outbox is not None
        self._outbox.put(data)
        if self._outbox.full and self.exchange is not None:
            self.exchange.pause()
            if self._observer is not None:
                self._observer.waits_for_client()

    @property
    def buffers(self) -> bool:
        """Whether what came is kept for a slow client."""
        return self._outbox is not None

    @property
    def delivered(self) -> int:
        """Bytes of what was buffered that the client's side of the connection has taken."""
        transport = self._client.transport
        if transport is None or transport.is_closing():
            return self._taken
        return self._taken - transport.get_write_buffer_size() - send_queue(transport)

    def _disk_moved(self) -> None:
        """There may be more to give to the client, or room for more of the response."""
        if not self.ended:
            self.resume()

    def resume(self) -> None:
        """The client has read what was waiting for it."""
        outbox, client = self._outbox, self._client
        while outbox is not None and client.transport is not None and not client.writing_paused:
            if outbox.failed is not None:
                L.error("The buffered response of request %s cannot be read: %s", self.call.id, outbox.failed)
                self.error = InternalError()
                self.cut()
                self.client_lost()
                return
            if piece := outbox.take():
                self._taken += len(piece)
                client.transport.write(piece)
            elif outbox.empty:
                outbox.close()
                self._outbox = outbox = None
            else:
                break
        if outbox is None and self._over:
            self.finish()
        elif self.exchange is not None and (outbox is None or not outbox.full):
            self.exchange.resume()

    def is_stream(self) -> bool:
        """Whether a stream of events has begun, or a WebSocket was asked for."""
        exchange = self.exchange
        if exchange is None:
            return False
        return exchange.expects_upgrade or (exchange.head is not None and exchange.head.stream)

    def close_after(self) -> None:
        """The rest of the client's request cannot be read, or it sends no more."""
        self.keep_alive = False

    def client_lost(self) -> None:
        """The client's connection is gone."""
        observer = self._observer
        if not self.ended:
            if not self.begun:
                self.call.status = 499  # nginx's code for it
            self.finish()
        if observer is not None:
            observer.client_lost()

    def give_up(self, error: GatewayError) -> None:
        """The request cannot be completed (the client sent a bad body, or left): the backend is let go. A
        response that is whole by then only waits for its reader."""
        if self.exchange is not None:
            self.exchange.abort()
        if not self.ended and not self._over:
            self.fail(error)

    # --- the gateway drains ---

    @property
    def endless(self) -> bool:
        """Whether an event stream has begun."""
        head = self.exchange.head if self.exchange is not None else None
        return head is not None and head.stream and not head.bodyless

    def leave_off(self) -> None:
        """End an event stream behind an event. One whose end no client could see is cut."""
        if self._events is None:
            self.cut()
        elif not self._over:
            self._leaving = True
            if self._events.whole:
                self._leave(b"")

    def _leave(self, last: bytes) -> None:
        """The stream ends with these bytes, which end an event; the backend is let go."""
        if self.exchange is not None:
            self.exchange.abort()
        if last:
            self._pass(last)
        self.end()

    def cut(self) -> None:
        """End the client's connection now; it sees that the response is not whole. `client_lost` follows."""
        if self._client.transport is not None:
            reset(self._client.transport)

    def finish(self) -> None:
        """The call is over as far as the client is concerned."""
        if self.ended:
            return
        self.ended = True
        if self._outbox is not None:
            self._outbox.close()
            self._outbox = None
        self._client.detach(self)
        observer, self._observer = self._observer, None  # breaks the reference cycle: it refers to this relay
        if observer is not None:
            observer.response_ended()
