"""Work that is done again and again beside the requests, in a task of its own."""

from __future__ import annotations

import asyncio


class Rounds:
    """A round every so many seconds, the first one after that time. start() once, close() once."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._task: asyncio.Task[None] | None = None

    async def round(self) -> None:
        """One round; what it raises ends them all."""
        raise NotImplementedError

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            await self.round()
