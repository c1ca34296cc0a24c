"""Rehearsals of another config with the last requests, beside those that are served: the texts are parsed and
compiled, and the requests judged, in a worker process.
"""

from __future__ import annotations

import asyncio
import gc
import pickle
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from gateway.config import strict_yaml
from gateway.core.config.rehearsal import Recorded, rehearse
from gateway.core.errors import Saturated, StoreSaturated, StoreUnavailable
from gateway.core.routing.compile import compile_data
from gateway.core.routing.problems import Problems, by_line
from gateway.core.routing.snapshot import Snapshot
from gateway.runtime.processes.pool import JobTooCostly, Limits, ProcessPool

_MB = 1024 * 1024
# That long on a busy machine. The worker stays, for what it compiled is needed again: it has 55 MiB more than
# at its start after configs of 1,000 routes.
_LIMITS = Limits(memory=512 * _MB, seconds=10.0, wall_time=45.0, growth=128 * _MB)
_WAITS = 60.0  # seconds for the rehearsal before this one
_WAITERS = 2  # each holds a config in memory meanwhile
_TENANT = ""  # of the jobs: operators

# The last requests, in slices: lists of the fields of `Recorded`, pickled.
Entries = Callable[[], Awaitable[Sequence[bytes]]]
Compiled = Snapshot[None, None]


class Rehearsals:
    """One at a time. live: gives the text of the live config. recent: gives the last requests. compile_with:
    the folders of sockets and of relative files, and the `iss` of gateway.conf's issuer, as for
    `compile_data`. `close` it at the end.

    Its worker is none of those of tenants: their jobs would have less memory in one that keeps configs."""

    def __init__(self, live: Callable[[], str], recent: Entries, compile_with: tuple[str, str, str]) -> None:
        self._pool = ProcessPool(1)
        self._live = live
        self._recent = recent
        self._compile_with = compile_with
        self._lock = asyncio.Lock()
        self._waiting = 0

    async def rehearse(self, text: str) -> dict[str, Any]:
        """What this config would answer otherwise than the live one; `took`: seconds. Raises Problems, each
        with its line; Saturated where the machine is too busy for it, or it is too large."""
        began = time.monotonic()
        if self._waiting >= _WAITERS:
            raise Saturated("A rehearsal is under way, and others wait for it.", retry_after=5)
        self._waiting += 1
        try:
            async with asyncio.timeout(_WAITS):
                await self._lock.acquire()
        except TimeoutError:
            raise Saturated("Another rehearsal is under way.", retry_after=5) from None
        finally:
            self._waiting -= 1
        try:
            slices = tuple(await self._recent())
            texts = self._live().encode(), text.encode()
            args = (*texts, self._compile_with, slices)
            outcome = await self._pool.run_within(_LIMITS, _TENANT, _rehearse, *args)
        except JobTooCostly as error:
            detail = f"The rehearsal takes too much {error.what}: it was ended."
            raise Saturated(detail, retry_after=30) from None
        except (StoreSaturated, StoreUnavailable) as error:  # words of whom the workers are for
            raise Saturated(error.detail, retry_after=5) from None
        finally:
            self._lock.release()
        return {**outcome, "took": round(time.monotonic() - began, 3)}

    async def close(self) -> None:
        """End the one that is under way, and its worker."""
        await self._pool.close()


# --- in the worker --------------------------------------------------------------------------------


def _rehearse(
    live: bytes, new: bytes, compile_with: tuple[str, str, str], slices: tuple[bytes, ...]
) -> dict[str, Any]:
    gc.disable()  # hardly anything here is a cycle, and to look for them takes as long as all else
    try:
        after = _compiled(new, compile_with)
        before = _compiled(live, compile_with)
        pieces = (pickle.loads(piece) for piece in slices)  # noqa: S301 - ours
        return rehearse(before, after, map(Recorded._make, chain.from_iterable(pieces)))
    finally:
        gc.enable()


@lru_cache(maxsize=2)  # the live one is the same, again and again
def _compiled(text: bytes, compile_with: tuple[str, str, str]) -> Compiled:
    """As config/compilation.py, without what serves. Raises Problems, each with its line."""
    document = strict_yaml.parse(text.decode())
    sockets, folder, local = compile_with

    def target(of: object) -> None:
        return None

    try:
        return compile_data(document.data, target, sockets, None, folder, local)
    except Problems as problems:
        raise Problems(by_line(map(document.locate, problems.items))) from None
