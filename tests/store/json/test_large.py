"""Large documents: their JSON is worked on in worker processes, and means there what it means elsewhere."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.core.errors import (
    BodyTooLarge,
    GatewayError,
    PatchConflict,
    SchemaViolation,
    UniqueConflict,
    Unprocessable,
)
from gateway.core.model import TenantId
from gateway.runtime.processes.pool import Limits, ProcessPool
from gateway.store.filter import parse as filters
from gateway.store.json import large, strict
from gateway.store.json.large import (
    LIGHT_BYTES,
    LIGHT_VALUES,
    Jobs,
    change,
    is_light,
    shape,
    skeleton,
)
from gateway.store.model.collection import TTL, CollectionSettings, Index
from gateway.store.model.document import LargeMembers, parse_members
from gateway.store.model.indexing import main_entry, other_entries, unique_key
from gateway.store.model.patch import JsonPatch, LargePatch, MergePatch, apply, parse_json_patch
from gateway.store.model.query import Query
from gateway.store.model.write import MAX_BULK_SECONDS, Update
from gateway.store.sqlite.engine import SQLiteDocumentStore
from gateway.store.sqlite.read.statement import Bound, Connection
from gateway.store.sqlite.tenant import SQLiteTenantStore
from tests.store import docs

ACME = TenantId("acme")
VALUES = [None, True, 1, 2.5, "", "x", "я", [], {}, [1, [2], {"a": 3}], {"a": {"b": [1, {"c": 2}]}}]
INDEXES = (
    Index("a", (("a",),)),
    Index("ab", (("a", "b"),)),
    Index("abc", (("a", "b", "c"),)),
    Index("b", (("b",),), unique=True),
    Index("bc", (("b", "c"), ("a",)), unique=True),
)
END = TTL(1.0, ("c", "end"))


def document(chance: random.Random, depth: int = 0) -> Any:
    kind = chance.random()
    if depth > 3 or kind < 0.3:
        return chance.choice(VALUES)
    if kind < 0.6 and depth:
        return [document(chance, depth + 1) for _ in range(chance.randrange(4))]
    return {name: document(chance, depth + 1) for name in "abc" if chance.random() < 0.7}


def test_a_skeleton_has_all_that_indexes_and_a_ttl_look_at() -> None:
    chance = random.Random(11)
    wanted = shape(INDEXES, (END,), None)
    for _ in range(3000):
        data = document(chance)
        if not isinstance(data, dict):
            continue
        data.setdefault("c", {"end": chance.choice([1, "2026-01-01T00:00:00Z", None])})
        bones = skeleton(data, wanted)
        for index in INDEXES:
            for path in index.fields:
                assert main_entry(path, bones) == main_entry(path, data)
                assert other_entries(path, bones) == other_entries(path, data)
            assert not index.unique or unique_key(index, bones) == unique_key(index, data)
        assert END.expires(1.0, bones) == END.expires(1.0, data)


def test_a_skeleton_has_nothing_of_the_rest() -> None:
    data = {"a": [{"b": "x" * 1000, "big": "x" * 1000}, {"big": [0] * 1000}], "big": [0] * 1000}
    bones = skeleton(data, shape((Index("ab", (("a", "b"),)),), (), None))
    assert bones == {"a": [{"b": "x" * 1000}, {}]}


def test_what_is_light_is_told_by_its_length_and_by_how_many_values_it_may_have() -> None:
    assert is_light(b'{"a":"' + b"x" * (LIGHT_BYTES - 10) + b'"}')
    assert not is_light(b"x" * (LIGHT_BYTES + 1))
    for values in (b"1,", b"[],", b"{},", b'{"a":1},'):
        text = b"[" + values * LIGHT_VALUES + b"1]"
        assert not is_light(text) and not is_light(text.decode())
        few = b"[" + values * (LIGHT_VALUES // 5) + b"1]"
        assert is_light(few) and is_light(few.decode())


@pytest.mark.parametrize("raw", [b"{", b'{"a":1,"a":2}', b'{"$a":1}', b'{"id":"y"}', b"[]", b'{"a":NaN}'])
def test_a_worker_refuses_what_is_refused_elsewhere(raw: bytes) -> None:
    received = []
    for parse in (parse_members, large.members_text, large.merge_patch_text):
        with pytest.raises(GatewayError) as refused:
            parse(raw, "x")
        received.append((refused.value.status, refused.value.detail, refused.value.extra))
    assert received[0] == received[1] == received[2]


def test_a_line_of_a_bulk_is_cut_into_what_is_small_and_its_text() -> None:
    line = b'{"op":"replace","id":"a","data":{"id":"a","x":1.0},"if_match":"\\"t\\""}'
    assert large.operation_parts(line) == (
        {"op": "replace", "id": "a", "if_match": '"t"'},
        "object",
        b'{"x":1}',
    )
    assert large.operation_parts(b'{"op":"patch","id":"a","data":[]}')[1:] == ("array", b"[]")
    assert large.operation_parts(b'{"op":"delete","id":"a"}')[1:] == ("", b"")
    for refused, pointer in ((b'{"id":"b"}', "/data/id"), (b'{"x":{"$y":1}}', "/data/x/$y")):
        with pytest.raises(Unprocessable) as error:
            large.operation_parts(b'{"op":"replace","id":"a","data":%b}' % refused)
        assert error.value.extra["errors"][0]["pointer"] == pointer


def test_a_change_makes_what_the_same_patch_makes_elsewhere() -> None:
    old = b'{"a":[1,2],"b":{"c":1},"z":0}'
    wanted = shape(INDEXES, (), None)
    text, before, after = change(old, None, wanted, MergePatch({"a": [3], "z": None}))
    assert (text, before["a"], after["a"]) == (b'{"a":[3],"b":{"c":1}}', [1, 2], [3])
    operations = b'[{"op":"add","path":"/a/-","value":3}]'
    longer = b'{"a":[1,2,3],"b":{"c":1},"z":0}'
    assert change(old, None, wanted, LargePatch(True, b""), operations)[0] == longer
    assert change(old, None, wanted, parse_json_patch(operations))[0] == longer
    with pytest.raises(PatchConflict):
        change(old, None, wanted, LargePatch(True, b""), b'[{"op":"remove","path":"/nothing"}]')
    assert change(old, None, wanted) == (b"", before, {}), "what only leaves is looked at, and not written"


# --- in a store ---


class Recorded(Jobs):
    """Does the jobs here, and tells which they were. seconds: what each is said to have taken of a worker's
    processor time."""

    def __init__(self) -> None:
        super().__init__(None)
        self.seconds = 0.0
        self.done: list[str] = []

    async def run(self, tenant: str, function: Callable[..., Any], *args: Any, **more: Any) -> Any:
        self.done.append(function.__name__)
        return function(*args, **more)

    def wait(
        self,
        tenant: str,
        charge: Callable[[float], object],
        function: Callable[..., Any],
        *args: Any,
        **more: Any,
    ) -> Any:
        self.done.append(function.__name__)
        charge(self.seconds)
        return function(*args, **more)


@pytest.fixture
def jobs() -> Recorded:
    return Recorded()


@pytest.fixture
async def tenant(tmp_path: Path, jobs: Recorded) -> AsyncIterator[SQLiteTenantStore]:
    store = SQLiteDocumentStore(tmp_path / "documents", b"k" * 32, jobs=jobs)
    await store.start()
    yield store.tenant(ACME)
    await store.close()


def members(**more: Any) -> dict[str, Any]:
    return {"fill": "ü" * LIGHT_BYTES, "tags": ["a", "b"], "name": "n", **more}


def text_of(data: dict[str, Any]) -> LargeMembers:
    return LargeMembers(strict.dumps(data).encode())


async def found(tenant: SQLiteTenantStore, condition: dict[str, Any]) -> list[str]:
    page = await tenant.list("c", Query(filters.parse_value(condition)))
    return [item.id for item in page.items]


@pytest.mark.asyncio
async def test_a_large_document_is_indexed_replaced_patched_and_deleted(
    tenant: SQLiteTenantStore, jobs: Recorded
) -> None:
    indexes = (Index("tags", (("tags",),)), Index("name", (("name",),), unique=True))
    await tenant.put_collection("c", CollectionSettings(indexes=indexes))
    written = await docs.replace(tenant, "c", "x", text_of(members()))
    assert written.created and written.document.encoded and not written.document.text
    assert await found(tenant, {"tags": "b"}) == ["x"]
    with pytest.raises(UniqueConflict):
        await docs.create(tenant, "c", {"name": "n"})
    written = await docs.replace(tenant, "c", "x", text_of(members(tags=["c"], name="m")))
    assert not written.created
    assert (await found(tenant, {"tags": "b"}), await found(tenant, {"tags": "c"})) == ([], ["x"])
    await docs.create(tenant, "c", {"name": "n"})
    await docs.patch(tenant, "c", "x", MergePatch({"tags": ["d"], "new": 1}))
    read = await tenant.read("c", "x")
    assert read.data == members(tags=["d"], name="m", new=1)
    assert (await found(tenant, {"tags": "c"}), await found(tenant, {"tags": "d"})) == ([], ["x"])
    patch = LargePatch(False, strict.dumps({"tags": ["e"]}).encode())
    assert (await docs.patch(tenant, "c", "x", patch)).version == 4
    assert await found(tenant, {"tags": "e"}) == ["x"]
    await docs.replace(tenant, "c", "x", {"name": "m"})
    assert (await found(tenant, {"tags": "e"}), (await tenant.read("c", "x")).data) == ([], {"name": "m"})
    await docs.replace(tenant, "c", "x", text_of(members(name="m")))
    await docs.delete(tenant, "c", "x")
    assert await found(tenant, {"tags": "a"}) == []
    await docs.create(tenant, "c", {"name": "m"})
    assert set(jobs.done) == {"change"}
    assert (await tenant.collection("c")).documents == 2


@pytest.mark.asyncio
async def test_a_large_document_that_nobody_looks_into_is_no_job(
    tenant: SQLiteTenantStore, jobs: Recorded
) -> None:
    await docs.replace(tenant, "c", "x", text_of(members()))
    await docs.replace(tenant, "c", "x", text_of(members()))
    assert (await tenant.read("c", "x")).encoded == text_of(members()).text
    await docs.delete(tenant, "c", "x")
    assert jobs.done == []


@pytest.mark.asyncio
async def test_many_values_are_large_in_few_bytes(tenant: SQLiteTenantStore, jobs: Recorded) -> None:
    data = {"many": [0] * (LIGHT_VALUES + 1)}
    await docs.replace(tenant, "c", "x", LargeMembers(strict.dumps(data).encode()))
    document = await docs.patch(tenant, "c", "x", MergePatch({"one": 1}))
    assert jobs.done == ["change"]
    assert document.data == {**data, "one": 1}


@pytest.mark.asyncio
async def test_a_small_patch_that_makes_much_of_a_small_document_is_a_job(
    tenant: SQLiteTenantStore, jobs: Recorded
) -> None:
    def doubled(times: int) -> JsonPatch:
        operations = [{"op": "copy", "from": "", "path": f"/x{number}"} for number in range(times)]
        return parse_json_patch(strict.dumps(operations).encode())

    await docs.replace(tenant, "c", "x", {"a": {"b": 1}})
    assert len((await docs.patch(tenant, "c", "x", doubled(3))).text) < 1000
    assert jobs.done == [], "what makes little of it is none"
    for wanted, refused in ((doubled(12), None), (doubled(20), BodyTooLarge)):
        await docs.replace(tenant, "c", "x", {"a": {"b": 1}})
        jobs.done.clear()
        if refused is None:
            document = await docs.patch(tenant, "c", "x", wanted)
            assert document.data == apply(wanted, {"a": {"b": 1}}, "x")
        else:
            with pytest.raises(refused):
                await docs.patch(tenant, "c", "x", wanted)
        assert jobs.done == ["change"]


@pytest.mark.asyncio
async def test_what_a_bulk_has_workers_do_is_charged_to_it_also_where_it_fails(
    tenant: SQLiteTenantStore, jobs: Recorded
) -> None:
    large = {"many": [[]] * (LIGHT_VALUES + 1)}
    await docs.replace(tenant, "c", "x", LargeMembers(strict.dumps(large).encode()))
    fails = parse_json_patch(b'[{"op":"remove","path":"/nothing"}]')
    jobs.seconds = MAX_BULK_SECONDS / 2 + 0.1
    for wanted, status in ((MergePatch({"one": 1}), 200), (fails, 409)):
        jobs.done.clear()
        outcomes = await tenant.bulk("c", [Update("x", wanted)] * 4)
        assert [outcome.status for outcome in outcomes] == [status, status, 429, 429]
        assert [outcome.untried for outcome in outcomes] == [False, False, True, True]
        assert jobs.done == ["change"] * 2
    outcomes = await tenant.bulk("c", [Update("x", MergePatch({"one": 2}))] * 4, atomic=True)
    assert outcomes[2].status == 413, "sent again it would fail again"
    assert (await tenant.read("c", "x")).data["one"] == 1


@pytest.mark.asyncio
async def test_a_schema_is_asked_of_a_large_document(tenant: SQLiteTenantStore, jobs: Recorded) -> None:
    schema = {"properties": {"name": {"const": "n"}}}
    await tenant.put_collection("c", CollectionSettings(schema=schema))
    await docs.replace(tenant, "c", "x", text_of(members()))
    with pytest.raises(SchemaViolation):
        await docs.replace(tenant, "c", "x", text_of(members(name="m")))
    with pytest.raises(SchemaViolation):
        await docs.patch(tenant, "c", "x", MergePatch({"name": "m"}))
    assert (await tenant.read("c", "x")).data == members()


# --- in the pool ---


@pytest.mark.asyncio
async def test_worker_processes_do_the_jobs_and_their_errors_come_back(tmp_path: Path) -> None:
    pool = ProcessPool(1)
    store = SQLiteDocumentStore(tmp_path / "documents", b"k" * 32, jobs=Jobs(pool))
    await store.start()
    try:
        tenant = store.tenant(ACME)
        await tenant.put_collection("c", CollectionSettings(indexes=(Index("tags", (("tags",),)),)))
        raw = json.dumps({**members(), "many": list(range(LIGHT_VALUES))}).encode()
        text = await tenant.work(large.members_text, raw, "x")
        await docs.replace(tenant, "c", "x", LargeMembers(text))
        await docs.patch(tenant, "c", "x", MergePatch({"tags": ["z"]}))
        assert await found(tenant, {"tags": "z"}) == ["x"]
        with pytest.raises(Unprocessable) as refused:
            await tenant.work(large.members_text, b'{"$x":1}', "x")
        assert refused.value.extra["errors"][0]["pointer"] == "/$x"
        with pytest.raises(PatchConflict):
            await docs.patch(tenant, "c", "x", parse_json_patch(b'[{"op":"test","path":"/name","value":1}]'))
        assert pool.pids
    finally:
        await store.close()
        await pool.close()


@pytest.mark.asyncio
async def test_a_document_that_takes_too_much_is_413(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "_LIMITS", Limits(memory=64 * 1024 * 1024))
    pool = ProcessPool(1)
    jobs = Jobs(pool)
    try:
        raw = b'{"a":[' + b"{}," * 1_500_000 + b"{}]}"
        with pytest.raises(BodyTooLarge, match="more memory"):
            await jobs.run("acme", large.members_text, raw, "x")
        assert await jobs.run("acme", large.members_text, b"{}", "x") == b"{}", "and the next one is served"
    finally:
        await pool.close()


@pytest.mark.asyncio
async def test_a_filter_of_many_tables_asks_documents_that_are_not_small_one_by_one(
    tenant: SQLiteTenantStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each table of elements keeps a document, as parsed, as long as its statement goes on."""
    asked = []
    of_one = Bound.of_one

    def watched(self: Bound, connection: Connection, one: int, number: int, row: int) -> Any:
        asked.append(row)
        return of_one(self, connection, one, number, row)

    monkeypatch.setattr(Bound, "of_one", watched)
    for name, count in (("small", 20), ("middle", 4_000), ("other", 4_000)):
        await docs.replace(tenant, "c", name, {"a": [{"b": number} for number in range(count)], "name": name})
    few = {"$or": [{"a.b": 19}, {"name": "other"}]}
    assert await found(tenant, few) == ["middle", "other", "small"] and not asked
    many = {"$or": [{"a.b": -number} for number in range(1, 90)] + [{"a.b": 3_999}, {"a.b": 19}]}
    assert await found(tenant, many) == ["middle", "other", "small"]
    assert len(set(asked)) == 2
    assert await found(tenant, {"$and": [many, {"a.b": 3_999}]}) == ["middle", "other"]


@pytest.mark.asyncio
async def test_a_short_patch_that_makes_a_large_document_is_a_job(
    tenant: SQLiteTenantStore, jobs: Recorded
) -> None:
    """Each copy of a document into itself doubles it."""
    copies = [{"op": "copy", "from": "/a", "path": f"/a/{n}"} for n in range(12)]
    patch = parse_json_patch(strict.dumps(copies).encode())
    await docs.replace(tenant, "c", "x", {"a": {"text": "x" * 100}})
    few = parse_json_patch(strict.dumps(copies[:3]).encode())
    await docs.patch(tenant, "c", "x", few)
    assert jobs.done == []
    await docs.replace(tenant, "c", "x", {"a": {"text": "x" * 100}})
    document = await docs.patch(tenant, "c", "x", patch)
    assert jobs.done == ["change"] and document.size > LIGHT_BYTES
