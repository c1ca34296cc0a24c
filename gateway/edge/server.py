"""The public listener: a bare aiohttp server with our own dispatch, errors as problem+json, and drain.

Routes are live, so nothing may be bound to aiohttp's router (ASAB's wrappers are applied there, once).

A simple request that came whole is served straight from `data_received`, without aiohttp's parser, request
or task; everything else is handed to aiohttp unchanged. This is the only file that makes use of aiohttp's
server internals (3.14); each use has its test.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, Protocol

from aiohttp import HttpVersion11, hdrs, http_exceptions, web
from aiohttp.web_protocol import RequestHandler

from gateway.call import Call
from gateway.core.errors import (
    BadRequest,
    GatewayError,
    HeadersTooLarge,
    InternalError,
    RequestTimeout,
    TargetTooLong,
)
from gateway.core.head import Head, parse_simple
from gateway.edge import reply

KEEP_ALIVE = 65.0  # seconds that a client's idle connection stays open
HEAD_TIME = 10.0  # seconds that a request's head may take from its first byte
_MAX_LINE = 8190  # bytes of a request line or a header, aiohttp's own limit
_HELD = 64 * 1024  # bytes that a client may send ahead while its request is served


class Service(Protocol):
    """Who serves requests.

    handle: any. direct: a whole simple one; False hands it to `handle`. refused: told of what never became
    a request: its request id, what was answered, and the peer.
    """

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse: ...
    def direct(self, client: Any, head: Head, request_body: bytes) -> bool: ...
    def refused(self, request_id: str, error: GatewayError, peer: str) -> None: ...


class ListenError(OSError):
    """A listener that cannot be opened; the text says which, why and how to mend it."""


class ClientConnection(RequestHandler):
    """One client's connection.

    busy: a direct request is out; nothing further is parsed until it is answered, so that answers keep
    their order. begun: a call that `direct` began and `handle` will go on with. clean: aiohttp's parser
    holds no part of a request, so the next bytes begin one.
    """

    __slots__ = (
        "_held",
        "_line_ended",
        "_line_length",
        "_service",
        "begun",
        "busy",
        "clean",
        "head_since",
        "on_gone",
        "peer",
        "relay",
    )

    def __init__(self, server: web.Server, service: Service, **more: Any) -> None:
        super().__init__(server, **more)
        self._service = service
        self.relay: Any = None
        self.on_gone: Callable[[], object] | None = None
        self.begun: Call | None = None
        self.busy = False
        self.clean = True
        self.head_since = 0.0
        self.peer = ""
        self._held = b""
        self._line_length = 0
        self._line_ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        name = transport.get_extra_info("peername")
        if isinstance(name, tuple) and name:
            self.peer = str(name[0]).removeprefix("::ffff:")

    # --- bytes from the client ---

    def data_received(self, data: bytes) -> None:
        if self.busy:
            self._hold(data)
        elif not (self.clean and self._idle() and self._take(data)):
            self._hand_over(data)

    def _idle(self) -> bool:
        """aiohttp waits for a request and has none in hand."""
        waiter = self._waiter
        closing = self._close or self._force_close
        return waiter is not None and not waiter.done() and not self._messages and not closing

    def _take(self, data: bytes) -> bool:
        """Serve the request that begins these bytes, if it is simple and whole. False: hand them over."""
        end = data.find(b"\r\n\r\n")
        head = parse_simple(data[:end]) if end > 0 else None
        if head is None:
            self.clean = False
            return False
        start = end + 4
        stop = start + max(head.length, 0)
        if stop > len(data):
            self.clean = False
            return False
        self._begin_direct(data[stop:])
        if self._service.direct(self, head, data[start:stop]):
            return True
        self._held = b""
        self._end_direct()
        self.clean = stop == len(data)
        return False

    def _begin_direct(self, ahead: bytes) -> None:
        """Keep aiohttp's accounts: clean-up waits for a request in progress."""
        self.busy = True
        self._held = ahead
        self._request_in_progress = True

    def _end_direct(self) -> None:
        self.busy = False
        self._request_in_progress = False

    def direct_done(self, *, keep_alive: bool) -> None:
        """The direct request is answered (or its client gone); go on with what was sent ahead."""
        if not self.busy:
            return
        self._end_direct()
        if self._handler_waiter is not None and not self._handler_waiter.done():
            self._handler_waiter.set_result(None)
        if self.transport is None:
            return
        if not keep_alive:
            self.force_close()
            return
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if self._held:
            ahead, self._held = self._held, b""
            self._loop.call_soon(self._go_on, ahead)

    def _go_on(self, ahead: bytes) -> None:
        if self.transport is not None:
            self.transport.resume_reading()
            held, self._held = self._held, b""
            self.data_received(ahead + held)

    def _hold(self, data: bytes) -> None:
        self._held += data
        if len(self._held) > _HELD and self.transport is not None:
            self.transport.pause_reading()

    def _hand_over(self, data: bytes) -> None:
        """To aiohttp, unchanged; and note when a head began that did not end, and how long its first line
        is (aiohttp has one error for a long target and a long header)."""
        if self._idle() and not self.head_since:
            self._line_length, self._line_ended = 0, False
        if not self._line_ended:
            end = data.find(b"\r\n")
            self._line_ended = end >= 0
            self._line_length += end if end >= 0 else len(data)
        super().data_received(data)
        if self._messages or not self._idle():
            self.head_since = 0.0
        elif not self.head_since and not self.clean:
            self.head_since = monotonic()

    def _process_keepalive(self) -> None:
        """aiohttp closes idle connections here; one that is served directly is not idle."""
        if self.busy:
            self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        super()._process_keepalive()

    def head_is_late(self, now: float) -> bool:
        """Whether a head has been coming for too long. Then it is refused and the connection closed."""
        if not self.head_since or now - self.head_since < HEAD_TIME or not self._idle():
            return False
        error = RequestTimeout("The request's head did not come in time.")
        request_id = os.urandom(16).hex()
        body = reply.problem_body(error, request_id)
        if self.transport is not None:
            self.transport.write(
                b"HTTP/1.1 408 Request Timeout\r\nContent-Type: application/problem+json\r\n"
                b"X-Request-ID: %b\r\nServer: gateway\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"
                % (request_id.encode(), len(body), body)
            )
        self._service.refused(request_id, error, self.peer)
        self.force_close()
        return True

    # --- bytes to the client ---

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.relay is not None:
            self.relay.resume()

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._held = b""
        if self.relay is not None:
            self.relay.client_lost()
        elif self.on_gone is not None:
            self.on_gone()

    # --- what aiohttp refuses by itself ---

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """A request that cannot be parsed. Nothing of it is echoed."""
        error = _parser_error(status, exc, self._line_length)
        request._version = HttpVersion11  # aiohttp makes up a request of HTTP/1.0 for what it cannot parse
        request_id = os.urandom(16).hex()
        response = web.Response(
            status=error.status,
            body=reply.problem_body(error, request_id),
            content_type=reply.PROBLEM_TYPE,
            headers={reply.REQUEST_ID: request_id, hdrs.SERVER: reply.SERVER, hdrs.CACHE_CONTROL: "no-store"},
        )
        response.force_close()
        self._service.refused(request_id, error, self.peer)
        return response


def _parser_error(status: int, exc: BaseException | None, line_length: int) -> GatewayError:
    if isinstance(exc, http_exceptions.LineTooLong):
        if line_length > _MAX_LINE:
            return TargetTooLong("The request's target is too long.")
        return HeadersTooLarge("A header is too long.")
    if "Too many headers" in str(exc):
        return HeadersTooLarge("The request has too many headers.")
    if status == 400:
        return BadRequest("The request is not valid HTTP/1.1.")
    return InternalError()


class _Server(web.Server):
    def __init__(self, service: Service, **more: Any) -> None:
        super().__init__(service.handle, **more)
        self._service = service

    def __call__(self) -> RequestHandler:
        return ClientConnection(self, self._service, loop=self._loop, **self._kwargs)


class Listener:
    """The public side: opens sockets, hands each request to the service, drains.

    drain_time: seconds that requests in flight may still take.
    """

    def __init__(self, service: Service, drain_time: float = 25.0) -> None:
        self._service = service
        self._drain_time = drain_time
        self._runner: web.ServerRunner | None = None
        self._sockets: list[socket.socket] = []
        self._sweep: asyncio.TimerHandle | None = None
        self.addresses: list[tuple[str, int]] = []

    def bind(self, addresses: Iterable[tuple[str, int]]) -> None:
        """Take the ports, without listening yet, so that a port in use is known before anything starts.

        Port 0: any free one; see `addresses`. Raises ListenError.
        """
        for host, port in addresses:
            self._sockets.append(bind(host, port))
        self.addresses = [sock.getsockname()[:2] for sock in self._sockets]

    async def open(self, backlog: int = 1024) -> None:
        """Listen on the ports that were taken."""
        server = _Server(
            self._service,
            keepalive_timeout=KEEP_ALIVE,
            access_log=None,
            tcp_keepalive=True,
            auto_decompress=False,  # what passes through stays as it is
        )
        # aiohttp waits this long twice for each connection; we have waited before (see drain).
        self._runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=0.2)
        await self._runner.setup()
        for sock in self._sockets:
            await web.SockSite(self._runner, sock, backlog=backlog).start()
        self._look()

    def _look(self) -> None:
        """Once a second: refuse heads that take too long."""
        now = monotonic()
        for connection in self._connections():
            connection.head_is_late(now)
        self._sweep = asyncio.get_running_loop().call_later(1.0, self._look)

    def _connections(self) -> list[ClientConnection]:
        server = self._runner.server if self._runner is not None else None
        return [c for c in server.connections if isinstance(c, ClientConnection)] if server else []

    async def stop_accepting(self) -> None:
        """Close the listening sockets at once; connections stay."""
        if self._runner is not None:
            for site in list(self._runner.sites):
                await site.stop()

    async def drain(self) -> None:
        """Close idle connections, let active ones finish for the drain time, then cut them."""
        if self._sweep is not None:
            self._sweep.cancel()
        runner = self._runner
        if runner is not None and runner.server is not None:
            runner.server.pre_shutdown()
            end = monotonic() + self._drain_time
            while monotonic() < end and any(  # noqa: ASYNC110 - aiohttp has no event for it
                c._request_in_progress for c in self._connections()
            ):
                await asyncio.sleep(0.02)
            await runner.cleanup()
        self._runner = None
        for sock in self._sockets:
            sock.close()


def bind(host: str, port: int) -> socket.socket:
    """A bound TCP socket, not listening yet. Raises ListenError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ListenError(listen_problem(host, port, error)) from None
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setblocking(False)
        sock.bind(address)
    except OSError as error:
        sock.close()
        raise ListenError(listen_problem(host, port, error)) from None
    return sock


def listen_problem(host: str, port: int, error: OSError) -> str:
    """Why a port cannot be listened on, and how to mend it."""
    where = f"{host}:{port}"
    if error.errno == errno.EADDRINUSE:
        return f"cannot listen on {where}: the port is in use; stop what uses it, or choose another port"
    if error.errno == errno.EACCES:
        return f"cannot listen on {where}: not permitted; choose a port above 1023"
    if isinstance(error, socket.gaierror):
        return f"cannot listen on {where}: the host is not known here"
    return f"cannot listen on {where}: {error.strerror or error}"
