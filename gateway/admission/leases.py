"""What this process has of the seats that several processes share; a Part of their exchange.

Without other processes none of this is made.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic
from typing import Any, Protocol

from gateway.core.shared.holding import Holding
from gateway.core.shared.seats import NAME, Grant, Report
from gateway.runtime.processes.in_use import ROWS, InUse

L = logging.getLogger(__name__)
_IN_USE = 0.1  # seconds between two reports while seats are in use,
_SCARCE = 0.02  # while there are too few of them: who is short gets what others give back,
_QUIET = 0.5  # and while tenants count as active
# A thread may work on for so long where its route has no limit; see proxy/proxied_call.py.
NO_LIMIT = 300.0
_PACE = 0.002  # seconds between two that are hurried
_LASTS = 30.0  # seconds that what is inside may last, at least
Demand = list[tuple[str, float, int]]


class User(Protocol):
    """What uses the seats of a pool."""

    def shared_seats(self) -> dict[str, int]:
        """By address, how many there are for all processes; 0 where no requests go now. {} to leave the
        pool."""
        ...

    def shared_reserve(self) -> int:
        """How many of them all are kept from heavy tenants."""
        ...

    def demand(self) -> Demand:
        """By tenant: its weight, and how many seats it has and waits for."""
        ...

    def leased(self) -> None:
        """The lease has changed."""
        ...


class Lease:
    """The lease of one pool. key: of the pool. busy: seats in use, by address. holding: see there."""

    __slots__ = (
        "_counts",
        "_joined",
        "_lasts",
        "_leases",
        "_reported",
        "_rows",
        "_until",
        "_user",
        "busy",
        "holding",
        "key",
    )

    def __init__(self, key: str, leases: Leases, user: User) -> None:
        self.key = key
        self.holding = Holding()
        self.busy: dict[str, int] = {}
        self._leases = leases
        self._counts, self._until = leases.table.counts, leases.table.until
        self._user = user
        self._rows: dict[str, int] = {}
        self._reported = 0  # tenants in the last report
        self._joined = False  # whether the book knows of it
        self._lasts = _LASTS  # the longest that was seen
        leases.add(self)

    # --- in use ---

    def count(self, address: str, busy: int) -> None:
        """So many are in use at an address now."""
        self.busy[address] = busy
        row = self._rows.get(address)
        if row is not None:
            self._counts[row] = busy

    def last(self, address: str, until: float) -> None:
        """One in use there may last until this time of the monotonic clock."""
        row = self._rows.get(address)
        if row is not None and self._until[row] < until:
            self._until[row] = until + 1.0  # so that not each call has to write

    # --- give and take ---

    def want(self, *, now: bool) -> None:
        """More is wanted. now: somebody waits that the book has not heard of."""
        if now:
            self._leases.hurry()
        else:
            self._leases.kick()

    def give_back(self) -> None:
        """Give back what is free and more than the part; tell of what is free, where somebody wants it."""
        holding = self.holding
        if holding.held > holding.part and holding.give_back(self.busy):
            if holding.scarce:
                self._leases.hurry()
            else:
                self._leases.kick()
        elif holding.scarce and sum(self.busy.values()) < holding.held:
            self._leases.kick()

    # --- the exchange ---

    def report(self) -> tuple[Report, dict[str, int]] | None:
        """What is to be told, with the rows of the table of the addresses; None for nothing."""
        demand = self._user.demand()
        if not demand and not self._reported and not self.holding.changed and not self._beats:
            return None
        seats = {} if self._leases.leaving else self._user.shared_seats()
        self.holding.told()
        if not seats and not self._joined:
            return None  # there is no limit
        self._joined = bool(seats)
        if not seats:
            self.holding.drop()
        for address in seats:
            if address not in self._rows and (row := self._leases.new_row()) is not None:
                self._rows[address] = row
                busy = self.busy.get(address, 0)
                self._until[row] = self._leases.now() + NO_LIMIT if busy else 0.0  # it was not told
                self.count(address, busy)
        for address in [address for address in self._rows if address not in seats]:
            if not self.busy.get(address) and not self.holding.lease.get(address):
                self._leases.free_row(self._rows.pop(address))
        lease = self.holding.lease
        every = {address: max(lease.get(address, 0), busy) for address, busy in (lease | self.busy).items()}
        held = {address: count for address, count in every.items() if count}
        usable = {address: count if address in self._rows else 0 for address, count in seats.items()}
        self._reported = len(demand)
        until = max((self._until[row] for row in self._rows.values()), default=0.0)
        self._lasts = max(self._lasts, until - self._leases.now())
        return {
            "seats": usable,
            "reserve": self._user.shared_reserve(),
            "held": held,
            "demand": demand,
            "lasts": self._lasts,
        }, self._rows

    @property
    def _beats(self) -> bool:
        return self._joined and self._leases.beat is not None

    def granted(self, grant: Grant) -> None:
        """The book has answered."""
        wanted = sum(count for _, _, count in self._user.demand())
        self.holding.granted(grant, wanted)
        if bool(self._user.shared_seats()) is not self._joined:
            self.holding.change()
        self.give_back()
        self._user.leased()

    def lost(self) -> None:
        """There was no answer: report again."""
        self.holding.change()

    def due(self) -> float | None:
        """Seconds until the next report; None while it is not needed."""
        if self.holding.changed:
            return 0.0
        if any(self.busy.values()) or self._reported:
            wanted = any(count for _, _, count in self._user.demand())
            return (_SCARCE if self.holding.scarce else _IN_USE) if wanted else _QUIET
        return self._leases.beat if self._joined else None


class Leases:
    """All leases of this process. hear(): exchange at once; done when the book has answered. kick():
    exchange soon. table: where is written what is in use. members: how many processes share, about, until the
    book says it. beat: seconds between two reports while nothing is in use, for a book that cannot call."""

    name = NAME

    def __init__(
        self,
        hear: Callable[[], Awaitable[None]],
        kick: Callable[[], object],
        table: InUse,
        members: int,
        now: Callable[[], float] = monotonic,
        beat: float | None = None,
    ) -> None:
        self.beat = beat
        self.leaving = False
        self.hear = hear
        self.kick = kick
        self.now = now
        self._hurried_at = -math.inf
        self.table = table
        self.members = members
        self._leases: dict[str, Lease] = {}
        self._free_rows = list(range(ROWS - 1, -1, -1))

    def hurry(self) -> None:
        """Exchange at once; soon, where that was done just now."""
        now = self.now()
        if now - self._hurried_at < _PACE:
            self.kick()
        else:
            self._hurried_at = now
            self.hear()

    def add(self, lease: Lease) -> None:
        """Another one."""
        self._leases[lease.key] = lease

    def drop(self, lease: Lease) -> None:
        """It is needed no more: nothing of it is in use, nothing is held."""
        if self._leases.get(lease.key) is lease:
            del self._leases[lease.key]

    def new_row(self) -> int | None:
        """A row of the table; None when all are taken."""
        if not self._free_rows:
            L.error("more than %d addresses of backends: those beyond get no requests", ROWS)
            return None
        return self._free_rows.pop()

    def free_row(self, row: int) -> None:
        """The row is not needed any more."""
        self.table.counts[row], self.table.until[row] = 0, 0.0
        self._free_rows.append(row)

    def leave(self) -> None:
        """The process ends: with the next report it has nothing but what is inside."""
        self.leaving = True
        for lease in self._leases.values():
            lease.holding.change()

    def called(self, parts: Mapping[str, int]) -> None:
        """The book calls for what is more than these parts, because others are short."""
        for key, part in parts.items():
            lease = self._leases.get(key)
            if lease is not None:
                lease.holding.called(part)
                lease.give_back()
        self.hurry()

    # --- Part ---

    def report(self, now: float) -> dict[str, Any] | None:
        """What is to be told."""
        pools, rows = {}, {}
        for key, lease in list(self._leases.items()):
            told = lease.report()
            if told is not None:
                pools[key], rows[key] = told
        return {"pools": pools, "rows": rows} if pools else None

    def granted(self, grant: Mapping[str, Any], now: float) -> None:
        """What the book says."""
        self.members = grant.get("members", self.members)
        for key, one in grant["pools"].items():
            lease = self._leases.get(key)
            if lease is not None:
                lease.granted(one)

    def lost(self, now: float) -> None:
        """There was no answer."""
        for lease in self._leases.values():
            lease.lost()

    def due(self, now: float) -> float | None:
        """In how many seconds the next exchange is wanted."""
        times = [time for lease in self._leases.values() if (time := lease.due()) is not None]
        return min(times, default=None)
