"""What a worker may ask its master for, beside its config: the services that are one on a host.

Each is a handler of the channel, by its name. `Services` is made once, in the master; what a worker asks them
with is made in planes/shared/sharing.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from gateway.core.openmetrics import Instrument
from gateway.core.shared import quotas, rates
from gateway.core.shared.ports import Body, Book
from gateway.limits.quotas import Quotas
from gateway.planes.ground import Ground
from gateway.planes.shared.sharing import redis_engine, status
from gateway.planes.steps import ENDING, Step
from gateway.runtime.channel import Handler
from gateway.shared import master
from gateway.shared.books import Books


class Services:
    """start() once, before the workers; close() once. counts: what is counted of quotas on this host.

    books: what is leased to workers. With Redis, rates and quotas are leased there for all of them.
    """

    def __init__(self, ground: Ground, counts: Quotas) -> None:
        self._counts = counts
        self._members: set[str] = set()
        self.redis = redis_engine(ground) if ground.config.shared.uri else None
        own: dict[str, Book] = {}
        if self.redis is None:
            own = {rates.NAME: rates.RateBook(), quotas.NAME: quotas.QuotaBook(counts)}
        self.books = Books(own, ground.now)

    async def start(self) -> None:
        """Read what was counted today; ask Redis, which may be away."""
        if self.redis is None:
            await self._counts.start()
        else:
            await self.redis.start()

    def steps(self) -> tuple[Step, ...]:
        """Those of its end."""
        if self.redis is None:
            return (Step(self._counts.close, "the file of the quotas", ENDING),)
        return (Step(self.redis.close, "the connections to Redis", ENDING),)

    def of(self, member: str) -> dict[str, Handler]:
        """The handlers for one worker. member: its id."""
        self._members.add(member)
        settle = partial(self.books.settle, member)
        return {master.NAME: settle if self.redis is None else partial(self._relay, member)}

    def gone(self, member: str) -> None:
        """A worker has ended: what it held goes back."""
        self._members.discard(member)
        self.books.gone(member)

    def status(self) -> dict[str, Any]:
        """For /readyz?verbose."""
        return status(self.redis, None)

    def instruments(self) -> Iterator[Instrument]:
        """What the metrics show of them."""
        if self.redis is not None:
            yield from self.redis.instruments()

    async def _relay(self, member: str, reports: dict[str, Body]) -> dict[str, Body]:
        assert self.redis is not None
        grants = self.books.settle(member, reports)
        rest = {name: body for name, body in reports.items() if name not in grants}
        if rest:
            grants |= await self.redis.exchange(rest)
        if rates.NAME in grants:  # of all nodes, each with as many workers as this one
            grants[rates.NAME]["members"] *= max(1, len(self._members))
        return grants
