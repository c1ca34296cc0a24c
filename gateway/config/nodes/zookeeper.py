"""The processes in ZooKeeper, beside the config: `PATH-nodes/ID` says what one runs, and has a child that
ends with its session. Who ends as it should removes both; of who is lost the first remains, and names it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict

from gateway.config.nodes.nodes import FORGOTTEN, SILENCE, Heard, Node, Unreachable
from gateway.config.zookeeper import Away, Conflict, Create, Forbidden, Put, Remove, ZooKeeper
from gateway.config.zookeeper import Node as ZNode

_AGAIN = 30.0  # seconds after which a report that says nothing new is written all the same
_FAILS = (Away, Forbidden, Conflict)


class ZooKeeperNodes:
    """See Registry. path: of the config. wall: seconds since the epoch."""

    shared = "zookeeper"

    def __init__(self, zookeeper: ZooKeeper, path: str, wall: Callable[[], float] = time.time) -> None:
        self._zookeeper = zookeeper
        self._folder = f"{path}-nodes"
        self._wall = wall
        self._told: tuple[bytes, float] = (b"", 0.0)

    async def report(self, node: Node) -> None:
        """See Registry."""
        data = json.dumps(asdict(node)).encode()
        try:
            if data != self._told[0] or self._wall() - self._told[1] > _AGAIN:
                await self._write(self._path(node.id), data)
            await self._stay_alive(self._alive(node.id))
        except _FAILS as error:
            self._told = b"", 0.0
            raise Unreachable from error

    async def _write(self, path: str, data: bytes) -> None:
        if await self._zookeeper.get(path) is None:
            await self._zookeeper.ensure(self._folder)
            await self._zookeeper.commit(Create(path, data))
        else:
            await self._zookeeper.commit(Put(path, data))
        self._told = data, self._wall()

    async def _stay_alive(self, path: str) -> None:
        """What an earlier session of this process left is replaced: it would go soon."""
        there = await self._zookeeper.get(path)
        if there is not None and there.owner == self._zookeeper.session:
            return
        before = (Remove(path),) if there is not None else ()
        await self._zookeeper.commit(*before, Create(path, b"", ephemeral=True))

    async def leave(self, id: str) -> None:
        """See Registry."""
        await self._remove(id, alive=True)

    async def _remove(self, id: str, *, alive: bool) -> None:
        path = self._path(id)
        try:
            if alive and await self._zookeeper.get(self._alive(id)) is not None:
                await self._zookeeper.commit(Remove(self._alive(id)))
            await self._zookeeper.commit(Remove(path))
        except Conflict:
            return
        except (Away, Forbidden) as error:
            raise Unreachable from error

    async def all(self) -> Sequence[Heard]:
        """See Registry."""
        try:
            found = []
            for id in await self._zookeeper.children(self._folder):
                there = await self._zookeeper.get(self._path(id))
                node = _parse(there)
                if there is None or node is None:
                    continue
                alive = await self._zookeeper.get(self._alive(id)) is not None
                if not alive and self._wall() - there.at > FORGOTTEN:
                    await self._remove(id, alive=False)
                    continue
                fresh = self._wall() - there.at < SILENCE  # a session may just be made anew
                found.append(Heard(node, self._wall() if alive else there.at, alive or fresh))
            return found
        except (Away, Forbidden) as error:
            raise Unreachable from error

    def _path(self, id: str) -> str:
        return f"{self._folder}/{id}"

    def _alive(self, id: str) -> str:
        return f"{self._folder}/{id}/alive"


def _parse(there: ZNode | None) -> Node | None:
    """None for what is not there, or what another version wrote."""
    try:
        return Node(**json.loads(there.data)) if there is not None else None
    except (ValueError, TypeError):
        return None
