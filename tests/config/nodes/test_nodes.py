"""Which process runs which revision: one that lags, or is not heard of, is named."""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.config.nodes.mongo import MongoNodes
from gateway.config.nodes.nodes import LAG, Alone, Heard, Node, Nodes, Registry, Unreachable
from gateway.config.nodes.zookeeper import ZooKeeperNodes
from gateway.config.zookeeper import Remove, ZooKeeper
from gateway.core.process.listeners import Listen
from tests.eventually import eventually_await
from tests.store.mongo import server as mongo_server
from tests.support.zookeeper_server import zookeeper_server

OWN = f"{socket.gethostname()}-own"
NODE = Node("a", "host-a", 1, "127.0.0.1:8081", "1.0", 7, "d7", 100.0, 90.0, "zookeeper", True, False)


@dataclass
class Shared:
    """A registry in memory."""

    heard: list[Heard]
    away: bool = False
    shared: str = "zookeeper"

    async def report(self, node: Node) -> None:
        await self.leave(node.id)
        self.heard.append(Heard(node, 0.0, True))

    async def leave(self, id: str) -> None:
        self.heard = [one for one in self.heard if one.node.id != id]

    async def all(self) -> Sequence[Heard]:
        if self.away:
            raise Unreachable
        return self.heard


class Clock:
    at = 1000.0

    def __call__(self) -> float:
        return self.at


def nodes(registry: Registry, clock: Clock, revision: int = 7) -> Nodes:
    live: Any = SimpleNamespace(
        current=SimpleNamespace(revision=revision, digest=f"d{revision}", loaded_at=5.0),
        source=SimpleNamespace(kind="zookeeper", available=True),
        refusal=None,
    )
    return Nodes(registry, live, "own", [Listen("127.0.0.1", 8081)], now=clock, wall=clock)


def lagging(view: dict[str, Any]) -> dict[str, str]:
    return {one["id"]: one["why"] for one in view["nodes"] if one["lags"]}


async def test_a_process_that_is_alone_tells_of_itself() -> None:
    view = await nodes(Alone(), Clock()).view()
    (own,) = view["nodes"]
    assert (view["shared"], view["newest"], own["revision"], own["since"]) == (None, 7, 7, 5.0)
    assert own["self"] and not own["lags"] and own["host"] and own["pid"]


async def test_one_that_has_an_older_revision_for_a_while_lags_and_so_does_this_one() -> None:
    clock, registry = Clock(), Shared([Heard(replace(NODE, revision=6), 0.0, True)])
    one = nodes(registry, clock)
    assert not lagging(await one.view())
    clock.at += LAG + 1
    assert lagging(await one.view()) == {"a": "it has revision 6; 7 was there 6 s ago"}
    registry.heard = [Heard(replace(NODE, revision=8), 0.0, True)]
    assert not lagging(await one.view())
    clock.at += LAG + 1
    await one.look()
    assert lagging(await one.view()) == {OWN: "it has revision 7; 8 was there 6 s ago"}
    assert [node.node.id for node in registry.heard] == ["a", OWN]
    await one.close()
    assert [node.node.id for node in registry.heard] == ["a"]


async def test_one_that_is_not_heard_of_is_named() -> None:
    view = await nodes(Shared([Heard(NODE, 50.0, False)]), Clock()).view()
    assert lagging(view) == {"a": "not heard of for more than 10 s"}
    assert [one["seen"] for one in view["nodes"]] == [1000.0, 50.0]


async def test_where_the_others_cannot_be_asked_this_process_is_shown_and_that() -> None:
    registry = Shared([Heard(NODE, 0.0, True)], away=True)
    one = nodes(registry, Clock())
    await one.look()
    view = await one.view()
    assert not view["available"] and [node["id"] for node in view["nodes"]] == [OWN]


# --- the registries ---


def _later() -> float:
    """So late that a report is not fresh any more."""
    return time.time() + 60


Open = Callable[[], Registry]


@asynccontextmanager
async def in_zookeeper(folder: Path) -> AsyncIterator[tuple[Open, Callable[[str], Any]]]:
    with zookeeper_server(folder) as server:
        sessions = [ZooKeeper(server.servers) for _ in range(2)]
        for each in sessions:
            await each.start()

        async def lose(id: str) -> None:
            """As the end of its session does."""
            await sessions[0].commit(Remove(f"/gateway/config-nodes/{id}/alive"))

        left = list(sessions)
        yield (lambda: ZooKeeperNodes(left.pop(), "/gateway/config", _later)), lose
        for each in sessions:
            await each.close()


@asynccontextmanager
async def in_mongodb(folder: Path) -> AsyncIterator[tuple[Open, Callable[[str], Any]]]:
    with mongo_server.serve(folder) as uri:
        database = mongo_server.new_name()
        drivers = [mongo_server.driver(uri, database=database) for _ in range(2)]
        for each in drivers:
            await each.connect()

        async def lose(id: str) -> None:
            """As if it had not reported for a while."""
            row = await drivers[0].find_one("gateway_nodes", {"_id": id})
            assert row is not None
            earlier = row["heard"].replace(year=row["heard"].year - 1)
            await drivers[0].replace("gateway_nodes", {"_id": id}, {**row, "heard": earlier})

        left = list(drivers)
        yield (lambda: MongoNodes(left.pop())), lose
        for each in drivers:
            each.close()


@pytest.mark.parametrize("shared", [in_zookeeper, in_mongodb])
async def test_a_report_is_seen_by_others_until_its_process_leaves_or_is_lost(
    shared: Any, tmp_path: Path
) -> None:
    async with shared(tmp_path) as (open_one, lose):
        one, other = open_one(), open_one()

        async def alive() -> dict[str, tuple[int, bool]]:
            return {each.node.id: (each.node.revision, each.alive) for each in await other.all()}

        own = replace(NODE, id="b")
        await other.report(own)
        await one.report(NODE)
        assert await alive() == {"a": (7, True), "b": (7, True)}
        await one.report(replace(NODE, revision=8))
        assert await alive() == {"a": (8, True), "b": (7, True)}
        await lose("a")
        assert await alive() == {"a": (8, False), "b": (7, True)}
        await one.report(replace(NODE, revision=8))
        assert await alive() == {"a": (8, True), "b": (7, True)}
        await one.leave("a")
        assert await alive() == {"b": (7, True)}
        await one.leave("a")


async def test_a_process_whose_session_ends_is_lost_and_comes_back_with_the_next(tmp_path: Path) -> None:
    with zookeeper_server(tmp_path) as server:
        sessions = [ZooKeeper(server.servers) for _ in range(2)]
        for each in sessions:
            await each.start()
        one, other = (ZooKeeperNodes(each, "/config", _later) for each in sessions)
        await one.report(NODE)
        await sessions[0].close()

        async def lost() -> bool:
            return [each.alive for each in await other.all()] == [False]

        await eventually_await(lost)
        again = ZooKeeper(server.servers)
        await again.start()
        await ZooKeeperNodes(again, "/config").report(NODE)
        assert [each.alive for each in await other.all()] == [True]
        await again.close()
        await sessions[1].close()
