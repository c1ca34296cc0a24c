"""The public listener: a bare aiohttp server with our own dispatch, errors as problem+json, and drain.

Routes are live, so nothing may be bound to aiohttp's router (ASAB's wrappers are applied there, once).
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from aiohttp import HttpVersion11, hdrs, http_exceptions, web
from aiohttp.web_protocol import RequestHandler

from gateway.core.errors import BadRequest, GatewayError, HeadersTooLarge, InternalError
from gateway.edge import reply

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
KEEP_ALIVE = 65.0  # seconds that a client's idle connection stays open


class ListenError(OSError):
    """A listener that cannot be opened; the text says which, why and how to mend it."""


class ClientConnection(RequestHandler):
    """One client's connection. `on_lost` is called when it goes away while its request is served."""

    __slots__ = ("on_lost",)

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.on_lost: Callable[[], None] | None = None

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        if self.on_lost is not None:
            self.on_lost()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What aiohttp itself refuses: a request that it cannot parse. Nothing of it is echoed."""
        error = _parser_error(status, exc)
        request._version = HttpVersion11  # aiohttp makes up a request of HTTP/1.0 for what it cannot parse
        request_id = os.urandom(16).hex()
        response = web.Response(
            status=error.status,
            body=reply.problem_body(error, request_id),
            content_type=reply.PROBLEM_TYPE,
            headers={reply.REQUEST_ID: request_id, hdrs.SERVER: reply.SERVER, hdrs.CACHE_CONTROL: "no-store"},
        )
        response.force_close()
        return response


def _parser_error(status: int, exc: BaseException | None) -> GatewayError:
    if isinstance(exc, http_exceptions.LineTooLong):
        return HeadersTooLarge("The request line or a header is too long.")
    if status == 400:
        return BadRequest("The request is not valid HTTP/1.1.")
    return InternalError()


class _Server(web.Server):
    def __call__(self) -> RequestHandler:
        return ClientConnection(self, loop=self._loop, **self._kwargs)


class Listener:
    """The public side: opens sockets, hands each request to `handler`, drains.

    drain_time: seconds that requests in flight may still take.
    """

    def __init__(self, handler: Handler, drain_time: float = 25.0) -> None:
        self._handler = handler
        self._drain_time = drain_time
        self._runner: web.ServerRunner | None = None
        self._sockets: list[socket.socket] = []
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
            self._handler,
            keepalive_timeout=KEEP_ALIVE,
            access_log=None,
            tcp_keepalive=True,
            auto_decompress=False,  # what passes through stays as it is
        )
        self._runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=self._drain_time)
        await self._runner.setup()
        for sock in self._sockets:
            await web.SockSite(self._runner, sock, backlog=backlog).start()

    async def stop_accepting(self) -> None:
        """Close the listening sockets at once; connections stay."""
        if self._runner is not None:
            for site in list(self._runner.sites):
                await site.stop()

    async def drain(self) -> None:
        """Close idle connections, let active ones finish for the drain time, then cut them."""
        if self._runner is not None:
            await self._runner.cleanup()
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


def reachable(host: str, port: int) -> str:
    """The authority by which a listener on host and port is called from this machine, for a URL."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host.strip("[]"), host.strip("[]"))  # noqa: S104 - compared
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
