"""What every store of revisions promises: numbered for ever, kept to the byte, bounded, no two with one
parent. In config.sqlite, and in MongoDB (tests/store/mongo/server.py has what speaks its protocol here)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.config.ports import HeadMoved, NoRevision, RevisionStore
from gateway.config.revisions.mongo import MongoRevisions
from gateway.config.revisions.sqlite import FILE, KEPT, SQLiteRevisions
from gateway.core.config.revision import CONFIRMED, EXPIRED, Draft, Origin, Revision
from tests.store.mongo import server as mongo_server

NOW = 1_800_000_000.0
ALICE = Origin("alice", "more seats", "api", "192.0.2.1")
ENGINES = ("sqlite", "mongodb")

Open = Callable[[str], RevisionStore]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mongo_server.serve(tmp_path_factory.mktemp("nx")) as uri:
        yield uri


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Gives a new object for the same revisions: a process of this name. In one file, all are one process."""
    if request.param == "sqlite":
        return lambda process: SQLiteRevisions(tmp_path / FILE)
    uri = request.getfixturevalue("server")
    database = mongo_server.new_name()
    return lambda process: MongoRevisions(mongo_server.driver(uri, database=database), process)


@pytest.fixture
async def store(engine: Open) -> AsyncIterator[RevisionStore]:
    made = engine("one")
    await made.start()
    yield made
    await made.close()


def draft(text: str = "a: 1\n", at: float = NOW) -> Draft:
    return Draft(text, ALICE, at)


async def test_a_revision_is_read_as_it_was_added(store: RevisionStore, engine: Open) -> None:
    assert await store.head() is None
    text = "# ä\r\na: 1\n\n"
    wanted = Draft(text, ALICE, NOW, restores=3, confirm_by=NOW + 60)
    made = await store.add(wanted, 0)
    assert made == Revision(1, 0, wanted.digest, len(text.encode()), NOW, ALICE, 3, False, NOW + 60)
    other = engine("other")
    await other.start()
    for one in (store, other):
        assert await one.head() == made == await one.get(1)
        assert await one.text(1) == text
    confirmed = replace(made, confirm_by=0.0, confirmation=CONFIRMED)
    assert await other.confirm(1) == confirmed == await store.get(1)
    await other.close()


async def test_what_is_confirmed_does_not_expire_and_what_is_expired_cannot_be_confirmed(
    store: RevisionStore,
) -> None:
    waiting = replace(draft(), confirm_by=NOW + 60, run="here/1")
    first = await store.add(waiting, 0)
    assert (first.run, first.confirmation) == ("here/1", "")
    confirmed = await store.confirm(1)
    assert await store.expire(1) == confirmed == replace(first, confirm_by=0.0, confirmation=CONFIRMED)
    second = await store.add(replace(waiting, text="b: 1\n"), 1)
    expired = await store.expire(2)
    assert await store.confirm(2) == expired == replace(second, confirmation=EXPIRED)
    third = await store.add(draft("c: 1\n"), 2)
    assert await store.confirm(3) == await store.expire(3) == third  # it never waited


async def test_of_two_with_one_parent_the_second_is_refused(store: RevisionStore) -> None:
    first = await store.add(draft(), 0)
    for parent in (0, 2):
        with pytest.raises(HeadMoved) as found:
            await store.add(draft("b: 1\n"), parent)
        assert found.value.head == first
    assert await store.page(0, 10) == [first]


async def test_of_many_that_are_added_at_once_by_several_each_has_the_one_before_as_its_parent(
    engine: Open,
) -> None:
    stores = [engine(name) for name in ("a", "b", "c")]
    for one in stores:
        await one.start()

    async def add(one: RevisionStore, text: str) -> int:
        parent = 0
        while True:
            try:
                return (await one.add(draft(text), parent)).number
            except HeadMoved as moved:
                parent = moved.head.number

    wanted = [(one, f"a: {number}\n") for number, one in enumerate(stores * 5)]
    numbers = await asyncio.gather(*(add(*each) for each in wanted))
    assert sorted(numbers) == list(range(1, 16))
    kept = await stores[0].page(0, 100)
    assert [(one.number, one.parent) for one in kept] == [(n, n - 1) for n in range(15, 0, -1)]
    for number, (_, text) in zip(numbers, wanted, strict=True):
        assert await stores[0].text(number) == text
    for one in stores:
        await one.close()


async def test_the_newest_come_first(store: RevisionStore) -> None:
    for number in range(5):
        await store.add(draft(f"a: {number}\n"), number)
    assert [one.number for one in await store.page(0, 2)] == [5, 4]
    assert [one.number for one in await store.page(4, 10)] == [3, 2, 1]


async def test_what_was_intended_is_there_after_a_restart_until_it_is_added(
    store: RevisionStore, engine: Open
) -> None:
    assert await store.intended() is None
    await store.intend(draft("a: 0\n"))
    await store.intend(draft())
    again = engine("one")
    await again.start()
    assert await again.intended() == draft()
    await again.add(draft(), 0)
    assert await store.intended() is None
    await store.intend(draft())
    await again.intend(None)
    assert await store.intended() is None
    await again.close()


@pytest.mark.parametrize("number", [0, 7])
async def test_a_revision_that_is_not_there_is_none(store: RevisionStore, number: int) -> None:
    await store.add(draft(), 0)
    for call in (store.get, store.text, store.confirm, store.expire):
        with pytest.raises(NoRevision):
            await call(number)
    with pytest.raises(NoRevision):
        await store.pin(number, pinned=True)


# --- in MongoDB alone ---


def mongo(server: str, process: str = "one", kept: int = KEPT, database: str = "") -> MongoRevisions:
    return MongoRevisions(mongo_server.driver(server, database=database), process, kept)


async def test_the_oldest_go_with_their_texts_and_no_number_comes_again(server: str) -> None:
    store = mongo(server, kept=3)
    await store.start()
    for number in range(4):
        await store.add(draft(f"a: {number % 2}\n"), number)
        if number == 0:
            assert (await store.pin(1, pinned=True)).pinned
    assert [one.number for one in await store.page(0, 10)] == [4, 3, 2, 1]
    await store.add(draft("a: 2\n"), 4)
    assert [one.number for one in await store.page(0, 10)] == [5, 4, 3, 1]
    assert not (await store.pin(1, pinned=False)).pinned
    await store.add(draft("a: 3\n"), 5)
    assert [one.number for one in await store.page(0, 10)] == [6, 5, 4]
    assert [await store.text(number) for number in (4, 5, 6)] == ["a: 1\n", "a: 2\n", "a: 3\n"]
    assert await store._driver.count("gateway_config_texts", {}, 10) == 3
    await store.close()


async def test_what_a_confirmation_goes_back_to_is_kept_however_many_wait_for_one(server: str) -> None:
    store = mongo(server, kept=2)
    await store.start()
    await store.add(draft("a: 0\n"), 0)
    for number in range(1, 5):
        await store.add(replace(draft(f"a: {number}\n"), confirm_by=NOW + 60), number)
    assert [one.number for one in await store.page(0, 10)] == [5, 4, 1]
    assert await store.text(1) == "a: 0\n"
    await store.close()


async def test_what_one_process_intends_is_not_the_others(server: str) -> None:
    database = mongo_server.new_name()
    one, other = (mongo(server, name, database=database) for name in ("one", "other"))
    await one.start()
    await other.start()
    await one.intend(draft())
    assert await other.intended() is None
    await other.add(draft("b: 1\n"), 0)
    assert await one.intended() == draft()
    await one.close()
    await other.close()


async def test_a_number_of_elsewhere_is_taken_if_it_is_above_all_that_were_here(server: str) -> None:
    store = mongo(server)
    await store.start()
    assert (await store.add(draft("a: 1\n"), 0, 7)).number == 7
    assert (await store.add(draft("a: 2\n"), 7, 7)).number == 8
    assert (await store.add(draft("a: 3\n"), 8, 2)).number == 9
    with pytest.raises(HeadMoved):
        await store.add(draft("a: 4\n"), 7, 20)
    assert (await store.add(draft("a: 4\n"), 9)).number == 10
    await store.close()
