"""What a worker may ask its master for, beside its config: the services that are one on a host.

Each is a handler of the channel, by its name. `Services` is made once, in the master; what a worker asks them
with is made in planes/shared/sharing.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import Any, Protocol

from gateway.core.openmetrics import Gauge, Instrument
from gateway.core.shared import quotas, rates, seats
from gateway.core.shared.once import Full, OnceBook
from gateway.core.shared.ports import Away, Body, Book
from gateway.health.circuits import Health
from gateway.health.host import HostCircuits
from gateway.limits.quotas import Quotas
from gateway.planes.ground import Ground
from gateway.planes.shared.host import CIRCUIT, CIRCUITS, SEATS
from gateway.planes.shared.names import NAMES, Found, HostNames
from gateway.planes.shared.sharing import redis_engine, status
from gateway.planes.steps import ENDING, Step
from gateway.runtime.channel import AskFailed, Handler
from gateway.runtime.periodic import Boundary
from gateway.shared import flights, master, once
from gateway.shared.flights import Flights
from gateway.shared.host_seats import TICK, HostSeats
from gateway.shared.master import Books


class Member(Protocol):
    """A worker."""

    @property
    def id(self) -> str: ...

    def tell(self, name: str, body: Any = None) -> None:
        """Send it a message."""
        ...


class Services:
    """start() once, before the workers; steps() at the end. counts: what is counted of quotas on this host.

    books: what is leased to workers. With Redis there are none: each worker's reports go there. health: the
    circuits of the host. names: those that stand for several servers.
    """

    def __init__(self, ground: Ground, counts: Quotas) -> None:
        self._counts = counts
        self._members: dict[str, Member] = {}
        self._seats = HostSeats(
            lambda name, parts: self._tell(name, SEATS, dict(parts)), lambda: self.names.reached, ground.now
        )
        self.health = Health(lambda backend: self._circuits.changed(backend), ground.now)
        self._circuits = HostCircuits(
            self.health, lambda name, facts, leads: self._tell(name, CIRCUITS, [dict(facts), leads])
        )
        self.names = HostNames(self.health.reconcile, self.tell_names)
        self._task: asyncio.Task[None] | None = None
        self._asking: dict[str, asyncio.Lock] = {}  # by worker
        self._boundary = Boundary("looking after what a worker has left behind", ground.now)
        self.redis = redis_engine(ground) if ground.config.shared.uri else None
        own: dict[str, Book] = {}
        if self.redis is None:
            own = {rates.NAME: rates.RateBook(), quotas.NAME: quotas.QuotaBook(counts)}
            own[seats.NAME] = self._seats
        self.books = Books(own, ground.now)
        self._now, self._once, self._flights = ground.now, OnceBook(), Flights(ground.now)

    async def start(self) -> None:
        """Read what was counted today; ask Redis, which may be away."""
        if self.redis is None:
            await self._counts.start()
        else:
            await self.redis.start()

    def steps(self) -> tuple[Step, ...]:
        """Those of its end."""
        ends = Step(self._stop_looking)
        if self.redis is None:
            return ends, Step(self._counts.close, "the file of the quotas", ENDING)
        told = Step(self._tell_at_last, "what is told of what workers have left behind", ENDING)
        return ends, told, Step(self.redis.close, "the connections to Redis", ENDING)

    def begins(self, member: Member) -> list[int]:
        """A worker is about to start. Returns the descriptors that it gets."""
        self._members[member.id] = member
        return [self._seats.join(member.id).descriptor]

    def of(self, member: str) -> dict[str, Handler]:
        """The handlers for one worker. member: its id."""
        settle = partial(self.books.settle, member)
        return {
            master.NAME: settle if self.redis is None else partial(self._relay, member),
            flights.BOARD: partial(self._flights.board, member),
            flights.LANDED: partial(self._flights.landed, member),
            once.PUT: self._put,
            once.TAKE: self._take,
            CIRCUIT: partial(self._circuits.heard, member),
        }

    def serves(self, member: str) -> None:
        """A worker is ready."""
        self._circuits.join(member)

    def gone(self, member: str) -> None:
        """A worker has ended: what it held goes back."""
        self._members.pop(member, None)
        self.books.gone(member)
        if self.redis is not None:
            self._seats.leaves(member)
        self._flights.gone(member)
        self._circuits.gone(member)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._look_after())

    def tell_names(self, found: Found) -> None:
        """Tell all workers which addresses names stand for."""
        for member in self._members.values():
            member.tell(NAMES, found)

    def retry_now(self, backend: str) -> None:
        """There is reason to believe that it is back."""
        self.health.retry_now(backend)
        self._circuits.changed(backend)

    async def _look_after(self) -> None:
        left = True
        while left:
            await asyncio.sleep(TICK)
            with self._boundary:
                left = self._seats.tick()
                if self.redis is not None:
                    await self._tell_left()

    async def _tell_left(self) -> None:
        """Tell Redis what workers that are gone have inside, as far as it does not know."""
        assert self.redis is not None
        for member, left in list(self._seats.left.items()):
            async with self._asking.setdefault(member, asyncio.Lock()):
                reports = left.reports(self._now())
                if reports and await self.redis.left(member, reports):
                    left.heard(reports)
                if left.is_over:
                    self._seats.is_told(member)
                    self._asking.pop(member, None)

    async def _tell_at_last(self) -> None:
        await self._tell_left()

    def _stop_looking(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _tell(self, member: str, name: str, body: Any) -> None:
        if member in self._members:
            self._members[member].tell(name, body)

    def status(self) -> dict[str, str]:
        """For /readyz?verbose."""
        return status("redis", self.redis.away) if self.redis is not None else status("master")

    def instruments(self) -> Iterator[Instrument]:
        """What the metrics show of them."""
        yield from self.health.instruments()
        about = "Seats that stay taken for requests of workers that are gone, until the backend is done."
        kept = self._seats.reserved
        yield Gauge("gateway_seats_reserved", about, lambda: {(k,): n for k, n in kept().items()}, ("pool",))
        if self.redis is not None:
            yield from self.redis.instruments()

    async def _put(self, body: tuple[str, str, float]) -> bool:
        key, value, seconds = body
        try:
            if self.redis is not None:
                return await self.redis.put(key, value, seconds)
            return self._once.put(key, value, seconds, self._now())
        except (Away, Full) as error:
            raise AskFailed(str(error) or "too many wait to be used") from None

    async def _take(self, key: str) -> str | None:
        try:
            if self.redis is not None:
                return await self.redis.take(key)
        except Away as away:
            raise AskFailed(str(away)) from None
        return self._once.take(key, self._now())

    async def _relay(self, member: str, reports: dict[str, Body]) -> dict[str, Body]:
        assert self.redis is not None
        among = max(1, len(self._members))
        async with self._asking.setdefault(member, asyncio.Lock()):  # one at a time, and none after its end
            told = reports.get(seats.NAME)
            if told is not None and member in self._members:
                self._seats.note(member, told)
            elif told is not None:
                reports = {name: body for name, body in reports.items() if name != seats.NAME}
            grants = await self.redis.exchange(reports, member, among)
        for name in (rates.NAME, seats.NAME):  # of all nodes, each with as many workers as this one
            if name in grants:
                grants[name]["members"] *= among
        return grants
