"""What may be used once: a value under a key, until it is taken or its time is over."""

from __future__ import annotations

_MOST = 150_000


class Full(Exception):
    """There is no room for another one."""


class OnceBook:
    """The values that wait. Those of one life are kept apart: the first of them is the first that ends."""

    def __init__(self) -> None:
        self._by_life: dict[float, dict[str, tuple[str, float]]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._by_life.values()))

    def put(self, key: str, value: str, seconds: float, now: float) -> bool:
        """Keep a value. False where the key is there already. Raises Full."""
        self._forget(now)
        if any(key in kept for kept in self._by_life.values()):
            return False
        if len(self) >= _MOST:
            raise Full
        self._by_life.setdefault(seconds, {})[key] = (value, now + seconds)
        return True

    def take(self, key: str, now: float) -> str | None:
        """The value of a key, which is gone after that; None where there is none."""
        self._forget(now)
        for kept in self._by_life.values():
            if key in kept:
                return kept.pop(key)[0]
        return None

    def _forget(self, now: float) -> None:
        for kept in self._by_life.values():
            while kept:
                oldest = next(iter(kept))
                if kept[oldest][1] > now:
                    break
                del kept[oldest]
