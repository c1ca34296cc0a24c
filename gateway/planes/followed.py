"""The live config as a worker has it: what the master says is live."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from gateway.call import Snapshot
from gateway.config.compilation import Compiler


class FollowedConfig:
    """applied(new, old) runs after each swap; old is None the first time. current: the live snapshot, from
    the first one on."""

    current: Snapshot

    def __init__(self, compiler: Compiler, applied: Callable[[Snapshot, Snapshot | None], None]) -> None:
        self._compiler = compiler
        self._applied = applied
        self._lock = asyncio.Lock()

    async def take(self, told: dict[str, Any]) -> int:
        """Make a config live, after those that came before, unless it is; gives the number of its revision.
        told: see `told`. Raises Problems."""
        async with self._lock:
            old = self.current if hasattr(self, "current") else None
            live_at = told["revision"], told["loaded_at"]
            if old is not None and live_at == (old.revision, old.loaded_at):
                return old.revision
            compiled = await self._compiler.compile_apart(told["text"])
            new = compiled.made_live(*live_at, told["digest"])
            self.current = new
            self._applied(new, old)
        return new.revision


def told(snapshot: Snapshot, text: str) -> dict[str, Any]:
    """What a master tells of its live config."""
    return {
        "text": text,
        "revision": snapshot.revision,
        "loaded_at": snapshot.loaded_at,
        "digest": snapshot.digest,
    }
