"""What every source of the config promises: what one process writes, another reads and is told of; of two
that write over the same, one is refused. On files, SQLite, a real ZooKeeper, and MongoDB's protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.cli.config.copying import copy, look
from gateway.config.ports import NOTHING, ConfigRefused, ConfigSource, SourceChanged
from gateway.config.revisions.mongo import MongoRevisions
from gateway.config.revisions.sqlite import FILE, SQLiteRevisions
from gateway.config.sources.file import FileSource
from gateway.config.sources.store import StoreSource
from gateway.config.sources.zookeeper import ZooKeeperSource
from gateway.config.zookeeper import ZooKeeper
from gateway.core.config.revision import Draft, Origin
from tests.eventually import eventually
from tests.store.mongo import server as mongo_server
from tests.support.zookeeper_server import zookeeper_server

ALICE = Origin("alice", "more seats", "api", "192.0.2.1")
NOW = 1_800_000_000.0
Pair = tuple[ConfigSource, ConfigSource]


@asynccontextmanager
async def in_a_file(folder: Path) -> AsyncIterator[Pair]:
    path = folder / "routing.yaml"
    path.write_text("a: 0\n")
    yield FileSource(path), FileSource(path)


@asynccontextmanager
async def in_sqlite(folder: Path) -> AsyncIterator[Pair]:
    stores = [SQLiteRevisions(folder / FILE) for _ in range(2)]
    await stores[0].start()
    yield StoreSource(stores[0], "store", "SQLite"), StoreSource(stores[1], "store", "SQLite")


@asynccontextmanager
async def in_mongodb(folder: Path) -> AsyncIterator[Pair]:
    with mongo_server.serve(folder) as uri:
        name = mongo_server.new_name()
        one, two = (MongoRevisions(mongo_server.driver(uri, database=name), each) for each in "ab")
        await one.start()
        await two.start()
        yield StoreSource(one, "mongodb", "MongoDB"), StoreSource(two, "mongodb", "MongoDB")
        await one.close()
        await two.close()


@asynccontextmanager
async def in_zookeeper(folder: Path) -> AsyncIterator[Pair]:
    with zookeeper_server(folder) as server:
        one, two = ZooKeeper(server.servers), ZooKeeper(server.servers)
        await one.start()
        await two.start()
        yield ZooKeeperSource(one, "/gateway/config"), ZooKeeperSource(two, "/gateway/config")
        await one.close()
        await two.close()


@pytest.fixture(params=[in_a_file, in_sqlite, in_mongodb, in_zookeeper])
async def pair(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Pair]:
    opened: Callable[[Path], AsyncIterator[Pair]] = request.param
    async with opened(tmp_path) as sources:  # type: ignore[attr-defined]
        yield sources


def draft(text: str) -> Draft:
    return Draft(text, ALICE, NOW)


async def test_two_processes_have_one_truth(pair: Pair) -> None:
    one, other = pair
    try:
        over = await one.read()
    except ConfigRefused as refused:
        assert refused.empty
        over = NOTHING
    text = "# ä\na: 1\n"
    first = await one.write(draft(text), over)
    assert (await other.read()).text == text == first.text
    assert one.available and other.available and one.kind == other.kind and one.name

    second = await other.write(draft("a: 2\n"), await other.read())
    with pytest.raises(SourceChanged):
        await one.write(draft("a: 3\n"), first)
    found = await one.read()
    assert (found.text, found.number) == ("a: 2\n", second.number)
    if found.number:
        assert (found.origin, found.at) == (ALICE, NOW) and found.number > first.number

    seen: list[str] = []

    async def changed() -> None:
        seen.append((await one.read()).text)

    watch = asyncio.create_task(one.watch(changed))
    try:
        for number in range(3, 6):
            await other.write(draft(f"a: {number}\n"), await other.read())
            await eventually(lambda n=number: f"a: {n}\n" in seen)
    finally:
        watch.cancel()
        await asyncio.wait([watch])


async def test_a_config_is_copied_from_a_file(pair: Pair, tmp_path: Path) -> None:
    target, other = pair
    path = tmp_path / "other.yaml"
    path.write_text("b: 1\n")
    source, origin = FileSource(path), Origin("alice", "", "copy")
    seen, over = await look(source, target)
    copied = await copy(source, seen, target, over, origin, NOW)
    found = await other.read()
    assert found.text == "b: 1\n"
    if found.number:
        assert found.origin == Origin("alice", f"copied from {path}", "copy")
    seen, over = await look(source, target)
    again = await copy(source, seen, target, over, origin, NOW)
    assert (again.text, again.number) == (copied.text, copied.number)
