"""The MongoDB engine and its server: the start, a server that goes and comes, what is said about it, and what
is sent to it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from gateway.app import Gateway
from gateway.core.errors import (
    BadRequest,
    BodyTooLarge,
    InsufficientStorage,
    NotSupportedByStore,
    QueryTooSlow,
    StoreUnavailable,
    Unprocessable,
)
from gateway.core.model import TenantId
from gateway.store.filter import parse as filters
from gateway.store.model import collection
from gateway.store.model import sort as sorts
from gateway.store.model.idempotency import IdempotencyKey
from gateway.store.model.patch import MergePatch
from gateway.store.model.query import Query
from gateway.store.model.write import Create, Delete, Replace
from gateway.store.mongo.driver import Driver, DuplicateKey, Unusable, WriteConflict
from gateway.store.mongo.engine import MongoDocumentStore
from tests import harness
from tests.eventually import head_start
from tests.fakes import Backend, always, answer
from tests.store import docs
from tests.store.mongo import server as mongo_server
from tests.store.mongo.fakes import Introduction, commands
from tests.support.ports import free_port

ACME, GLOBEX = TenantId("acme"), TenantId("globex")
KEY = b"k" * 32
FAST = "serverSelectionTimeoutMS=300&connectTimeoutMS=300"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mongo_server.serve(tmp_path_factory.mktemp("nx")) as uri:
        yield uri


async def refused(uri: str) -> str:
    """Why a store does not start."""
    with pytest.raises(StoreUnavailable) as caught:
        await MongoDocumentStore(Driver(uri), KEY).start()
    return caught.value.detail


# --- the start ---


async def test_a_server_that_cannot_be_reached_refuses_the_start_and_no_secret_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    address = f"127.0.0.1:{free_port()}"
    detail = await refused(f"mongodb://alice:s3cr3t%21@{address}/docs?{FAST}")
    assert f"mongodb://{address}/docs" in detail and "no server answers" in detail
    assert "s3cr3t" not in detail + caplog.text and "alice" not in detail + caplog.text


@pytest.mark.parametrize(("version", "wire"), [("4.2.24", 8), ("4.0.28", 7), ("3.6.23", 6), ("4.3.9", 25)])
async def test_a_server_older_than_4_4_is_refused_with_what_is_needed(version: str, wire: int) -> None:
    async with Introduction(version=version, maxWireVersion=wire) as old:
        detail = await refused(old.uri + "?" + FAST)
    assert "4.4 or newer" in detail


@pytest.mark.parametrize(
    "uri",
    ["mongodb://a:s3cr3t@h:99999/", "mongodb://a:s3cr3t@[::1/", "mongodb://h1,h2/?directConnection=true"],
)
async def test_a_uri_that_the_driver_does_not_take_refuses_the_start_without_repeating_it(uri: str) -> None:
    detail = await refused(uri)
    assert "[store] uri" in detail and "s3cr3t" not in detail


async def test_a_user_whom_the_server_refuses_is_told_what_he_needs() -> None:
    refusal = {"ok": 0, "code": 13, "errmsg": "not authorized"}
    async with Introduction(refusal, version="7.0.0", maxWireVersion=25) as server:
        detail = await refused(server.uri + "?" + FAST)
    assert "readWrite" in detail and "not authorized" not in detail


async def test_a_store_that_has_not_started_serves_nobody() -> None:
    with pytest.raises(StoreUnavailable):
        MongoDocumentStore(Driver("mongodb://127.0.0.1/"), KEY).tenant(ACME)


def test_a_driver_shows_no_secret() -> None:
    driver = Driver("mongodb://alice:s3cr3t@h1:1,h2:2/docs?authSource=admin")
    assert driver.name == "mongodb://h1:1,h2:2/docs"
    assert "s3cr3t" not in repr(driver)


async def test_cursors_of_one_gateway_count_in_the_others(server: str) -> None:
    uri = mongo_server.database(server)
    one, other = (MongoDocumentStore(Driver(uri), key * 32) for key in (b"a", b"b"))
    await one.start()
    await other.start()
    for _ in range(2):
        await docs.create(one.tenant(ACME), "c", {})
    page = await one.tenant(ACME).list("c", Query(limit=1))
    rest = await other.tenant(ACME).list("c", Query(cursor=page.next))
    assert len(rest.items) == 1
    await one.close()
    await other.close()


REFUSALS = {
    10334: BodyTooLarge, 17419: BodyTooLarge, 17280: BodyTooLarge, 15: Unprocessable, 22: Unprocessable,
    57: Unprocessable, 121: Unprocessable, 11000: DuplicateKey, 112: WriteConflict, 50: QueryTooSlow,
    292: QueryTooSlow, 14031: InsufficientStorage, 13: Unusable, 6: StoreUnavailable, 11600: StoreUnavailable,
}  # fmt: skip


@pytest.mark.parametrize("code", REFUSALS)
async def test_what_a_server_refuses_of_one_document_is_that_documents_and_not_the_servers(code: int) -> None:
    found = {"ok": 1, "version": "7.0.0"}
    row = {"_id": "x"}
    for refusal in (
        {"ok": 0, "code": code, "errmsg": "no"},
        {"ok": 1, "n": 0, "writeErrors": [{"index": 0, "code": code, "errmsg": "no"}]},
    ):
        answers = {"buildinfo": found, "endsessions": {"ok": 1}}
        async with Introduction(refusal, maxWireVersion=25, first=answers) as server:
            driver = Driver(server.uri + "?retryWrites=false&" + FAST)
            await driver.connect()
            inserts = driver.insert("c", row), driver.insert_all("c", [row])
            for write in (*inserts, driver.replace("c", row, row)):
                with pytest.raises(REFUSALS[code]) as caught:
                    await write
                assert type(caught.value) is REFUSALS[code]
            driver.close()


async def test_what_the_driver_cannot_encode_is_the_documents_fault(server: str) -> None:
    driver = mongo_server.driver(server)
    await driver.connect()
    for row, error in (
        ({"d": {"a": 2**64}}, Unprocessable),
        ({"d": {"a\0b": 1}}, Unprocessable),
        ({"d": {"a": "\ud800"}}, Unprocessable),
        ({"d": "x" * 17_000_000}, BodyTooLarge),
    ):
        with pytest.raises(error):
            await driver.insert("c", {"_id": "x", **row})
    assert driver.available
    driver.close()


# --- a server that goes and comes ---


async def test_a_gateway_starts_without_its_server_says_so_and_serves_documents_when_it_comes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "gateway")
    port = free_port()
    uri = f"mongodb://127.0.0.1:{port}/docs?{FAST}"
    async with Backend(always(answer())) as backend:
        routes = [harness.route("docs", "documents"), harness.route("b", "b")]
        config = harness.routing(routes, backends={"b": {"kind": "http", "addresses": [backend.address]}})
        folder = tmp_path / "nx"
        folder.mkdir()
        async with harness.running(tmp_path, config, store_uri=uri) as gateway:
            assert gateway.ready and not gateway.store.available
            assert "gateway_store_up 0" in scraped(gateway)
            async with ClientSession(headers=harness.bearer(gateway)) as session:
                for path in ("/docs/c/x", "/docs/c/", "/docs/"):
                    async with session.get(harness.url(gateway, path)) as reply:
                        assert (reply.status, (await reply.json())["code"]) == (503, "store_unavailable")
                        assert "Retry-After" in reply.headers
                async with session.get(harness.url(gateway, "/b/")) as reply:
                    assert reply.status == 200
                with mongo_server.serve(folder, port):
                    assert await becomes(session, harness.url(gateway, "/docs/c/x"), 404)
                    assert gateway.store.available
                    assert "gateway_store_up 1" in scraped(gateway)
    told = [record for record in caplog.records if "no server answers" in record.getMessage()]
    told = [record for record in told if record.getMessage().startswith("documents: ")]
    assert len(told) == 1 and f"mongodb://127.0.0.1:{port}/docs" in told[0].getMessage()
    assert "documents are served" in caplog.text


def scraped(gateway: Gateway) -> str:
    return "".join(gateway.metrics.parts())


async def test_a_gateway_that_never_saw_its_server_stops(tmp_path: Path) -> None:
    uri = f"mongodb://127.0.0.1:{free_port()}/docs?{FAST}"
    config = harness.routing([harness.route("docs", "documents")])
    async with harness.running(tmp_path, config, store_uri=uri):
        pass
    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


@pytest.mark.parametrize("code", [13, 18, 8000])
async def test_a_refused_user_ends_the_start_also_of_who_would_wait_for_a_server(code: int) -> None:
    refusal = {"ok": 0, "code": code, "errmsg": "no"}
    async with Introduction(refusal, version="7.0.0", maxWireVersion=25) as server:
        store = MongoDocumentStore(Driver(server.uri + "?" + FAST), KEY, patient=True)
        with pytest.raises(Unusable) as caught:
            await store.start()
    assert "readWrite" in caught.value.detail


async def test_a_server_that_refuses_what_the_start_makes_is_told_with_what_to_do() -> None:
    refusal = {"ok": 0, "code": 13, "errmsg": "not authorized"}
    first = {"ok": 1, "version": "7.0.0"}
    async with Introduction(refusal, maxWireVersion=25, first={"buildinfo": first}) as server:
        detail = await refused(server.uri + "?" + FAST)
    assert "readWrite" in detail


async def test_a_server_that_is_too_old_ends_the_start_also_of_who_would_wait_for_it() -> None:
    async with Introduction(version="4.3.9", maxWireVersion=25) as old:
        with pytest.raises(Unusable):
            await MongoDocumentStore(Driver(old.uri + "?" + FAST), KEY, patient=True).start()


async def test_documents_are_503_while_the_server_is_away_and_proxying_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    uri = f"mongodb://127.0.0.1:{port}/docs?{FAST}"
    async with Backend(always(answer())) as backend:
        routes = [harness.route("docs", "documents"), harness.route("b", "b")]
        config = harness.routing(routes, backends={"b": {"kind": "http", "addresses": [backend.address]}})
        folder = tmp_path / "nx"
        folder.mkdir()
        with mongo_server.serve(folder, port):
            manager = harness.running(tmp_path, config, store_uri=uri)
            gateway = await manager.__aenter__()
        try:
            async with ClientSession(headers=harness.bearer(gateway)) as session:
                document = harness.url(gateway, "/docs/c/x")
                async with session.get(document) as reply:
                    assert reply.status == 503
                    assert (await reply.json())["code"] == "store_unavailable"
                    assert "Retry-After" in reply.headers
                async with session.get(harness.url(gateway, "/b/")) as reply:
                    assert reply.status == 200
                with mongo_server.serve(folder, port):
                    assert await becomes(session, document, 404)
        finally:
            await manager.__aexit__(None, None, None)
    assert "no server answers" in caplog.text or "connection was lost" in caplog.text


async def becomes(session: ClientSession, url: str, status: int) -> bool:
    for _ in range(200):
        async with session.get(url) as reply:
            if reply.status == status:
                return True
        await head_start(0.05)
    return False


async def test_only_one_call_in_a_while_waits_for_a_server_that_is_away(tmp_path: Path) -> None:
    port = free_port()
    store = MongoDocumentStore(Driver(f"mongodb://127.0.0.1:{port}/docs?{FAST}"), KEY)
    with mongo_server.serve(tmp_path, port):
        await store.start()
    tenant = store.tenant(ACME)
    loop = asyncio.get_running_loop()
    with pytest.raises(StoreUnavailable):
        await tenant.read("c", "x")
    while store._driver._away_until < loop.time():
        with pytest.raises(StoreUnavailable):
            await tenant.read("c", "x")
    results = await asyncio.gather(*(tenant.read("c", "x") for _ in range(500)), return_exceptions=True)
    assert all(isinstance(result, StoreUnavailable) for result in results)
    assert store._driver._away_until > loop.time()  # all of them came back before anyone tried again
    await store.close()


async def test_a_server_that_went_away_is_said_to_be_what_is_on_it(tmp_path: Path) -> None:
    port = free_port()
    driver = Driver(f"mongodb://127.0.0.1:{port}/docs?{FAST}", None, "the config", "The config is away")
    with mongo_server.serve(tmp_path, port):
        await driver.connect()
    with pytest.raises(StoreUnavailable) as caught:
        await driver.find_one("gateway_revisions", {})
    assert caught.value.detail == "The config is away"
    driver.close()


# --- what a single server cannot do ---


async def test_feeds_and_atomic_bulks_want_a_replica_set_and_say_so(server: str) -> None:
    if mongo_server.REAL:
        pytest.skip("the server may be a replica set")
    store = MongoDocumentStore(mongo_server.driver(server), KEY)
    await store.start()
    with pytest.raises(NotSupportedByStore, match="replica set"):
        await anext(store.tenant(ACME).changes("c"))
    with pytest.raises(NotSupportedByStore, match="replica set"):
        await store.tenant(ACME).bulk("c", [Create({})], atomic=True)
    assert [outcome.status for outcome in await store.tenant(ACME).bulk("c", [Create({})])] == [201]
    await store.close()


# --- what is sent to the server ---


@pytest.fixture
async def watched(server: str) -> AsyncIterator[MongoDocumentStore]:
    driver = mongo_server.driver(server, transactions=True)
    store = MongoDocumentStore(driver, KEY)
    await store.start()
    commands.of(driver.name.rpartition("/")[2])
    yield store
    await store.close()


def queries(command: dict[str, Any]) -> list[dict[str, Any]]:
    """The queries of a command, and the rows that it stores."""
    verb = next(iter(command))
    if verb == "find":
        return [command["filter"]]
    if verb == "findAndModify":
        return [command["query"]]
    if verb in ("update", "delete"):
        return [part["q"] for part in command[verb + "s"]]
    if verb == "insert":
        return list(command["documents"])
    assert verb in ("commitTransaction", "abortTransaction", "endSessions"), command
    return []


def conditions(query: dict[str, Any]) -> dict[str, Any]:
    """The conditions that all have to hold."""
    parts = {name: value for name, value in query.items() if name != "$and"}
    for part in query.get("$and", []):
        parts |= conditions(part)
    return parts


async def use_everything(store: MongoDocumentStore) -> None:
    tenant = store.tenant(ACME)
    declared = {"indexes": [{"name": "a", "fields": ["a"], "unique": True}], "ttl": {"seconds": 1000}}
    await tenant.put_collection("c", collection.from_data(declared))
    await docs.replace(tenant, "c", "x", {"a": 1})
    await docs.create(tenant, "c", {"a": 2}, idempotency=IdempotencyKey("key", b"f"))
    await docs.patch(tenant, "c", "x", MergePatch({"a": 3}))
    await tenant.bulk("c", [Replace("y", {"a": 3}), Create({}), Delete("x")], atomic=True)
    await tenant.bulk("c", [Replace("y", {"a": 2}), Create({}), Delete("y")])
    for sort in ("", "a", "-b", "_created,a"):
        keys = sorts.parse(sort) if sort else ()
        node = filters.parse('{"$or":[{"a":{"$gt":1}},{"b.c":{"$in":[1,"x"]}},{"d":{"$not":{"$size":1}}}]}')
        page = await tenant.list("c", Query(node, keys, limit=1, count=True))
        await tenant.list("c", Query(node, keys, cursor=page.next))
    assert [chunk async for chunk in tenant.export("c")]
    feed = tenant.changes("c")
    await anext(feed)
    await docs.create(tenant, "c", {})
    await anext(feed)
    await feed.aclose()
    await tenant.patch_collection("c", MergePatch({"indexes": None}))
    await tenant.collections()
    await tenant.collection("c")
    await tenant.delete_collection("c", documents=True)


async def test_every_command_names_its_tenant_and_its_collection(watched: MongoDocumentStore) -> None:
    await use_everything(watched)
    seen = [(command, query) for command in commands.seen for query in queries(command)]
    assert len(seen) > 50
    for command, query in seen:
        rows = command[next(iter(command))]
        if rows == "meta":
            continue  # nothing of a tenant's
        found = conditions(query)
        assert found.get("t") in ("acme", {"$in": ["acme"]}), command
        if rows in ("documents", "claims", "changes"):
            assert found.get("c") == "c", command
        if rows == "collections":
            assert found.get("c") in ("c", {"$gt": ""}), command
        if rows in ("tenants", "idempotency"):
            assert str(found["_id"]).startswith(("acme", "{'$in': ['acme']}")), command


KNOWN = {
    "$and", "$or", "$eq", "$gt", "$gte", "$lt", "$lte", "$in", "$exists", "$type", "$size", "$regex",
    "$elemMatch",
}  # fmt: skip


def operators(query: Any) -> set[str]:
    if isinstance(query, list):
        return set[str]().union(*map(operators, query))
    if not isinstance(query, dict):
        return set()
    own = {name for name in query if name.startswith("$")}
    return own.union(*(operators(value) for value in query.values()))


@pytest.mark.parametrize(
    "text",
    [
        '{"$where":"sleep(1)"}',
        '{"a":{"$where":"1"}}',
        '{"$expr":{"$eq":["$t","globex"]}}',
        '{"a":{"$function":{}}}',
        '{"a":{"$eq":{"$gt":1}}}',
        '{"a":{"$in":[{"$ne":1}]}}',
        '{"a":{"$not":{"$where":"1"}}}',
        '{"a":{"$elemMatch":{"$expr":1}}}',
        '{"$or":[{"$jsonSchema":{}}]}',
        '{"$comment":"x"}',
        '{"a":{"b":{"$ne":1}}}',
        '{"a":{"$regex":"x","$options":"x"}}',
        '{"t":"globex","$and":[{"$nor":[{"$text":{"$search":"x"}}]}]}',
    ],
)
async def test_an_operator_that_is_not_ours_never_reaches_the_driver(
    watched: MongoDocumentStore, text: str
) -> None:
    with pytest.raises(BadRequest):
        await watched.tenant(ACME).list("c", Query(filters.parse(text)))
    assert commands.seen == []


async def test_what_a_client_says_is_a_value_or_a_member_of_d(watched: MongoDocumentStore) -> None:
    """A filter on the names that the engine uses for itself asks for the client's members of these names."""
    await docs.replace(watched.tenant(GLOBEX), "c", "x", {"canary": "c4n4ry"})
    tenant = watched.tenant(ACME)
    commands.of(watched._driver.name.rpartition("/")[2])
    texts = [
        '{"t":"globex"}', '{"t":{"$gt":""}}', '{"$or":[{"t":"globex"},{"c":{"$exists":true}}]}',
        '{"c":{"$not":{"$eq":"c"}}}', '{"ix":{"$elemMatch":{"n":"s0"}}}', '{"d.canary":"c4n4ry"}',
        '{"$nor":[{"t":"acme"}]}', '{"id":"x"}', '{"id":{"$gt":""}}',
        '{"canary":{"$regex":"c4n","$options":"i"}}',
    ]  # fmt: skip
    for text in texts:
        node = filters.parse(text)
        for sort in ("", "t", "-ix.n"):
            found = await tenant.list("c", Query(node, sorts.parse(sort) if sort else (), count=True))
            assert found.items == () and found.count == 0
    for query in (query for command in commands.seen for query in queries(command)):
        assert operators(query) <= KNOWN
        assert conditions(query)["t"] == "acme" and conditions(query).get("c", "c") == "c"


async def test_data_that_looks_like_a_command_is_refused_or_only_data(watched: MongoDocumentStore) -> None:
    tenant = watched.tenant(ACME)
    odd: dict[str, Any]
    odd = {"a": "$where", "b": "\x1f", "c": [{"": "$d"}], "1": {"0": 1}, "ix": [], "o": {"s": 1}}
    document = await docs.create(tenant, "c", odd)
    assert (await tenant.read("c", document.id)).data == odd
    patched = await docs.patch(
        tenant, "c", document.id, MergePatch({"ix": None, "t": "globex", "c": "other"})
    )
    assert patched.data == {**{n: v for n, v in odd.items() if n != "ix"}, "t": "globex", "c": "other"}
    assert (await store_of(watched, GLOBEX)) == []


async def store_of(store: MongoDocumentStore, tenant: TenantId) -> list[str]:
    return [item.name for item in (await store.tenant(tenant).collections()).items]
