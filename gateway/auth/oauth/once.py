"""What may be used once where several processes, or machines, share it."""

from __future__ import annotations

from typing import Protocol


class Once(Protocol):
    """What may be used once (core/shared/once.py), wherever it was put."""

    async def put(self, key: str, value: str, seconds: float) -> bool:
        """False where the key is there already. Raises Away."""
        ...

    async def take(self, key: str) -> str | None:
        """Raises Away."""
        ...
