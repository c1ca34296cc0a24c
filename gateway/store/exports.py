"""How many exports may be open, the same for all engines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.core.errors import StoreUnavailable, TenantLimit

MAX_EXPORTS = 4  # of one tenant at a time


class OpenExports:
    """The exports that are open, by tenant. max_tenants: how many tenants may have some; None is no limit."""

    def __init__(self, max_tenants: int | None = None) -> None:
        self._max_tenants = max_tenants
        self._open: Counter[str] = Counter()

    @contextmanager
    def count(self, tenant: str) -> Iterator[None]:
        """Around an export of this tenant. Raises TenantLimit, StoreUnavailable."""
        mine = self._open[tenant]
        if mine >= MAX_EXPORTS:
            raise TenantLimit(f"{MAX_EXPORTS} exports of the tenant are open already.", retry_after=10)
        if not mine and self._max_tenants is not None and len(self._open) >= self._max_tenants:
            raise StoreUnavailable("Too many exports are open.", retry_after=10)
        self._open[tenant] += 1
        try:
            yield
        finally:
            self._open[tenant] -= 1
            if not self._open[tenant]:
                del self._open[tenant]
