"""How many bytes of temporary files there may be: request bodies and responses that wait for a slower peer.

No number for each tenant would be right: a small one wastes the disk, a large one lets a few tenants fill it.
So a tenant may hold as much as is still free (dynamic thresholds, as in shared switch buffers; Choudhury and
Hahne 1998): one alone gets half of the budget, two that want all get a third each, and whoever comes then
still finds room.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.core.counts import decrement


class DiskBudget:
    """The temporary files of one process. total: bytes of all tenants together. on_refused: called for each
    file that may not grow."""

    __slots__ = ("_held", "_on_refused", "total", "used")

    def __init__(self, total: int, on_refused: Callable[[], None] = lambda: None) -> None:
        self.total = total
        self.used = 0
        self._on_refused = on_refused
        self._held: dict[str, int] = {}

    def held(self, key: str) -> int:
        """Bytes of one tenant."""
        return self._held.get(key, 0)

    def try_take(self, key: str, size: int) -> bool:
        """Count so many bytes more, if there is room for them."""
        held = self._held.get(key, 0) + size
        if held > self.total - self.used - size:
            self._on_refused()
            return False
        self._held[key] = held
        self.used += size
        return True

    def holds_most(self, key: str) -> bool:
        """Whether the tenant holds as much as those who hold anything do on average, so that the lack of room
        is its own doing."""
        held = self._held.get(key, 0)
        return held > 0 and held * len(self._held) >= self.used

    def give_back(self, key: str, size: int) -> None:
        """Return `size` bytes that the key holds."""
        if size:
            self.used -= size
            decrement(self._held, key, size)


class DiskUse:
    """What one temporary file takes of a budget."""

    __slots__ = ("_budget", "key", "size")

    def __init__(self, budget: DiskBudget, key: str) -> None:
        self._budget = budget
        self.key = key
        self.size = 0

    def try_grow(self, size: int) -> bool:
        """Let the file have so many bytes in all, if there is room."""
        if size <= self.size:
            return True
        if not self._budget.try_take(self.key, size - self.size):
            return False
        self.size = size
        return True

    @property
    def is_own_doing(self) -> bool:
        """Whether it is for what the same tenant holds that there is no room."""
        return self._budget.holds_most(self.key)

    def close(self) -> None:
        """The file is gone."""
        self._budget.give_back(self.key, self.size)
        self.size = 0
