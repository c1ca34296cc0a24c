"""Two gateways whose config is in ZooKeeper, on a real server: what one applied, the other confirms, or takes
back when the first one is gone; an answer that is lost loses neither author nor time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from gateway.config.compilation import Compiler
from gateway.config.live import LiveConfig
from gateway.config.nodes.run import Run
from gateway.config.ports import ConfigRefused, WaitsNot
from gateway.config.revisions.sqlite import FILE, SQLiteRevisions
from gateway.config.sources.file import FileSource
from gateway.config.sources.zookeeper import ZooKeeperSource
from gateway.config.zookeeper import Away, Put, Step, ZooKeeper
from gateway.core.config.revision import Draft, Origin, Pending
from tests.fakes import NOWHERE, MemoryAudit
from tests.support.zookeeper_server import ZooKeeperServer, zookeeper_server

ALICE = Origin("alice", "more room", "api", "192.0.2.1")
BOB = Origin("bob", "", "api", "192.0.2.2")
ROUTES = "version: 1\nroutes:\n"
A, B = (f"{ROUTES}  - {{ name: {name}, path: /{name}, target: documents }}\n" for name in "ab")
WALL = 1_800_000_000.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZooKeeperServer]:
    with zookeeper_server(tmp_path_factory.mktemp("zookeeper")) as server:
        yield server


class Gateways:
    """Each with a data folder of its own; their time passes here alone."""

    def __init__(self, server: ZooKeeperServer, folder: Path, stack: AsyncExitStack) -> None:
        self.now = 1000.0
        self._server, self._folder, self._stack = server, folder, stack
        (folder / "routing.yaml").write_text(A)

    async def start(self, name: str) -> LiveConfig:
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        zookeeper = ZooKeeper(self._server.servers)
        await zookeeper.start()
        self._stack.push_async_callback(zookeeper.close)
        run = Run(folder, name)
        run.start()
        self._stack.callback(run.close)
        revisions = SQLiteRevisions(folder / FILE)
        await revisions.start()
        source = ZooKeeperSource(zookeeper, f"/{self._folder.name}/config")
        clocks: dict[str, Any] = {"now": lambda: self.now, "wall": lambda: WALL + self.now - 1000}
        live = LiveConfig(
            *(source, revisions, MemoryAudit(), revisions, Compiler(lambda backend: NOWHERE, "")),
            seed=FileSource(self._folder / "routing.yaml"),
            run=run,
            **clocks,
        )
        await live.load_first()
        return live

    def draft(self, text: str, confirm_in: float) -> Draft:
        wall = WALL + self.now - 1000
        return Draft(text, ALICE, wall, confirm_by=wall + confirm_in)


@pytest.fixture
async def gateways(server: ZooKeeperServer, tmp_path: Path) -> AsyncIterator[Gateways]:
    async with AsyncExitStack() as stack:
        yield Gateways(server, tmp_path, stack)


async def test_what_one_applied_the_other_confirms(gateways: Gateways) -> None:
    one, other = await gateways.start("one"), await gateways.start("other")
    with pytest.raises(WaitsNot):
        await other.confirm(BOB, 1)
    await one.apply(gateways.draft(B, 60), 1)
    assert await other.reload() and other.pending == one.pending == Pending(2, 1, WALL + 60)
    assert (await other.confirm(BOB, 2)).confirm_by == 0.0
    gateways.now += 61
    await one.tick()
    for live in (one, other):
        assert (live.text, live.pending, live.head.number) == (B, None, 2)
        assert (await live.revisions.get(2)).confirm_by == 0.0


async def test_when_the_one_that_applied_it_is_gone_another_takes_it_back(gateways: Gateways) -> None:
    one, other = await gateways.start("one"), await gateways.start("other")
    await one.apply(gateways.draft(B, 60), 1)
    assert await other.reload()
    late = await gateways.start("late")  # it does not take it back at once
    assert late.text == B and late.pending is not None
    gateways.now += 64
    await other.tick()
    assert other.text == B
    gateways.now += 2
    await late.tick()  # it has never seen what was live before, and leaves it to who has
    assert (await late.source.read()).confirm_by and late.text == B
    await other.tick()
    assert await late.reload()
    for live in (other, late):
        assert (live.text, live.pending, live.head.number, live.head.restores) == (A, None, 3, 1)


@pytest.mark.parametrize("answer", ["lost", "unknown"])
async def test_an_answer_that_is_lost_loses_neither_author_nor_time(
    gateways: Gateways, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await gateways.start("one")
    commit, get = ZooKeeper.commit, ZooKeeper.get
    gone = []

    async def lost(self: ZooKeeper, *steps: Step) -> None:
        await commit(self, *steps)
        if any(isinstance(step, Put) and step.data == B.encode() for step in steps):
            gone.append(answer)
            raise Away

    async def away(self: ZooKeeper, path: str) -> Any:
        if "unknown" in gone:
            raise Away
        return await get(self, path)

    with monkeypatch.context() as broken:
        broken.setattr(ZooKeeper, "commit", lost)
        broken.setattr(ZooKeeper, "get", away)
        broken.setattr("gateway.config.sources.zookeeper._PAUSE", 0.0)
        if answer == "unknown":
            with pytest.raises(ConfigRefused):
                await one.apply(gateways.draft(B, 60), 1)
        else:
            await one.apply(gateways.draft(B, 60), 1)
    assert await one.reload()
    assert (one.text, one.head.number, one.head.origin) == (B, 2, ALICE)
    assert one.pending == Pending(2, 1, WALL + 60)
    assert await one.revisions.intended() is None
    gateways.now += 61
    await one.tick()
    assert one.text == A
