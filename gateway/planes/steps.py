"""Ends things in order: one that fails or hangs keeps none of the others from its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple

from gateway.runtime.periodic import Boundary

L = logging.getLogger(__name__)
ENDING = 4.0  # seconds that each part may take at the end


class Step(NamedTuple):
    """One step of an end. name: for the log, of one that may hang. seconds: after which it is left then, 0.0
    for no limit."""

    end: Callable[[], Awaitable[None] | None]
    name: str = ""
    seconds: float = 0.0


async def end(steps: Iterable[Step]) -> None:
    """Take them one after the other."""
    boundary = Boundary("the end of the gateway")
    for step in steps:
        with boundary:  # one that fails must not leave the others open, or a backend running
            if (waits := step.end()) is not None:
                await _at_most(step.seconds, step.name, waits)


async def end_tasks(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel them, and wait for their ends."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


async def _at_most(seconds: float, what: str, end: Awaitable[None]) -> None:
    """Wait for an end, 0.0 for as long as it takes; one that hangs is said and left."""
    try:
        async with asyncio.timeout(seconds or None):
            await end
    except TimeoutError:
        L.error(
            "%s has not ended within %g s, and is left: a disk or a process hangs. Acknowledged writes are"
            " stored",
            *(what, seconds),
        )
