"""The revisions in config.sqlite: numbered for ever, kept to the byte, bounded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.config.ports import HeadMoved, NoRevision, RevisionStore
from gateway.config.revisions.sqlite import FILE, SQLiteRevisions
from gateway.core.config.revision import Draft, Origin, Revision

NOW = 1_800_000_000.0
ALICE = Origin("alice", "more seats", "api", "192.0.2.1")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLiteRevisions]:
    made = SQLiteRevisions(tmp_path / FILE)
    await made.start()
    yield made
    await made.close()


def draft(text: str = "a: 1\n", at: float = NOW) -> Draft:
    return Draft(text, ALICE, at)


async def test_a_revision_is_read_as_it_was_added(store: SQLiteRevisions) -> None:
    port: RevisionStore = store
    assert await port.head() is None
    text = "# ä\r\na: 1\n\n"
    wanted = Draft(text, ALICE, NOW, restores=3, confirm_by=NOW + 60)
    made = await port.add(wanted, 0)
    assert made == Revision(1, 0, wanted.digest, len(text.encode()), NOW, ALICE, 3, False, NOW + 60)
    assert await port.head() == made == await port.get(1)
    assert await port.text(1) == text
    assert await port.confirm(1) == replace(made, confirm_by=0.0)


async def test_of_two_with_one_parent_the_second_is_refused(store: SQLiteRevisions) -> None:
    first = await store.add(draft(), 0)
    for parent in (0, 2):
        with pytest.raises(HeadMoved) as found:
            await store.add(draft("b: 1\n"), parent)
        assert found.value.head == first
    assert await store.page(0, 10) == [first]


async def test_the_newest_come_first(store: SQLiteRevisions) -> None:
    for number in range(5):
        await store.add(draft(f"a: {number}\n"), number)
    assert [one.number for one in await store.page(0, 2)] == [5, 4]
    assert [one.number for one in await store.page(4, 10)] == [3, 2, 1]


async def test_what_was_intended_is_there_after_a_restart_until_it_is_added(store: SQLiteRevisions) -> None:
    assert await store.intended() is None
    await store.intend(draft())
    other = SQLiteRevisions(store.path)
    assert await other.intended() == draft()
    await other.add(draft(), 0)
    assert await store.intended() is None


@pytest.mark.parametrize("number", [0, 7])
async def test_a_revision_that_is_not_there_is_none(store: SQLiteRevisions, number: int) -> None:
    await store.add(draft(), 0)
    for call in (store.get, store.text, store.confirm):
        with pytest.raises(NoRevision):
            await call(number)
