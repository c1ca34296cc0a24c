"""How the work of a call is bounded: its total time, the memory of its body, its share of the event loop.

The total time is the route's, or less where the client says so. It counts from the head of the request to the
response, for the body too. What streams (an export, an import, a feed of changes) may take as long as it
likes; of an export and a feed it bounds the time until they begin.

The memory of a body is counted until its write is done, also when its client has left by then. A write that
was begun is not taken back; if the bodies of departed clients were not counted, any number of them could wait
in the store.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter
from typing import ParamSpec, TypeVar

from gateway.call import Call
from gateway.core.errors import GatewayError, RequestTimeout, StoreTimeout
from gateway.core.methods import SAFE
from gateway.core.policy import deadline
from gateway.core.policy.budget import SMALL
from gateway.store.model.write import MAX_BULK, Outcome, Write
from gateway.store.transfer import BulkStore

P = ParamSpec("P")
T = TypeVar("T")
L = logging.getLogger(__name__)


def seconds_left(call: Call) -> float | None:
    """What is left of the call's total time; None when it has no end. Raises BadRequest for an
    X-Request-Timeout that is not one."""
    assert call.route is not None
    total = deadline.shortened(call.route.timeouts, call.head.timeouts).total
    return max(0.0, total - (perf_counter() - call.started)) if total else None


async def within(call: Call, seconds: float | None, work: Awaitable[T]) -> T:
    """The result of `work`, cancelled after so many seconds (None: never). Raises RequestTimeout when the
    body did not come in time, else StoreTimeout."""
    if seconds is None:
        return await work
    try:
        async with asyncio.timeout(seconds) as timeout:
            return await work
    except TimeoutError:
        if not timeout.expired():
            raise
    if call.content is not None and not call.content.has_ended:
        raise RequestTimeout("The body did not come within the call's total time.", close=True)
    if call.method in SAFE:
        raise StoreTimeout("The response was not ready within the call's total time.")
    raise StoreTimeout("The write was not done within the call's total time. It may be done all the same.")


async def run_to_end(call: Call, work: Awaitable[T]) -> T:
    """The result of `work`, which continues when the call is cancelled. The memory that the call's body takes
    is given back when the work ends, not before."""
    held = call.held
    if held is None or held.size <= SMALL:
        return await work
    task = asyncio.ensure_future(work)
    give_back = held.hand_over()
    cancelled = False

    def end(task: asyncio.Future[T]) -> None:
        give_back()
        error = None if task.cancelled() else task.exception()
        if cancelled and error is not None and not isinstance(error, GatewayError):
            L.error("A bug in the gateway failed a write whose client had left", exc_info=error)

    task.add_done_callback(end)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        cancelled = True
        raise


async def give_way(call: Call) -> None:
    """Let others have the event loop, when the call has used up its slice of it. To be called before each
    small piece of what takes long."""
    if call.slice is not None:
        await call.slice.step()


class RunToEnd:
    """The store of an import (see `BulkStore`): each batch runs to its end, and its memory is counted until
    then."""

    def __init__(self, call: Call, store: BulkStore) -> None:
        self._call = call
        self._store = store

    async def work(self, function: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
        """As TenantStore.work."""
        return await self._store.work(function, *args, **more)

    async def bulk(
        self, collection: str, writes: Sequence[Write], *, most: int = MAX_BULK
    ) -> tuple[Outcome, ...]:
        """As TenantStore.bulk."""
        return await run_to_end(self._call, self._store.bulk(collection, writes, most=most))
