"""Active probes: requests of our own that ask an address how it is.

A probe is an exchange as any other: it takes a seat (without a free one there is no probe: that all are
taken is no illness), goes over the pool, and a thread that it hangs keeps its seat until it is done.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Protocol

from gateway.core.errors import BackendSaturated, BackendUnavailable, GatewayError
from gateway.core.model import Address, Backend, Timeouts
from gateway.edge.backend.connection import Connection
from gateway.edge.backend.exchange import Exchange
from gateway.edge.backend.faults import FAILURES, why
from gateway.edge.backend.fetch import Fetch
from gateway.edge.backend.pool import Pool, Pools
from gateway.health.circuits import Health
from gateway.runtime.periodic import Boundary, PeriodicTask

_TICK = 0.05  # seconds between two checks of what is due
_DISCARD = 60.0  # seconds for a thread to end a probe whose time is over


class Seat(Protocol):
    """The right to have one request inside a backend."""

    def release(self, *, used: bool = True) -> None:
        """Give it back. used: whether its time measures requests: what a probe takes says nothing."""
        ...


class Admission(Protocol):
    """Decides which requests may be inside a backend now."""

    def try_admit_at(self, backend: Backend, address: Address) -> Seat | None:
        """A seat at this address; None when none is free."""
        ...


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
        """Send what is due, for ever."""
        await PeriodicTask(self.boundary.what, _TICK, self.send_due).run()

    def send_due(self) -> None:
        """Send the probes that are due now."""
        for backend, address, _ in list(self._health.due_probes()):
            if address.text not in self._out:
                with self.boundary:
                    self._begin(backend, address)

    def close(self) -> None:
        """Wait for none of them any more."""
        for task in self._tasks:
            task.cancel()

    def _begin(self, backend: Backend, address: Address) -> None:
        seat = self._admission.try_admit_at(backend, address)
        if seat is None:
            return
        self._out.add(address.text)
        try:
            self._health.begin_probe(address, seat)
            task = asyncio.create_task(self._probe(backend, address, seat))
        except BaseException:
            self._end(address, seat)
            raise
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _probe(self, backend: Backend, address: Address, seat: Seat) -> None:
        """One probe, from the connection to the end of the exchange."""
        try:
            with self.boundary:
                ends = monotonic() + backend.health.timeout
                pool = self._pools.of(address, backend.reuse_idle)
                try:
                    connection = pool.take(fresh=True) or await pool.connect(backend.health.timeout)
                except BackendUnavailable as error:
                    self._health.failed(address, "probe", f"probe: {why(error) or 'connect'}")
                except BackendSaturated:
                    pass  # this process has no descriptor for it: that says nothing of the backend
                else:
                    await self._ask(backend, pool, connection, ends)
        finally:
            self._end(address, seat)

    def _end(self, address: Address, seat: Seat) -> None:
        """Give the seat back; and where there is no verdict, the trial too: it is another's."""
        self._out.discard(address.text)
        self._health.end_trial(address, seat)
        seat.release(used=False)

    async def _ask(self, backend: Backend, pool: Pool, connection: Connection, ends: float) -> None:
        """The status judges the address, or what comes instead. Until the backend is done with the request,
        for that long it has the seat."""
        rule, address, finished = backend.health, connection.address, asyncio.Event()

        def done(exchange: Exchange, reusable: bool) -> None:
            try:
                self._pools.finish(exchange, pool, connection, reusable=reusable)
            finally:
                finished.set()

        def late(exchange: Exchange) -> None:
            exchange.expire(monotonic() + _DISCARD if backend.threaded else None)

        request: Fetch | None = None
        try:
            timeouts = Timeouts(first_byte=rule.timeout, idle=rule.timeout)
            request = Fetch(connection, "GET", timeouts, 0, done, ends=ends)
            self._pools.watch(request.exchange, late)
            request.send(rule.path, (("Host", rule.host), ("User-Agent", "gateway-probe")))
        except BaseException:
            if request is not None:
                request.exchange.abort()
            connection.close()
            raise
        try:
            status = (await request.response()).status
        except GatewayError as error:
            what = why(error) or FAILURES.get(error.code, error.code)
            self._health.failed(address, "probe", f"probe: {what}")
        else:
            if rule.expects(status):
                self._health.probe_succeeded(address)
            else:
                self._health.failed(address, "probe", f"probe: status {status}")
        await finished.wait()
