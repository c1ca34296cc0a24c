"""Admission: who may be inside a backend now, who waits, and who is told at once to come back later.

The seats of a threaded backend are its threads, shared fairly by the tenants (core/fairness/queue.py). With
several gateway processes each has its `share` of them.
"""

from __future__ import annotations

import asyncio
import random as lots
from collections.abc import Callable, Iterable, Iterator, Mapping
from time import monotonic
from typing import Any

from gateway.admission import view
from gateway.admission.seats import Line, Place, Seat
from gateway.call import Call
from gateway.core.counts import decrement
from gateway.core.errors import BackendUnavailable, GatewayError, TenantLimit
from gateway.core.model import Address, Backend, Tenant
from gateway.core.openmetrics import Instrument
from gateway.core.policy.limits import later
from gateway.runtime.periodic import Boundary, PeriodicTask

__all__ = ["Admission", "Seat"]

PUBLIC = "(public)"  # stands for the tenant of calls that have none; no tenant can be called so
PROBE = "(probe)"
_TICK = 0.5  # seconds


def _always(address: Address) -> bool:
    return True


def _unavailable(backend: Backend) -> GatewayError:
    return BackendUnavailable("No address of the backend is healthy.")


class Admission:
    """The seats of all backends, by name; a reload resets nothing.

    share: of the seats, for one of several gateway processes; rounded down, at least one seat at each
    address. usable(address): whether requests may be sent there. unavailable(backend): the error when none of
    its addresses is usable. now: a monotonic clock, in seconds. random: gives a number in [0, 1).
    """

    def __init__(
        self,
        *,
        share: float = 1.0,
        usable: Callable[[Address], bool] = _always,
        unavailable: Callable[[Backend], GatewayError] = _unavailable,
        now: Callable[[], float] = monotonic,
        random: Callable[[], float] = lots.random,
    ) -> None:
        self._share = share
        self._usable = usable
        self._unavailable = unavailable
        self._now = now
        self._random = random
        self._boundary = Boundary("looking after those who wait for a seat")
        self._lines: dict[str, Line] = {}
        self._names: frozenset[str] | None = None  # of the live snapshot; None before the first
        self._held: dict[str, int] = {}  # calls by tenant, of those whose number is limited

    # --- seats ---

    def try_admit(self, call: Call, backend: Backend) -> Seat | None:
        """A seat that is free now; None when the call has to wait for one (`admit`).

        Raises TenantLimit, TenantQueueFull, BackendSaturated (it cannot get one in time), BackendUnavailable.
        """
        line = self._lines.get(backend.name)
        if line is None:
            line = self._line(backend)
        tenant = call.tenant
        if tenant is None:
            key, weight = PUBLIC, 1.0
        else:
            key, weight = tenant.id.value, tenant.weight
            if tenant.concurrency:
                self._check_limit(tenant, line)
        seat = line.try_take(key, weight)
        if seat is None:
            assert call.route is not None
            line.check(key, weight, call.route.timeouts.queue)
        elif tenant is not None and tenant.concurrency:
            self._hold_with(seat, key)
        return seat

    def check(self, call: Call, backend: Backend, timeout: float) -> None:
        """Raise what `admit` would raise at once: before a body is read for nothing."""
        line = self._lines.get(backend.name) or self._line(backend)
        tenant = call.tenant
        if tenant is not None and tenant.concurrency:
            self._check_limit(tenant, line)
        line.check(*_who(tenant), timeout)

    async def admit(self, call: Call, backend: Backend, timeout: float) -> Seat:
        """A seat, after at most `timeout` seconds in line. Raises as try_admit."""
        self.check(call, backend, timeout)
        line, tenant = self._lines[backend.name], call.tenant
        key, weight = _who(tenant)
        let_go = self._hold(key) if tenant is not None and tenant.concurrency else None
        try:
            seat = line.try_take(key, weight) or await self._wait(line, key, weight, timeout)
        except BaseException:
            if let_go is not None:
                let_go()
            raise
        seat.on_release = let_go
        return seat

    def admit_stream(self, call: Call, backend: Backend) -> Seat:
        """A seat for what has no end in sight; there is no waiting for one. Raises TenantLimit,
        BackendSaturated, BackendUnavailable."""
        line = self._lines.get(backend.name) or self._line(backend)
        tenant = call.tenant
        limited = tenant is not None and tenant.concurrency
        if tenant is not None and limited:
            self._check_limit(tenant, line)
        key, _ = _who(tenant)
        seat = line.try_stream(key)
        if limited:
            self._hold_with(seat, key)
        return seat

    def try_admit_at(self, backend: Backend, address: Address) -> Seat | None:
        """A seat at this very address, usable or not, if one is free: for a probe."""
        line = self._lines.get(backend.name)
        return line.take_at(address, PROBE) if line is not None else None

    async def _wait(self, line: Line, key: str, weight: float, timeout: float) -> Seat:
        place: Place = asyncio.get_running_loop().create_future()
        began = self._now()
        flow = line.fair.wait(place, key, weight, began)
        try:
            line.wake()
            async with asyncio.timeout(timeout):
                seat = await place
        except BaseException as error:
            line.fair.leave(flow, place)
            if place.done() and not place.cancelled() and place.exception() is None:
                place.result().decline()  # it came in the moment that we left
            place.cancel()
            line.settle()
            if isinstance(error, TimeoutError):
                raise line.came_to_nothing(key, weight, timeout) from None
            raise
        line.waited(self._now() - began)
        return seat

    # --- calls of one tenant at a time ---

    def enter(self, tenant: Tenant) -> Callable[[], None]:
        """Count a request to documents, which needs no seat, of a tenant with a `concurrency`; what is given
        back ends that. Raises TenantLimit."""
        if self._held.get(tenant.id.value, 0) >= tenant.concurrency:
            raise TenantLimit(_at_once(tenant), retry_after=later(1.0, self._random()))
        return self._hold(tenant.id.value)

    def _check_limit(self, tenant: Tenant, line: Line) -> None:
        if self._held.get(tenant.id.value, 0) >= tenant.concurrency:
            raise line.refuse(TenantLimit(_at_once(tenant), retry_after=line.later(1.0)))

    def _hold_with(self, seat: Seat, key: str) -> None:
        """Count a call for as long as it has this seat."""
        try:
            seat.on_release = self._hold(key)
        except BaseException:
            seat.decline()
            raise

    def _hold(self, key: str) -> Callable[[], None]:
        """Count a call of the tenant; what is given back ends that."""
        self._held[key] = self._held.get(key, 0) + 1

        def let_go() -> None:
            decrement(self._held, key)

        return let_go

    # --- life ---

    def reconcile(self, backends: Mapping[str, Backend]) -> None:
        """Take over what a new snapshot says of each backend; more seats are handed out at once.

        Every backend has its line from then on, so that a call of an older snapshot cannot begin one with
        the number of seats that its snapshot knew.
        """
        self._names = frozenset(backends)
        for name, backend in backends.items():
            line = self._lines.get(name)
            if line is None:
                self._line(backend)
            else:
                line.configure(backend)
        for line in list(self._lines.values()):
            line.settle()

    def wake(self, backend: str) -> None:
        """An address of this backend is usable again, or no more: let in who may go, or send them home."""
        line = self._lines.get(backend)
        if line is not None:
            line.wake()

    def tick(self) -> None:
        """What time alone changes: idle tenants are forgotten, heavy ones become light."""
        self._boundary.each(list(self._lines.values()), Line.tick)

    async def watch(self) -> None:
        """Tick until cancelled."""
        await PeriodicTask(self._boundary.what, _TICK, self.tick).run()

    def _line(self, backend: Backend) -> Line:
        line = Line(
            *(backend, self._share, self._usable, self._unavailable, self._now, self._random, self._idle)
        )
        self._lines[backend.name] = line
        return line

    def _idle(self, line: Line) -> None:
        """A backend that the config no longer has is forgotten after its last use."""
        name = line.backend.name
        if self._names is not None and name not in self._names and self._lines.get(name) is line:
            del self._lines[name]

    # --- what is shown ---

    def in_use(self) -> dict[str, int]:
        """Requests inside, streams included, by backend."""
        return {
            name: line.fair.inside + sum(line.streams.held.values()) for name, line in self._lines.items()
        }

    def waiting(self) -> dict[str, int]:
        """Requests in line, by backend."""
        return {name: line.fair.waiting for name, line in self._lines.items()}

    def state(self) -> dict[str, Any]:
        """All backends for people, by name; see admission_view.state."""
        return dict(named for named in self.each_state() if named is not None)

    def each_state(self) -> Iterator[tuple[str, dict[str, Any]] | None]:
        """The same one by one; the config may change between two of them. None: a step on the next one."""
        for name, line in list(self._lines.items()):
            yield from view.named_state(name, line)

    def instruments(self) -> Iterable[Instrument]:
        """For /metrics."""
        return view.instruments(self._lines)


def _who(tenant: Tenant | None) -> tuple[str, float]:
    """Key and weight of a queue."""
    return (tenant.id.value, tenant.weight) if tenant is not None else (PUBLIC, 1.0)


def _at_once(tenant: Tenant) -> str:
    return f"The tenant has {tenant.concurrency} requests under way, and that is its limit."
