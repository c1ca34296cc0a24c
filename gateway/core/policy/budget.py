"""How many bytes of request bodies may be in memory: of each tenant, and of all together.

A body counts from the moment that its length is known, before a byte of it is read, until what it asks for is
done; one without an announced length counts as it comes. Counted are the bytes as they were sent: what is
parsed from them may take several times as much for a moment.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.core.counts import decrement
from gateway.core.errors import BodyTooLarge, StoreSaturated, TenantLimit

SMALL = 16 * 1024  # bytes; who holds no more than this need not be followed beyond its call
LEAST = 2 * 1024 * 1024  # bytes; an import holds as many at a time


class Budget:
    """The memory of one process. total: bytes of all tenants together."""

    __slots__ = ("_held", "total", "used")

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0
        self._held: dict[str, int] = {}

    def held(self, tenant: str) -> int:
        """Bytes that the tenant's calls hold."""
        return self._held.get(tenant, 0)

    def take(self, tenant: str, size: int, most: int, before: int = 0) -> None:
        """Count `size` bytes more of a body of which `before` are counted; the tenant may have `most`. Raises
        BodyTooLarge when it never fits, TenantLimit or StoreSaturated when it does not now; then nothing is
        counted. The connection is to end: the body is not read."""
        if before + size > min(most, self.total):
            limit = min(most, self.total)
            raise BodyTooLarge(f"A body may take at most {limit} bytes of memory here.", close=True)
        held = self._held.get(tenant, 0)
        if held + size > most:
            text = f"The tenant's requests under way hold {held} of {most} bytes that their bodies may take."
            raise TenantLimit(text, close=True)
        if self.used + size > self.total:
            text = "The bodies of the requests under way take all memory that there is for them."
            raise StoreSaturated(text, close=True)
        self._held[tenant] = held + size
        self.used += size

    def count(self, holder: str, size: int) -> bool:
        """Count `size` bytes more of a holder, if it may have them: as many in all as are then free for
        others. So one alone has at most half of all memory, two a third each, and one who holds nothing finds
        room (the dynamic thresholds of shared-memory switches, Choudhury and Hahne 1998). False: nothing is
        counted."""
        held = self._held.get(holder, 0) + size
        if held > self.total - self.used - size:
            return False
        self._held[holder] = held
        self.used += size
        return True

    def give_back(self, tenant: str, size: int) -> None:
        """Return `size` bytes that the tenant holds."""
        if size:
            self.used -= size
            decrement(self._held, tenant, size)


class Held:
    """What one call holds of a budget. most: bytes that its tenant may hold in all."""

    __slots__ = ("_budget", "_most", "_tenant", "size")

    def __init__(self, budget: Budget, tenant: str, most: int) -> None:
        self._budget = budget
        self._tenant = tenant
        self._most = most
        self.size = 0

    def grow(self, size: int) -> None:
        """Hold so many bytes more. Raises as Budget.take."""
        if size:
            self._budget.take(self._tenant, size, self._most, self.size)
            self.size += size

    def shrink(self, size: int) -> None:
        """Hold no more than this."""
        if self.size > size:
            self._budget.give_back(self._tenant, self.size - size)
            self.size = size

    def apart(self) -> Held:
        """What several calls of the tenant hold together is held by this, whichever of them ends first."""
        return Held(self._budget, self._tenant, self._most)

    def hand_over(self) -> Callable[[], None]:
        """From now on it is the caller's, until it calls what this gives."""
        size, self.size = self.size, 0
        return lambda: self._budget.give_back(self._tenant, size)
