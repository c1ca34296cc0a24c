"""Long work in slices, each a write in the queue of its file, with those of others between them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from gateway.core.errors import GatewayError, StoreUnavailable
from gateway.store.model.collection import Collection
from gateway.store.model.write import NO_QUOTA, Quota
from gateway.store.sqlite.files.open_files import Files, TenantFile
from gateway.store.sqlite.write import alterations, trash
from gateway.store.sqlite.write.alterations import Altered, Begun
from gateway.store.sqlite.write.transaction import Operation, Pace, Transaction

T = TypeVar("T")

_log = logging.getLogger(__name__)

TURN_SECONDS = 0.05  # between two attempts while another alteration of the collection is under way
PAUSE_SECONDS = 0.003  # after a slice, for other processes, which try every 2 ms to write


class LongWrites:
    """The long work of a store. Nothing of it ends with its caller: run it in a task of its own."""

    def __init__(self, files: Files, pace: Pace) -> None:
        self._files = files
        self.pace = pace

    async def alter(
        self, tenant: str, begin: Callable[[Transaction], Begun | None], quota: Quota
    ) -> tuple[Collection, bool]:
        """An alteration to its end: the collection, and whether it was not declared before. What fails is
        turned back before it is raised; where that fails too, the sweep does it.

        begin: gives None while there is another alteration of the collection.
        """
        file = await self._files.acquire(tenant)
        try:
            begun = await self._turn(file, begin, quota)
            altered = begun.altered or await self._go_on(file, begun)
            if not altered.cleared:
                await self._clear(file)
            return altered.collection, begun.created
        finally:
            self._files.release(file)

    async def delete(self, tenant: str, begin: Callable[[Transaction], bool | None]) -> None:
        """The deletion of a collection, to its end. begin: as of alter; then, whether nothing is left."""
        file = await self._files.acquire(tenant)
        try:
            if not await self._turn(file, begin, NO_QUOTA):
                await self._clear(file)
        finally:
            self._files.release(file)

    async def resume(self, file: TenantFile) -> None:
        """Bring to its end what was left behind. The file has a user. Raises GatewayError."""
        _log.info("documents: %s: work that another process left behind is brought to its end", file.path)
        taken = await self._next(file, alterations.take_over)
        await self._clear(file)  # first: it makes room
        for name, token in taken:
            await self._advance(file, name, token)

    async def _turn(self, file: TenantFile, begin: Callable[[Transaction], T | None], quota: Quota) -> T:
        while True:
            begun: T | None = await file.writes.submit(Operation(begin, quota, alone=True))
            if begun is not None:
                return begun
            if self._files.closed:
                raise StoreUnavailable("The document store is closing.")
            await asyncio.sleep(TURN_SECONDS)

    async def _go_on(self, file: TenantFile, begun: Begun) -> Altered:
        try:
            return await self._advance(file, begun.name, begun.token)
        except GatewayError:
            with suppress(GatewayError):
                await self._next(file, alterations.turn_back(begun.name, begun.token))
                await self._clear(file)  # first: it makes room
                await self._advance(file, begun.name, begun.token)
            raise

    async def _advance(self, file: TenantFile, name: str, token: str) -> Altered:
        advance = alterations.advance(name, token, self.pace)
        while (altered := await self._next(file, advance)) is None:
            pass
        return altered

    async def _clear(self, file: TenantFile) -> None:
        """Clear the trash. Where that fails, what was asked for is done all the same; the sweep clears it."""
        with suppress(GatewayError):
            while not await self._next(file, trash.clear(self.pace)):
                pass

    async def _next(self, file: TenantFile, operation: Callable[[Transaction], T]) -> T:
        await asyncio.sleep(PAUSE_SECONDS)
        result: T = await file.writes.submit(Operation(operation, alone=True, taken=True))
        return result
