"""Admission: which calls may be inside a backend now, which wait, and which are refused at once.

The seats of a threaded backend are its threads, shared fairly among the tenants (core/fairness/queue.py).
With several gateway processes each has its `share` of them.
"""

from __future__ import annotations

import math
import random as lots
from collections.abc import Callable, Iterable, Iterator, Mapping
from time import monotonic
from typing import Any

from gateway.admission import view
from gateway.admission.backend_queue import BackendQueue, Seat
from gateway.call import Call
from gateway.core.counts import decrement
from gateway.core.errors import BackendUnavailable, GatewayError, TenantLimit
from gateway.core.model import Address, Backend, Tenant
from gateway.core.openmetrics import Instrument
from gateway.core.policy.limits import with_jitter
from gateway.runtime.periodic import Boundary, PeriodicTask

__all__ = ["Admission", "Seat"]

# In place of a tenant; no tenant can have these names.
PUBLIC = "(public)"  # of calls without one
PROBE = "(probe)"
_TICK = 0.5  # seconds


def _always(address: Address) -> bool:
    return True


def _grown(address: Address) -> float:
    return math.inf


def _unavailable(backend: Backend) -> GatewayError:
    return BackendUnavailable("No address of the backend is healthy.")


class Admission:
    """The queues of all backends, by name, which outlive reloads of the config.

    share: this process's part of the seats; rounded down, at least one seat at each address. usable(address):
    whether requests may be sent there. age(address): for how many seconds it has been healthy.
    unavailable(backend): the error when none of its addresses is usable. now: a monotonic clock, in seconds.
    random: gives a number in [0, 1).
    """

    def __init__(
        self,
        *,
        share: float = 1.0,
        usable: Callable[[Address], bool] = _always,
        age: Callable[[Address], float] = _grown,
        unavailable: Callable[[Backend], GatewayError] = _unavailable,
        now: Callable[[], float] = monotonic,
        random: Callable[[], float] = lots.random,
    ) -> None:
        self._share = share
        self._usable = usable
        self._age = age
        self._unavailable = unavailable
        self._now = now
        self._random = random
        self._boundary = Boundary("looking after those who wait for a seat")
        self._queues: dict[str, BackendQueue] = {}
        self._names: frozenset[str] | None = None  # of the live snapshot; None before the first
        self._calls: dict[str, int] = {}  # under way, by tenant, of tenants with a `concurrency`

    # --- seats ---

    def try_admit(self, call: Call, backend: Backend) -> Seat | None:
        """A seat that is free now; None when the call has to wait for one (`admit`).

        Raises TenantLimit, TenantQueueFull, BackendSaturated (no seat in time), BackendUnavailable.
        """
        queue = self._queues.get(backend.name)
        if queue is None:
            queue = self._add_queue(backend)
        tenant = call.tenant
        if tenant is None:
            key, weight = PUBLIC, 1.0
        else:
            key, weight = tenant.id.value, tenant.weight
            if tenant.concurrency:
                self._check_limit(tenant, queue)
        seat = queue.try_take(key, weight)
        if seat is None:
            assert call.route is not None
            queue.check(key, weight, call.route.timeouts.queue)
        elif tenant is not None and tenant.concurrency:
            self._count_call_with(seat, key)
        return seat

    def check(self, call: Call, backend: Backend, timeout: float) -> None:
        """Raise what `admit` would raise at once, before a body is read in vain. timeout: seconds."""
        queue = self._queues.get(backend.name) or self._add_queue(backend)
        tenant = call.tenant
        if tenant is not None and tenant.concurrency:
            self._check_limit(tenant, queue)
        queue.check(*_queue_key(tenant), timeout)

    async def admit(self, call: Call, backend: Backend, timeout: float) -> Seat:
        """A seat, after at most `timeout` seconds in the queue. Raises as try_admit."""
        self.check(call, backend, timeout)
        queue, tenant = self._queues[backend.name], call.tenant
        key, weight = _queue_key(tenant)
        count_end = self._count_call(key) if tenant is not None and tenant.concurrency else None
        try:
            seat = queue.try_take(key, weight) or await queue.wait(key, weight, timeout)
        except BaseException:
            if count_end is not None:
                count_end()
            raise
        if count_end is not None:
            seat.when_released(count_end)
        return seat

    def admit_stream(self, call: Call, backend: Backend) -> Seat:
        """A seat for a stream, which is not waited for. Raises TenantLimit, BackendSaturated,
        BackendUnavailable."""
        queue = self._queues.get(backend.name) or self._add_queue(backend)
        tenant = call.tenant
        limited = tenant is not None and tenant.concurrency
        if tenant is not None and limited:
            self._check_limit(tenant, queue)
        key, _ = _queue_key(tenant)
        seat = queue.try_stream(key)
        if limited:
            self._count_call_with(seat, key)
        return seat

    async def reach_stream(self, backend: Backend) -> None:
        """Wait until `admit_stream` can say whether there is a seat: with other processes, they are asked."""

    def try_admit_at(self, backend: Backend, address: Address) -> Seat | None:
        """A seat for a probe at this very address, usable or not; None when none is free there."""
        queue = self._queues.get(backend.name)
        return queue.take_at(address, PROBE) if queue is not None else None

    # --- calls of one tenant at the same time ---

    def enter(self, tenant: Tenant) -> Callable[[], None]:
        """Count a call to documents, which needs no seat, of a tenant with a `concurrency`. Returns what is
        to be called at its end. Raises TenantLimit."""
        if self._has_all(tenant):
            raise TenantLimit(_over_concurrency(tenant), retry_after=with_jitter(1.0, self._random()))
        return self._count_call(tenant.id.value)

    def _has_all(self, tenant: Tenant) -> bool:
        """Whether a tenant has as many calls under way as it may."""
        return self._calls.get(tenant.id.value, 0) >= tenant.concurrency

    def _check_limit(self, tenant: Tenant, queue: BackendQueue) -> None:
        if self._has_all(tenant):
            raise queue.refuse(TenantLimit(_over_concurrency(tenant), retry_after=queue.retry_after(1.0)))

    def _count_call_with(self, seat: Seat, key: str) -> None:
        """Count a call of the tenant until its seat is given back."""
        try:
            seat.when_released(self._count_call(key))
        except BaseException:
            seat.release(used=False)
            raise

    def _count_call(self, key: str) -> Callable[[], None]:
        """Count a call of the tenant. Returns what is to be called at its end."""
        self._calls[key] = self._calls.get(key, 0) + 1

        def count_end() -> None:
            decrement(self._calls, key)

        return count_end

    # --- life ---

    def reconcile(self, backends: Mapping[str, Backend]) -> None:
        """Apply what a new snapshot says of each backend; seats that it adds are handed out at once.

        Every backend has its queue from then on, so that a call of an older snapshot cannot make one with the
        number of seats in that snapshot.
        """
        self._names = frozenset(backends)
        for name, backend in backends.items():
            queue = self._queues.get(name)
            if queue is None:
                self._add_queue(backend)
            else:
                queue.configure(backend)
        for queue in list(self._queues.values()):
            queue.settle()

    def wake(self, backend: str) -> None:
        """Tell that an address of this backend has become usable or unusable: waiting calls go in, or
        fail."""
        queue = self._queues.get(backend)
        if queue is not None:
            queue.wake()

    def tick(self) -> None:
        """Apply what time alone changes: idle tenants are forgotten, heavy ones become light."""
        self._boundary.each(list(self._queues.values()), BackendQueue.tick)

    async def watch(self) -> None:
        """Tick until cancelled."""
        await PeriodicTask(self._boundary.what, _TICK, self.tick).run()

    def _add_queue(self, backend: Backend) -> BackendQueue:
        queue = self._queues[backend.name] = self._make_queue(backend)
        return queue

    def _make_queue(self, backend: Backend) -> BackendQueue:
        return BackendQueue(
            *(backend, self._share, self._usable, self._age, self._unavailable),
            *(self._now, self._random, self._idle),
        )

    def _idle(self, queue: BackendQueue) -> None:
        """Drop the queue of a backend that the config does not have any more, after its last use."""
        name = queue.backend.name
        if self._names is not None and name not in self._names and self._queues.get(name) is queue:
            del self._queues[name]

    # --- what is shown ---

    def in_use(self) -> dict[str, int]:
        """Requests inside, streams included, by backend."""
        return {name: queue.inside for name, queue in self._queues.items()}

    def waiting(self) -> dict[str, int]:
        """Calls that wait for a seat, by backend."""
        return {name: queue.fair.waiting for name, queue in self._queues.items()}

    def of_tenant(self, key: str) -> dict[str, dict[str, int]]:
        """Where a tenant has requests inside (`in_use`) or waiting, by backend."""
        flows = ((name, queue.fair.flows.get(key)) for name, queue in self._queues.items())
        return {
            name: {"in_use": flow.inside, "waiting": len(flow.queue or ())}
            for name, flow in flows
            if flow is not None and (flow.inside or flow.queue)
        }

    def state(self) -> dict[str, Any]:
        """The state of all backends by name, as JSON; see BackendQueue.state."""
        return dict(named for named in self.each_state() if named is not None)

    def each_state(self) -> Iterator[tuple[str, dict[str, Any]] | None]:
        """The same one by one, with None after each step of work; the config may change between two steps."""
        for name, queue in list(self._queues.items()):
            yield from view.named_state(name, queue)

    def instruments(self) -> Iterable[Instrument]:
        """The instruments for /metrics."""
        return view.instruments(self._queues)


def _queue_key(tenant: Tenant | None) -> tuple[str, float]:
    """The key and the weight of a tenant's queue."""
    return (tenant.id.value, tenant.weight) if tenant is not None else (PUBLIC, 1.0)


def _over_concurrency(tenant: Tenant) -> str:
    return f"The tenant has {tenant.concurrency} requests under way, and that is its limit."
