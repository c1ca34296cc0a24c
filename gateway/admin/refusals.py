"""Refused tries at the admin listener: limited, and told to the audit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import monotonic

from aiohttp import web

from gateway.core.config.audit import Entry
from gateway.core.config.operator import Operator
from gateway.core.counts import decrement
from gateway.core.errors import (
    ClientLimit,
    Forbidden,
    GatewayError,
    OperatorLimit,
    PreconditionRequired,
    Unauthenticated,
    UnsupportedMediaType,
)
from gateway.core.model import NOBODY
from gateway.core.policy.forwarding import client_key
from gateway.core.policy.limits import Rate, take
from gateway.limits.rates import Buckets
from gateway.runtime.periodic import Boundary

OF_ADDRESS = Rate(1 / 6, 10)  # wrong credentials: ten at once, and ten a minute
OF_ALL = Rate(1.0, 60)
_AT_ONCE = 3  # checks and rehearsals of an operator, of which one runs
_ADDRESSES = 10_000  # with a count of their own
_AUDITED = (Unauthenticated, Forbidden, ClientLimit, UnsupportedMediaType, PreconditionRequired)
_LONGEST = 200  # characters of a path


class Refusals:
    """record: adds to the audit. now: the monotonic clock, in seconds."""

    def __init__(
        self, record: Callable[[Entry], Awaitable[None]], now: Callable[[], float] = monotonic
    ) -> None:
        self._record = record
        self._now = now
        self._buckets = Buckets(_ADDRESSES)
        self._all: float | None = None
        self._boundary = Boundary("auditing who was refused at the admin listener")

    def count(self, address: str) -> None:
        """A wrong credential was shown, from this address. Who has shown too many is told to wait, and the
        audit that it was so; a right one is taken all the same, so that nobody locks an operator out. Raises
        ClientLimit."""
        now, key = self._now(), client_key(address, (), NOBODY)
        bucket, wait = take(self._buckets.get(key), now, OF_ADDRESS)
        self._buckets.put(key, bucket, now)
        self._all, of_all = take(self._all, now, OF_ALL)
        if wait or of_all:
            text = "Too many wrong credentials were shown. Try again later."
            raise ClientLimit(text, retry_after=max(wait, of_all))

    async def note(self, request: web.Request, error: GatewayError, who: Operator | str) -> None:
        """Tell the audit that a request was refused, where that is for who asks. who: a name, "" where nobody
        is known."""
        if not isinstance(error, _AUDITED):
            return
        what = f"{request.method} {request.path[:_LONGEST]}"
        entry = Entry(
            "refused",
            "refused",
            author=who.name if isinstance(who, Operator) else who,
            role=who.role.name.lower() if isinstance(who, Operator) else "",
            address=address_of(request),
            source="api",
            detail=f"{what}: {error.status} {error.code}: {error.detail}",
        )
        with self._boundary:
            await self._record(entry)

    async def signed_in(self, request: web.Request, operator: Operator) -> None:
        """Tell the audit that a session of the console begins."""
        role = operator.role.name.lower()
        entry = Entry("signed_in", author=operator.name, role=role, address=address_of(request), source="api")
        with self._boundary:
            await self._record(entry)


class OneEach:
    """Of checks and rehearsals of a config, which may take seconds of the machine: one of each operator at a
    time, so that nobody takes the places of others; a few more wait, as a page asks for both at once."""

    def __init__(self) -> None:
        self._turns: dict[str, asyncio.Lock] = {}
        self._asked: dict[str, int] = {}

    @asynccontextmanager
    async def of(self, operator: Operator) -> AsyncIterator[None]:
        """A context manager for the time that it takes. Raises OperatorLimit."""
        name = operator.name
        if self._asked.get(name, 0) >= _AT_ONCE:
            raise OperatorLimit(f"{_AT_ONCE} checks and rehearsals of yours are under way. Try again then.")
        self._asked[name] = self._asked.get(name, 0) + 1
        try:
            async with self._turns.setdefault(name, asyncio.Lock()):
                yield
        finally:
            decrement(self._asked, name)
            if name not in self._asked:
                del self._turns[name]


def address_of(request: web.Request) -> str:
    """Of whom the connection is, "" where it is gone."""
    return request.remote or ""
