"""One call on its way through a backend: its exchange, the relay of the response, and the seat it holds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from time import monotonic, perf_counter
from typing import Protocol

from gateway.call import Call, Client
from gateway.core.errors import BackendReset, GatewayError, InternalError, RequestTimeout
from gateway.core.http.hops import Via
from gateway.core.http.response_head import ResponseHead
from gateway.core.methods import SAFE
from gateway.core.model import Address, Backend, Timeouts
from gateway.core.policy.circuit import Failure
from gateway.edge.backend import faults
from gateway.edge.backend.connection import Connection
from gateway.edge.backend.exchange import Exchange
from gateway.edge.backend.pool import Pool, Pools
from gateway.edge.backend.uploads import Turn
from gateway.edge.lifetimes import Lifetime, Lifetimes
from gateway.edge.response.relay import Relay
from gateway.edge.spool import Spools

L = logging.getLogger(__name__)
# A backend whose response no client waits for any more may take this long to end it when the route has no
# limit.
_DISCARD = 300.0  # seconds
# A client that holds a thread, because there is no more room for its response, while others wait for one, has
# to take so much of it between two checks.
_SLOWEST = 16 * 1024  # bytes
_CHECK = 1.0  # seconds


class Seat(Protocol):
    """The right to have one request inside a backend."""

    address: Address

    @property
    def wanted(self) -> bool:
        """Whether other tenants wait for one."""
        ...

    def release(self, *, used: bool = True) -> None:
        """Give it back. used: whether its time measures how long requests take."""
        ...

    def become_stream(self) -> None:
        """Take a seat for streams instead. Raises BackendSaturated, TenantLimit when none is free."""
        ...


class Health(Protocol):
    """Which addresses are healthy; learns how each exchange went."""

    def is_closed(self, address: Address) -> bool:
        """Whether its circuit is closed: it is healthy."""
        ...

    def require(self, backend: Backend) -> None:
        """Raises BackendUnavailable when no address of the backend may get a request."""
        ...

    def enter(self, address: Address, holder: object) -> bool:
        """A request is about to be sent there. False: it must not be. holder: has the trial, if it is one."""
        ...

    def responded(self, address: Address, status: int) -> None:
        """A response has begun."""
        ...

    def failed(self, address: Address, kind: Failure, detail: str = "") -> None:
        """A request failed by the address's doing."""
        ...

    def end_trial(self, address: Address, holder: object) -> None:
        """The request ended without a verdict: if it was a trial, that is free again."""
        ...


class ProxiedCall:
    """From the seat to the end of the response. It observes its relay, which is the exchange's sink.

    The seat is given back when the backend is done with the exchange, be it long before the client has read
    all, or (a thread that cannot be cancelled) long after the client has left.

    relay: to the client. exchange: the last one, None before the first.
    """

    __slots__ = (
        "_charged",
        "_delivered",
        "_finished",
        "_health",
        "_lifetime",
        "_lifetimes",
        "_pool",
        "_pools",
        "_retry",
        "_seat",
        "_started",
        "_tasks",
        "_total",
        "call",
        "exchange",
        "relay",
    )

    def __init__(
        self,
        call: Call,
        client: Client,
        seat: Seat,
        pool: Pool,
        pools: Pools,
        health: Health,
        lifetimes: Lifetimes,
        spools: Spools,
        *,
        via: Via,
        threaded: bool,
        total: float,
    ) -> None:
        self.call = call
        self._seat = seat
        self._pool = pool
        self._pools = pools
        self._health = health
        self._lifetimes = lifetimes
        self._lifetime: Lifetime | None = None
        self._delivered = 0  # bytes that the client had taken at the last check
        self._charged: Exchange | None = None  # the exchange that counted as a failure of its address
        self._total = total  # seconds, the route's own, which a client cannot shorten
        self._started = perf_counter()
        self._finished: asyncio.Future[None] | None = None
        self._tasks: tuple[asyncio.Task[None], ...] = ()
        self._retry: Callable[[BackendReset], bool] | None = None
        self.exchange: Exchange | None = None
        self.relay = Relay(call, client, spools, self, via=via, threaded=threaded)

    def start(
        self, connection: Connection, request: bytes, timeouts: Timeouts, *, complete: bool = True
    ) -> Exchange:
        """Send the request, or (not complete) its beginning."""
        left = timeouts.total - (perf_counter() - self.call.started)
        ends = monotonic() + max(0.0, left) if timeouts.total else 0.0
        relay = self.relay
        self.exchange = exchange = Exchange(
            connection, self.call.method, relay, timeouts, ends, self._backend_done
        )
        relay.follow(exchange)
        self.call.address = connection.address.text
        self._pools.watch(exchange, self._late)
        exchange.send(request, complete=complete)
        return exchange

    def undo(self) -> None:
        """It could not be started: let go of the backend, and of the client, which is answered elsewhere."""
        self.relay.abandon()
        self._retry = None
        self._cancel_tasks()
        if self.exchange is not None:
            self._health.end_trial(self._seat.address, self.call)
            self.exchange.abort()

    def retry_with(self, retry: Callable[[BackendReset], bool]) -> None:
        """The request may be tried again: `retry` begins to, and says whether it did."""
        self._retry = retry

    def turn(self) -> Turn | None:
        """For sending a body to where the exchange is. None: there they need no turns."""
        return self._pool.uploads.turn() if self.relay.threaded else None

    def take(self, seat: Seat, pool: Pool) -> None:
        """Where the next exchange will be; the last one has given its own back."""
        self._seat, self._pool = seat, pool

    def upgraded(self) -> None:
        """The response was a 101: what follows is a tunnel."""
        self._health.responded(self._seat.address, 101)
        self.relay.upgraded()

    async def finished(self) -> None:
        """Until the response has left. Raises the error that is to be the response instead."""
        relay = self.relay
        if not relay.ended:
            self._finished = asyncio.get_running_loop().create_future()
            await self._finished
        if relay.error is not None:
            self.call.code = relay.error.code
            if not relay.begun:
                raise relay.error

    def beside(self, work: Coroutine[None, None, None]) -> None:
        """Run what the call needs beside the exchange: the rest of its body, say. It ends with the call."""
        try:
            task = asyncio.create_task(work)
        except BaseException:
            work.close()
            raise
        task.add_done_callback(self._task_ended)
        self._tasks = (*self._tasks, task)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        """It is not awaited, so a bug in it has to be reported here."""
        if not task.cancelled() and (bug := task.exception()) is not None:
            L.error("A bug in the gateway failed request %s", self.call.id, exc_info=bug)
            self.relay.give_up(InternalError())

    def _cancel_tasks(self) -> None:
        tasks, self._tasks = self._tasks, ()  # a cancelled task keeps its traceback, which refers to this
        for task in tasks:
            task.cancel()

    # --- what the relay reports (relay.Observer) ---

    def head_came(self, head: ResponseHead) -> None:
        """A stream has seats of its own. Raises BackendSaturated, TenantLimit when none is free for it."""
        self._health.responded(self._seat.address, head.status)
        if head.stream and not head.bodyless:
            self._seat.become_stream()
        if self.call.identity is not None and self._may_last(head):
            self._lifetime = self._lifetimes.add(self.call, self._not_authorised_any_more, self.relay.cut)

    def _may_last(self, head: ResponseHead) -> bool:
        """Whether the response may go on without end: it is a stream, or nothing says when it is over."""
        return not head.bodyless and (head.stream or (not self._total and head.length < 0))

    def _not_authorised_any_more(self, why: str) -> None:
        self.relay.leave_off()

    def exchange_failed(self, error: GatewayError) -> bool:
        """Try again, at most once, and never after a byte of a response. True: it does."""
        self._charge(error)
        retry, exchange = self._retry, self.exchange
        if retry is None or not isinstance(error, BackendReset) or exchange is None or not exchange.is_silent:
            return False
        self._retry = None
        return retry(error)

    def _charge(self, error: GatewayError) -> None:
        """Hold the address to account, once for each exchange. A time-out counts only when the backend had
        the route's time for a first byte: a client may shorten its own, and could else have it shut for
        all."""
        kind = faults.FAILURES.get(error.code)
        if kind is None or self.relay.begun or self._charged is self.exchange:
            return
        assert self.call.route is not None
        if kind == "timeout" and perf_counter() - self._started < self.call.route.timeouts.first_byte:
            return
        self._charged = self.exchange
        self._health.failed(self._seat.address, kind, faults.why(error))

    def waits_for_client(self) -> None:
        """Check after a while whether the thread should wait on."""
        if self.exchange is not None:
            self._delivered = self.relay.delivered
            self.exchange.expire_at(monotonic() + _CHECK)

    def client_lost(self) -> None:
        """Abort the exchange where it may be cancelled; else let it finish and discard the response. A stream
        is always aborted: it might have no end."""
        exchange = self.exchange
        if exchange is None or exchange.done:
            return
        head: ResponseHead | None = exchange.head
        cancellable = not self.relay.threaded and self.call.method in SAFE
        if cancellable or not exchange.sent or (head is not None and head.stream):
            exchange.abort()
        else:
            exchange.discard(self._discard_until())

    def response_ended(self) -> None:
        """Give back what the call had, and tell whoever waits for its end."""
        self._retry = None
        if self._lifetime is not None:
            self._lifetime.close()
            self._lifetime = None
        if self._tasks:
            self._cancel_tasks()
        if not self.relay.begun:
            self._health.end_trial(self._seat.address, self.call)
        if self._finished is not None and not self._finished.done():
            self._finished.set_result(None)
        elif self.call.on_end is not None:
            self.call.on_end(self.call, self.relay)

    # --- the end of the exchange ---

    def _backend_done(self, exchange: Exchange, reusable: bool) -> None:
        self.call.backend_s = perf_counter() - self._started
        try:
            self._pools.finish(exchange, self._pool, exchange.connection, reusable=reusable)
        finally:
            self._seat.release()

    def _late(self, exchange: Exchange) -> None:
        """The deadline has passed. An asynchronous backend is let go at once. A thread works on: its seat
        stays taken until it is done, or the route's total time has passed."""
        if exchange.paused and self.relay.buffers and not 0.0 < exchange.ends <= monotonic():
            self._check_client(exchange)
            return
        exchange.expire(self._discard_until() if self.relay.threaded else None)

    def _check_client(self, exchange: Exchange) -> None:
        """The thread waits for a slow client: it may, while no other tenant wants it. Else a few clients that
        do not read would take all threads from all tenants."""
        before, self._delivered = self._delivered, self.relay.delivered
        if self._delivered - before < _SLOWEST and self._seat.wanted:
            self.call.code = RequestTimeout.code
            self.relay.cut()
        else:
            exchange.expire_at(monotonic() + _CHECK)

    def _discard_until(self) -> float:
        """Until when a response that nobody wants is read: the route's total time counts on."""
        used = perf_counter() - self._started
        return monotonic() + max(0.0, (self._total or _DISCARD) - used)
