"""The target that passes a call to a backend and relays its answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from time import perf_counter
from typing import Protocol

from aiohttp import ClientConnectionResetError, hdrs, web
from aiohttp.http_parser import RawResponseMessage

from gateway.call import Call
from gateway.core import headers
from gateway.core.errors import BackendTimeout, BackendUnavailable, BadRequest, GatewayError
from gateway.core.headers import Pairs
from gateway.core.model import Address, Backend, Timeouts
from gateway.edge import body, reply
from gateway.edge.exchange import Exchange, request_head
from gateway.edge.pool import Pools
from gateway.edge.spool import Spool

_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "QUERY"})


class Seat(Protocol):
    """The right to have one request inside a backend."""

    address: Address

    def release(self) -> None: ...


Admit = Callable[[Call, Backend, float], Awaitable[Seat]]


class Relayed(web.StreamResponse):
    """An answer of a backend's: it goes out with the headers that it came with, and no default ones."""

    async def _write_headers(self) -> None:
        if not self._typed:
            self.headers.popall(hdrs.CONTENT_TYPE, None)
        await super()._write_headers()

    def __init__(self, message: RawResponseMessage) -> None:
        super().__init__(status=message.code, reason=message.reason)
        for name, value in headers.to_client(message.headers.items()):
            self.headers.add(name, value)
        self._typed = hdrs.CONTENT_TYPE in self.headers


class Proxy:
    """One backend as a target. `admit` waits for a seat; `discarding` holds what goes on after its call."""

    def __init__(self, backend: Backend, pools: Pools, admit: Admit, port: int) -> None:
        self._backend = backend
        self._pools = pools
        self._admit = admit
        self._port = port
        self._discarding: set[asyncio.Task[None]] = set()

    async def __call__(self, call: Call) -> web.StreamResponse:
        assert call.route is not None
        timeouts = _shortened(call, call.route.timeouts)
        spool = Spool()
        try:
            if self._backend.threaded:
                await spool.fill(call)
            before = perf_counter()
            seat = await self._admit(call, self._backend, timeouts.queue)
            call.queue_s = perf_counter() - before
            return await self._with_seat(call, seat, spool, timeouts)
        finally:
            spool.close()

    async def _with_seat(
        self, call: Call, seat: Seat, spool: Spool, timeouts: Timeouts
    ) -> web.StreamResponse:
        """The exchange; the seat is given back when the backend is done, even if that is after the call."""
        before = perf_counter()
        exchange: Exchange | None = None
        busy = False
        try:
            exchange = await self._open(call, seat, timeouts)
            self._send(call, exchange, spool)
            try:
                return await self._answer(call, exchange, timeouts)
            except BackendTimeout:
                busy = self._backend.threaded and not exchange.complete
                raise
        finally:
            call.backend_s = perf_counter() - before
            if exchange is not None and busy:
                self._discard_later(exchange, seat, timeouts)
            else:
                if exchange is not None:
                    exchange.close()
                seat.release()

    async def _open(self, call: Call, seat: Seat, timeouts: Timeouts) -> Exchange:
        """Connect, to another address where one refuses: no byte was sent yet."""
        backend = self._backend
        others = [address for address in backend.addresses if address is not seat.address]
        fresh = call.method not in _IDEMPOTENT
        for address in [seat.address, *others]:
            pool = self._pools.of(address, backend.reuse_idle)
            try:
                connection = await pool.acquire(timeouts.connect, fresh=fresh)
            except BackendUnavailable:
                if address is (others[-1] if others else seat.address):
                    raise
                continue
            call.address = address.text
            return Exchange(pool, connection, timeouts)
        raise BackendUnavailable("The backend has no address.")

    def _send(self, call: Call, exchange: Exchange, spool: Spool) -> None:
        pairs = self._headers(call)
        target = f"{call.subpath}?{call.query}" if call.query else call.subpath
        stream: AsyncIterator[bytes] | None = None
        chunked = False
        if self._backend.threaded:
            if spool.length or _has_length(call):
                pairs.append((hdrs.CONTENT_LENGTH, str(spool.length)))
            if spool.length and not spool.small:
                stream = spool.chunks()
        else:
            length = body.announced_length(call)
            if length is None:
                pairs.append((hdrs.TRANSFER_ENCODING, "chunked"))
                stream, chunked = body.chunks(call), True
            elif length or _has_length(call):
                pairs.append((hdrs.CONTENT_LENGTH, str(length)))
                stream = body.chunks(call) if length else None
        head = request_head(call.method, target, pairs)
        exchange.send(call.method, head, spool.small, stream, chunked)

    def _headers(self, call: Call) -> Pairs:
        """What the backend is told: Host, the client's headers, the identity, where the call came from."""
        route = call.route
        assert route is not None
        sent = call.headers
        host = sent[hdrs.HOST]
        trusted = headers.is_trusted(call.peer, call.snapshot.trusted)
        forwarded: dict[str, str] = {}
        if trusted:
            for name in ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port"):
                forwarded[name] = ", ".join(sent.getall(name, ()))
            forwarded["x-forwarded-prefix"] = sent.get("x-forwarded-prefix", "")
        return [
            (hdrs.HOST, route.set_host or host),
            *headers.to_backend(sent.items(), authorization=route.forward_authorization),
            *headers.identity(call.identity),
            *headers.forwarding(
                forwarded,
                call.peer,
                trusted,
                scheme=call.scheme,
                host=host,
                port=self._port,
                prefix=route.strip,
            ),
            ("X-Request-ID", call.id),
            ("X-Request-Start", f"t={call.wall:.6f}"),
        ]

    async def _answer(self, call: Call, exchange: Exchange, timeouts: Timeouts) -> web.StreamResponse:
        """Relay the answer. Up to its head an error is problem+json; after that the connection is cut."""
        request = call.request
        assert request is not None
        cancellable = not self._backend.threaded and call.method in ("GET", "HEAD")
        protocol = request.protocol
        if cancellable:
            protocol.on_lost = exchange.abort  # type: ignore[attr-defined]
        try:
            message = await exchange.head()
            response = Relayed(message)
            if not exchange.upload_complete:
                response.force_close()  # the rest of the request would be read as the next one
            return await self._relay(call, exchange, response, timeouts)
        finally:
            if cancellable:
                protocol.on_lost = None  # type: ignore[attr-defined]

    async def _relay(
        self, call: Call, exchange: Exchange, response: Relayed, timeouts: Timeouts
    ) -> web.StreamResponse:
        assert call.request is not None
        total = None if _is_stream(response) else timeouts.total or None
        left = total and max(0.0, total - (perf_counter() - call.started))
        call.response = response
        reply.decorate(call, response)
        try:
            async with asyncio.timeout(left):
                await self._copy(call, exchange, response)
        except TimeoutError:
            reply.abort(call)
            raise BackendTimeout("The call took longer than its total time.") from None
        except GatewayError:
            reply.abort(call)
            raise
        return response

    async def _copy(self, call: Call, exchange: Exchange, response: Relayed) -> None:
        """Head and body to the client. When the client is gone, a backend that cannot be cancelled is
        still read to its end: its thread works on whether or not anybody listens."""
        assert call.request is not None
        listening = True
        with suppress(ClientConnectionResetError, ConnectionError):
            await response.prepare(call.request)
        async for chunk in exchange.body():
            if not listening:
                continue
            try:
                await response.write(chunk)
            except (ClientConnectionResetError, ConnectionError):
                listening = False
        if listening:
            with suppress(ClientConnectionResetError, ConnectionError):
                await response.write_eof()

    def _discard_later(self, exchange: Exchange, seat: Seat, timeouts: Timeouts) -> None:
        task = asyncio.create_task(self._discard(exchange, seat, timeouts))
        self._discarding.add(task)
        task.add_done_callback(self._discarding.discard)

    async def _discard(self, exchange: Exchange, seat: Seat, timeouts: Timeouts) -> None:
        """The client got its 504; the thread is still at work, and its seat is taken until it is done."""
        try:
            with suppress(TimeoutError, GatewayError):
                async with asyncio.timeout(timeouts.total or None):
                    await exchange.finish()
        finally:
            exchange.close()
            seat.release()


def _shortened(call: Call, timeouts: Timeouts) -> Timeouts:
    """A client's X-Request-Timeout (seconds) may only shorten. Raises BadRequest."""
    text = call.headers.get("X-Request-Timeout")
    if text is None:
        return timeouts
    try:
        wanted = float(text)
    except ValueError:
        wanted = -1.0
    if not 0 < wanted < 86400:
        raise BadRequest("X-Request-Timeout must be a number of seconds above 0.")
    return Timeouts(
        body=timeouts.body,
        queue=min(timeouts.queue, wanted),
        connect=min(timeouts.connect, wanted),
        first_byte=min(timeouts.first_byte, wanted),
        idle=timeouts.idle,
        total=min(timeouts.total or wanted, wanted),
    )


def _has_length(call: Call) -> bool:
    return hdrs.CONTENT_LENGTH in call.headers


def _is_stream(response: Relayed) -> bool:
    return response.headers.get(hdrs.CONTENT_TYPE, "").startswith("text/event-stream")
