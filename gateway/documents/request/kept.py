"""What a body takes of memory is counted until its write is done, also when its client has left by then.

A write that was begun is not taken back. If whoever sends large bodies and leaves were forgotten at once, any
number of them could wait in the store.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import ParamSpec, TypeVar

from gateway.call import Call
from gateway.core.errors import GatewayError
from gateway.core.policy.budget import SMALL
from gateway.store.model.write import MAX_BULK, Outcome, Write
from gateway.store.transfer import Bulk

P = ParamSpec("P")
T = TypeVar("T")
L = logging.getLogger(__name__)


async def kept(call: Call, work: Awaitable[T]) -> T:
    """What `work` gives. It goes on when the call is cancelled, and only its end gives the memory back."""
    held = call.held
    if held is None or held.size <= SMALL:
        return await work
    task = asyncio.ensure_future(work)
    give_back = held.hand_over()

    left = False

    def end(task: asyncio.Future[T]) -> None:
        give_back()
        error = None if task.cancelled() else task.exception()
        if left and error is not None and not isinstance(error, GatewayError):
            L.error("A bug in the gateway failed a write whose client had left", exc_info=error)

    task.add_done_callback(end)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        left = True
        raise


async def step(call: Call) -> None:
    """Before each small piece of what takes long on the event loop: others have their turn."""
    if call.slice is not None:
        await call.slice.step()


class Keeping:
    """The store of an import: what a batch takes is counted until the batch is done."""

    def __init__(self, call: Call, store: Bulk) -> None:
        self._call = call
        self._store = store

    async def work(self, function: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
        return await self._store.work(function, *args, **more)

    async def bulk(
        self, collection: str, writes: Sequence[Write], *, most: int = MAX_BULK
    ) -> tuple[Outcome, ...]:
        return await kept(self._call, self._store.bulk(collection, writes, most=most))
