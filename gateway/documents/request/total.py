"""The total time of a call to documents: the route's, or less where the client says so.

It counts from the head to the answer, for the body too. What streams (an export, an import, a feed of
changes) may take as long as it likes; of an export and a feed it bounds the time until they begin.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from time import perf_counter
from typing import TypeVar

from gateway.call import Call
from gateway.core.errors import RequestTimeout, StoreTimeout
from gateway.core.policy import deadline

T = TypeVar("T")
_READS = frozenset({"GET", "HEAD", "QUERY", "OPTIONS"})


def seconds(call: Call) -> float | None:
    """What is left of the call's total time; None when it has no end. Raises BadRequest for an
    X-Request-Timeout that is none."""
    assert call.route is not None
    total = deadline.shortened(call.route.timeouts, call.head.timeouts).total
    return max(0.0, total - (perf_counter() - call.started)) if total else None


async def within(call: Call, left: float | None, work: Awaitable[T]) -> T:
    """What `work` gives. Raises RequestTimeout when the body did not come in time, else StoreTimeout."""
    if left is None:
        return await work
    try:
        async with asyncio.timeout(left) as clock:
            return await work
    except TimeoutError:
        if not clock.expired():
            raise
    if call.content is not None and not call.content.has_ended:
        raise RequestTimeout("The body did not come within the call's total time.", close=True)
    if call.method in _READS:
        raise StoreTimeout("The answer was not there within the call's total time.")
    raise StoreTimeout("The write was not done within the call's total time. It may be done all the same.")
