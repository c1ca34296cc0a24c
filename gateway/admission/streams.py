"""The seats of one backend for what has no end in sight: event streams and WebSockets."""

from __future__ import annotations

import math
from collections.abc import Collection

from gateway.core.counts import decrement


class Streams:
    """each: seats at each address, infinite without a limit. held: streams inside by the address's text."""

    def __init__(self) -> None:
        self.each = math.inf
        self.held: dict[str, int] = {}
        self._tenants: dict[str, int] = {}

    def has_room(self, address: str) -> bool:
        return self.held.get(address, 0) < self.each

    def may_begin(self, tenant: str, addresses: Collection[str], reserve: int | None) -> bool:
        """Whether the tenant may have a free seat at one of the addresses. Who has streams leaves some of
        the seats to others: `reserve`, or an eighth.

        There is no line for these seats, so without this whoever comes first could hold all of them for as
        long as it likes.
        """
        seats = self.each * len(addresses)
        if seats == math.inf or not self._tenants.get(tenant):
            return True
        kept = seats // 8 if reserve is None else min(reserve, seats - 1)
        return seats - sum(self.held.get(address, 0) for address in addresses) > kept

    def begin(self, address: str, tenant: str) -> None:
        self.held[address] = self.held.get(address, 0) + 1
        self._tenants[tenant] = self._tenants.get(tenant, 0) + 1

    def move(self, old: str, new: str) -> None:
        self.held[new] = self.held.get(new, 0) + 1
        decrement(self.held, old)

    def end(self, address: str, tenant: str) -> None:
        decrement(self.held, address)
        decrement(self._tenants, tenant)
