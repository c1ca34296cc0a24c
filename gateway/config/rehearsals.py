"""Rehearsals of another config with the last requests, beside those that are served: the texts are parsed and
compiled, and the requests judged, in a worker process. Here they are only pickled, in slices.
"""

from __future__ import annotations

import asyncio
import pickle
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from gateway.config import strict_yaml
from gateway.core.config.rehearsal import Recorded, rehearse
from gateway.core.errors import Saturated, StoreSaturated, StoreUnavailable
from gateway.core.routing.compile import compile_data
from gateway.core.routing.problems import Problems, by_line
from gateway.core.routing.snapshot import Snapshot
from gateway.runtime.processes.pool import JobTooCostly, Limits, ProcessPool

_LIMITS = Limits(memory=512 * 1024 * 1024, seconds=10.0, wall_time=45.0)  # that long on a busy machine
_SLICE = 100  # requests that are pickled at a time: a quarter of a millisecond
_WAITS = 60.0  # seconds for the rehearsal before this one
_TENANT = ""  # the workers are shared fairly with those of tenants, none of which has this name

Entries = Callable[[], Sequence[tuple[Any, ...]]]
Compiled = Snapshot[None, None]


class Rehearsals:
    """One at a time. live: gives the text of the live config. recent: the fields of the last requests, see
    `Recorded`. compile_with: the folders of sockets and of relative files, and the `iss` of gateway.conf's
    issuer, as for `compile_data`."""

    def __init__(
        self, pool: ProcessPool, live: Callable[[], str], recent: Entries, compile_with: tuple[str, str, str]
    ) -> None:
        self._pool = pool
        self._live = live
        self._recent = recent
        self._compile_with = compile_with
        self._lock = asyncio.Lock()

    async def rehearse(self, text: str) -> dict[str, Any]:
        """What this config would answer otherwise than the live one; `took`: seconds. Raises Problems, each
        with its line; Saturated where the machine is too busy for it, or it is too large."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(_WAITS):
                await self._lock.acquire()
        except TimeoutError:
            raise Saturated("Another rehearsal is under way.", retry_after=5) from None
        try:
            slices = await _pickled(self._recent())
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


async def _pickled(entries: Sequence[tuple[Any, ...]]) -> tuple[bytes, ...]:
    """The entries, without holding the event loop up."""
    slices = []
    for at in range(0, len(entries), _SLICE):
        slices.append(pickle.dumps(entries[at : at + _SLICE], 5))
        await asyncio.sleep(0)
    return tuple(slices)


# --- in the worker --------------------------------------------------------------------------------


def _rehearse(
    live: bytes, new: bytes, compile_with: tuple[str, str, str], slices: tuple[bytes, ...]
) -> dict[str, Any]:
    after = _compiled(new, compile_with)
    before = _compiled(live, compile_with)
    requests = (Recorded._make(entry) for piece in slices for entry in pickle.loads(piece))  # noqa: S301 - ours
    return rehearse(before, after, requests)


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
