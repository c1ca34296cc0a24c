"""The config in ZooKeeper, on a real server: one truth for several gateways, who agree on its numbers too;
what anyone changes is seen at once; a server that is away takes nothing away."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from gateway.config.ports import NOTHING, ConfigRefused, SourceChanged
from gateway.config.sources.zookeeper import ZooKeeperSource
from gateway.config.zookeeper import Away, Conflict, Create, Forbidden, Put, Remove, ZooKeeper
from gateway.core.config.revision import Draft, Origin, digest_of
from tests.eventually import eventually, eventually_await, head_start, nothing_for
from tests.support.zookeeper_server import ZooKeeperServer, zookeeper_server

ALICE = Origin("alice", "more seats", "api", "192.0.2.1")
NOW = 1_800_000_000.0
_paths = count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZooKeeperServer]:
    with zookeeper_server(tmp_path_factory.mktemp("zookeeper")) as server:
        yield server


@pytest.fixture
async def zookeeper(server: ZooKeeperServer) -> AsyncIterator[ZooKeeper]:
    async with connected(server) as one:
        yield one


@asynccontextmanager
async def connected(server: ZooKeeperServer, credentials: str = "") -> AsyncIterator[ZooKeeper]:
    one = ZooKeeper(server.servers, credentials=credentials)
    await one.start()
    try:
        yield one
    finally:
        await one.close()


@pytest.fixture
def path() -> str:
    return f"/gateways/{next(_paths)}/config"


@pytest.fixture
def source(zookeeper: ZooKeeper, path: str) -> ZooKeeperSource:
    return ZooKeeperSource(zookeeper, path)


def draft(text: str, origin: Origin = ALICE, restores: int = 0) -> Draft:
    return Draft(text, origin, NOW, restores)


async def set_by_hand(zookeeper: ZooKeeper, path: str, data: bytes) -> None:
    """As zkCli does: `set PATH DATA`, or `create`."""
    node = await zookeeper.get(path)
    if node is None:
        await zookeeper.ensure(path)
    await zookeeper.commit(Put(path, data))


async def refusal(source: ZooKeeperSource) -> ConfigRefused:
    with pytest.raises(ConfigRefused) as caught:
        await source.read()
    return caught.value


# --- reading and writing ---


async def test_the_node_has_the_very_text_and_beside_it_who_and_why(
    server: ZooKeeperServer, zookeeper: ZooKeeper, source: ZooKeeperSource, path: str
) -> None:
    assert (await refusal(source)).empty
    text = "# ä\nversion: 1\n"
    written = await source.write(draft(text, restores=3), NOTHING)
    node = await zookeeper.get(path)
    assert node is not None and node.data == text.encode()
    async with connected(server) as another:
        found = await ZooKeeperSource(another, path).read()
    assert found == written
    assert (found.text, found.origin, found.number, found.at, found.restores) == (text, ALICE, 1, NOW, 3)


async def test_of_two_that_write_over_the_same_the_second_is_refused(
    source: ZooKeeperSource, zookeeper: ZooKeeper, path: str
) -> None:
    first = await source.write(draft("a: 1\n"), NOTHING)
    other = ZooKeeperSource(zookeeper, path)
    second = await other.write(draft("a: 2\n"), await other.read())
    for over in (first, NOTHING):
        with pytest.raises(SourceChanged):
            await source.write(draft("a: 3\n"), over)
    assert await source.read() == second
    assert second.number == 2


async def test_of_two_that_begin_with_nothing_one_wins(
    server: ZooKeeperServer, source: ZooKeeperSource, path: str
) -> None:
    async with connected(server) as another:
        other = ZooKeeperSource(another, path)
        written = await asyncio.gather(
            source.write(draft("a: 1\n"), NOTHING),
            other.write(draft("b: 1\n"), NOTHING),
            return_exceptions=True,
        )
        won = [one for one in written if not isinstance(one, BaseException)]
        assert len(won) == 1 and [type(one) for one in written if one not in won] == [SourceChanged]
        assert await source.read() == await other.read() == won[0]


async def test_a_number_is_above_that_of_what_it_replaces(source: ZooKeeperSource) -> None:
    first = await source.write(draft("a: 1\n"), NOTHING)
    assert (await source.write(draft("a: 2\n"), replace(first, number=40))).number == 41


async def test_many_writers_lose_no_write(server: ZooKeeperServer, path: str) -> None:
    async with connected(server) as one, connected(server) as other:
        sources = [ZooKeeperSource(each, path) for each in (one, other)]
        await sources[0].write(draft("a: 0\n"), NOTHING)
        numbers = []

        async def write(source: ZooKeeperSource, text: str) -> None:
            while True:
                try:
                    numbers.append((await source.write(draft(text), await source.read())).number)
                    return
                except SourceChanged:
                    continue

        await asyncio.gather(*(write(each, f"a: {n}\n") for n, each in enumerate(sources * 5)))
        assert sorted(numbers) == list(range(2, 12))


async def test_a_text_beyond_zookeepers_megabyte_is_refused_before_it_is_sent(
    source: ZooKeeperSource, zookeeper: ZooKeeper
) -> None:
    first = await source.write(draft("a: 1\n"), NOTHING)
    with pytest.raises(ConfigRefused) as caught:
        await source.write(draft("#" * 1_048_576), first)
    (problem,) = caught.value.problems
    assert "1048576" not in problem.hint and "takes" in problem.reason and not caught.value.transient
    assert zookeeper.available and await source.read() == first
    large = await source.write(draft("#" * (1024 * 1024 - 6000)), first)
    assert await source.read() == large


# --- what waits for its confirmation ---


def waiting(text: str) -> Draft:
    return replace(draft(text), confirm_by=NOW + 60, run="here/1")


async def test_all_gateways_are_told_that_it_waits_and_when_it_is_confirmed_by_one_of_them(
    server: ZooKeeperServer, source: ZooKeeperSource, path: str
) -> None:
    async with connected(server) as another, watching(source) as seen:
        other = ZooKeeperSource(another, path)
        written = await source.write(waiting("a: 1\n"), NOTHING)
        found = await other.read()
        assert found == written and (found.confirm_by, found.run) == (NOW + 60, "here/1")
        await eventually(lambda: seen[-1] == "a: 1\n")
        told = len(seen)
        confirmed = await other.confirm(found)
        assert confirmed == await source.read() == replace(found, version=confirmed.version, confirm_by=0.0)
        await eventually(lambda: len(seen) > told)  # nobody has to look again and again


async def test_of_who_confirms_and_who_takes_back_at_once_one_comes_through(
    server: ZooKeeperServer, source: ZooKeeperSource, path: str
) -> None:
    async with connected(server) as another:
        other = ZooKeeperSource(another, path)
        before = await source.write(draft("a: 0\n"), NOTHING)
        for text in ("a: 1\n", "a: 2\n"):
            before = found = await source.write(waiting(text), before)
            results = await asyncio.gather(
                other.confirm(found), source.write(draft("a: 0\n"), found), return_exceptions=True
            )
            assert [type(one) for one in results].count(SourceChanged) == 1
            before = await source.read()


# --- what others write ---


async def test_a_text_that_is_set_by_hand_gets_one_number_from_all_gateways(
    server: ZooKeeperServer, zookeeper: ZooKeeper, source: ZooKeeperSource, path: str
) -> None:
    await source.write(draft("a: 1\n"), NOTHING)
    await set_by_hand(zookeeper, path, b"a: 2\n")
    async with connected(server) as another:
        other = ZooKeeperSource(another, path)
        one, two = await asyncio.gather(source.read(), other.read())
        assert one == two and one.number == 2 and one.origin == Origin("zookeeper", "", "zookeeper")
        third = await other.write(draft("a: 3\n"), two)
    assert third.number == 3 == (await source.read()).number


@pytest.mark.parametrize("beside", [b"", b"x", b"[]", b"{}", b'{"digest": 1}', b"\xff", b'{"number": true}'])
async def test_what_somebody_wrote_beside_it_does_not_matter(
    zookeeper: ZooKeeper, source: ZooKeeperSource, path: str, beside: bytes
) -> None:
    await set_by_hand(zookeeper, path, b"a: 1\n")
    await set_by_hand(zookeeper, f"{path}-revision", beside)
    found = await source.read()
    assert (found.text, found.number) == ("a: 1\n", 1)
    about = await zookeeper.get(f"{path}-revision")
    assert about is not None and json.loads(about.data)["digest"] == digest_of("a: 1\n")


@pytest.mark.parametrize(("data", "reason"), [(b"", "empty"), (b" \n", "empty"), (b"a: \xe4\n", "not UTF-8")])
async def test_a_node_without_a_text_is_refused_and_can_be_written(
    zookeeper: ZooKeeper, source: ZooKeeperSource, path: str, data: bytes, reason: str
) -> None:
    await source.write(draft("a: 1\n"), NOTHING)
    await set_by_hand(zookeeper, path, data)
    refused = await refusal(source)
    assert reason in refused.problems[0].reason and not refused.transient
    assert refused.path == f"zookeeper://127.0.0.1:{zookeeper.name.rpartition(':')[2]}{path}"
    if refused.empty:
        assert (await source.write(draft("a: 2\n"), NOTHING)).number == 2


async def test_a_node_that_was_removed_is_refused_and_can_be_made_again(
    zookeeper: ZooKeeper, source: ZooKeeperSource, path: str
) -> None:
    first = await source.write(draft("a: 1\n"), NOTHING)
    await zookeeper.commit(Remove(path))
    assert (await refusal(source)).empty
    with pytest.raises(SourceChanged):
        await source.write(draft("a: 2\n"), first)
    assert (await source.write(draft("a: 2\n"), NOTHING)).number == 2


# --- watching ---


@asynccontextmanager
async def watching(source: ZooKeeperSource) -> AsyncIterator[list[str]]:
    """What was seen, each time that it may have changed; "" for what is refused."""
    seen: list[str] = []

    async def changed() -> None:
        try:
            seen.append((await source.read()).text)
        except ConfigRefused:
            seen.append("")

    task = asyncio.create_task(source.watch(changed))
    try:
        await eventually(lambda: seen)
        yield seen
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_each_change_by_anyone_is_seen(
    server: ZooKeeperServer, zookeeper: ZooKeeper, source: ZooKeeperSource, path: str
) -> None:
    async with connected(server) as another, watching(source) as seen:
        other = ZooKeeperSource(another, path)
        found = NOTHING
        for number in range(5):
            found = await other.write(draft(f"a: {number}\n"), found)
            await eventually(lambda n=number: seen[-1] == f"a: {n}\n")
        await another.commit(Remove(path))
        await eventually(lambda: seen[-1] == "")
        await another.commit(Create(path, b"b: 1\n"))
        await eventually(lambda: seen[-1] == "b: 1\n")
        await another.commit(Put(path, b"b: 2\n"))
        await eventually(lambda: seen[-1] == "b: 2\n")
        told = len(seen)
        await nothing_for(0.3)
        assert len(seen) == told


# --- a server that goes and comes ---


async def test_a_session_that_was_lost_is_made_anew_and_what_changed_meanwhile_is_seen(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with zookeeper_server(tmp_path) as server:
        async with connected(server) as zookeeper, connected(server) as another:
            source = ZooKeeperSource(zookeeper, "/config")
            found = await source.write(draft("a: 1\n"), NOTHING)
            async with watching(source) as seen:
                before = zookeeper.session
                server.stand_still()
                await eventually(lambda: not zookeeper.available)
                refused = await refusal(source)
                assert refused.transient and "does not answer" in refused.problems[0].reason
                with pytest.raises(ConfigRefused):
                    await source.write(draft("a: 2\n"), found)
                # The session ends by then, of 1.6 s at most, unless its client is heard before the server
                # has looked at its clock.
                while True:
                    await head_start(2.0)
                    server.go_on()
                    await eventually_await(lambda: comes(another))
                    await eventually_await(lambda: comes(zookeeper))
                    if zookeeper.session != before:
                        break
                    server.stand_still()
                await another.commit(Put("/config", b"a: 3\n"))
                await eventually(lambda: seen[-1] == "a: 3\n" and zookeeper.available)
                assert zookeeper.session != before
                server.kill()
                await eventually(lambda: not zookeeper.available)
                server.start()
                await eventually(lambda: zookeeper.available)
                await eventually_await(lambda: comes(another))
                await another.commit(Put("/config", b"a: 4\n"))
                await eventually(lambda: seen[-1] == "a: 4\n")
    told = [record.getMessage() for record in caplog.records if "does not answer" in record.getMessage()]
    assert 2 <= len(told) <= 6


async def test_servers_that_have_lost_their_data_are_connected_to_all_the_same(tmp_path: Path) -> None:
    with zookeeper_server(tmp_path) as server:
        async with connected(server) as zookeeper:
            await zookeeper.ensure("/a/b/c")
            server.kill()
            shutil.rmtree(tmp_path / "data")
            server.start()
            await eventually_await(lambda: comes(zookeeper))
            assert (await refusal(ZooKeeperSource(zookeeper, "/config"))).empty


async def comes(zookeeper: ZooKeeper) -> bool:
    try:
        await zookeeper.get("/config")
    except Away:
        return False
    return True


async def test_without_a_server_nothing_waits_for_long_and_the_end_neither(tmp_path: Path) -> None:
    async with connected(ZooKeeperServer(tmp_path)) as zookeeper:
        source = ZooKeeperSource(zookeeper, "/config")
        assert (await refusal(source)).transient
        assert not source.available


# --- who may ---


async def test_with_credentials_only_their_user_reads_what_is_made_and_no_text_tells_them(
    server: ZooKeeperServer, path: str
) -> None:
    async with connected(server, "gateway:s3cr3t") as ours, connected(server) as others:
        source = ZooKeeperSource(ours, path)
        await source.write(draft("a: 1\n"), NOTHING)
        assert "s3cr3t" not in repr(ours) + ours.name + source.name
        with pytest.raises(Forbidden):
            await others.get(path)
        refused = await refusal(ZooKeeperSource(others, path))
        assert "does not let" in refused.problems[0].reason and not refused.transient
        async with connected(server, "gateway:s3cr3t") as again:
            assert (await ZooKeeperSource(again, path).read()).text == "a: 1\n"


async def test_steps_are_done_all_or_none(zookeeper: ZooKeeper, path: str) -> None:
    await zookeeper.ensure(path)
    with pytest.raises(Conflict):
        await zookeeper.commit(Put(path, b"x"), Put(path, b"y", 7))
    node = await zookeeper.get(path)
    assert node is not None and node.data == b""
