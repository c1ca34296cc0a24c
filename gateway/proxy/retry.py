"""One more try of a request that may run twice, where its route says so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from gateway.core.errors import BackendReset, GatewayError
from gateway.core.model import Address
from gateway.core.policy.retry import RetryBudgets
from gateway.edge.backend.connection import Connection
from gateway.edge.backend.pool import Pool
from gateway.proxy.proxied_call import ProxiedCall, Seat


class Retry:
    """What a proxied call calls when the backend ended the connection before any byte of a response.

    reach: a seat and a new connection, the given address being the last choice. send: the same request again.
    """

    __slots__ = ("_backend", "_proxied", "_reach", "_retries", "_send")

    def __init__(
        self,
        proxied: ProxiedCall,
        backend: str,
        retries: RetryBudgets,
        reach: Callable[[Address], Awaitable[tuple[Seat, Pool, Connection]]],
        send: Callable[[Connection], object],
    ) -> None:
        self._proxied = proxied
        self._backend = backend
        self._retries = retries
        self._reach = reach
        self._send = send

    def __call__(self, error: BackendReset) -> bool:
        """Try again, if the budget allows it. True: it is under way."""
        allowed = self._retries.withdraw(self._backend)
        if allowed:
            try:
                self._proxied.beside(self._again(error))
            except BaseException:
                self._retries.refund(self._backend)
                raise
        return allowed

    async def _again(self, error: BackendReset) -> None:
        """If nothing can be reached, the error of the first try is the response: it may have been
        executed."""
        proxied = self._proxied
        assert proxied.exchange is not None
        before = proxied.exchange
        try:
            seat, pool, connection = await self._reach(before.connection.address)
        except GatewayError:
            self._retries.refund(self._backend)
            proxied.relay.fail(error)
            return
        except BaseException:
            self._retries.refund(self._backend)
            raise
        try:
            proxied.take(seat, pool)
            self._send(connection)
        except BaseException:
            if proxied.exchange is before:  # they have no owner yet
                connection.close()
                seat.release()
            else:
                proxied.exchange.abort()
            raise
