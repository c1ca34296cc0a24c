"""The queue of a backend whose seats several processes share: this one has a lease of them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection
from itertools import islice

from gateway.admission.backend_queue import BackendQueue, Seat, Waiter
from gateway.admission.leases import Demand, Lease, Leases
from gateway.admission.streams import StreamSeats
from gateway.core.errors import GatewayError
from gateway.core.fairness.queue import Flow
from gateway.core.model import Address, Backend

_TOLD = 64  # tenants of a report; the others in one
_OTHERS = "(others)"
_STREAMS = "(streams)"
_FIRST = 1e6  # the weight of what cannot be given back: streams in threads
_MORE = 8  # streams that are asked for at once, beyond those inside
_PATIENCE = 0.05  # seconds that a stream waits for one


class LeasedStreams(StreamSeats):
    """Seats for streams, of which this process has a lease. waiting: streams that wait for the book to
    answer. missed: those that found none, since it was."""

    lease: Lease
    waiting = missed = 0
    _news: asyncio.Future[None] | None = None

    async def news(self) -> None:
        """Wait until the book has answered."""
        if self._news is None or self._news.done():
            self._news = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._news)

    def leased(self) -> None:
        """It has."""
        self.missed = 0
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    @property
    def wanted(self) -> int:
        """How many there would be, if all had a seat that want one."""
        return self.inside + min(self.waiting + self.missed, _MORE)

    def has_room(self, address: str) -> bool:
        """Whether a seat is free here at the address."""
        held = self.held.get(address, 0)
        return held < self.each and (self.each == math.inf or held < self.lease.holding.lease.get(address, 0))

    def may_begin(self, tenant: str, addresses: Collection[str], reserve: int | None) -> bool:
        """As of all seats, in the proportion of the lease."""
        if self.each == math.inf or not self.has_streams(tenant):
            return True
        seats = self.lease.holding.held
        kept = seats // 8 if reserve is None else min(reserve, seats - 1)
        return seats - self.inside > kept


class StreamUser:
    """The streams of a backend as the user of a lease."""

    def __init__(self, queue: LeasedQueue) -> None:
        self._queue = queue

    def shared_seats(self) -> dict[str, int]:
        """By address; none where there is no limit."""
        each = self._queue.streams.each
        return self._queue.by_address(each)

    def shared_reserve(self) -> int:
        """Streams do not wait: what is kept is kept by StreamSeats.may_begin."""
        return 0

    def demand(self) -> Demand:
        """All in one: each process keeps the tenants apart."""
        streams = self._queue.leased_streams
        return [("", 1.0, streams.wanted)] if streams.wanted and streams.each < math.inf else []

    def leased(self) -> None:
        """See leases.User."""
        self._queue.leased_streams.leased()


class LeasedQueue(BackendQueue):
    """See BackendQueue. share: of all processes of this host together."""

    def __init__(
        self,
        leases: Leases,
        backend: Backend,
        share: float,
        usable: Callable[[Address], bool],
        age: Callable[[Address], float],
        unavailable: Callable[[Backend], GatewayError],
        now: Callable[[], float],
        random: Callable[[], float],
        on_idle: Callable[[BackendQueue], None],
    ) -> None:
        self.leased_streams = LeasedStreams()
        self._leases = leases
        self._gone, self._most = False, 0.0
        self.lease = Lease(f"seats:{backend.name}", leases, self)
        self.leased_streams.lease = Lease(f"streams:{backend.name}", leases, StreamUser(self))
        super().__init__(
            *(backend, share, usable, age, unavailable, now, random, on_idle), streams=self.leased_streams
        )

    def configure(self, backend: Backend) -> None:
        """See BackendQueue."""
        self._gone = False
        each = self._own_share(backend.threads or backend.concurrency)
        self._most = 0.0 if each == math.inf else each * len(backend.addresses)  # 0.0 without a limit
        super().configure(backend)
        for text in (*self.requests, *self.streams.held):  # there may be a limit now, and was none
            self._count(text)
            self._count_streams(text)
        self._tell()

    def _tell(self) -> None:
        for lease in (self.lease, self.leased_streams.lease):
            lease.lost()
        self._leases.kick()

    def by_address(self, each: float) -> dict[str, int]:
        """Seats of each address, 0 where it is not usable; {} without a limit, or when the backend is
        gone."""
        if self._gone or each == math.inf:
            return {}
        return {a.text: int(each) if self.usable(a) else 0 for a in self.backend.addresses}

    def leave(self) -> None:
        """The backend is gone, and nothing is inside: give all back."""
        self._gone = True
        for lease in (self.lease, self.leased_streams.lease):
            lease.holding.drop()
        self._tell()

    @property
    def size(self) -> float:
        """See BackendQueue: of all processes."""
        return float(sum(self.shared_seats().values())) if self._seats_each < math.inf else math.inf

    @property
    def reserve(self) -> int:
        """See BackendQueue: of all processes."""
        return self.shared_reserve()

    # --- the user of a lease ---

    def shared_seats(self) -> dict[str, int]:
        """See leases.User."""
        return self.by_address(self._seats_each)

    def shared_reserve(self) -> int:
        """See leases.User."""
        return self._reserve_of(sum(self.shared_seats().values()))

    def demand(self) -> Demand:
        """See leases.User. Bounded: of very many tenants most are told as one."""
        if self._seats_each == math.inf:
            return []
        fair, told = self.fair, []
        left = fair.inside + fair.waiting
        for flow in islice(fair.flows.values(), _TOLD):
            count = flow.inside + len(flow.queue or ())
            left -= count
            told.append((flow.key, flow.weight, count))
        if len(fair.flows) > _TOLD:
            told.append((_OTHERS, float(len(fair.flows) - _TOLD), left))
        if self.backend.threaded and self.streams.held:
            told.append((_STREAMS, _FIRST, self.streams.inside))
        return told

    def leased(self) -> None:
        """See leases.User."""
        if self._gone:
            for lease in (self.lease, self.leased_streams.lease):
                self._leases.drop(lease)
        self.wake()

    # --- taking and giving back, counted where another process sees it ---

    def _seat(self, address: Address, flow: Flow[Waiter], now: float) -> Seat:
        seat = super()._seat(address, flow, now)
        if not self._most:
            return seat
        holding, text = self.lease.holding, address.text
        busy = self._count(text)
        if busy >= holding.lease.get(text, 0) and holding.held < self._most and not holding.scarce:
            self.lease.want(now=False)  # before somebody has to wait
        holding.observe(self.fair.inside)
        return seat

    def try_stream(self, key: str) -> Seat:
        """See BackendQueue."""
        try:
            seat = super().try_stream(key)
        except GatewayError:
            self._miss_stream()
            raise
        self._count(seat.address.text)
        self._count_streams(seat.address.text)
        return seat

    async def reach_stream(self) -> None:
        """Ask for a seat for a stream, where there is none here; others may have to give one back first."""
        streams = self.leased_streams
        if not self._stream_waits():
            return
        streams.waiting += 1
        try:
            await self._leases.hear()
            async with asyncio.timeout(_PATIENCE):
                while self._stream_waits():
                    await streams.news()
        except TimeoutError:
            pass  # none is free
        finally:
            streams.waiting -= 1

    def _miss_stream(self) -> None:
        self.leased_streams.missed += 1
        self._leases.hurry()

    def _stream_waits(self) -> bool:
        usable = self._usable_addresses()
        return bool(usable) and not any(map(self._has_stream_room, usable))

    async def wait(self, key: str, weight: float, timeout: float) -> Seat:
        """See BackendQueue."""
        flow = self.fair.flows.get(key)
        if self._seats_each < math.inf:
            self.lease.want(now=flow is None or not flow.queue)
        return await super().wait(key, weight, timeout)

    def give_back(
        self,
        flow: Flow[Waiter] | None,
        address: Address,
        key: str,
        charged: float,
        since: float,
        *,
        used: bool,
    ) -> None:
        """See BackendQueue."""
        super().give_back(flow, address, key, charged, since, used=used)
        if flow is not None and not self._most:
            return
        self._count(address.text)
        if flow is None:
            self._count_streams(address.text)
        holding = self.lease.holding
        if flow is None or holding.scarce or holding.held > holding.part:
            self._give_back()

    def move(self, old: Address, new: Address, *, stream: bool) -> bool:
        """See BackendQueue."""
        moved = super().move(old, new, stream=stream)
        if moved:
            for address in (new, old):
                self._count(address.text)
                self._count_streams(address.text)
        return moved

    def exchange_for_stream(self, flow: Flow[Waiter], address: Address, charged: float, since: float) -> None:
        """See BackendQueue."""
        try:
            super().exchange_for_stream(flow, address, charged, since)
        except GatewayError:
            self._miss_stream()
            raise
        self._count(address.text)
        self._count_streams(address.text)

    def lasts(self, seat: Seat, seconds: float) -> None:
        """The request that has this seat is over in so many seconds."""
        if not self._most and not seat.stream:
            return
        lease = self.leased_streams.lease if seat.stream else self.lease
        lease.last(seat.address.text, self._now() + seconds)

    def _count(self, address: str) -> int:
        """Write how many are inside at an address, and return it."""
        inside = self.requests.get(address, 0)
        if self.streams.held and self.backend.threaded:
            inside += self.streams.held.get(address, 0)
        if self._most:
            self.lease.count(address, inside)
        return inside

    def _count_streams(self, address: str) -> None:
        if self.streams.each < math.inf:
            self.leased_streams.lease.count(address, self.streams.held.get(address, 0))

    def _give_back(self) -> None:
        self.lease.give_back()
        self.leased_streams.lease.give_back()

    # --- how many ---

    def _has_room(self, address: Address) -> bool:
        text, each = address.text, self._seats_each
        inside = self.requests.get(text, 0)
        if self.streams.held and self.backend.threaded:  # a stream holds a thread
            inside += self.streams.held.get(text, 0)
        return inside < each and (not self._most or inside < self.lease.holding.lease.get(text, 0))

    def seats(self) -> float:
        """Those leased, as BackendQueue counts them. While the book has not said that they are scarce: at
        least this process's even part, so that nobody is refused for a seat that comes when it is asked
        for."""
        if self._seats_each == math.inf:
            return math.inf
        holding = self.lease.holding
        leased = float(holding.held - (self.streams.inside if self.backend.threaded else 0))
        return max(leased, 1.0 if holding.scarce else holding.even)

    def _reserve(self, seats: float) -> int:
        holding = self.lease.holding
        return int(max(0.0, seats - holding.held)) + holding.reserve if seats < math.inf else 0

    def wake(self) -> None:
        """See BackendQueue. What others wait for goes back first, also what was given back just now."""
        holding = self.lease.holding
        if holding.scarce or holding.held > holding.part:
            for text in list(self.lease.busy):
                self._count(text)
        self._give_back()
        super().wake()
