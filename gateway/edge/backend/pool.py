"""Warm connections, one pool for each backend address; waiting for one never delays another.

A connection is opened only when there is a request to write (an idle one would hold a thread of some
servers), and let go before its server would close it. Timers are not kept for each exchange: one sweep
checks all of them every 50 ms (a timer each would cost 1.5 µs a request).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from time import monotonic
from typing import Any, Protocol, TypeVar
from weakref import WeakSet

from gateway.core.model import Address, BackendTls
from gateway.core.openmetrics import Counter, Instrument
from gateway.core.routing.backends.each import fresh_hosts
from gateway.edge.backend.connection import Connection, SecuredConnection
from gateway.edge.backend.dial import dial
from gateway.edge.backend.faults import TlsFailed
from gateway.edge.backend.resolver import Names
from gateway.edge.backend.tls import TlsContexts
from gateway.edge.backend.uploads import Uploads
from gateway.edge.reading import ReadTurns
from gateway.runtime.periodic import PeriodicTask

# Idle seconds after which a request that is not idempotent wants a new connection: the server may be
# about to close this one, and such a request cannot be tried again.
FRESH = 1.0
_SWEEP = 0.05  # seconds
_GIVE_UP = 20  # sweeps

L = logging.getLogger(__name__)


class Timed(Protocol):
    """What has a deadline on the monotonic clock, 0.0 for none."""

    deadline: float

    def drop(self) -> None:
        """End it at once, by no rule of its own."""
        ...

    def abort(self) -> None:
        """The gateway ends, and no client waits for it: stop, and report to nobody."""
        ...


T = TypeVar("T", bound=Timed)


class Dialer:
    """Opens connections, to all addresses. failures: of TLS, for the metrics."""

    def __init__(self, names: Names, contexts: TlsContexts) -> None:
        self._names = names
        self._contexts = contexts
        self._reads = ReadTurns()
        self._said: dict[str, str] = {}  # why TLS failed last, by address: said once
        self.failures = Counter(
            "gateway_backend_tls_failures",
            "Connections to a backend on which TLS could not begin.",
            ("address", "reason"),
        )

    async def connect(self, address: Address, timeout: float) -> Connection:
        """A connection within `timeout` seconds. Raises as `dial`."""
        kind = Connection if address.tls is None else SecuredConnection
        make = partial(kind, address, self._reads)
        try:
            connection = await dial(address, self._names, make, timeout, self._contexts)
        except TlsFailed as error:
            self.failures.add(address.text, error.kind)
            if self._said.get(address.text) != error.reason:
                self._said[address.text] = error.reason
                L.warning("TLS with %s: %s", address.text, error.reason)
            raise
        if self._said and self._said.pop(address.text, ""):
            L.info("TLS with %s begins again", address.text)
        return connection


class Pool:
    """The connections to one address. uploads: the bodies that are sent there, where that is by turns."""

    __slots__ = ("_closed", "_dialer", "_idle", "_open", "address", "reuse_idle", "uploads")

    def __init__(self, address: Address, reuse_idle: float, dialer: Dialer | None = None) -> None:
        self.address = address
        self._dialer = dialer or Dialer(Names(), TlsContexts())
        self.reuse_idle = reuse_idle
        self._idle: list[Connection] = []
        self._open: WeakSet[Connection] = WeakSet()  # those that are used too, until nobody has them any more
        self._closed = False
        self.uploads = Uploads()

    def take(self, *, fresh: bool) -> Connection | None:
        """A warm connection, None when there is none. fresh: idle for FRESH seconds at most."""
        idle = self._idle
        if not idle:
            return None
        limit = monotonic() - (min(self.reuse_idle, FRESH) if fresh else self.reuse_idle)
        while idle:
            connection = idle.pop()
            if connection.idle_since >= limit and not connection.lost:
                return connection
            connection.close()
        return None

    async def connect(self, timeout: float) -> Connection:
        """A new connection within `timeout` seconds. Raises BackendUnavailable: nothing was sent; and
        BackendSaturated when it is this process that cannot have one."""
        connection = await self._dialer.connect(self.address, timeout)
        self._open.add(connection)
        return connection

    def give_back(self, connection: Connection, *, reusable: bool) -> None:
        """Return a connection after its exchange. reusable: whether another request may use it."""
        if not reusable or self._closed or connection.lost:
            connection.close()
            return
        connection.rest(monotonic())
        self._idle.append(connection)

    def drop_old(self, now: float) -> None:
        """Close what has been idle too long; the oldest stand first."""
        limit = now - self.reuse_idle
        while self._idle and (self._idle[0].idle_since < limit or self._idle[0].lost):
            self._idle.pop(0).close()

    def retire(self, which: Callable[[Connection], bool]) -> None:
        """These carry no more requests: what is idle is closed, the rest when it comes back."""
        for connection in list(self._open):
            if not connection.lost and which(connection):
                connection.retire()
        for connection in self._idle:
            if connection.lost:
                connection.close()
        self._idle = [connection for connection in self._idle if not connection.lost]

    def close(self) -> None:
        """Close what is idle now, and the rest when it comes back."""
        self._closed = True
        for connection in self._idle:
            connection.close()
        self._idle.clear()


class Pools:
    """All pools, by address, and all exchanges and tunnels under way; they outlive a snapshot. names: how
    the hosts of addresses are resolved. when_resolved(): what is known of a name has changed."""

    def __init__(self, names: Names | None = None, when_resolved: Callable[[], None] = lambda: None) -> None:
        self.names = names or Names()
        self.names.when_resolved(self._resolved)
        self._when_resolved = when_resolved
        self._contexts = TlsContexts(self._loaded)
        self._dialer = Dialer(self.names, self._contexts)
        self._wanted: dict[tuple[str, float], Address] = {}
        self._pools: dict[tuple[str, float], Pool] = {}  # by the address's text, which remembers its hash
        self._timed: dict[Timed, Callable[[Any], None]] = {}  # each takes what it is stored with
        self._sweep = PeriodicTask("the sweep of connections to backends", _SWEEP, self._check)
        self._failures: dict[Timed, int] = {}  # sweeps in which `on_late` of one failed

    def of(self, address: Address, reuse_idle: float) -> Pool:
        """The pool of an address. reuse_idle: seconds that a connection may have been idle and be used
        again."""
        key = (address.text, reuse_idle)
        pool = self._pools.get(key)
        if pool is None:
            # A call of an older snapshot finds what the address is now.
            address = self._wanted.get(key, address)
            pool = self._pools[key] = Pool(address, reuse_idle, self._dialer)
        if not self._sweep.running:
            self._sweep.start()
        return pool

    def watch(self, timed: T, on_late: Callable[[T], None]) -> None:
        """Call on_late whenever its deadline has passed."""
        self._timed[timed] = on_late

    def forget(self, timed: Timed) -> None:
        """It has ended: its deadline counts no more."""
        self._timed.pop(timed, None)
        if self._failures:
            self._failures.pop(timed, None)

    def finish(self, timed: Timed, pool: Pool, connection: Connection, *, reusable: bool) -> None:
        """An exchange has ended: forget it, and return its connection to its pool, or close it."""
        try:
            self.forget(timed)
            pool.give_back(connection, reusable=reusable)
        except BaseException:  # a bug: the connection has no owner now
            connection.close()
            raise

    def _check(self) -> None:
        now, boundary = monotonic(), self._sweep.boundary
        late = [item for item in self._timed.items() if 0.0 < item[0].deadline <= now]
        for timed, on_late in late:
            if timed in self._timed:  # what another one did may have ended it
                failures = self._failures.pop(timed, 0)
                self._failures[timed] = failures + 1
                with boundary:
                    on_late(timed)
                    self._failures.pop(timed, None)  # it may be forgotten by now
                if failures + 1 == _GIVE_UP and timed in self._failures:
                    with boundary:
                        self._give_up(timed)
        boundary.each(list(self._pools.values()), lambda pool: pool.drop_old(now))

    def _give_up(self, timed: Timed) -> None:
        """A bug keeps it from ending by its own rules: without this its seat would be held for ever."""
        self.forget(timed)
        timed.drop()

    def reconcile(self, wanted: Iterable[tuple[Address, float]]) -> None:
        """Close the pools of addresses that no backend has any more, or to which TLS is another now."""
        self._wanted = {(address.text, reuse_idle): address for address, reuse_idle in wanted}
        for key, pool in list(self._pools.items()):
            address = self._wanted.get(key)
            if address is None or address.tls != pool.address.tls:
                self._pools.pop(key).close()
        self.names.keep(fresh_hosts(self._wanted.values()))
        self._contexts.keep({address.tls for address in self._wanted.values() if address.tls is not None})

    async def follow(self) -> None:
        """Resolve names again, and load the files of TLS that have changed. About once a second."""
        self.names.refresh()
        await self._contexts.follow()

    def _resolved(self, host: str, gone: frozenset[str]) -> None:
        for pool in self._pools.values() if gone else ():
            if pool.address.host == host:
                pool.retire(lambda connection: connection.peer in gone)
        self._when_resolved()

    def _loaded(self, tls: BackendTls) -> None:
        for pool in self._pools.values():
            if pool.address.tls == tls:
                pool.retire(lambda connection: True)

    def instruments(self) -> tuple[Instrument, ...]:
        """For /metrics."""
        return (self._dialer.failures,)

    @property
    def under_way(self) -> int:
        """How many exchanges and tunnels have not ended."""
        return len(self._timed)

    def close(self) -> None:
        """Close all; what a thread still works on, and no client waits for, is let go."""
        for timed in list(self._timed):
            timed.abort()
        self.reconcile(())
        self._sweep.cancel()
