"""The book of seats that several processes share: who holds how many, and who gets or gives back how many.

A pool is the seats of one backend, at one or more addresses. Holders (worker processes, or gateways) have
leases of it. Of a lease its holder alone decides; so the leases together are never more than the seats. They
change in exchanges only: a holder reports what it keeps and what its tenants want, and is told its lease,
which is never less than it keeps, and its part, to which it comes down as its seats get free. Whatever is
lost on the way, a holder never has more than the book says: it gives back before it reports that, and takes
after it was told.

Parts are the weighted max-min fair shares of the tenants over all holders. While several tenants are active,
those that want more than their fair share leave the reserve to the others, as in core/fairness/queue.py. What
nobody wants is spread: a small float for each holder, so that a tenant that was quiet finds a seat at once.

Reports and grants hold what JSON holds. Times are seconds of any monotonic clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NotRequired, TypedDict

from gateway.core.shared.ports import Body

_EPSILON = 1e-9
# Seats that do not divide evenly are had by turns: another holder's turn comes when so much more is owed to
# it.
_TURN = 0.02  # seats times seconds
_MOST_OWED = 0.1
NAME = "seats"
Busy = Mapping[str, tuple[int, float]]  # by address: how many requests may be inside, until when at most


class Report(TypedDict):
    """What a holder says of a pool. seats: by address, as its config has them, 0 where no requests may be
    sent to now; {} leaves the pool. reserve: of the whole pool. held: what it keeps of its lease, by
    address. demand: [tenant, weight, requests inside and waiting] of the active tenants. lasts: seconds that
    what is inside may last, for a keeper that cannot see it."""

    seats: dict[str, int]
    reserve: int
    held: dict[str, int]
    demand: list[tuple[str, float, int]]
    lasts: NotRequired[float]


class Grant(TypedDict):
    """What it is told. lease: seats by address, until it reports again. part: seats in all that it should
    have. reserve: how many of its part heavy tenants must leave to others. scarce: more are wanted than
    there are; who has more than its part gives back at once. even: what each holder would have if all wanted
    the same."""

    lease: dict[str, int]
    part: int
    reserve: int
    scarce: bool
    even: int


@dataclass(slots=True)
class Holder:
    """lease: seats by address. demand: by tenant, (weight, requests). wanted_at: when it last wanted a seat.
    exact: its fair part; whole: the same in whole seats; part: with what is spread of the others; need: what
    somebody has to give back for. owed: seat time that it should have had, and had not."""

    lease: dict[str, int] = field(default_factory=dict)
    demand: dict[str, tuple[float, int]] = field(default_factory=dict)
    wanted_at: float = -math.inf
    exact: float = 0.0
    whole: int = 0
    part: int = 0
    need: int = 0
    reserve: int = 0
    owed: float = 0.0

    @property
    def held(self) -> int:
        """Its seats at all addresses."""
        return sum(self.lease.values())


@dataclass(slots=True)
class Orphans:
    """Seats whose holder is gone while its requests may still be inside, until a time."""

    address: str
    count: int
    until: float


class Pool:
    """The seats of one backend. holders: by name. orphans: see there."""

    def __init__(self) -> None:
        self.seats: dict[str, int] = {}
        self.reserve = 0
        self.holders: dict[str, Holder] = {}
        self.orphans: list[Orphans] = []
        self._at = 0.0
        self._wanted = 0.0

    # --- what happens ---

    def exchange(self, name: str, report: Report, now: float) -> Grant:
        """A holder reports. Returns what it is granted."""
        if not report["seats"]:
            self.holders.pop(name, None)
            return {"lease": {}, "part": 0, "reserve": 0, "scarce": False, "even": 1}
        holder = self.holders.setdefault(name, Holder())
        self.seats, self.reserve = dict(report["seats"]), report["reserve"]
        # What is in use somewhere counts, also where the book does not know of it: it may have been lost.
        holder.lease = {address: count for address, count in report["held"].items() if count > 0}
        holder.demand = {tenant: (weight, count) for tenant, weight, count in report["demand"]}
        if any(count for _, count in holder.demand.values()):
            holder.wanted_at = now
        self.expire(now)
        self._share_out(now)
        self._take_free(holder)
        return {
            "lease": dict(holder.lease),
            "part": holder.part,
            "reserve": holder.reserve,
            "scarce": self.scarce or self._wanted > sum(self.seats.values()),
            "even": max(1, sum(self.seats.values()) // len(self.holders)),
        }

    def lost(self, name: str, busy: Busy) -> None:
        """A holder is gone. busy: by address, how many requests may be inside, and until when at most; all
        other seats of it are free."""
        self.holders.pop(name, None)
        self.orphans += [Orphans(address, count, until) for address, (count, until) in busy.items() if count]

    def keep(self, address: str, most: int) -> None:
        """Of the requests that were left behind at an address, at most so many are still inside."""
        left = most
        for orphans in sorted(self.orphans, key=lambda one: -one.until):
            if orphans.address == address:
                orphans.count = min(orphans.count, left)
                left -= orphans.count
        self.orphans = [orphans for orphans in self.orphans if orphans.count > 0]

    def expire(self, now: float) -> None:
        """Free the seats of orphans whose time is over."""
        if self.orphans:
            self.orphans = [orphans for orphans in self.orphans if orphans.until > now]

    # --- what is known ---

    def taken(self, address: str) -> int:
        """Seats leased, or kept by orphans, at an address."""
        leased = sum(holder.lease.get(address, 0) for holder in self.holders.values())
        return leased + sum(one.count for one in self.orphans if one.address == address)

    @property
    def scarce(self) -> bool:
        """Whether a holder has less than its tenants should have, the reserve included."""
        return any(holder.held < holder.need for holder in self.holders.values())

    def calls(self) -> dict[str, int]:
        """Who should report now, with its part: one that has more than that while another has less, and one
        that has less while seats are free."""
        if not self.scarce:
            return {}
        free = any(count > self.taken(address) for address, count in self.seats.items())
        return {
            name: holder.part
            for name, holder in self.holders.items()
            if holder.held > holder.part or (free and holder.held < holder.need)
        }

    # --- who gets how many ---

    def _take_free(self, holder: Holder) -> None:
        """Lease free seats to a holder up to its part, first where most are free."""
        free = {address: count - self.taken(address) for address, count in sorted(self.seats.items())}
        for _ in range(holder.part - holder.held):
            address = max(free, key=free.__getitem__, default=None)
            if address is None or free[address] <= 0:
                return
            free[address] -= 1
            holder.lease[address] = holder.lease.get(address, 0) + 1

    def _share_out(self, now: float) -> None:
        """Set the parts of all holders."""
        seats = self._seats()
        elapsed, self._at = max(0.0, now - self._at), now
        heavy, light_parts = self._exact_parts(seats)
        names = sorted(self.holders)
        rest = int(sum(holder.exact for holder in self.holders.values()) + 0.5)
        candidates = []
        for name in names:
            holder = self.holders[name]
            had_turn = holder.whole > holder.exact
            holder.owed += (holder.exact - holder.whole) * elapsed
            holder.owed = max(-_MOST_OWED, min(_MOST_OWED, holder.owed))
            whole = int(holder.exact + _EPSILON)
            rest -= whole
            fraction = holder.exact - whole
            holder.whole = whole
            if fraction > _EPSILON:
                candidates.append((-holder.owed - _TURN * had_turn, -fraction, name))
            else:
                holder.owed = 0.0
        for _, _, name in sorted(candidates)[: max(0, rest)]:
            self.holders[name].whole += 1
        self._spread(seats - sum(self.holders[name].whole for name in names), names, heavy, light_parts)

    def _seats(self) -> int:
        """All that holders may have together. What is held at an address where no more requests go is a seat
        of its own."""
        listed, total = self.seats, sum(self.seats.values())
        total -= sum(one.count for one in self.orphans if listed.get(one.address))
        for holder in self.holders.values():
            total += sum(count for address, count in holder.lease.items() if not listed.get(address))
        return max(0, total)

    def _exact_parts(self, seats: int) -> tuple[set[str], dict[str, float]]:
        """Set the exact part of each holder. Returns the heavy tenants, and how much of each part is for
        others."""
        wanted: dict[str, tuple[float, float]] = {}
        for _, holder in sorted(self.holders.items()):
            for tenant, (weight, count) in sorted(holder.demand.items()):
                before = wanted.get(tenant, (0.0, 0.0))
                wanted[tenant] = (max(weight, before[0]), before[1] + count)
        self._wanted = sum(count for _, count in wanted.values())
        heavy = self._heavy(wanted, seats)
        shares = fair_shares(wanted, seats)
        most = max(1, seats - self.reserve)
        if sum(shares[tenant] for tenant in heavy) > most:
            shares |= fair_shares({tenant: wanted[tenant] for tenant in heavy}, most)
        for holder in self.holders.values():
            holder.exact = 0.0
        light_parts = dict.fromkeys(self.holders, 0.0)
        for tenant in sorted(shares):
            demands = {
                name: (1.0, float(holder.demand[tenant][1]))
                for name, holder in self.holders.items()
                if tenant in holder.demand
            }
            for name, part in fair_shares(demands, shares[tenant]).items():
                self.holders[name].exact += part
                light_parts[name] += 0.0 if tenant in heavy else part
        return heavy, light_parts

    def _heavy(self, wanted: Mapping[str, tuple[float, float]], seats: int) -> set[str]:
        """The tenants that want more than their fair share, and more than one seat, while others are
        active."""
        if len(wanted) < 2 or not self.reserve:
            return set()
        each = seats / sum(weight for weight, _ in wanted.values())
        return {tenant for tenant, (weight, count) in wanted.items() if count > max(1.0, each * weight)}

    def _spread(self, free: int, names: list[str], heavy: set[str], light_parts: Mapping[str, float]) -> None:
        """Set the parts, and the reserve in each; free: seats that nobody wants. Where heavy tenants are
        alone, they would take what is spread, and others had to wait for it."""
        may = [name for name in names if not (demand := self.holders[name].demand) or demand.keys() - heavy]
        may.sort(key=lambda name: -self.holders[name].wanted_at)
        each = free // (len(names) + 1) if free > len(names) else min(1, free)
        floats = may[: max(0, free)]
        for name in names:
            holder = self.holders[name]
            more = each if name in floats else 0
            holder.part = holder.whole + more
            holder.need = holder.part if heavy else holder.whole
            has_heavy = bool(heavy & holder.demand.keys())
            holder.reserve = more + int(light_parts[name] + _EPSILON) if has_heavy else 0


def fair_shares(wanted: Mapping[str, tuple[float, float]], seats: float) -> dict[str, float]:
    """Weighted max-min fair shares of some seats. wanted: by name, (weight, how many at most)."""
    shares = {}
    weights = sum(weight for weight, _ in wanted.values())
    for name, (weight, most) in sorted(wanted.items(), key=lambda one: (one[1][1] / one[1][0], one[0])):
        share = min(most, seats * weight / weights) if weights > _EPSILON else 0.0
        shares[name] = share
        seats -= share
        weights -= weight
    return shares


class SeatBook:
    """The pools, by key: a Book (ports.py). busy(member): what may be inside the backends of a member that is
    gone, see Pool.lost, by key."""

    def __init__(self, busy: Callable[[str], Mapping[str, Busy]] = lambda member: {}) -> None:
        self.pools: dict[str, Pool] = {}
        self._busy = busy

    def exchange(self, member: str, report: Body, now: float) -> Body:
        """The grants for a member's reports, both by key, under `pools`."""
        reports: dict[str, Report] = report["pools"]
        grants: dict[str, Grant] = {}
        for key, one in reports.items():
            grants[key] = self.pools.setdefault(key, Pool()).exchange(member, one, now)
            self._forget(key)
        return {"pools": grants}

    def gone(self, member: str, now: float) -> None:
        """A member has ended. A pool that nobody has anything of is forgotten."""
        busy = self._busy(member)
        for key, pool in list(self.pools.items()):
            pool.lost(member, busy.get(key, {}))
            pool.expire(now)
            self._forget(key)

    def calls(self, keys: Iterable[str]) -> dict[str, dict[str, int]]:
        """Who should report now of which of these pools, by member and key, with its part."""
        found: dict[str, dict[str, int]] = {}
        for key in keys:
            pool = self.pools.get(key)
            for name, part in pool.calls().items() if pool is not None else ():
                found.setdefault(name, {})[key] = part
        return found

    def expire(self, now: float) -> list[str]:
        """Free what orphans hold no more. Returns the keys of the pools that have any."""
        with_orphans = [key for key, pool in self.pools.items() if pool.orphans]
        for key in with_orphans:
            self.pools[key].expire(now)
            self._forget(key)
        return with_orphans

    def _forget(self, key: str) -> None:
        pool = self.pools[key]
        if not pool.holders and not pool.orphans:
            del self.pools[key]
