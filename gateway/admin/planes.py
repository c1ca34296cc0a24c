"""What the admin listener asks of the data planes: one in this process, or one in each of its workers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

WAIT = 2.0  # seconds for an answer


class DataPlanes(Protocol):
    """All that serve. What can be asked by which name is in planes/shown.py."""

    async def ask(self, name: str, body: Any = None, wait: float = WAIT) -> list[Any]:
        """What each of them says, of those that answer in time. wait: seconds."""
        ...

    async def ask_one(self, name: str, body: Any = None) -> Any:
        """What any of them says. Raises StoreUnavailable where none answers."""
        ...

    async def metrics(self) -> Iterable[str]:
        """The metrics of all together, as pieces of OpenMetrics text; an empty one is a step of work."""
        ...

    async def workers(self, wait: float = WAIT) -> list[dict[str, Any]]:
        """The worker processes: `worker`, `id`, `pid`, `state` (starting, ready, leaving, or silent when it
        does not answer), and `revision` and `since` of the config that it has, None where that is not
        known. Empty where there is one process."""
        ...
