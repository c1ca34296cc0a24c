"""Large documents on MongoDB: this process holds their bytes, and worker processes what is in them."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import bson
import pytest
from bson.errors import BSONError
from bson.int64 import Int64

from gateway.core.errors import (
    BodyTooLarge,
    NotFound,
    PatchConflict,
    PreconditionFailed,
    QueryTooSlow,
    SchemaViolation,
    UniqueConflict,
)
from gateway.core.model import TenantId
from gateway.runtime.processes.pool import ProcessPool
from gateway.store.filter import parse as filters
from gateway.store.filter.nodes import EVERYTHING
from gateway.store.json import large, strict
from gateway.store.json.large import LIGHT_BYTES, Jobs
from gateway.store.model import collection, instants
from gateway.store.model import projection as projections
from gateway.store.model import sort as sorts
from gateway.store.model.document import LargeMembers, Precondition
from gateway.store.model.idempotency import IdempotencyKey
from gateway.store.model.patch import LargePatch, MergePatch, parse_json_patch
from gateway.store.model.query import Page, Query
from gateway.store.model.write import Create, Delete, Replace, Update, Write
from gateway.store.mongo import large as mongo_large
from gateway.store.mongo import raw as mongo_raw
from gateway.store.mongo import state as mongo_state
from gateway.store.mongo.engine import MongoDocumentStore
from gateway.store.mongo.large import SEATS, Rows
from gateway.store.mongo.raw import RAW
from gateway.store.mongo.read.query import Listed, Turn
from gateway.store.mongo.rows import Row
from gateway.store.mongo.state import BATCH_BYTES
from gateway.store.mongo.tenant import MongoTenantStore
from gateway.store.mongo.write import plan
from gateway.store.transfer import import_lines
from tests.eventually import END
from tests.store import docs
from tests.store.json.test_large import document
from tests.store.mongo import server as mongo_server
from tests.store.mongo.fakes import commands

ACME = TenantId("acme")
VALUES = 100_000  # objects in the documents of these tests
WATCHED = 20_000  # objects that are made and kept, after which the collector would look
SETTINGS = {
    "indexes": [
        {"name": "by_name", "fields": ["name"], "unique": True},
        {"name": "by_tag", "fields": ["tags"]},
    ],
    "ttl": {"field": "end"},
    "schema": {"properties": {"name": {"type": "string"}, "n": {"type": "integer"}}},
}
MANY = [{}] * VALUES


def members(**more: Any) -> dict[str, Any]:
    return {"many": MANY, "n": 1, "tags": ["a", "b"], **more}


def raw(**more: Any) -> bytes:
    """A large document as a client sends it."""
    return strict.dumps(members(**more)).encode()


@contextmanager
def no_values() -> Iterator[None]:
    """Fails if this process, in any thread, has made the values of a large document."""
    seen = []

    def watch(phase: str, _: object) -> None:
        seen.append(phase)

    gc.collect()
    before = gc.get_threshold()
    gc.callbacks.append(watch)
    gc.set_threshold(WATCHED, 1000, 1000)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(watch)
    assert seen.count("start") <= 1


def test_values_that_are_made_here_are_noticed() -> None:
    text, row = raw(), bson.encode({"d": members()})
    with pytest.raises(AssertionError), no_values():
        json.loads(text)
    with pytest.raises(AssertionError), no_values():
        bson.decode(row)
    with no_values():
        bytes(row)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mongo_server.serve(tmp_path_factory.mktemp("nx")) as uri:
        yield uri


@pytest.fixture
async def store(server: str) -> AsyncIterator[MongoDocumentStore]:
    pool = ProcessPool(1)
    driver = mongo_server.driver(server, transactions=True)
    store = MongoDocumentStore(driver, b"k" * 32, jobs=Jobs(pool), query_seconds=END)
    await store.start()
    yield store
    await store.close()
    await pool.close()


async def put(tenant: MongoTenantStore, identifier: str, **more: Any) -> None:
    text = await tenant.work(large.members_text, raw(**more), identifier)
    await docs.replace(tenant, "c", identifier, LargeMembers(text))


async def found(tenant: MongoTenantStore, text: str, sort: str = "", **more: Any) -> list[str]:
    keys = sorts.parse(sort) if sort else ()
    page = await tenant.list("c", Query(filters.parse(text), keys, **more))
    return [item.id for item in page.items]


async def test_whatever_is_done_with_large_documents_their_values_are_made_in_worker_processes(
    store: MongoDocumentStore,
) -> None:
    tenant = store.tenant(ACME)
    later = instants.now() + 1000
    with no_values():
        await tenant.put_collection("c", collection.from_data(SETTINGS))
        await put(tenant, "x", name="x", end=later)
        await put(tenant, "x", name="x", n=2)
        text = await tenant.work(large.members_text, raw(name="y"), None)
        key = IdempotencyKey("key", b"f")
        made = await docs.create(tenant, "c", LargeMembers(text), idempotency=key)
        again = await docs.create(tenant, "c", LargeMembers(text), idempotency=key)
        read = await tenant.read("c", "x")
        merged = await docs.patch(tenant, "c", "x", MergePatch({"tags": ["c"]}))
        patch = await tenant.work(large.merge_patch_text, raw(name="z"), "x")
        patched = await docs.patch(tenant, "c", "x", LargePatch(False, patch))
        added = parse_json_patch(b'[{"op":"add","path":"/tags/-","value":"d"}]')
        last = await docs.patch(tenant, "c", "x", added, Precondition(match=frozenset({patched.etag})))
    assert again == made and key.replayed
    assert read.encoded == raw(name="x", n=2) and not read.text
    assert (merged.data["tags"], patched.data["tags"]) == (["c"], ["a", "b"])
    assert last.data == members(name="z", tags=["a", "b", "d"])
    assert (await tenant.collection("c")).documents == 2


async def test_lists_exports_and_feeds_of_large_documents_make_no_values_here(
    store: MongoDocumentStore,
) -> None:
    tenant = store.tenant(ACME)
    for identifier, tag in (("x", "a"), ("y", "b")):
        await put(tenant, identifier, name=identifier, tags=[tag], text=identifier * 200)
    await docs.create(tenant, "c", {"name": "small", "tags": ["b"], "text": "z"})
    feed = tenant.changes("c")
    some = projections.parse("name,tags")
    with no_values():
        await tenant.put_collection("c", collection.from_data(SETTINGS))
        assert await found(tenant, '{"tags":"b","n":1}') == ["y"]
        assert await found(tenant, '{"many":{"$size":3}}') == []
        assert await found(tenant, '{"n":1}', "-name", count=True, fields=some) == ["y", "x"]
        assert await found(tenant, '{"n":1}', "-text", count=True, fields=some) == ["y", "x"]
        first = await tenant.list("c", Query(EVERYTHING, sorts.parse("text"), limit=1))
        second = await tenant.list("c", Query(EVERYTHING, sorts.parse("text"), 1, first.next, fields=some))
        lines = b"".join([chunk async for chunk in tenant.export("c", filters.parse('{"tags":"a"}'))])
        position = (await anext(feed)).position
        await docs.delete(tenant, "c", "x")
        await put(tenant, "y", name="y")
        await feed.aclose()
        feed = tenant.changes("c", position)
        await anext(feed)
        (deleted, updated) = (await anext(feed)).items
        await feed.aclose()
    assert first.items[0].encoded == raw(name="x", tags=["a"], text="x" * 200)
    assert [json.loads(item.text) for item in second.items] == [{"name": "y", "tags": ["b"]}]
    assert lines == b'{"id":"x",' + first.items[0].encoded[1:] + b"\n"
    assert (deleted.kind, updated.kind) == ("deleted", "updated")
    assert updated.document is not None and updated.document.encoded == raw(name="y")


async def test_bulks_imports_and_what_has_ended_make_no_values_here(store: MongoDocumentStore) -> None:
    tenant = store.tenant(ACME)

    async def lines() -> AsyncIterator[bytes]:
        for identifier in ("x", "y"):
            yield b'{"id":"%b",' % identifier.encode() + raw(name=identifier)[1:]

    with no_values():
        await tenant.put_collection("c", collection.from_data(SETTINGS))
        outcomes = [one async for batch in import_lines(tenant, "c", lines()) for one in batch]
        text = await tenant.work(large.members_text, raw(name="x", end=1), None)
        items: list[Write] = [
            Update("x", MergePatch({"name": "free"})),
            Create(LargeMembers(text)),
            Delete("y"),
            Replace("x", {"name": "small"}),
        ]
        outcomes += await tenant.bulk("c", items, atomic=True)
        assert store._sweeper is not None
        await store._sweeper.sweep()
    assert [outcome.status for outcome in outcomes] == [201, 201, 200, 201, 204, 200]
    assert [item.id for item in (await tenant.list("c", Query())).items] == ["x"]
    assert (await docs.create(tenant, "c", {"name": "y"})).version == 1, "its unique value is free"


async def test_what_is_refused_of_large_documents_is_told_as_of_others(store: MongoDocumentStore) -> None:
    tenant = store.tenant(ACME)
    await tenant.put_collection("c", collection.from_data(SETTINGS))
    await put(tenant, "x", name="x")
    await docs.replace(tenant, "c", "y", {"name": "y"})
    with no_values():
        with pytest.raises(UniqueConflict):
            await docs.replace(tenant, "c", "y", {"name": "x"})
        with pytest.raises(UniqueConflict):
            await docs.patch(tenant, "c", "x", MergePatch({"name": "y"}))
        with pytest.raises(SchemaViolation):
            await docs.patch(tenant, "c", "x", MergePatch({"name": 1}))
        with pytest.raises(PatchConflict):
            await docs.patch(tenant, "c", "x", parse_json_patch(b'[{"op":"test","path":"/n","value":2}]'))
        with pytest.raises(PreconditionFailed):
            await docs.delete(tenant, "c", "x", Precondition(match=frozenset({'"no"'})))
        with pytest.raises(NotFound):
            await tenant.read("c", "z")


class Held(Jobs):
    """Plans are made when the test says so, and here."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.plans = asyncio.Event(), 0
        self.go_on = asyncio.Event()

    async def run(self, tenant: str, function: Any, *args: Any, **more: Any) -> Any:
        if function is mongo_large.plan_of:
            self.plans += 1
            self.begun.set()
            await self.go_on.wait()
        return function(*args, **more)


@pytest.fixture
async def held(server: str) -> AsyncIterator[tuple[MongoTenantStore, Held]]:
    jobs = Held()
    store = MongoDocumentStore(mongo_server.driver(server, transactions=True), b"k" * 32, jobs=jobs)
    await store.start()
    yield store.tenant(ACME), jobs
    await store.close()


async def test_a_tenants_other_writes_do_not_wait_for_the_plan_of_a_large_one(
    held: tuple[MongoTenantStore, Held],
) -> None:
    tenant, jobs = held
    writing = asyncio.ensure_future(docs.replace(tenant, "c", "x", LargeMembers(raw())))
    await jobs.begun.wait()
    assert (await docs.replace(tenant, "c", "y", {})).created and not writing.done()
    jobs.go_on.set()
    assert (await writing).created and jobs.plans == 1
    assert (await tenant.collection("c")).documents == 2


async def test_a_plan_of_what_has_changed_meanwhile_is_made_anew(held: tuple[MongoTenantStore, Held]) -> None:
    tenant, jobs = held
    await docs.replace(tenant, "c", "x", {"a": 1})
    patch = LargePatch(False, raw(b=2))
    writing = asyncio.ensure_future(docs.patch(tenant, "c", "x", patch))
    await jobs.begun.wait()
    await docs.patch(tenant, "c", "x", MergePatch({"a": 3}))
    await tenant.put_collection("c", collection.from_data({"ttl": {"field": "end"}}))
    jobs.go_on.set()
    written = await writing
    assert (written.version, written.data) == (3, {"a": 3, **members(b=2)}) and jobs.plans == 2
    assert (await tenant.read("c", "x")) == written


class Counted(Jobs):
    """Does the jobs here. most: of them at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0

    async def run(self, tenant: str, function: Any, *args: Any, **more: Any) -> Any:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            for _ in range(100):
                await asyncio.sleep(0)
            return function(*args, **more)
        finally:
            self.now -= 1


@pytest.mark.parametrize("transactions", [True, False], ids=["replica set", "single server"])
async def test_large_documents_are_held_by_few_at_once_whoever_asks_for_them(
    server: str, transactions: bool
) -> None:
    jobs = Counted()
    driver = mongo_server.driver(server, transactions=transactions)
    store = MongoDocumentStore(driver, b"k" * 32, jobs=jobs, query_seconds=END)
    await store.start()
    names = ("acme",) if transactions else ("acme", "globex")  # nx-27017 has one transaction at a time
    tenants = [store.tenant(TenantId(name)) for name in names]
    large_text = LargeMembers(strict.dumps({"a": "x" * LIGHT_BYTES}).encode())
    for tenant in tenants:
        for number in range(3):
            await docs.replace(tenant, "c", f"{number}", large_text)
        await docs.create(tenant, "c", {"a": "y"})
    jobs.most = 0
    work: list[Any] = []
    for tenant in tenants:
        for number in range(3):
            work += [tenant.read("c", f"{number}") for _ in range(3)]
            work.append(docs.patch(tenant, "c", f"{number}", MergePatch({"n": 1})))
            work.append(tenant.list("c", Query(filters.parse('{"a":"y"}'))))
    done = await asyncio.gather(*work)
    assert 0 < jobs.most <= SEATS and len(done) == len(work)
    assert all(len(page.items) == 1 for page in done if isinstance(page, Page))
    assert not store._large.seats.fair.inside and not store._large.seats.waiting
    await store.close()


async def test_a_list_that_waits_too_long_for_a_worker_is_too_slow() -> None:
    class Stuck(Jobs):
        async def run(self, *_: Any, **__: Any) -> Any:
            await asyncio.Event().wait()

    state: Any = SimpleNamespace(name="c", usable={})
    node, row = filters.parse('{"n":1}'), mongo_raw.head(bson.encode(stored(members())))
    turn, rows = Turn(holds_large=True), Rows(Stuck(), "acme")
    listed = Listed("acme", state, node, (), 1.0, time.monotonic() + 0.05, turn, rows)
    for work in (listed.holds(row), listed.document(row)):
        with pytest.raises(QueryTooSlow):
            await work


async def test_a_short_patch_that_makes_a_large_document_is_a_job(server: str) -> None:
    """Each copy of a document into itself doubles it."""
    jobs = Held()
    jobs.go_on.set()
    store = MongoDocumentStore(mongo_server.driver(server), b"k" * 32, jobs=jobs)
    await store.start()
    tenant = store.tenant(ACME)
    copies = [{"op": "copy", "from": "/a", "path": f"/a/{n}"} for n in range(12)]
    for count, plans in ((3, 0), (12, 1)):
        await docs.replace(tenant, "c", "x", {"a": {"text": "x" * 100}})
        patch = parse_json_patch(strict.dumps(copies[:count]).encode())
        document = await docs.patch(tenant, "c", "x", patch)
        assert jobs.plans == plans
    assert document.size > LIGHT_BYTES and (await tenant.read("c", "x")) == document
    await store.close()


async def test_a_page_reads_no_more_than_it_needs_and_little_ahead_of_large_documents(
    store: MongoDocumentStore,
) -> None:
    tenant = store.tenant(ACME)
    for number in range(20):
        await docs.replace(tenant, "c", f"{number:02}", {"n": number})
    await docs.replace(tenant, "large", "x", {"text": "x" * BATCH_BYTES})
    commands.of(store._driver.name.rpartition("/")[2])
    await tenant.list("c", Query(limit=3))
    await tenant.list("c", Query(filters.parse('{"n":1}'), limit=3))
    assert [chunk async for chunk in tenant.export("large")]
    asked = [one.get("limit") or one["batchSize"] for one in commands.seen if one.get("find") == "documents"]
    assert asked == [4, 500, 1, 1]


# --- rows as bytes ---


def stored(data: dict[str, Any], **more: Any) -> Row:
    own = {"_id": "a\x1fc\x1fx", "t": "a", "c": "c", "id": "x", "v": 2, "i": "i" * 20, "cr": 1.5, "mo": 2.5}
    made = {"g": 1, "ix": [{"n": "s0", "v": "41"}], "o": {"s0": "41"}}
    return {**own, "s": len(strict.dumps(data)), **made, "d": data, **more}


def test_the_head_of_a_row_is_all_of_it_but_what_may_be_large() -> None:
    row = stored(members(), x=7.5, later=None, big=2**40, yes=True)
    whole = bson.encode(row)
    for given in (whole, memoryview(whole)):
        head = mongo_raw.read(given)
        assert head.pop(RAW) == whole
        assert head == {name: row[name] for name in row if name not in ("d", "ix")}
    assert mongo_raw.read(bson.encode(stored({"a": 1}))) == stored({"a": 1})


def test_bytes_that_are_no_row_are_refused_and_never_read_for_ever() -> None:
    chance = random.Random(5)
    whole = bson.encode(stored({"a": [1, "x", None]}, x=1.5))
    heads = 0
    for _ in range(5000):
        broken = bytearray(whole[: chance.choice([len(whole), chance.randrange(5, len(whole))])])
        for _ in range(chance.randrange(1, 4)):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        try:
            heads += RAW in mongo_raw.head(bytes(broken))
        except BSONError:
            continue
    assert heads < 5000


def test_a_row_of_many_values_or_many_bytes_is_large() -> None:
    assert mongo_raw.is_light(bson.encode(stored({"a": "x" * (LIGHT_BYTES - 1000)})))
    assert not mongo_raw.is_light(bson.encode(stored({"a": "x" * LIGHT_BYTES})))
    assert mongo_raw.is_light(bson.encode(stored({"a": list(range(2000))})))
    assert not mongo_raw.is_light(bson.encode(stored({"a": [None] * 20_000})))


def test_whole_numbers_are_plain_ones() -> None:
    data = mongo_raw.decode(bson.encode({"d": {"a": Int64(1), "b": [2**40]}}))["d"]
    assert [type(data["a"]), type(data["b"][0])] == [int, int] and data == {"a": 1, "b": [2**40]}


def test_a_row_that_mongodb_refuses_is_too_large_wherever_it_is_made() -> None:
    text = b'{"a":[' + b"0.5," * 1_200_000 + b"0]}"
    state = mongo_state.read("c", None)
    with pytest.raises(BodyTooLarge, match="16 MiB"):
        mongo_large.plan_of("a", state, None, Create(LargeMembers(b"")), text, "x", None, 1.0)


# --- plans ---


def state_of(settings: dict[str, Any]) -> mongo_state.State:
    row = {"documents": 1, "i": "i", "v": 3, "declared": 3, "bytes": 1}
    row["settings"] = strict.dumps(settings)
    indexes = settings.get("indexes", ())
    names = {index["name"]: f"s{number}" for number, index in enumerate(indexes)}
    return mongo_state.read("c", {**row, "slots": names, "tokens": {n: f"{s}-i-1" for n, s in names.items()}})


def writes_of(chance: random.Random, data: dict[str, Any]) -> list[tuple[Write, Write, bytes]]:
    """Writes as of a light document, and the same as they come to a worker process."""
    text = strict.dumps(data).encode()
    replace, patch = Replace("x", data), Update("x", MergePatch(data))
    name = chance.choice("abc")
    operations = strict.dumps([{"op": "add", "path": f"/{name}", "value": data}]).encode()
    json_patch = parse_json_patch(operations)
    return [
        (replace, Replace("x", LargeMembers(b"")), text),
        (patch, Update("x", LargePatch(False, b"")), text),
        (Update("x", json_patch), Update("x", LargePatch(True, b"")), operations),
        (Update("x", json_patch), Update("x", json_patch), b""),
    ]


def test_a_plan_of_a_worker_process_is_the_plan_that_is_made_here() -> None:
    chance = random.Random(7)
    state = state_of({
        "indexes": [
            {"name": "a", "fields": ["a"]},
            {"name": "bc", "fields": ["b", "c"], "unique": True},
            {"name": "c", "fields": ["c"], "unique": True},
        ],
        "ttl": {"field": "c.a"},
    })  # fmt: skip
    plans = 0
    for _ in range(400):
        old, new = document(chance), document(chance)
        if not isinstance(old, dict) or not isinstance(new, dict):
            continue
        ended = chance.choice([{}, {"x": 5.0}])
        for write, apart, text in writes_of(chance, new):
            row = mongo_raw.decode(bson.encode(stored(old, **ended)))
            given = None if chance.random() < 0.1 else row
            if isinstance(write, Update) and (ended or given is None):
                continue
            had = plan.claims("a", state, row["d"]) if given else {}
            here = plan.plan("a", state, write, "x", given, had, 9.0, None)
            sent = None if given is None else bson.encode(row)
            there, body, made = mongo_large.plan_of("a", state.for_worker, None, apart, text, "x", sent, 9.0)
            assert here.decision.written is not None and there.decision.written is not None
            assert body.decode() == here.decision.written.document.text
            fresh = ("i",) if here.decision.written.created else ()
            assert isinstance(here.new, dict)
            left, right = mongo_raw.decode(made), dict(here.new)
            for name in fresh:
                left.pop(name), right.pop(name)
            assert left == right
            assert (here.decision.kind, here.ended, here.claims, here.dropped) == (
                *(there.decision.kind, there.ended, there.claims, there.dropped),
            )
            assert (here.decision.documents, here.decision.bytes, here.size) == (
                *(there.decision.documents, there.decision.bytes, there.size),
            )
            plans += 1
    assert plans > 300
