"""The seats of a backend for what has no end in sight."""

from __future__ import annotations

import math
from collections.abc import Collection

from gateway.core.counts import decrement


class StreamSeats:
    """The seats of one backend for streams: event streams and WebSockets, which have no end in sight.

    each: seats at each address, math.inf without a limit. held: streams inside, by the text of the address.
    """

    def __init__(self) -> None:
        self.each = math.inf
        self.held: dict[str, int] = {}
        self._tenants: dict[str, int] = {}

    @property
    def inside(self) -> int:
        """Streams inside, at all addresses."""
        return sum(self.held.values())

    def resize(self, each: float) -> None:
        """Set the number of seats at each address. Streams inside keep theirs."""
        self.each = each

    def has_room(self, address: str) -> bool:
        """Whether a seat is free at the address."""
        return self.held.get(address, 0) < self.each

    def has_streams(self, tenant: str) -> bool:
        """Whether a tenant has streams inside."""
        return tenant in self._tenants

    def may_begin(self, tenant: str, addresses: Collection[str], reserve: int | None) -> bool:
        """Whether the tenant may have a free seat at one of the addresses. A tenant that has streams leaves
        some of the seats to others: `reserve`, or an eighth.

        There is no queue for these seats: without this rule the first tenant to come could hold all of them
        for any time.
        """
        seats = self.each * len(addresses)
        if seats == math.inf or not self.has_streams(tenant):
            return True
        kept = seats // 8 if reserve is None else min(reserve, seats - 1)
        return seats - sum(self.held.get(address, 0) for address in addresses) > kept

    def begin(self, address: str, tenant: str) -> None:
        """Count a stream; `end` ends it."""
        self.held[address] = self.held.get(address, 0) + 1
        self._tenants[tenant] = self._tenants.get(tenant, 0) + 1

    def move(self, old: str, new: str) -> None:
        """Count a stream at another address."""
        self.held[new] = self.held.get(new, 0) + 1
        decrement(self.held, old)

    def end(self, address: str, tenant: str) -> None:
        """The stream has ended."""
        decrement(self.held, address)
        decrement(self._tenants, tenant)
