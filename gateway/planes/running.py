"""The gateway as it runs: both planes in one process (app.py), or a master with its workers (master.py)."""

from __future__ import annotations

from typing import Any, Protocol

from gateway.admin.web import View
from gateway.core.process.listeners import Listen
from gateway.telemetry.metrics import Metrics


class Running(View, Protocol):
    """start() once, drain() once. bound: the public listeners, with the ports that the system chose. metrics:
    of this process. store_available: whether documents are served."""

    metrics: Metrics

    @property
    def store_available(self) -> bool: ...

    @property
    def bound(self) -> list[Listen]: ...

    async def start(self) -> None:
        """Serve. Stops all again when it fails, and raises why."""
        ...

    async def drain(self) -> None:
        """Refuse readiness, finish what is in flight, end all."""
        ...

    async def give_up(self) -> None:
        """Drain before anybody was told that it serves."""
        ...

    async def reload(self) -> dict[str, Any]:
        """What SIGHUP asks for, beside the logs; gives what came of it, see admin/v1/nodes.py."""
        ...

    async def reopen_logs(self, why: str) -> None:
        """Go on in new files."""
        ...

    def end_children(self) -> None:
        """In any thread: leave no process running, at once."""
        ...

    def kill(self) -> None:
        """Leave nothing running, at once."""
        ...
