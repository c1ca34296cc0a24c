"""Active probes: requests of our own that ask an address how it is.

A probe is an exchange as any other: it takes a seat (without a free one there is no probe: that all are
taken is no illness), goes over the pool, and a thread that it hangs keeps its seat until it is done.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Protocol

from gateway.core.errors import BackendSaturated, BackendUnavailable, GatewayError
from gateway.core.http.response_head import ResponseHead
from gateway.core.model import Address, Backend, Timeouts
from gateway.core.policy.circuit import HealthRule
from gateway.edge.backend.connection import Connection
from gateway.edge.backend.exchange import Exchange
from gateway.edge.backend.pool import Pool, Pools
from gateway.health.circuits import Health
from gateway.runtime.periodic import Boundary, PeriodicTask

_TICK = 0.05  # seconds between two looks at what is due
_DISCARD = 60.0  # seconds for a thread to end a probe that nobody waits for any more
_WHATS = {"backend_reset": "reset", "backend_malformed": "malformed", "backend_timeout": "timeout"}


class Seat(Protocol):
    def decline(self) -> None:
        """Give it back; what a probe takes says nothing about requests."""
        ...


class Admission(Protocol):
    def try_admit_at(self, backend: Backend, address: Address) -> Seat | None: ...


class Probes:
    """Sends the probes that are due, one at a time to each address. close() once."""

    def __init__(self, health: Health, admission: Admission, pools: Pools) -> None:
        self._health = health
        self._admission = admission
        self._pools = pools
        self._out: set[str] = set()  # addresses with a probe that has not ended
        self._tasks: set[asyncio.Task[None]] = set()
        self.boundary = Boundary("probing the backends")

    async def watch(self) -> None:
        """Look for what is due, for ever."""
        await PeriodicTask(self.boundary.what, _TICK, self.look).run()

    def look(self) -> None:
        """Send what is due."""
        for backend, address, _ in list(self._health.due()):
            if address.text not in self._out:
                with self.boundary:
                    self._send(backend, address)

    def _send(self, backend: Backend, address: Address) -> None:
        seat = self._admission.try_admit_at(backend, address)
        if seat is None:
            return
        probe = _Probe(self, backend, address, seat)
        self._out.add(address.text)
        try:
            self._health.probing(address, probe)
            task = asyncio.create_task(probe.run(self._pools))
        except BaseException:
            probe.release()
            raise
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    def ended(self, address: Address, probe: object) -> None:
        """It gave its seat back. Without a verdict, the trial that it had is another's."""
        self._out.discard(address.text)
        self._health.left(address, probe)

    def judge(self, address: Address, what: str) -> None:
        """what: how it failed, "" for a good one."""
        if what:
            self._health.failed(address, "probe", f"probe: {what}")
        else:
            self._health.probe_succeeded(address)


class _Probe:
    """One probe; the sink of its exchange. The head of the answer judges it, or what came instead."""

    def __init__(self, probes: Probes, backend: Backend, address: Address, seat: Seat) -> None:
        self.address = address
        self._probes = probes
        self._backend = backend
        self._seat = seat
        self._judged = False
        self._released = False

    async def run(self, pools: Pools) -> None:
        """Connect and send; callbacks do the rest."""
        connection: Connection | None = None
        sent = False
        try:
            with self._probes.boundary:
                rule = self._backend.health
                pool = pools.of(self.address, self._backend.reuse_idle)
                ends = monotonic() + rule.timeout
                try:
                    connection = pool.take(fresh=True) or await pool.connect(rule.timeout)
                except BackendUnavailable:
                    self._judge("connect")
                except BackendSaturated:
                    pass  # this process has no descriptor for it: that says nothing of the backend
                else:
                    self._send(pools, pool, connection, rule, ends)
                    sent = True
        finally:
            if not sent:
                if connection is not None:
                    connection.close()
                self.release()

    def _send(self, pools: Pools, pool: Pool, connection: Connection, rule: HealthRule, ends: float) -> None:
        def done(exchange: Exchange, reusable: bool) -> None:
            try:
                pools.forget(exchange)
                pool.give_back(connection, reusable=reusable)
            except BaseException:  # a bug: nobody has the connection now
                connection.close()
                raise
            finally:
                self.release()

        timeouts = Timeouts(first_byte=rule.timeout, idle=rule.timeout)
        exchange = Exchange(connection, "GET", self, timeouts, ends, done)
        pools.watch(exchange, self._late)
        exchange.send(
            f"GET {rule.path} HTTP/1.1\r\nHost: {rule.host}\r\nUser-Agent: gateway-probe\r\n\r\n".encode()
        )

    def _late(self, exchange: Exchange) -> None:
        heard = exchange.heard
        if not exchange.expire():
            return
        if self._backend.threaded and heard:
            exchange.discard(monotonic() + _DISCARD)
        else:
            exchange.abort()

    def _judge(self, what: str) -> None:
        if not self._judged:
            self._judged = True
            self._probes.judge(self.address, what)

    def release(self) -> None:
        """Give the seat back, and the trial if it has one."""
        if not self._released:
            self._released = True
            self._probes.ended(self.address, self)
            self._seat.decline()

    # --- the answer ---

    def interim(self, head: ResponseHead) -> None:
        """The final answer counts."""

    def begin(self, head: ResponseHead) -> None:
        self._judge("" if self._backend.health.expects(head.status) else f"status {head.status}")

    def write(self, data: bytes) -> None:
        """Only the status counts."""

    def flush(self) -> None:
        """Nothing is kept."""

    def end(self) -> None:
        """Judged by its head."""

    def fail(self, error: GatewayError) -> None:
        self._judge(_WHATS.get(error.code, error.code))
