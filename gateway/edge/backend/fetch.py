"""A small awaitable HTTP client, for requests of the gateway's own: a probe, a child's health, a key set.

It reads what comes as strictly as any backend's response, up to a bound, within one deadline. No redirects,
no cookies, and nothing of the environment (no proxies).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gateway.core.errors import BackendMalformed, GatewayError
from gateway.core.http.response_head import ResponseHead
from gateway.core.model import Address, Timeouts
from gateway.edge.backend import faults
from gateway.edge.backend.connection import Connection
from gateway.edge.backend.dial import dial
from gateway.edge.backend.exchange import Exchange
from gateway.edge.backend.resolver import Names
from gateway.edge.reading import ReadTurns

Fields = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Response:
    """headers: those that are not of the connection, with names in lower case, in their order."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


async def fetch(
    method: str, address: Address, path: str, headers: Fields, timeout: float, limit: int, *, names: Names
) -> Response:
    """One request on a connection of its own. path: the request's target. headers: all of them, the Host too.
    timeout: seconds for all of it. limit: as for `Fetch`. names: resolves the address's host.

    Raises BackendUnavailable (nothing was sent), BackendSaturated, BackendTimeout, BackendReset,
    BackendMalformed.
    """
    ends = asyncio.get_running_loop().time() + timeout
    connection = await dial(address, names, lambda: Connection(address, ReadTurns()), timeout)
    request = Fetch(connection, method, Timeouts(first_byte=timeout, idle=timeout), limit, _close)
    try:
        async with asyncio.timeout_at(ends):
            request.send(path, headers)
            return await request.response()
    except TimeoutError:
        raise faults.response_late(head_came=request.head_came) from None
    finally:
        request.exchange.abort()


def _close(exchange: Exchange, reusable: bool) -> None:
    exchange.connection.close()


class Fetch:
    """One request on a connection that its owner has, and the sink of its response, which can be awaited.

    limit: bytes of the body that are taken; a longer one is a BackendMalformed. 0: the head is all that is
    wanted; `response` gives it at once, and what follows is thrown away. ends: as for Exchange.
    on_done(exchange, reusable): the backend has nothing more to do with it, which may be long after that.
    """

    def __init__(
        self,
        connection: Connection,
        method: str,
        timeouts: Timeouts,
        limit: int,
        on_done: Callable[[Exchange, bool], None],
        *,
        ends: float = 0.0,
    ) -> None:
        self._method = method
        self._limit = limit
        self._head: ResponseHead | None = None
        self._body = b""
        self._result: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self.exchange = Exchange(connection, method, self, timeouts, ends, on_done)

    @property
    def head_came(self) -> bool:
        """Whether the response has begun."""
        return self._head is not None

    def send(self, path: str, headers: Fields) -> None:
        """Send the request, which has no body."""
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
        self.exchange.send(f"{self._method} {path} HTTP/1.1\r\n{lines}\r\n".encode())

    async def response(self) -> Response:
        """Raises BackendTimeout, BackendReset, BackendMalformed."""
        return await self._result

    # --- exchange.Sink ---

    def interim(self, head: ResponseHead) -> None:
        """The final response counts."""

    def begin(self, head: ResponseHead) -> None:
        """The response, where no body is wanted."""
        self._head = head
        if not self._limit:
            self._settle()

    def write(self, data: bytes) -> None:
        """Raises BackendMalformed beyond the limit."""
        if self._limit:
            if len(self._body) + len(data) > self._limit:
                raise BackendMalformed("The response is longer than it may be.")
            self._body += data

    def flush(self) -> None:
        """Nothing is passed on."""

    def end(self) -> None:
        """The response is whole."""
        self._settle()

    def fail(self, error: GatewayError) -> None:
        """There is no response."""
        if not self._result.done():
            self._result.set_exception(error)

    def _settle(self) -> None:
        head = self._head
        if head is not None and not self._result.done():
            self._result.set_result(Response(head.status, tuple(_fields(head.lines)), self._body))


def _fields(lines: bytes) -> Iterable[tuple[str, str]]:
    for line in lines.decode("latin-1").split("\r\n"):
        name, colon, value = line.partition(":")
        if colon:
            yield name.lower(), value.strip(" \t")
