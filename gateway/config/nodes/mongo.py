"""The processes in MongoDB: a row for each, with the time by the server's clock at which it reported last.

gateway_nodes   _id of the process, node what it says, heard that time, x when the server removes it
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import asdict
from datetime import datetime

from gateway.config.nodes.nodes import FORGOTTEN, SILENCE, Heard, Node, Unreachable
from gateway.core.errors import StoreUnavailable
from gateway.store.mongo.driver import Driver
from gateway.store.mongo.rows import Index, date

NODES = "gateway_nodes"
_EXPIRY = Index("expiry", ("x",), expires=True)


class MongoNodes:
    """See Registry. driver: connected and closed by its owner. wall: seconds since the epoch."""

    shared = "mongodb"

    def __init__(self, driver: Driver, wall: Callable[[], float] = time.time) -> None:
        self._driver = driver
        self._wall = wall
        self._made = False
        self._now: datetime | None = None  # by the server's clock, when this process reported last

    async def report(self, node: Node) -> None:
        """See Registry."""
        try:
            if not self._made:
                await self._driver.create(NODES, [_EXPIRY])
                self._made = True
            fields = {"node": asdict(node), "x": date(self._wall() + FORGOTTEN)}
            change = {"$set": fields, "$currentDate": {"heard": True}}
            row = await self._driver.modify(NODES, {"_id": node.id}, change, upsert=True)
        except StoreUnavailable as error:
            raise Unreachable from error
        self._now = row["heard"] if row is not None else None

    async def leave(self, id: str) -> None:
        """See Registry."""
        try:
            await self._driver.delete(NODES, {"_id": id})
        except StoreUnavailable as error:
            raise Unreachable from error

    async def all(self) -> Sequence[Heard]:
        """See Registry. How long ago one was heard of is counted from this process's own report."""
        found = []
        try:
            async with aclosing(self._driver.find(NODES, {})) as rows:
                async for row in rows:
                    try:
                        node = Node(**row["node"])
                    except TypeError:  # of another version
                        continue
                    found.append(self._heard(node, row["heard"]))
        except StoreUnavailable as error:
            raise Unreachable from error
        return found

    def _heard(self, node: Node, at: datetime) -> Heard:
        silent = ((self._now or at) - at).total_seconds()
        return Heard(node, at.timestamp(), silent <= SILENCE)
