"""A backend's response on its way to the client, written to the client's connection as bytes.

The head and what is already there of the body leave in one write. When the client reads slowly, an
asynchronous backend is paused; the response of a threaded one is buffered (memory, then disk), so that its
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
    """Receives the events of a relayed response."""

    def head_came(self, head: ResponseHead) -> None:
        """The head was read; nothing of it was sent. Raises the error that is to be the response instead."""
        ...

    def exchange_failed(self, error: GatewayError) -> bool:
        """Returns True when another exchange will follow (`Relay.follow`): the client gets nothing yet."""
        ...

    def waits_for_client(self) -> None:
        """The buffer of a threaded backend's response is full: its thread now waits for a slow client."""
        ...

    def client_lost(self) -> None:
        """The client's connection is lost; the exchange may still be under way."""
        ...

    def response_ended(self) -> None:
        """Called once: the response was written, or `Relay.error` says why not."""
        ...


class Relay:
    """The sink of one exchange, or of several in turn; it writes their response to the client.

    keep_alive: whether the client's connection may stay open; old: the client speaks HTTP/1.0. begun: the
    head was sent, so an error can only cut the connection. threaded: the backend is threaded, so its response
    is buffered. exchange: the one that produces the response. observer: None after `response_ended`.
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
        self._events: EventEnds | None = None  # of an event stream that the client can see ending
        self._leaving = False
        self._taken = 0  # bytes taken from the outbox
        self._over = False  # the backend has sent everything
        self.begun = False
        self.ended = False
        self.error: GatewayError | None = None
        client.attach(self)

    def follow(self, exchange: Exchange) -> None:
        """Relay the response of this exchange from now on, and pause it while the client is slow."""
        self.exchange = exchange

    def abandon(self) -> None:
        """No exchange will respond; something else writes the client's response."""
        self.ended = True
        self._observer = None
        self._client.detach(self)

    def upgraded(self) -> None:
        """The response was a 101, which something else has written."""
        self.call.status, self.begun, self.keep_alive = 101, True, False

    # --- from the backend (exchange.Sink) ---

    def interim(self, head: ResponseHead) -> None:
        """Forward an interim response at once where the route says so; never to an HTTP/1.0 client, which
        knows none (RFC 9110 section 15.2)."""
        route = self.call.route
        if route is not None and route.interim and not self.old:
            self._send(interim_head(self.call, head))

    def begin(self, head: ResponseHead) -> None:
        """Keep the head until there is something to send with it, or until the loop's next turn."""
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
        """Send a piece of the body. A stream that is to end ends after the last whole event in it."""
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
        """Send the head alone: its body is not here yet."""
        if self.head:
            data, self.head = self.head, b""
            self._send(data)

    def end(self) -> None:
        """The backend has sent the whole response. The next request of a client that has not read what came
        before waits: else the client could have as many responses in our memory as it sends requests."""
        data, self.head = self.head, b""
        if self._chunked:
            data += b"0\r\n\r\n"
        if data:
            self._send(data)
        self._over = True
        if self._outbox is None and not self._client.writing_paused:
            self.finish()

    def fail(self, error: GatewayError) -> None:
        """The exchange failed, and unless it is retried: before the head was sent the error is the response,
        after that the connection is cut."""
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
        """Buffer data. When the disk is full or slow, the backend's thread waits for the client, as it would
        without a gateway."""
        assert self._outbox is not None
        self._outbox.put(data)
        if self._outbox.full and self.exchange is not None:
            self.exchange.pause()
            if self._observer is not None:
                self._observer.waits_for_client()

    @property
    def buffers(self) -> bool:
        """Whether the response is being buffered for a slow client."""
        return self._outbox is not None

    @property
    def delivered(self) -> int:
        """How many of the buffered bytes the client's kernel has acknowledged."""
        transport = self._client.transport
        if transport is None or transport.is_closing():
            return self._taken
        return self._taken - transport.get_write_buffer_size() - send_queue(transport)

    def _disk_moved(self) -> None:
        """There may be more to send to the client, or room for more of the response."""
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
        """Close the connection after the response: the rest of the request cannot be read, or is not sent."""
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
        """The request cannot be completed (the client sent a bad body, or left): abort the exchange. A
        response that is already complete is still delivered."""
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
        """End an event stream after a whole event; cut one that the client could not see ending."""
        if self._events is None:
            self.cut()
        elif not self._over:
            self._leaving = True
            if self._events.whole:
                self._leave(b"")

    def _leave(self, last: bytes) -> None:
        """End the stream with these bytes, which complete an event; the exchange is aborted."""
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
