"""One more try of a request that may run twice, where its route says so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from gateway.core.errors import BackendReset, GatewayError
from gateway.core.model import Address
from gateway.edge.backend.connection import Connection
from gateway.edge.backend.pool import Pool
from gateway.proxy.passage import Passage, Seat


class Retries(Protocol):
    """How many requests of a backend, by its name, may be tried again."""

    def deposit(self, backend: str) -> None: ...
    def withdraw(self, backend: str) -> bool: ...
    def refund(self, backend: str) -> None: ...


class Retry:
    """What a passage calls when the backend ended the connection before any byte of an answer.

    reach: a seat and a new connection, the given address being the last choice. send: the same request again.
    """

    __slots__ = ("_backend", "_passage", "_reach", "_retries", "_send")

    def __init__(
        self,
        passage: Passage,
        backend: str,
        retries: Retries,
        reach: Callable[[Address], Awaitable[tuple[Seat, Pool, Connection]]],
        send: Callable[[Connection], object],
    ) -> None:
        self._passage = passage
        self._backend = backend
        self._retries = retries
        self._reach = reach
        self._send = send

    def __call__(self, error: BackendReset) -> bool:
        """Try again, if the budget allows it. True: it is under way."""
        allowed = self._retries.withdraw(self._backend)
        if allowed:
            try:
                self._passage.beside(self._again(error))
            except BaseException:
                self._retries.refund(self._backend)
                raise
        return allowed

    async def _again(self, error: BackendReset) -> None:
        """If nothing can be reached, what the first try met is the answer: it may have been executed."""
        passage = self._passage
        assert passage.exchange is not None
        before = passage.exchange
        try:
            seat, pool, connection = await self._reach(before.connection.address)
        except GatewayError:
            self._retries.refund(self._backend)
            passage.fail(error)
            return
        except BaseException:
            self._retries.refund(self._backend)
            raise
        try:
            passage.take(seat, pool)
            self._send(connection)
        except BaseException:
            if passage.exchange is before:  # nobody has them yet
                connection.close()
                seat.release()
            else:
                passage.exchange.abort()
            raise
