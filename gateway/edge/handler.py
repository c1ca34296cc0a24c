"""aiohttp's handler of one client's connection, mended where it would break a promise.

Requests before a broken one are answered, a broken body ends whoever reads it, refusals are ours and reach a
client that still sends, and one that sends no more may still read. Only this file and server.py make use of
aiohttp's server internals (3.14).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Protocol

from aiohttp import HttpVersion10, HttpVersion11, StreamReader, hdrs, web
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from gateway.call import new_id
from gateway.core.errors import GatewayError
from gateway.core.head import Head
from gateway.edge import reply, unparsed
from gateway.edge.linger import Lingering

_END_OF_HEAD = b"\r\n\r\n"
_PROBE = b"HTTP/1.1 100 Continue\r\n\r\n"
_FIRST_LOOK, _LAST_LOOK = 0.02, 0.5  # seconds between two looks at a half-closed client, doubled each time


class Service(Protocol):
    """Who serves requests.

    handle: any that aiohttp has parsed. direct: a whole simple one. refused: told of what never became a
    request: its request id, what was answered, and the peer.
    """

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse: ...
    def direct(self, client: Any, method: str, target: str, head: Head, request_body: bytes) -> None: ...
    def refused(self, request_id: str, error: GatewayError, peer: str) -> None: ...


class Handler(RequestHandler):
    """One client's connection, served by aiohttp. peer: its address. half_closed: it sends no more.
    lingering: all is answered, and what still comes is thrown away.

    relay, tunnel, on_gone: as in gateway.call.Client.
    """

    __slots__ = (
        "_answered",
        "_body",
        "_end_seen",
        "_left",
        "_line_ended",
        "_line_length",
        "_lingers",
        "_probed",
        "_service",
        "half_closed",
        "lingering",
        "on_gone",
        "peer",
        "relay",
        "tunnel",
    )

    def __init__(self, server: web.Server, service: Service, **more: Any) -> None:
        super().__init__(server, **more)
        self._service = service
        self.peer = ""
        self.relay: Any = None
        self.tunnel: Any = None
        self.on_gone: Callable[[], object] | None = None
        self.half_closed = self._probed = False
        self._body: StreamReader | None = None
        self._answered: StreamReader | None = None  # the rest of a body whose request is answered
        self._lingers = False
        self._left = 0  # bytes of a body; see _parse
        self._end_seen = b""  # the last bytes of a head that has not ended
        self.lingering: Lingering | None = None
        self._line_length = 0
        self._line_ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        name = transport.get_extra_info("peername")
        if isinstance(name, tuple) and name:
            self.peer = str(name[0]).removeprefix("::ffff:")

    # --- bytes from the client ---

    def feed(self, data: bytes) -> None:
        """Head by head: of what comes in one piece, aiohttp's parser forgets the good requests before one
        that it cannot parse, and they would not be answered."""
        before, self._end_seen = self._end_seen, b""
        data, start, begin = before + data, len(before), 0
        while True:
            if self._left:
                begin = start = self._parse(data, start, start + self._left)
            end = data.find(_END_OF_HEAD, begin) + 4
            if not (4 <= end < len(data) and self._wants_a_head()):
                break
            begin = start = self._parse(data, start, end)
        self._parse(data, start, len(data))
        if end < 4 and self._wants_a_head():  # its end may have begun
            self._end_seen = data[max(begin, len(data) - 3) :]

    def _parse(self, data: bytes, start: int, stop: int) -> int:
        """Give aiohttp's parser these bytes, or what there is of them; gives where they end. Of what comes in
        one piece with the end of a request that asks for an upgrade, it forgets the rest: `_left` is how much
        of such a body is still to come."""
        piece = data[start:stop]
        self._left -= min(self._left, len(piece))
        super().data_received(piece)
        self._end_broken_body()
        if self._messages and not self._left:
            last, body = self._messages[-1]
            if not isinstance(last, _ErrInfo) and last.upgrade and not body.is_eof():
                self._left = int(last.headers.get(hdrs.CONTENT_LENGTH, 0))
        return start + len(piece)

    def _wants_a_head(self) -> bool:
        """Whether what aiohttp's parser has taken is good, and it is in no body."""
        if self._buffer_paused or (self._messages and isinstance(self._messages[-1][0], _ErrInfo)):
            return False
        return self._body is None or self._body.is_eof()

    def _end_broken_body(self) -> None:
        """aiohttp's parser forgets the body that it was in when it meets what it cannot parse: whoever reads
        that body would wait until the body's time is over, and so would a thread's seat."""
        if not self._messages:
            return
        last, payload = self._messages[-1]
        if not isinstance(last, _ErrInfo):
            self._body = payload
            return
        body = self._messages[-2][1] if len(self._messages) > 1 else self._body
        if body is not None and not body.is_eof():
            if self._current_request is not None or len(self._messages) > 1:  # else nobody reads it any more
                body.set_exception(last.exc)
            body.feed_eof()

    # --- a client that sends no more ---

    def eof_received(self) -> bool:  # type: ignore[override]  # aiohttp's gives None, asyncio takes both
        """The client has ended its side; True keeps ours open. Who only shut down its sending (shutdown(2),
        SHUT_WR) still gets the answers to what it sent whole. One that closed its connection looks the same,
        and its work is to be cancelled: see `_probe`."""
        if self.half_closed:
            return True  # asyncio says so again when reading was paused meanwhile
        if self.lingering is not None or self.tunnel is not None:
            return False
        if self.transport is None or not self.has_whole_request():
            return False
        relay = self.relay
        if relay is not None:
            if relay.is_stream():
                return False  # it might have no end, and nothing to write for long
            if self.is_last():
                relay.keep_alive = False
        self.half_closed = True
        self._probe()
        self._loop.call_later(_FIRST_LOOK, self._look_at_half_closed, _FIRST_LOOK)
        return True

    def _probe(self) -> None:
        """Write what a client may always get while it waits (RFC 9110 section 15.2.1). Where nobody reads any
        more, the answer is a reset. Once an answer has begun, that is the probe; HTTP/1.0 has none."""
        request, relay = self._current_request, self.relay
        waits = not relay.begun if relay is not None else self.on_gone is not None
        if waits and not self._probed and (request is None or request.version >= HttpVersion11):
            assert self.transport is not None
            self._probed = True
            self.transport.write(_PROBE)

    def _look_at_half_closed(self, waited: float) -> None:
        """asyncio reads no more, so nobody would say that the client has reset the connection."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        if transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            transport.abort()
            return
        wait = min(2 * waited, _LAST_LOOK)
        self._loop.call_later(wait, self._look_at_half_closed, wait)  # first: what follows may fail
        self._probe()
        self.end_half_closed()

    def has_whole_request(self) -> bool:
        """Whether a request that came to its end is being served, or about to be. Only the last one that came
        can lack a part of its body."""
        waiter = self._waiter
        waiting = len(self._messages)
        if waiter is None:
            waiting += 1  # the one that is being served
        return waiting > 1 or (waiting == 1 and (self._body is None or self._body.is_eof()))

    def is_last(self) -> bool:
        """Whether nothing came after the request that is being served."""
        return not self._messages

    def end_half_closed(self) -> None:
        """Close the connection if all that came whole is answered. What lacks a part stays without it."""
        if not self.has_whole_request():
            self.force_close()

    # --- an end that the client does not expect ---

    def answered(self, body: StreamReader, *, closes: bool, expected: bool) -> None:
        """A request that aiohttp has parsed is answered. body: the request's. closes: the connection ends.
        expected: that is no surprise to the client, if its body has come."""
        whole = body.is_eof()
        self._answered = None if whole else body
        if closes and not (expected and whole and body.exception() is None):
            self._linger_when_answered()

    def _linger_when_answered(self) -> None:
        """With `_force_close`, `start` reads no rest of a body, and leaves the end to us."""
        self._lingers = self._force_close = True

    async def start(self) -> None:
        """Serve requests, one by one."""
        await super().start()
        if self._lingers:
            self.linger()

    def close(self) -> None:
        """aiohttp has waited for 10 s for the rest of a body that nobody reads; or the drain is over."""
        super().close()
        self._linger_when_answered()

    def reads_rest(self) -> bool:
        """Whether all is answered, and only the rest of a body that nobody reads is waited for."""
        return self._answered is not None and not self._answered.is_eof()

    def linger(self) -> None:
        """End the connection after what was written; what the client may still be sending must not keep it
        from reading that."""
        self._force_close = True
        if self._waiter is not None:
            self._waiter.cancel()
        transport = self.transport
        if transport is None or self.lingering is not None:
            return
        if self.half_closed or transport.is_closing():
            transport.close()
            return
        self._messages.clear()
        self._message_tail = b""
        self._body = self._answered = None
        self.lingering = Lingering(transport)

    # --- bytes to the client ---

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.relay is not None:  # a turn later: see Connection.resume_writing
            self._loop.call_soon(self._resume_relay)

    def _resume_relay(self) -> None:
        if self.relay is not None:
            self.relay.resume()

    # --- what aiohttp refuses by itself ---

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """A request that cannot be parsed. Nothing of it is echoed."""
        error = unparsed.error_of(status, exc, self._line_length)
        request._version = HttpVersion11  # aiohttp makes up a request of HTTP/1.0 for what it cannot parse
        request_id = new_id()
        response = web.Response(
            status=error.status,
            body=reply.problem_body(error, request_id),
            content_type=reply.PROBLEM_TYPE,
            headers={reply.REQUEST_ID: request_id, hdrs.SERVER: reply.SERVER, hdrs.CACHE_CONTROL: "no-store"},
        )
        response.force_close()
        self._linger_when_answered()
        self._service.refused(request_id, error, self.peer)
        return response


def is_spoken(request: web.BaseRequest) -> bool:
    """Whether the request is of HTTP/1.0 or 1.1. aiohttp's parser also takes 2.0, and 0.9 (a line without a
    version, though headers follow), and answers in kind: here such a request is answered in 1.1."""
    if HttpVersion10 <= request._version <= HttpVersion11:
        return True
    request._version = HttpVersion11
    return False
