"""Tenants are copied and moved between the engines, whatever is written meanwhile, begun however often."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.core.errors import StoreUnavailable
from gateway.core.model import TenantId
from gateway.store.model import collection as collections
from gateway.store.model.idempotency import IdempotencyKey
from gateway.store.model.query import Query
from gateway.store.mongo.driver import Driver
from gateway.store.mongo.engine import MongoDocumentStore
from gateway.store.mongo.moves import MongoMoves
from gateway.store.moving.port import LogGone, Moves
from gateway.store.moving.tenant import NotMoved, Side, TenantCopy
from gateway.store.port import DocumentStore, Moved, TenantStore
from gateway.store.sqlite.engine import SQLiteDocumentStore
from gateway.store.sqlite.moves import SQLiteMoves
from tests.eventually import END
from tests.store import docs
from tests.store.mongo import server as mongo_server

ACME = TenantId("acme")
UNIQUE = {"indexes": [{"name": "email", "fields": ["email"], "unique": True}], "require_if_match": True}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mongo_server.serve(tmp_path_factory.mktemp("nx")) as uri:
        yield uri


@dataclass
class Place:
    """A store as a gateway has it open, and as who moves tenants has it."""

    gateway: DocumentStore
    mover: DocumentStore
    moves: Moves

    @property
    def side(self) -> Side:
        return Side(self.mover.tenant(ACME), self.moves)

    @property
    def acme(self) -> TenantStore:
        return self.gateway.tenant(ACME)


Places = tuple[Place, Place]


async def opened(kind: str, folder: Path, server: str) -> Place:
    key = b"k" * 32
    place: Place
    if kind == "sqlite":
        path = folder / "documents"
        place = Place(
            SQLiteDocumentStore(path, key), SQLiteDocumentStore(path, key, moved_too=True), SQLiteMoves(path)
        )
    else:
        name = mongo_server.new_name()

        def driver() -> Driver:
            return mongo_server.driver(server, database=name, transactions=True)

        place = Place(
            MongoDocumentStore(driver(), key),
            MongoDocumentStore(driver(), key, moved_too=True),
            MongoMoves(driver()),
        )
    await place.gateway.start()
    await place.mover.start()
    return place


@pytest.fixture(params=["sqlite-mongo", "mongo-sqlite"])
async def places(request: pytest.FixtureRequest, tmp_path: Path, server: str) -> AsyncIterator[Places]:
    one, other = [await opened(kind, tmp_path, server) for kind in request.param.split("-")]
    yield one, other
    for place in (one, other):
        await place.moves.close()
        await place.mover.close()
        await place.gateway.close()


class Turns:
    """Writes between the calls of who moves: nx-27017 has one transaction at a time, and what comes beside
    one holds it up for seconds. While writes are held, they wait, and the calls go on."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.held = False

    def between(self, side: Side) -> Side:
        store, moves = InTurns(side.store, self), InTurns(side.moves, self)
        return Side(store, moves)  # type: ignore[arg-type]


class InTurns:
    """A store, or its moves, that is called in turns."""

    def __init__(self, called: Any, turns: Turns) -> None:
        self._called, self._turns = called, turns

    @asynccontextmanager
    async def hold(self, tenant: TenantId) -> AsyncIterator[None]:
        async with self._called.hold(tenant):
            self._turns.held = True
            try:
                yield
            finally:
                self._turns.held = False

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._called, name)

        async def in_turn(*args: Any, **more: Any) -> Any:
            async with nullcontext() if self._turns.held else self._turns.lock:
                return await call(*args, **more)

        return in_turn


async def everything(store: TenantStore, name: str = "orders") -> list[Any]:
    """The documents of a collection with their versions and instants."""
    page = await store.list(name, Query(limit=1000))
    return [(d.id, d.etag, d.created, d.modified, d.data) for d in page.items]


async def test_a_copy_has_the_same_documents_with_their_tags_and_instants(places: Places) -> None:
    here, there = places
    await here.acme.put_collection("orders", collections.from_data(UNIQUE))
    values: list[Any] = [1, -0.5, 1e300, 2**63 - 1, "\u00e9\U0001f600", None, [1, [2]], {"b": {"a": []}}]
    for number, value in enumerate(values):
        await docs.replace(here.acme, "orders", f"{number}", {"email": number, "value": value})
    await docs.replace(here.acme, "notes", "large", {"text": "x" * 600_000})
    await docs.replace(here.acme, "notes", "twice", {"n": 1})
    await docs.replace(here.acme, "notes", "twice", {"n": 2})
    report = await TenantCopy(ACME, here.side, there.side).run(None)
    for name in ("orders", "notes"):
        assert await everything(there.acme, name) == await everything(here.acme, name)
    counts = {name: count for name, (count, _) in report.collections.items()}
    assert counts == {"notes": 2, "orders": len(values)}
    assert (report.written, report.held) == (len(values) + 2, None)
    assert (await there.acme.collection("orders")).settings == collections.from_data(UNIQUE)


async def test_a_copy_that_is_begun_again_writes_only_what_differs(places: Places) -> None:
    here, there = places
    await here.acme.put_collection("orders", collections.from_data({"require_if_match": True}))
    for number in range(20):
        await docs.create(here.acme, "orders", {"n": number})
    await TenantCopy(ACME, here.side, there.side).run(None)
    first, second, *_ = (await here.acme.list("orders", Query())).items
    await there.mover.tenant(ACME).put_collection("orders", collections.from_data({}))
    await docs.delete(there.mover.tenant(ACME), "orders", first.id)  # as after a target that was lost in part
    await docs.replace(there.mover.tenant(ACME), "orders", second.id, {"n": "other"})
    await docs.replace(there.mover.tenant(ACME), "orders", "alien", {"n": 0})
    await docs.replace(there.mover.tenant(ACME), "aliens", "alien", {"n": 0})
    report = await TenantCopy(ACME, here.side, there.side).run(None)
    assert (report.written, report.removed, report.unchanged) == (2, 1, 18)
    assert await everything(there.acme) == await everything(here.acme)
    assert [c.name for c in (await there.acme.collections()).items] == ["orders"]
    again = await TenantCopy(ACME, here.side, there.side).run(None)
    assert (again.written, again.removed, again.unchanged) == (0, 0, 20)
    assert again.collections == report.collections


async def test_unique_values_that_wandered_do_not_stop_a_copy(places: Places) -> None:
    """https://github.com/mongodb/mongo-tools/pull/358: what was exchanged cannot be written one by one."""
    here, there = places
    await here.acme.put_collection("orders", collections.from_data({"indexes": UNIQUE["indexes"]}))
    for name in "abc":
        await docs.replace(here.acme, "orders", name, {"email": name})
    await TenantCopy(ACME, here.side, there.side).run(None)
    for name in "abc":
        await docs.replace(here.acme, "orders", name, {"email": f"{name}2"})
    for name, other in ("ab", "bc", "ca"):
        await docs.replace(here.acme, "orders", name, {"email": other})
    await TenantCopy(ACME, here.side, there.side).run(None)
    assert await everything(there.acme) == await everything(here.acme)


async def test_an_id_that_begins_another_life_is_followed(places: Places) -> None:
    """https://github.com/apache/pouchdb/issues/2787: deleted, made again, deleted again."""
    here, there = places
    await docs.replace(here.acme, "orders", "7", {"n": 1})
    for _ in range(2):
        await TenantCopy(ACME, here.side, there.side).run(None)
        await docs.delete(here.acme, "orders", "7")
        await docs.replace(here.acme, "orders", "7", {"n": 2})
    await TenantCopy(ACME, here.side, there.side).run(None)
    assert await everything(there.acme) == await everything(here.acme)
    await docs.delete(here.acme, "orders", "7")
    await TenantCopy(ACME, here.side, there.side).run(None)
    assert await everything(there.acme) == []


async def test_a_tenant_that_is_written_to_is_moved_and_nothing_acknowledged_is_lost(
    places: Places,
) -> None:
    here, there = places
    source = here.side
    writing: AbstractAsyncContextManager[None] = nullcontext()
    if isinstance(here.moves, MongoMoves) and not mongo_server.REAL:
        turns = Turns()
        source, writing = turns.between(here.side), turns.lock
    for number in range(10):
        await docs.replace(here.acme, "orders", f"{number:03}", {"n": number})
    acknowledged: dict[str, int] = {f"{number:03}": number for number in range(10)}
    moved = asyncio.Event()

    async def write(start: int) -> None:
        for turn in itertools.count():
            number = (start + 7 * turn) % 12
            try:
                async with writing:
                    written = await docs.replace(here.acme, "orders", f"{number:03}", {"n": turn})
            except Moved:
                moved.set()
                return
            acknowledged[written.document.id] = turn

    writers = [asyncio.create_task(write(start)) for start in (0, 5)]
    report = await TenantCopy(ACME, source, there.side).run("elsewhere")
    async with asyncio.timeout(END):
        await asyncio.gather(*writers)
    assert moved.is_set() and report.held is not None
    found = {d.id: d.data["n"] for d in (await there.acme.list("orders", Query(limit=1000))).items}
    assert found == acknowledged
    assert (await here.moves.moved()).tenants == ("acme",)
    assert (await docs.replace(there.acme, "orders", "000", {"n": -1})).created is False  # it is served there


async def test_a_tenant_is_moved_there_and_back(places: Places) -> None:
    here, there = places
    await docs.replace(here.acme, "orders", "7", {"n": 1})
    await TenantCopy(ACME, here.side, there.side).run("there")
    await docs.replace(there.acme, "orders", "7", {"n": 2})
    await TenantCopy(ACME, there.side, here.side).run("here")
    assert (await here.acme.read("orders", "7")).data == {"n": 2}
    assert (await docs.replace(here.acme, "orders", "7", {"n": 3})).document.version == 3
    with pytest.raises(Moved):
        await docs.replace(there.acme, "orders", "7", {"n": 4})


async def test_a_write_that_is_sent_again_after_the_move_is_done_once(places: Places) -> None:
    here, there = places
    made = await docs.create(here.acme, "orders", {"n": 1}, idempotency=IdempotencyKey("k", b"f" * 16))
    await TenantCopy(ACME, here.side, there.side).run("there")
    again = IdempotencyKey("k", b"f" * 16)
    assert await docs.create(there.acme, "orders", {"n": 1}, idempotency=again) == made
    assert again.replayed


async def test_a_collection_that_is_deleted_while_it_is_copied_is_not_there_after(
    places: Places,
) -> None:
    here, there = places
    for number in range(5):
        await docs.replace(here.acme, "orders", f"{number}", {"n": number})
    await TenantCopy(ACME, here.side, there.side).run(None)

    class Deleting:
        """The source's log, before which its first reader does something."""

        def __getattr__(self, name: str) -> Any:
            return getattr(here.moves, name)

        async def changes(self, tenant: TenantId, after: int) -> Any:
            if not self.done:
                self.done = True
                await here.acme.delete_collection("orders", documents=True)
                await docs.replace(here.acme, "orders", "new", {"n": 0})
            return await here.moves.changes(tenant, after)

        done = False

    moves: Any = Deleting()
    await TenantCopy(ACME, Side(here.side.store, moves), there.side).run(None)
    assert await everything(there.acme) == await everything(here.acme)


async def test_a_log_that_does_not_reach_back_is_answered_by_comparing_again(places: Places) -> None:
    """https://github.com/yougov/mongo-connector/issues/514"""
    here, there = places
    await docs.replace(here.acme, "orders", "7", {"n": 1})
    gone = iter([True, False])

    class Short:
        def __getattr__(self, name: str) -> Any:
            return getattr(here.moves, name)

        async def changes(self, tenant: TenantId, after: int) -> Any:
            if next(gone, False):
                await docs.replace(here.acme, "orders", "8", {"n": 2})
                raise LogGone()
            return await here.moves.changes(tenant, after)

    moves: Any = Short()
    await TenantCopy(ACME, Side(here.side.store, moves), there.side).run(None)
    assert await everything(there.acme) == await everything(here.acme)


async def test_what_the_target_does_not_take_is_named_and_nothing_is_moved(places: Places) -> None:
    here, there = places
    await docs.replace(here.acme, "orders", "7", {"a": 1})

    class Refusing:
        def __getattr__(self, name: str) -> Any:
            return getattr(there.side.store, name)

        async def bulk(self, *of: Any, **more: Any) -> Any:
            outcomes = await there.side.store.bulk(*of, **more)
            error = {"code": "too_large", "detail": "It is too large there."}
            return tuple(type(one)(413, one.id, error=error) for one in outcomes)

    store: Any = Refusing()
    with pytest.raises(NotMoved, match="does not take 1 documents") as refused:
        await TenantCopy(ACME, here.side, Side(store, there.moves)).run("there")
    assert refused.value.refused == {"orders/7": "It is too large there."}
    assert (await here.moves.moved()).tenants == ()


async def test_a_hold_ends_with_who_holds(places: Places) -> None:
    here, _ = places
    await docs.replace(here.acme, "orders", "7", {"n": 1})
    async with here.moves.hold(ACME):
        writing = asyncio.create_task(docs.replace(here.acme, "orders", "7", {"n": 2}))
        assert (await here.acme.read("orders", "7")).data == {"n": 1}  # reads go on
        done, _ = await asyncio.wait([writing], timeout=0.1)
        assert not done
    assert (await writing).document.version == 2


async def test_new_tenants_belong_to_the_target_once_all_have_left(places: Places) -> None:
    here, _ = places
    await here.moves.leave_all("there")
    with pytest.raises(StoreUnavailable):
        await docs.create(here.gateway.tenant(TenantId("newcomer")), "orders", {"n": 1})
    await here.moves.arrive_all()
    await docs.create(here.gateway.tenant(TenantId("newcomer")), "orders", {"n": 1})


async def test_feeds_of_a_tenant_that_arrived_go_on(places: Places) -> None:
    here, there = places
    await docs.replace(here.acme, "orders", "7", {"n": 1})
    await TenantCopy(ACME, here.side, there.side).run("there")
    async with aclosing(there.acme.changes("orders")) as feed:
        await anext(feed)
        await docs.replace(there.acme, "orders", "7", {"n": 2})
        async with asyncio.timeout(END):
            assert [c.id for c in (await anext(feed)).items] == ["7"]
