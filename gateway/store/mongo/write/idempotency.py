"""Writes that are done once however often they are sent. The key is taken before the write, so that another
gateway sees it running; the result is remembered in the write's own transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from gateway.store.model import instants
from gateway.store.model.document import new_incarnation
from gateway.store.model.idempotency import (
    IDEMPOTENCY_SECONDS,
    IdempotencyKey,
    Result,
    remembered_size,
    result_from_text,
    result_to_text,
    still_running,
)
from gateway.store.mongo.driver import DuplicateKey, WriteConflict
from gateway.store.mongo.rows import IDEMPOTENCY, Row, date, joined
from gateway.store.mongo.write.writes import Writes

# A write that a gateway took with it when it died counts as running for so long; no write takes longer.
LEASE_SECONDS = 90.0

Finish = Callable[[Any, Result], Awaitable[None]]


class IdempotencyStore:
    """The idempotency keys of one tenant."""

    def __init__(self, writes: Writes) -> None:
        self._writes = writes
        self._driver = writes.driver
        self._tenant = writes.tenant

    async def run(
        self, key: IdempotencyKey, work: Callable[[Finish], Awaitable[Result]], *, counts: bool = True
    ) -> Result:
        """Do the work, which calls finish(session, result) at its end; or give what it gave before.

        counts: whether it needs room in the tenant's quota: a deletion does not. Raises IdempotencyMismatch,
        IdempotencyRunning, QuotaExceeded, and what the work raises: then the key is free."""
        lease = new_incarnation()
        remembered = await self._take(key, lease)
        if remembered is not None:
            key.mark_replayed()
            return result_from_text(remembered)

        async def finish(session: Any, result: Result) -> None:
            text = result_to_text(result)
            size = remembered_size(key, text)
            change = {"result": text, "n": size, "until": instants.now() + IDEMPOTENCY_SECONDS}
            held = self._query(key, {"lease": lease})
            change = {"$set": change, "$unset": {"x": ""}}
            if not await self._driver.update(IDEMPOTENCY, held, change, session):
                raise still_running()
            await self._writes.hold(session, size)

        try:
            if counts:
                await self._writes.require_bytes(remembered_size(key, ""))
            return await work(finish)
        except BaseException:
            # Not one with a result: a commit may have been done although its response was lost.
            await self._driver.delete(IDEMPOTENCY, self._query(key, {"lease": lease}, {"result": ""}))
            raise

    async def _take(self, key: IdempotencyKey, lease: str) -> str | None:
        """The remembered result; None: the key is taken for this write."""
        while True:
            now = instants.now()
            until = now + LEASE_SECONDS
            held: Row = {"f": key.fingerprint, "lease": lease, "until": until, "x": date(until), "result": ""}
            try:
                row = {"_id": joined(self._tenant, key.key), "t": self._tenant, **held}
                await self._driver.insert(IDEMPOTENCY, row)
                return None
            except (DuplicateKey, WriteConflict):
                known = await self._driver.find_one(IDEMPOTENCY, self._query(key))
            if known is None:
                continue  # let go in between
            if known["until"] <= now:
                query = self._query(key, {"lease": known["lease"]})
                if await self._driver.update(IDEMPOTENCY, query, {"$set": held, "$unset": {"n": ""}}):
                    await self._writes.hold(None, -known.get("n", 0))
                    return None
                continue
            key.require_same(bytes(known["f"]))
            if not known["result"]:
                raise still_running()
            return str(known["result"])

    def _query(self, key: IdempotencyKey, *conditions: Row) -> Row:
        return {"$and": [{"_id": joined(self._tenant, key.key)}, {"t": self._tenant}, *conditions]}
