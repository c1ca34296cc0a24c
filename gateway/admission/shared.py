"""Admission where several processes share the seats: of a backend, of streams, and a tenant's
`concurrency`."""

from __future__ import annotations

from collections.abc import Callable

from gateway.admission.admission import Admission, Seat
from gateway.admission.backend_queue import BackendQueue
from gateway.admission.leased_queue import LeasedQueue
from gateway.admission.leases import NO_LIMIT, Demand, Lease, Leases
from gateway.call import Call
from gateway.core.errors import GatewayError
from gateway.core.model import Address, Backend, Tenant

_PROBE = 60.0  # seconds that a probe may take after its own time; see health/probes.py


class Concurrency:
    """The calls under way of one tenant, as the user of a lease."""

    def __init__(self, tenant: Tenant, leases: Leases, forget: Callable[[Concurrency], None]) -> None:
        self.tenant = tenant
        self.under_way = 0
        self._leases = leases
        self._forget = forget
        self.lease = Lease(f"tenant:{tenant.id.value}", leases, self)
        leases.kick()

    def is_full(self) -> bool:
        """Whether as many are under way here as may be. Until the book says that they are scarce, this
        process may have its even part on credit: the book is asked at once, and the sum is right some ms
        later."""
        holding = self.lease.holding
        most = holding.held
        if not holding.scarce:
            most = max(most, self.tenant.concurrency // self._leases.members, 1)
        return self.under_way >= most

    def begin(self) -> None:
        """A call begins."""
        self.under_way += 1
        self.lease.busy[""] = self.under_way
        if self.under_way >= self.lease.holding.held:
            self.lease.want(now=False)

    def end(self) -> None:
        """A call has ended."""
        self.under_way -= 1
        self.lease.busy[""] = self.under_way
        self.lease.give_back()

    # --- the user of a lease ---

    def shared_seats(self) -> dict[str, int]:
        """Its `concurrency`, while it has calls here."""
        return {"": self.tenant.concurrency} if self.under_way else {}

    def shared_reserve(self) -> int:
        """None: there is one tenant only."""
        return 0

    def demand(self) -> Demand:
        """What is under way."""
        return [("", 1.0, self.under_way)] if self.under_way else []

    def leased(self) -> None:
        """Nothing waits for it here."""
        if not self.under_way:
            self._leases.drop(self.lease)
            self._forget(self)


class SharedAdmission(Admission):
    """See Admission. share: of all processes of this host together."""

    def __init__(
        self,
        leases: Leases,
        *,
        share: float,
        usable: Callable[[Address], bool],
        age: Callable[[Address], float],
        unavailable: Callable[[Backend], GatewayError],
    ) -> None:
        super().__init__(share=share, usable=usable, age=age, unavailable=unavailable)
        self._leases = leases
        self._leased: dict[str, LeasedQueue] = {}
        self._tenants: dict[str, Concurrency] = {}

    # --- seats ---

    def try_admit(self, call: Call, backend: Backend) -> Seat | None:
        """See Admission."""
        seat = super().try_admit(call, backend)
        if seat is not None:
            self._lasts(call, backend, seat)
        return seat

    async def admit(self, call: Call, backend: Backend, timeout: float) -> Seat:
        """See Admission."""
        seat = await super().admit(call, backend, timeout)
        self._lasts(call, backend, seat)
        return seat

    async def reach_stream(self, backend: Backend) -> None:
        """See Admission."""
        if backend.name in self._leased:
            await self._leased[backend.name].reach_stream()

    def try_admit_at(self, backend: Backend, address: Address) -> Seat | None:
        """See Admission."""
        seat = super().try_admit_at(backend, address)
        if seat is not None:
            self._leased[backend.name].lasts(seat, backend.health.timeout + _PROBE)
        return seat

    def _lasts(self, call: Call, backend: Backend, seat: Seat) -> None:
        """Write until when the request may be inside, before it is sent."""
        assert call.route is not None
        self._leased[backend.name].lasts(seat, call.route.timeouts.total or NO_LIMIT)

    def _make_queue(self, backend: Backend) -> BackendQueue:
        more = self._share, self._usable, self._age, self._unavailable, self._now, self._random, self._idle
        queue = self._leased[backend.name] = LeasedQueue(self._leases, backend, *more)
        return queue

    def _idle(self, queue: BackendQueue) -> None:
        super()._idle(queue)
        name = queue.backend.name
        if name not in self._queues and name in self._leased:
            self._leased.pop(name).leave()

    # --- calls of one tenant at the same time ---

    def _has_all(self, tenant: Tenant) -> bool:
        name = tenant.id.value
        found = self._tenants.get(name)
        if found is None:
            found = self._tenants[name] = Concurrency(tenant, self._leases, self._forget)
        found.tenant = tenant
        return found.is_full()

    def _count_call(self, key: str) -> Callable[[], None]:
        counted, count_end = self._tenants[key], super()._count_call(key)
        counted.begin()

        def ended() -> None:
            counted.end()
            count_end()

        return ended

    def _forget(self, counted: Concurrency) -> None:
        self._tenants.pop(counted.tenant.id.value, None)
