"""Warm connections, one pool for each backend address; waiting for one never delays another.

A connection is opened only when there is a request to write (an idle one would hold a thread of some
servers), and let go before its server would close it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from time import monotonic

from aiohttp.client_proto import ResponseHandler

from gateway.core.errors import BackendUnavailable
from gateway.core.model import Address

# Idle seconds after which a request that is not idempotent wants a new connection: the server may be
# about to close this one, and such a request cannot be tried again.
FRESH = 1.0


class Pool:
    """The connections to one address. `in_use` counts those that carry a request now."""

    __slots__ = ("_closed", "_idle", "_sweep", "address", "in_use", "reuse_idle")

    def __init__(self, address: Address, reuse_idle: float) -> None:
        self.address = address
        self.reuse_idle = reuse_idle
        self.in_use = 0
        self._idle: list[tuple[ResponseHandler, float]] = []
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False

    async def acquire(self, timeout: float, *, fresh: bool) -> ResponseHandler:
        """A connection, warm if there is one. fresh: it may have been idle for FRESH seconds at most.

        timeout: seconds for connecting. Raises BackendUnavailable: nothing was sent.
        """
        limit = monotonic() - min(self.reuse_idle, FRESH if fresh else self.reuse_idle)
        while self._idle:
            connection, since = self._idle.pop()
            if since >= limit and connection.is_connected() and not connection.should_close:
                self.in_use += 1
                return connection
            connection.close()
        self.in_use += 1
        try:
            return await self._connect(timeout)
        except BaseException:
            self.in_use -= 1
            raise

    async def _connect(self, timeout: float) -> ResponseHandler:
        loop, address = asyncio.get_running_loop(), self.address
        try:
            async with asyncio.timeout(timeout):
                if address.path:
                    _, connection = await loop.create_unix_connection(
                        lambda: ResponseHandler(loop), address.path
                    )
                else:
                    _, connection = await loop.create_connection(
                        lambda: ResponseHandler(loop), address.host, address.port
                    )
        except TimeoutError:
            raise BackendUnavailable("Connecting to the backend took too long.") from None
        except OSError:
            raise BackendUnavailable("The backend does not accept connections.") from None
        return connection

    def release(self, connection: ResponseHandler) -> None:
        """Give a connection back; it is kept when another request may use it."""
        self.in_use -= 1
        if self._closed or connection.should_close or not connection.is_connected():
            connection.close()
            return
        self._idle.append((connection, monotonic()))
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(self.reuse_idle, self._drop_old)

    def _drop_old(self) -> None:
        """Close what has been idle too long; the oldest stand first."""
        self._sweep = None
        limit = monotonic() - self.reuse_idle
        kept = [(connection, since) for connection, since in self._idle if since > limit]
        for connection, _ in self._idle[: len(self._idle) - len(kept)]:
            connection.close()
        self._idle = kept
        if kept:
            wait = max(0.05, kept[0][1] - limit)
            self._sweep = asyncio.get_running_loop().call_later(wait, self._drop_old)

    def close(self) -> None:
        """Close what is idle now, and the rest when it comes back."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for connection, _ in self._idle:
            connection.close()
        self._idle.clear()


class Pools:
    """All pools, by address; they outlive a snapshot."""

    def __init__(self) -> None:
        self._pools: dict[tuple[Address, float], Pool] = {}

    def of(self, address: Address, reuse_idle: float) -> Pool:
        key = (address, reuse_idle)
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = Pool(address, reuse_idle)
        return pool

    def reconcile(self, wanted: Iterable[tuple[Address, float]]) -> None:
        """Close the pools of addresses that no backend has any more."""
        for key in self._pools.keys() - set(wanted):
            self._pools.pop(key).close()

    def close(self) -> None:
        self.reconcile(())
