"""The target that passes a call to a backend.

`try_serve` takes what needs no waiting: a whole request in hand, a seat that is free, a warm connection. It
runs by callbacks alone. `serve` takes everything else, and ends in the same `ProxiedCall`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from time import perf_counter
from typing import Protocol

from aiohttp import hdrs, web

from gateway.call import Call, Signer
from gateway.core.errors import BackendUnavailable, BadRequest, GatewayError
from gateway.core.http import request_target
from gateway.core.http.hops import Via, hops_left
from gateway.core.methods import IDEMPOTENT
from gateway.core.model import Address, Backend, Timeouts
from gateway.core.policy import deadline
from gateway.core.policy.retry import RetryBudgets
from gateway.edge.backend import faults
from gateway.edge.backend.connection import Connection
from gateway.edge.backend.exchange import Exchange
from gateway.edge.backend.pool import Pool, Pools
from gateway.edge.client import body
from gateway.edge.lifetimes import Lifetimes
from gateway.edge.response import reply
from gateway.edge.spool import Spool, Spools
from gateway.edge.websocket.tunnel import Tunnels
from gateway.proxy.proxied_call import Health, ProxiedCall, Seat
from gateway.proxy.request import Requests
from gateway.proxy.retry import Retry
from gateway.proxy.websocket import Handshake


class MovingSeat(Seat, Protocol):
    """A seat that was not used yet."""

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Those of its backend, as they are now."""
        ...

    def move(self, address: Address) -> bool:
        """Sit at another address, if there is room."""
        ...


class Admission(Protocol):
    """Decides which calls may be inside a backend now. timeout: seconds that a call may wait for a seat.

    Those that raise: BackendSaturated, and TenantLimit where it is the tenant's own doing.
    """

    def try_admit(self, call: Call, backend: Backend) -> MovingSeat | None:
        """A seat that is free now, at an address that is healthy; else None."""
        ...

    def check(self, call: Call, backend: Backend, timeout: float) -> None:
        """Raises where a seat cannot be had in time."""
        ...

    async def admit(self, call: Call, backend: Backend, timeout: float) -> MovingSeat:
        """A seat, when it is this call's turn. Raises when that is not in time."""
        ...

    async def reach_stream(self, backend: Backend) -> None:
        """Wait until it is known whether there is a seat for a stream."""
        ...

    def admit_stream(self, call: Call, backend: Backend) -> MovingSeat:
        """A seat for what has no end in sight. Raises when none is free: there is no waiting for these."""
        ...


class Proxy:
    """One backend as a target. via: what this gateway calls itself on the way there and back. signer: says
    who calls, to a backend that wants it signed."""

    def __init__(
        self,
        backend: Backend,
        pools: Pools,
        admission: Admission,
        health: Health,
        tunnels: Tunnels,
        retries: RetryBudgets,
        via: Via,
        lifetimes: Lifetimes,
        spools: Spools,
        signer: Signer,
    ) -> None:
        self._lifetimes = lifetimes
        self._spools = spools
        self._backend = backend
        self._pools = pools
        self._admission = admission
        self._health = health
        self._tunnels = tunnels
        self._retries = retries
        self._via = via
        self._requests = Requests(via, backend, signer)

    # --- without waiting ---

    def try_serve(self, call: Call) -> bool:
        """Start at once if nothing has to be waited for; see `Target`. Raises GatewayError."""
        backend, route = self._backend, call.route
        assert route is not None and call.client is not None
        if call.head.timeouts or (call.head.upgrades and call.websocket is not None):
            return False  # with a time of its own, or a WebSocket
        if ends_here(call):
            return False
        seat = self._admission.try_admit(call, backend)
        if seat is None:
            return False
        connection: Connection | None = None
        proxied: ProxiedCall | None = None
        try:
            if self._health.is_closed(seat.address):  # else it is a trial
                pool = self._pools.of(seat.address, backend.reuse_idle)
                connection = pool.take(fresh=call.method not in IDEMPOTENT)
            if connection is not None:
                request = self._requests.whole(call, route.timeouts.total)
                proxied = self._proxied(call, seat, pool)
                if route.retry:
                    again = partial(self._start_whole, call, proxied, route.timeouts)
                    self._allow_retry(call, proxied, route.timeouts, again)
                proxied.start(connection, request, route.timeouts)
                return True
        except BaseException:
            self._take_back(call, seat, connection, proxied)
            raise
        seat.release(used=False)
        return False

    # --- with waiting ---

    async def serve(self, call: Call) -> web.StreamResponse:
        """Start when all is there that it needs, and wait for its end. Raises GatewayError."""
        assert call.route is not None and call.client is not None
        if ends_here(call):
            host = request_target.host_of(call.head.hosts[0])
            methods = call.snapshot.table.methods(call.route, host, call.path)
            return reply.empty(204, {hdrs.ALLOW: ", ".join(methods)})
        self._health.require(self._backend)
        timeouts, handshake = accept(call, self._pools, self._tunnels)
        spool = Spool(self._spools.use(call))
        try:
            seat, pool, connection = await self._get_there(call, spool, timeouts, handshake is not None)
            proxied: ProxiedCall | None = None
            try:
                proxied = self._proxied(call, seat, pool)
                if handshake is not None:
                    request = self._requests.head(call, -1, handshake.lines, 0.0)
                    handshake.follow(proxied, proxied.start(connection, request, timeouts))
                else:
                    if call.route.retry:
                        again = partial(self._start, call, proxied, spool, timeouts)
                        self._allow_retry(call, proxied, timeouts, again)
                    self._start(call, proxied, spool, timeouts, connection)
            except BaseException:
                self._take_back(call, seat, connection, proxied)
                raise
            try:
                await proxied.finished()
            except asyncio.CancelledError:
                if call.client.tunnel is not None:
                    call.client.tunnel.cut()
                proxied.relay.client_lost()
                raise
            return reply.Sent(call.status, keep_alive=proxied.relay.keep_alive)
        finally:
            spool.close()

    def _take_back(
        self, call: Call, seat: MovingSeat, connection: Connection | None, proxied: ProxiedCall | None
    ) -> None:
        """A call could not be started, by a bug: give back all that it has. An exchange that has begun owns
        the seat and the connection, and gives them back itself."""
        if proxied is not None:
            proxied.undo()
            if proxied.exchange is not None:
                return
        try:
            if connection is not None:
                connection.close()
            self._health.end_trial(seat.address, call)
        finally:
            seat.release(used=False)

    def _proxied(self, call: Call, seat: Seat, pool: Pool) -> ProxiedCall:
        assert call.route is not None and call.client is not None
        return ProxiedCall(
            call,
            call.client,
            seat,
            pool,
            self._pools,
            self._health,
            self._lifetimes,
            self._spools,
            via=self._via,
            threaded=self._backend.threaded,
            total=call.route.timeouts.total,
        )

    def _buffers(self, call: Call) -> bool:
        """Whether the body has to be read to its end before it is sent: a thread must not wait for it, and a
        request that is tried again needs it twice."""
        assert call.route is not None
        if call.content is None:
            return False  # it came whole
        return self._backend.threaded or (call.route.retry and call.method in IDEMPOTENT)

    async def _get_there(
        self, call: Call, spool: Spool, timeouts: Timeouts, stream: bool
    ) -> tuple[MovingSeat, Pool, Connection]:
        """All before the first byte: the whole body where it is buffered, a seat (stream: one for what has no
        end in sight), a connection. A client that leaves by then was never there."""
        task = asyncio.current_task()
        assert task is not None and call.client is not None
        call.client.when_gone(task.cancel)
        try:
            if self._buffers(call):
                self._admission.check(call, self._backend, _left(call, timeouts, timeouts.queue))
                async with asyncio.timeout(_left(call, timeouts, timeouts.total) if timeouts.total else None):
                    await spool.fill(call)
            return await self._reach(call, timeouts, stream=stream)
        except TimeoutError:
            raise faults.body_late() from None
        finally:
            call.client.when_gone(None)

    async def _reach(
        self, call: Call, timeouts: Timeouts, failed: Address | None = None, *, stream: bool = False
    ) -> tuple[MovingSeat, Pool, Connection]:
        """A seat and a connection within the call's time. failed: the address that is the last choice. Raises
        BackendSaturated, BackendUnavailable."""
        before = perf_counter()
        try:
            seat = await self._sit(call, timeouts, stream=stream)
        finally:
            call.queue_s += perf_counter() - before
        try:
            return seat, *await self._connect(call, seat, timeouts, failed)
        except BaseException:
            try:
                self._health.end_trial(seat.address, call)
            finally:
                seat.release(used=False)
            raise

    async def _sit(self, call: Call, timeouts: Timeouts, *, stream: bool) -> MovingSeat:
        """A seat at an address that is healthy, or whose trial is this call's."""
        while True:
            if stream:
                await self._admission.reach_stream(self._backend)
                seat = self._admission.admit_stream(call, self._backend)
            else:
                seat = await self._admission.admit(call, self._backend, _left(call, timeouts, timeouts.queue))
            try:
                if self._health.enter(seat.address, call):
                    return seat
            except BaseException:
                seat.release(used=False)
                raise
            seat.release(used=False)

    async def _connect(
        self, call: Call, seat: MovingSeat, timeouts: Timeouts, failed: Address | None
    ) -> tuple[Pool, Connection]:
        """A connection; to another address, if it has a seat, where one refuses: no byte was sent yet.
        failed: where the request was before; now it gets a new connection, and elsewhere if possible."""
        assert call.route is not None
        backend, first, own = self._backend, seat.address, call.route.timeouts.connect
        order = [first, *(other for other in seat.addresses if other != first)]
        if failed is not None:
            order.sort(key=lambda address: address == failed)
        for address in order:
            if address is not (before := seat.address):
                if not (self._health.is_closed(address) and seat.move(address)):
                    continue
                self._health.end_trial(before, call)  # a trial that it may have had there is another's
            pool = self._pools.of(address, backend.reuse_idle)
            warm = pool.take(fresh=call.method not in IDEMPOTENT) if failed is None else None
            time, began = _left(call, timeouts, timeouts.connect), perf_counter()
            try:
                return pool, warm or await pool.connect(time)
            except BackendUnavailable as error:
                refused = error
                if time >= own or perf_counter() - began < time:
                    self._health.failed(address, "connect", faults.why(error))
                else:  # it had not the route's time to accept, only what the call had left of it
                    self._health.end_trial(address, call)
        raise refused

    def _allow_retry(
        self, call: Call, proxied: ProxiedCall, timeouts: Timeouts, send: Callable[[Connection], object]
    ) -> None:
        """`send` is called again should the backend reset the connection before any byte of a response."""
        name = self._backend.name
        self._retries.deposit(name)
        if call.method in IDEMPOTENT:
            reach = partial(self._reach, call, timeouts)
            proxied.retry_with(Retry(proxied, name, self._retries, reach, send))

    def _start_whole(
        self, call: Call, proxied: ProxiedCall, timeouts: Timeouts, connection: Connection
    ) -> None:
        """The request is made anew each time: what says who calls may be too old by the second."""
        proxied.start(connection, self._requests.whole(call, timeouts.total), timeouts)

    def _start(
        self, call: Call, proxied: ProxiedCall, spool: Spool, timeouts: Timeouts, connection: Connection
    ) -> None:
        """Send the head and what is in hand of the body; the rest follows beside. A backend may respond to
        the head alone: what could have left with it must, or neither connection can be used again."""
        if call.content is None:
            self._start_whole(call, proxied, timeouts, connection)
            return
        stream: AsyncIterator[bytes] | None = None
        if self._buffers(call):
            length = spool.length if spool.length or call.head.length >= 0 else -1
            coding = b""
            if spool.length and not spool.small:
                stream = spool.chunks()
        else:
            announced = body.announced_length(call)
            coding = b"Transfer-Encoding: chunked\r\n" if announced is None else b""
            length = -1 if announced is None or (not announced and call.head.length < 0) else announced
            stream = body.chunks(call) if announced is None or announced else None
        request = self._requests.head(call, length, coding, timeouts.total) + spool.small
        exchange = proxied.start(connection, request, timeouts, complete=stream is None)
        if stream is not None:
            proxied.beside(_upload(proxied, exchange, stream, length))


async def _upload(
    proxied: ProxiedCall, exchange: Exchange, stream: AsyncIterator[bytes], length: int
) -> None:
    """Send the rest of the request with back-pressure. length: -1 means chunked. The request counts as sent
    only when all that was announced has left: else the connection would carry on in the middle of it."""
    connection, turn = exchange.connection, proxied.turn()
    sent = 0
    try:
        async for chunk in stream:
            if turn is not None:
                await turn.wait()
            sent += len(chunk)
            if exchange.done or connection.transport is None:
                return
            connection.transport.write(chunk if length >= 0 else b"%x\r\n%b\r\n" % (len(chunk), chunk))
            if sent == length:
                exchange.sent_all()  # the response may come before the stream says that it has ended
                return
            await (connection.drained() if turn is None else turn.drained(connection))
        if exchange.done or connection.transport is None:
            return
        if length >= 0 and sent != length:
            raise BadRequest("The body is shorter than announced.", close=True)
        if length < 0:
            connection.transport.write(b"0\r\n\r\n")
        exchange.sent_all()
    except GatewayError as error:
        proxied.relay.give_up(error)
    except ConnectionError:
        proxied.relay.client_lost()
    finally:
        if turn is not None:
            turn.end()


def _left(call: Call, timeouts: Timeouts, most: float) -> float:
    """Seconds that a step of the call may take, of those that the whole call has."""
    return min(most, timeouts.total - (perf_counter() - call.started)) if timeouts.total else most


def ends_here(call: Call) -> bool:
    """Whether it is this hop that an OPTIONS asks about."""
    return call.method == "OPTIONS" and hops_left(call.head) == 0


def accept(call: Call, pools: Pools, tunnels: Tunnels) -> tuple[Timeouts, Handshake | None]:
    """What the head says of the call's time-outs, and the handshake where it is to become a WebSocket. Raises
    for a head that says it badly."""
    assert call.route is not None
    timeouts = deadline.shortened(call.route.timeouts, call.head.timeouts)
    rule = call.websocket
    return timeouts, Handshake(call, rule, pools, tunnels) if rule is not None else None
