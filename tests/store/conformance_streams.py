"""What every engine promises of exports, imports and feeds of changes, and of filters, fields and counts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, ClassVar

import pytest

from gateway.core.errors import BadRequest, NotFound, StoreUnavailable, TenantLimit
from gateway.store import feeds, transfer
from gateway.store.filter import parse as filters
from gateway.store.json.representation import line
from gateway.store.model import collection as collections
from gateway.store.model import instants, projection
from gateway.store.model import sort as sorts
from gateway.store.model.change import Change, Changes
from gateway.store.model.patch import MergePatch
from gateway.store.model.query import Query
from gateway.store.model.write import Create, Replace
from gateway.store.port import Capability, DocumentStore, TenantStore
from tests.eventually import END, head_start
from tests.store import docs
from tests.store.conformance import ACME, GLOBEX, check_answers, fill, ids
from tests.store.conformance_writes import require


async def lines_of(*lines: str) -> AsyncIterator[bytes]:
    for text in lines:
        yield text.encode()


async def imported(tenant: TenantStore, *lines: str, replacing: bool = True) -> list[int]:
    batches = transfer.import_lines(tenant, "c", lines_of(*lines), replacing=replacing)
    return [outcome.status async for batch in batches for outcome in batch]


async def exported(tenant: TenantStore, text: str = "{}") -> list[bytes]:
    chunks = [chunk async for chunk in tenant.export("c", filters.parse(text))]
    assert all(chunk.endswith(b"\n") for chunk in chunks)
    return b"".join(chunks).splitlines(keepends=True)


class Transfers:
    async def test_an_export_is_every_document_in_order_of_ids(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        assert await exported(tenant) == []
        made = [
            (await docs.replace(tenant, "c", i, {"a": i, "é": "\u2028"})).document for i in ("b", '"', "a")
        ]
        ordered = sorted(made, key=lambda document: document.id)
        assert await exported(tenant) == [line(document).encode() for document in ordered]
        assert await exported(tenant, '{"a":"b"}') == [line(made[0]).encode()]
        assert await exported(store.tenant(GLOBEX)) == []

    async def test_an_export_shows_one_instant(self, store: DocumentStore) -> None:
        require(store, Capability.SNAPSHOT_EXPORT)
        tenant = store.tenant(ACME)
        await tenant.bulk("c", [Replace(f"{n:03}", {"a": "x" * 10_000}) for n in range(100)])
        found = b""
        async with aclosing(tenant.export("c")) as chunks:
            found += await anext(chunks)
            await docs.replace(tenant, "c", "099", {})
            await docs.delete(tenant, "c", "098")
            await docs.create(tenant, "c", {})
            found += b"".join([chunk async for chunk in chunks])
        assert found.count(b"\n") == 100 and json.loads(found.splitlines()[-1])["a"] == "x" * 10_000

    async def test_exports_that_are_left_open_are_limited_and_let_go(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        await docs.create(tenant, "c", {})
        exports = [tenant.export("c") for _ in range(20)]
        opened = []
        with pytest.raises(TenantLimit):
            for export in exports:
                await anext(export)
                opened.append(export)
        await docs.create(store.tenant(GLOBEX), "c", {})
        assert len(await exported(store.tenant(GLOBEX))) == 1
        for export in opened:
            await export.aclose()
        assert len(await exported(tenant)) == 1

    async def test_what_was_exported_is_imported_again(self, store: DocumentStore) -> None:
        a, b = store.tenant(ACME), store.tenant(GLOBEX)
        count = transfer.BATCH_LINES + 10
        await a.bulk("c", [Replace(f"{n}", {"n": n, "text": "é\u2028"}) for n in range(count)])
        lines = [raw.decode() for raw in await exported(a)]
        assert await imported(b, *lines) == [201] * count
        assert await exported(b) == [raw.encode() for raw in lines]
        assert set(await imported(b, *lines)) == {200}
        assert set(await imported(b, *lines, replacing=False)) == {412}

    async def test_a_line_that_is_wrong_stands_for_itself(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        found = await imported(
            tenant, '{"id":"x","a":1}', "\n", '{"a":1}\n', "{", '{"id":1}', '{"id":""}', "[]",
            '{"$a":1}', "  ", '{"id":"y","a":NaN}', '{"id":"z"}\r\n',
        )  # fmt: skip
        assert found == [201, 201, 400, 422, 400, 422, 422, 422, 201]
        assert {"x", "z"} < set(await ids(tenant, "c")) and len(await ids(tenant, "c")) == 3

    async def test_an_import_reads_no_further_than_it_writes(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        read = 0

        async def lines() -> AsyncIterator[bytes]:
            nonlocal read
            while True:
                yield b"{}"
                read += 1

        async with aclosing(transfer.import_lines(tenant, "c", lines())) as batches:
            first = await anext(batches)
            assert len(first) == transfer.BATCH_LINES and read < transfer.BATCH_LINES
        assert len((await tenant.list("c", Query(limit=1000))).items) == transfer.BATCH_LINES


class Feeds:
    async def test_a_feed_begins_at_once_and_tells_each_change_in_order(self, store: DocumentStore) -> None:
        require(store, Capability.CHANGES)
        tenant = store.tenant(ACME)
        await docs.replace(tenant, "c", "before", {})
        async with aclosing(tenant.changes("c")) as feed:
            assert (await anext(feed)).items == ()
            made = (await docs.replace(tenant, "c", "x", {"a": 1})).document
            await docs.replace(tenant, "other", "x", {})
            changed = await docs.patch(tenant, "c", "x", MergePatch({"a": 2}))
            await docs.delete(tenant, "c", "x")
            found = await collect(feed, 3)
        assert [(change.kind, change.id, change.etag) for change in found] == [
            ("created", "x", made.etag), ("updated", "x", changed.etag), ("deleted", "x", changed.etag),
        ]  # fmt: skip
        assert found[2].document is None and made.created <= found[1].at <= instants.now()

    async def test_what_has_expired_is_told_to_be_deleted_before_what_takes_its_place(
        self, store: DocumentStore
    ) -> None:
        require(store, Capability.CHANGES)
        tenant = store.tenant(ACME)
        await tenant.put_collection("c", collections.from_data({"ttl": {"field": "end"}}))
        async with aclosing(tenant.changes("c")) as feed:
            await anext(feed)
            old = (await docs.replace(tenant, "c", "x", {"end": 1})).document
            new = (await docs.replace(tenant, "c", "x", {"n": 1})).document
            with pytest.raises(NotFound):
                await docs.delete(tenant, "c", "y")
            await docs.replace(tenant, "c", "y", {"end": 1})
            (outcome,) = await tenant.bulk("c", [Replace("y", {"n": 2})])
            found = await collect(feed, 6)
        told = [(change.kind, change.id, change.etag) for change in found]
        assert told[:3] == [
            ("created", "x", old.etag), ("deleted", "x", old.etag), ("created", "x", new.etag)
        ]  # fmt: skip
        assert [kind for kind, _, _ in told[3:]] == ["created", "deleted", "created"]
        assert told[4][2] == told[3][2] and told[5][2] == outcome.etag
        assert len({change.event for change in found}) == 6

    async def test_a_change_carries_the_document_as_it_is(self, store: DocumentStore) -> None:
        require(store, Capability.CHANGES)
        tenant = store.tenant(ACME)
        async with aclosing(tenant.changes("c")) as feed:
            await anext(feed)
            made = await docs.create(tenant, "c", {"a": 1})
            (change,) = await collect(feed, 1)
            assert change.document == made
            await tenant.delete_collection("c", documents=True)
            assert [change.kind for change in await collect(feed, 1)] == ["collection_deleted"]

    async def test_a_feed_goes_on_behind_an_event(self, store: DocumentStore) -> None:
        require(store, Capability.CHANGES)
        tenant = store.tenant(ACME)
        async with aclosing(tenant.changes("c")) as feed:
            start = (await anext(feed)).position
            count = feeds.BATCH + 10
            await tenant.bulk("c", [Create({"n": n}) for n in range(count)])
            seen = await collect(feed, count)
        assert len({change.event for change in seen}) == count
        for position, missed in ((start, seen), (seen[99].event, seen[100:]), (seen[-1].event, [])):
            async with aclosing(tenant.changes("c", position)) as feed:
                assert (await anext(feed)).items == ()
                assert await collect(feed, len(missed)) == missed
        await docs.create(tenant, "c", {})
        async with aclosing(tenant.changes("c", seen[-1].event)) as feed:
            assert len(await collect(feed, 1)) == 1

    async def test_an_event_counts_only_for_the_collection_that_gave_it(self, store: DocumentStore) -> None:
        require(store, Capability.CHANGES)
        tenant = store.tenant(ACME)
        await docs.create(store.tenant(GLOBEX), "c", {})
        async with aclosing(tenant.changes("c")) as feed:
            event = (await anext(feed)).position
        cursor_of_list = await a_cursor(tenant)
        details = set()
        for attempt in (
            store.tenant(GLOBEX).changes("c", event),
            tenant.changes("other", event),
            tenant.changes("c", event[:-2] + ("BB" if event.endswith("AA") else "AA")),
            tenant.changes("c", ""),
            tenant.changes("c", "é"),
            tenant.changes("c", cursor_of_list),
        ):
            with pytest.raises(BadRequest) as caught:
                await anext(attempt)
            details.add(caught.value.detail)
        assert len(details) == 1

    async def test_many_feeds_hear_of_a_commit_and_closing_the_store_ends_them(
        self, store: DocumentStore
    ) -> None:
        require(store, Capability.CHANGES)
        tenant = store.tenant(ACME)
        feeds = [tenant.changes("c") for _ in range(20)]
        for feed in feeds:
            await anext(feed)
        made = await docs.create(tenant, "c", {})
        found = await asyncio.wait_for(asyncio.gather(*(anext(feed) for feed in feeds)), 30)
        assert all([change.id for change in changes.items] == [made.id] for changes in found)
        waiting = [asyncio.ensure_future(anext(feed)) for feed in feeds]
        await head_start(0.01)
        await store.close()
        for result in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(result, StoreUnavailable)


async def a_cursor(tenant: TenantStore) -> str:
    for identifier in "xy":
        await docs.replace(tenant, "list", identifier, {})
    cursor = (await tenant.list("list", Query(limit=1))).next
    assert cursor is not None
    return cursor


async def collect(feed: AsyncIterator[Changes], count: int) -> list[Change]:
    found: list[Change] = []
    async with asyncio.timeout(END):
        while len(found) < count:
            found += (await anext(feed)).items
    assert len(found) == count
    return found


NUMBERS = {
    "one": {"n": 1, "t": ["a", "b"]},
    "two": {"n": 2, "t": ["b"]},
    "text": {"n": "2", "o": [{"p": 1, "q": 2}]},
    "none": {},
    "null": {"n": None, "o": [{"p": 1}, {"q": 2}]},
    "half": {"n": 7.5, "t": [], "s": "abc.d"},
}


OPERATORS: dict[str, str] = {
    '{"n":{"$gt":1}}': "two half",
    '{"n":{"$gte":1,"$lt":7.5}}': "one two",
    '{"n":{"$gt":"1"}}': "text",
    '{"n":{"$ne":2}}': "one text none null half",
    '{"n":{"$in":[2,"2",null]}}': "two text none null",
    '{"n":{"$nin":[2,"2",null]}}': "one half",
    '{"$or":[{"n":1},{"n":"2"}]}': "one text",
    '{"$nor":[{"n":1},{"n":"2"}]}': "two none null half",
    '{"n":{"$not":{"$gt":1}}}': "one text none null",
    '{"n":{"$exists":true}}': "one two text null half",
    '{"n":{"$exists":false}}': "none",
    '{"n":{"$type":"number"}}': "one two half",
    '{"n":{"$type":["null","string"]}}': "text null",
    '{"t":{"$all":["a","b"]}}': "one",
    '{"t":{"$all":[]}}': "",
    '{"t":{"$size":0}}': "half",
    '{"o":{"$elemMatch":{"p":1,"q":2}}}': "text",
    '{"o.p":1,"o.q":2}': "text null",
    '{"t":{"$elemMatch":{"$gt":"a"}}}': "one two",
    '{"n":{"$mod":[2,1]}}': "one half",
    '{"s":{"$prefix":"ab"}}': "half",
    '{"s":{"$contains":"c.d"}}': "half",
    '{"s":{"$regex":"^abc"}}': "half",
    '{"s":{"$regex":"c\\\\.d$"}}': "half",
    '{"id":{"$prefix":"t"}}': "two text",
    '{"id":{"$in":["one","never"]}}': "one",
    '{"_created":{"$gt":"2020-01-01T00:00:00Z"},"n":1}': "one",
    '{"_modified":{"$lt":"2020-01-01T00:00:00Z"}}': "",
}


class Queries:
    GAPS: ClassVar[Mapping[str, str]] = {}

    @pytest.mark.parametrize(
        ("condition", "found"),
        [
            ('{"$regex":"abc$"}', "end"), ('{"$regex":"ab[c]$"}', "end"), ('{"$regex":"^abc$"}', "end"),
            ('{"$regex":"ABC$","$options":"i"}', "end"), ('{"$regex":"abc"}', "end line more two"),
            ('{"$regex":"abc$","$options":"m"}', "end line more two"),
            ('{"$not":{"$regex":"abc$"}}', "line more two"),
        ],
    )  # fmt: skip
    async def test_the_end_in_a_pattern_is_the_end_of_the_text(
        self, store: DocumentStore, condition: str, found: str
    ) -> None:
        if "[" in condition or "options" in condition:
            require(store, Capability.REGEX)
        tenant = store.tenant(ACME)
        for name, text in (("end", "abc"), ("line", "abc\n"), ("two", "abc\n\n"), ("more", "abc\nx")):
            await docs.replace(tenant, "c", name, {"t": text})
        assert await ids(tenant, "c", f'{{"t":{condition}}}') == found.split()

    async def test_operators(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        await tenant.bulk("c", [Replace(name, data) for name, data in NUMBERS.items()])
        await check_answers(
            tenant, "c", {text: set(found.split()) for text, found in OPERATORS.items()}, self.GAPS
        )

    async def test_a_pattern_that_is_no_literal_is_matched(self, store: DocumentStore) -> None:
        require(store, Capability.REGEX)
        tenant = store.tenant(ACME)
        await tenant.bulk("c", [Replace(name, data) for name, data in NUMBERS.items()])
        assert await ids(tenant, "c", '{"s":{"$regex":"^A.C","$options":"i"}}') == ["half"]

    async def test_a_list_is_sorted_by_instants(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        for name in ("b", "a", "c"):
            await docs.replace(tenant, "c", name, {})
            await head_start(0.002)
        await docs.replace(tenant, "c", "b", {})
        assert await ids(tenant, "c", sort="_created") == ["b", "a", "c"]
        assert await ids(tenant, "c", sort="-_modified") == ["b", "c", "a"]
        made = (await tenant.read("c", "a")).created
        exact = json.dumps({"_created": instants.to_text(made)})
        assert await ids(tenant, "c", exact) == ["a"]

    async def test_only_the_fields_that_are_asked_for_are_answered(self, store: DocumentStore) -> None:
        tenant = store.tenant(ACME)
        made = (
            await docs.replace(tenant, "c", "x", {"a": {"b": 1, "c": 2}, "d": [{"e": 1, "f": 2}, 3]})
        ).document

        async def fields(text: str) -> Any:
            (document,) = (await tenant.list("c", Query(fields=projection.parse(text)))).items
            assert document.etag == made.etag
            return document.data

        assert await fields("a.b,d.e") == {"a": {"b": 1}, "d": [{"e": 1}]}
        assert await fields("-a.b,-d.e") == {"a": {"c": 2}, "d": [{"f": 2}, 3]}
        assert await fields("id") == {}

    async def test_a_count_is_of_all_pages_and_only_given_when_asked_for(self, store: DocumentStore) -> None:
        tenant = await fill(store)
        query = Query(filters.parse('{"a":{"$exists":true}}'), sorts.parse("-a"), limit=3, count=True)
        page = await tenant.list("mixed", query)
        assert page.count == 15 and len(page.items) == 3
        rest = Query(query.filter, query.sort, limit=3, cursor=page.next, count=True)
        assert (await tenant.list("mixed", rest)).count == 15
        assert (await tenant.list("mixed", Query())).count is None
        assert (await tenant.list("none", Query(count=True))).count == 0


class StreamConformance(Transfers, Feeds, Queries):
    """All of it."""
