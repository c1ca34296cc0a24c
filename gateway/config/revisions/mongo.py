"""The revisions in MongoDB, where several processes share them.

gateway_revisions      _id of its own, number, parent and the other fields of a revision
gateway_config_texts   _id the revision's, z its text, compressed
gateway_config_intents _id the process, z its draft in JSON, compressed

A revision has the newest one as its parent, and no two have the same parent: so of two that are added at once
one is refused. Its text is there before it, and goes after it.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import asdict
from typing import Any
from uuid import uuid4

from gateway.config.ports import KEPT, HeadMoved, NoRevision
from gateway.core.config.revision import (
    CONFIRMED,
    EXPIRED,
    Draft,
    Origin,
    Revision,
    digest_of,
    draft_of,
    json_with,
)
from gateway.core.errors import BodyTooLarge, StoreUnavailable
from gateway.runtime import threads
from gateway.store.mongo.driver import Driver, DuplicateKey, Unusable
from gateway.store.mongo.rows import Index, Row

REVISIONS, TEXTS, INTENTS = "gateway_revisions", "gateway_config_texts", "gateway_config_intents"
_INDEXES = (Index("number", ("number",), unique=True), Index("one_child", ("parent",), unique=True))
_NEWEST = (("number", -1),)
_WAITS = {"confirm_by": {"$gt": 0.0}}  # for its confirmation


class MongoRevisions:
    """See RevisionStore. driver: of its own, closed here. process: which one this is, over its restarts: what
    is intended is its own.

    A server that is away does not end the start; it is connected to with the first question that it answers.
    """

    def __init__(self, driver: Driver, process: str, kept: int = KEPT) -> None:
        self.name = driver.name
        self._driver = driver
        self._process = process
        self._kept = kept
        self._connected = False
        self._connecting = asyncio.Lock()

    async def start(self) -> None:
        """Raises StoreUnavailable where waiting does not help."""
        try:
            await self._server()
        except Unusable:
            raise
        except StoreUnavailable:
            pass  # it may come

    async def close(self) -> None:
        """See RevisionStore."""
        self._driver.close()

    async def _server(self) -> Driver:
        if not self._connected:
            async with self._connecting:
                await self._driver.connect()
                await self._driver.create(REVISIONS, _INDEXES)
                for name in (TEXTS, INTENTS):
                    await self._driver.create(name, [])
                self._connected = True
        return self._driver

    async def head(self) -> Revision | None:
        """See RevisionStore."""
        found = await self._first(await self._server())
        return _revision(found) if found else None

    async def _first(self, driver: Driver, query: Row | None = None, **more: Any) -> Row | None:
        """The newest; more: as of Driver.find."""
        async with aclosing(driver.find(REVISIONS, query or {}, sort=_NEWEST, limit=1, **more)) as rows:
            return await anext(rows, None)

    async def add(self, draft: Draft, parent: int, number: int = 0) -> Revision:
        """See RevisionStore. Raises OSError for a text that no document of MongoDB holds."""
        driver = await self._server()
        head = await self._first(driver)
        if head is not None and head["number"] != parent:
            raise HeadMoved(_revision(head))
        newest = head["number"] if head is not None else 0
        row = _row(draft, newest, max(number, newest + 1))
        compressed = await threads.run(threads.REVISIONS, zlib.compress, draft.text.encode())
        try:
            await driver.insert(TEXTS, {"_id": row["_id"], "z": compressed})
        except BodyTooLarge:
            raise OSError(f"{self.name}: compressed, the text is larger than 16 MB") from None
        try:
            await driver.insert(REVISIONS, row)
        except DuplicateKey:
            await driver.delete(TEXTS, {"_id": row["_id"]})
            raise HeadMoved(_revision(await self._first(driver) or row)) from None
        with suppress(StoreUnavailable):  # it is there, whatever becomes of the rest
            await driver.delete(INTENTS, {"_id": self._process})
            await self._forget(driver)
        return _revision(row)

    async def _forget(self, driver: Driver) -> None:
        """What is beyond the last that are kept, and not pinned; not what a confirmation goes back to: the
        newest that waits for nothing."""
        oldest = await self._first(driver, skip=self._kept - 1, fields=("number",))
        if oldest is None:
            return
        waits_not = await self._first(driver, {"confirm_by": 0.0}, fields=("number",))
        back_to = waits_not["number"] if waits_not is not None else 0
        query = {"number": {"$lt": oldest["number"], "$ne": back_to}, "pinned": False}
        async with aclosing(driver.find(REVISIONS, query, fields=("number",))) as rows:
            gone = [row async for row in rows]
        for row in gone:
            if await driver.delete(REVISIONS, {"_id": row["_id"], "pinned": False}):
                await driver.delete(TEXTS, {"_id": row["_id"]})

    async def get(self, number: int) -> Revision:
        """See RevisionStore."""
        return _revision(await self._named(number))

    async def _named(self, number: int) -> Row:
        row = await (await self._server()).find_one(REVISIONS, {"number": number})
        if row is None:
            raise _none(number)
        return row

    async def text(self, number: int) -> str:
        """See RevisionStore."""
        row = await self._named(number)
        found = await self._driver.find_one(TEXTS, {"_id": row["_id"]})
        if found is None:  # it has gone meanwhile
            raise _none(number)
        text = await threads.run(threads.REVISIONS, _unpacked, found["z"])
        if digest_of(text) != row["digest"]:
            raise OSError(f"{self.name}: the text of revision {number} is not what it was")
        return text

    async def page(self, before: int, limit: int) -> list[Revision]:
        """See RevisionStore."""
        query = {"number": {"$lt": before}} if before else {}
        rows: AsyncGenerator[Row, None] = (await self._server()).find(
            REVISIONS, query, sort=_NEWEST, limit=limit
        )
        async with aclosing(rows):
            return [_revision(row) async for row in rows]

    async def pin(self, number: int, *, pinned: bool) -> Revision:
        """See RevisionStore."""
        return await self._update(number, {}, {"pinned": pinned})

    async def confirm(self, number: int) -> Revision:
        """See RevisionStore."""
        change = {"confirm_by": 0.0, "confirmation": CONFIRMED}
        return await self._update(number, {**_WAITS, "confirmation": {"$ne": EXPIRED}}, change)

    async def expire(self, number: int) -> Revision:
        """See RevisionStore."""
        return await self._update(number, _WAITS, {"confirmation": EXPIRED})

    async def _update(self, number: int, only: Row, fields: Row) -> Revision:
        """only: what else it is to be; otherwise it stays as it is."""
        driver = await self._server()
        row = await driver.modify(REVISIONS, {"number": number, **only}, {"$set": fields})
        return _revision(row if row is not None else await self._named(number))

    async def intend(self, draft: Draft | None) -> None:
        """See RevisionStore. Each process has an intention of its own."""
        driver, mine = await self._server(), {"_id": self._process}
        if draft is None:
            await driver.delete(INTENTS, mine)
            return
        packed = await threads.run(threads.REVISIONS, _packed, draft)
        await driver.modify(INTENTS, mine, {"$set": {"z": packed}}, upsert=True)

    async def intended(self) -> Draft | None:
        """See RevisionStore."""
        row = await (await self._server()).find_one(INTENTS, {"_id": self._process})
        if row is None:
            return None
        return draft_of(json.loads(await threads.run(threads.REVISIONS, _unpacked, row["z"])))


def _packed(draft: Draft) -> bytes:
    return zlib.compress(json_with(draft.text, asdict(draft)).encode())


def _unpacked(data: bytes) -> str:
    return zlib.decompress(data).decode()


def _none(number: int) -> NoRevision:
    return NoRevision(f"there is no revision {number}, or it is not kept any more")


def _row(draft: Draft, parent: int, number: int) -> Row:
    return {
        "_id": uuid4().hex,
        "number": number,
        "parent": parent,
        "digest": draft.digest,
        "size": len(draft.text.encode()),
        "at": draft.at,
        **asdict(draft.origin),
        "restores": draft.restores,
        "pinned": False,
        "confirm_by": draft.confirm_by,
        "run": draft.run,
        "confirmation": "",
    }


def _revision(row: Row) -> Revision:
    return Revision(
        int(row["number"]),
        int(row["parent"]),
        row["digest"],
        int(row["size"]),
        float(row["at"]),
        Origin(row["author"], row["reason"], row["source"], row["address"]),
        int(row["restores"]),
        bool(row["pinned"]),
        float(row["confirm_by"]),
        row.get("run", ""),
        row.get("confirmation", ""),
    )
