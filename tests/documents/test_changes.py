"""The change feed over HTTP."""

from __future__ import annotations

import asyncio
import gc
import json
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import ClientResponse

from gateway.store.model.change import Changes
from tests import harness
from tests.documents.api import ALL, Api, serving
from tests.documents.request.test_body_memory import sent
from tests.documents.test_large_documents import HUGE as LARGE
from tests.documents.test_large_documents import reader_of_little
from tests.eventually import AT_ONCE, eventually
from tests.fakes import RawClient


class Feed:
    """A subscriber. It reads blocks as the standard says."""

    def __init__(self, response: ClientResponse) -> None:
        self.response = response
        self.last_id = ""

    async def block(self) -> dict[str, str] | None:
        """The fields of the next block, None at the end. A comment is the field ""."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(30):
            while line := (await self.response.content.readline(max_line_length=2**24)).decode():
                if line == "\n":
                    self.last_id = fields.get("id", self.last_id)
                    return fields
                name, _, value = line[:-1].partition(":")
                fields[name] = value.removeprefix(" ")
        return None

    async def event(self) -> tuple[str, dict[str, Any]]:
        """The next event: its name and its data."""
        while True:
            block = await self.block()
            assert block is not None, "the feed has ended"
            if "data" in block:
                return block["event"], json.loads(block["data"])


@asynccontextmanager
async def feed(
    api: Api, path: str = "/orders/changes", headers: dict[str, str] | None = None
) -> AsyncIterator[Feed]:
    async with api.session.get(api.url(path), headers={**api.headers, **(headers or {})}) as response:
        assert response.status == 200, await response.text()
        assert response.headers["Content-Type"] == "text/event-stream"
        yield Feed(response)


async def test_a_subscriber_hears_of_each_change_in_order(api: Api) -> None:
    async with feed(api) as subscriber:
        first = await subscriber.block()
        assert (
            first is not None and first["retry"] and first["id"]
        )  # a place to come back to, before anything
        await api("PUT", "/others/x", {})
        tag = (await api("PUT", "/orders/x", {"a": 1, "t": "é\n\r"}))[1]["ETag"]
        kind, data = await subscriber.event()
        assert (kind, data["id"], data["etag"]) == ("created", "x", tag) and data["at"].endswith("Z")
        assert data["document"] == {"id": "x", "a": 1, "t": "é\n\r"}
        await api("PATCH", "/orders/x", {"a": 2})
        kind, data = await subscriber.event()
        assert (kind, data["document"]["a"]) == ("updated", 2)
        await api("DELETE", "/orders/x")
        kind, data = await subscriber.event()
        assert (kind, data["id"], data["document"]) == ("deleted", "x", None)
        await api("PUT", "/orders/y", {})
        await api("DELETE", "/orders?documents=delete")
        assert (await subscriber.event())[0] == "created"
        kind, data = await subscriber.event()
        assert (kind, data["id"]) == ("collection_deleted", "")


@pytest.mark.parametrize("way", ["header", "parameter", "both"])
async def test_who_comes_back_misses_nothing_and_hears_nothing_twice(api: Api, way: str) -> None:
    async with feed(api) as subscriber:
        await subscriber.block()
        old = subscriber.last_id
        await api("PUT", "/orders/a", {})
        await subscriber.event()
        last = subscriber.last_id
    for name in "bc":
        await api("PUT", f"/orders/{name}", {})
    headers = {} if way == "parameter" else {"Last-Event-ID": last}
    path = {"header": "", "parameter": f"?after={last}", "both": f"?after={old}"}[way]
    async with feed(api, f"/orders/changes{path}", headers) as subscriber:
        assert [(await subscriber.event())[1]["id"] for _ in range(2)] == ["b", "c"]
        await api("PUT", "/orders/d", {})
        assert (await subscriber.event())[1]["id"] == "d"


async def test_an_event_is_there_right_after_its_write(api: Api) -> None:
    async with feed(api) as subscriber:
        await subscriber.block()
        for n in range(20):
            event = asyncio.create_task(subscriber.event())
            await api("PUT", "/orders/x", {"n": n})
            assert (await event)[1]["document"]["n"] == n


async def test_silence_is_broken_by_comments(api: Api) -> None:
    api.gateway.feeds._heartbeat = 0.02
    async with feed(api) as subscriber:
        await subscriber.block()
        assert [await subscriber.block() for _ in range(3)] == [{"": ""}] * 3
        await api("PUT", "/orders/x", {})
        assert (await subscriber.event())[0] == "created"


async def test_a_client_that_leaves_is_forgotten_at_once(api: Api) -> None:
    feeds = api.gateway.feeds
    tasks = len(asyncio.all_tasks())
    client = await RawClient.connect(harness.address(api.gateway))
    client.send(_request(api))
    await client.head()
    await eventually(lambda: len(feeds) == 1)
    client.close()
    await eventually(
        lambda: len(feeds) == 0 and len(asyncio.all_tasks()) <= tasks + 1
    )  # + the engine's poller


def _request(api: Api) -> bytes:
    authorization = api.headers["Authorization"]
    head = f"GET /documents/orders/changes HTTP/1.1\r\nHost: a\r\nAuthorization: {authorization}\r\n\r\n"
    return head.encode()


async def test_a_client_that_ends_its_side_has_left(api: Api) -> None:
    client = await RawClient.connect(harness.address(api.gateway))
    client.send(_request(api))
    await client.head()
    await eventually(lambda: len(api.gateway.feeds) == 1)
    client.writer.write_eof()
    await eventually(lambda: len(api.gateway.feeds) == 0)
    assert b"100 Continue" not in await client.rest()
    client.close()


async def test_a_feed_ends_with_its_token(api: Api) -> None:
    api.headers = harness.bearer(api.gateway, scope=ALL, exp=int(time.time()) + 2)
    async with feed(api) as subscriber:
        await subscriber.block()
        begun = time.monotonic()
        assert await subscriber.block() is None
        assert time.monotonic() - begun < AT_ONCE


async def test_a_feed_ends_when_the_tenant_is_disabled(api: Api) -> None:
    async with feed(api) as mine, feed(api.of("globex")) as other:
        await mine.block(), await other.block()
        path = Path(api.gateway.config.routing)
        config = yaml.safe_load(path.read_text())
        config["tenants"]["acme"] = {"disabled": True}
        path.write_text(yaml.safe_dump(config))
        assert await api.gateway.live.reload()
        assert await mine.block() is None
        await api.of("globex")("PUT", "/orders/x", {})
        assert (await other.event())[0] == "created"


async def test_a_drain_ends_feeds_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as api:
        async with feed(api) as subscriber:
            await subscriber.block()
            begun = time.monotonic()
            draining = asyncio.create_task(api.gateway.drain())
            assert await subscriber.block() is None
        await draining
        assert time.monotonic() - begun < AT_ONCE


async def test_a_drain_waits_for_no_client_that_does_not_read(tmp_path: Path) -> None:
    async with serving(tmp_path, body_limit="10MiB") as api:
        slow, memory = await _slow(api), api.gateway.documents.memory
        await eventually(lambda: len(api.gateway.feeds) == 1)
        await _large_written(api, "x")
        await eventually(lambda: memory.held("acme") > LARGE)
        api.gateway.feeds.drain()
        await eventually(lambda: len(api.gateway.feeds) == 0 and memory.used == 0)
        slow.close()


async def test_a_tenant_has_so_many_feeds_and_no_more(tmp_path: Path) -> None:
    async with serving(tmp_path, tenants={"acme": {"documents": {"max_feeds": 2}}, "globex": {}}) as api:
        async with feed(api), feed(api):
            status, headers, problem = await api("GET", "/orders/changes")
            assert (status, problem["code"]) == (429, "tenant_limit") and int(headers["Retry-After"]) > 0
            async with feed(api.of("globex")):
                pass
        await eventually(lambda: len(api.gateway.feeds) == 0)
        async with feed(api):
            pass


async def test_a_head_request_is_answered_and_over(api: Api) -> None:
    status, headers, body = await api.raw("HEAD", "/orders/changes")
    assert (status, headers["Content-Type"], body) == (200, "text/event-stream", b"")
    await eventually(lambda: len(api.gateway.feeds) == 0)


async def test_an_event_id_that_is_forged_or_of_another_collection_is_400(api: Api) -> None:
    async with feed(api) as subscriber:
        await subscriber.block()
        last = subscriber.last_id
    wrong = [last[:-2], "x", "A" * len(last), "%00", '{"$gt":""}'.replace('"', "%22")]
    for path in [f"/orders/changes?after={text}" for text in wrong] + [f"/others/changes?after={last}"]:
        status, _, problem = await api("GET", path)
        assert (status, problem["parameter"]) == (400, "after"), path
    for text in ("x", last[:-2], "\xff"):
        status, _, problem = await api("GET", "/orders/changes", headers={"Last-Event-ID": text})
        assert (status, problem["parameter"]) == (400, "Last-Event-ID")
    assert (await api("GET", "/orders/changes?x=1"))[0] == 400


async def test_an_event_that_is_kept_no_more_is_410(api: Api) -> None:
    async with feed(api) as subscriber:
        await subscriber.block()
        last = subscriber.last_id
    for n in range(5):
        await api("PUT", "/orders/x", {"n": n})
    (file,) = Path(api.gateway.config.store_uri.removeprefix("sqlite:")).glob("acme*.db")
    with sqlite3.connect(file) as connection:
        connection.execute("DELETE FROM changes WHERE seq < 4")
    connection.close()
    status, _, problem = await api("GET", "/orders/changes", headers={"Last-Event-ID": last})
    assert (status, problem["code"]) == (410, "gone")
    async with feed(api) as subscriber:
        assert await subscriber.block()


async def test_a_subscriber_that_does_not_read_costs_bounded_memory(tmp_path: Path) -> None:
    async with serving(tmp_path) as api:
        client = await RawClient.connect(harness.address(api.gateway))
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.send(_request(api))
        listener = api.gateway.listener
        await eventually(lambda: any(c.writer for c in listener.connections))
        (connection,) = [c for c in listener.connections if c.writer]
        for n in range(60):
            assert (await api("PUT", "/orders/x", {"n": n, "t": "x" * 200_000}))[0] < 300
        assert connection.transport is not None
        assert connection.transport.get_write_buffer_size() < 3_000_000  # of 12 MB
        client.close()
        await eventually(lambda: len(api.gateway.feeds) == 0)


async def _large_written(api: Api, name: str) -> None:
    body = json.dumps({"fill": "x" * LARGE}).encode()
    assert await sent(api, "PUT", f"/orders/{name}", body) == 201


async def _slow(api: Api, after: str = "") -> RawClient:
    """A feed that hardly reads."""
    client = await reader_of_little(api)
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    path = f"/changes?after={after} " if after else "/changes "
    client.send(_request(api).replace(b"/changes ", path.encode()))
    return client


async def test_feeds_that_do_not_read_hold_a_large_document_once_and_it_counts(tmp_path: Path) -> None:
    async with serving(tmp_path, body_limit="10MiB") as api:
        slow = [await _slow(api) for _ in range(10)]
        memory, listener = api.gateway.documents.memory, api.gateway.listener
        await eventually(lambda: sum(c.writer is not None for c in listener.connections) == 10)
        async with feed(api) as subscriber:
            await subscriber.block()
            await _large_written(api, "x")
            assert len((await subscriber.event())[1]["document"]["fill"]) == LARGE
        await eventually(lambda: LARGE < memory.held("acme") < 2 * LARGE)
        transports = [c.transport for c in listener.connections if c.transport is not None and c.writer]
        buffers = [transport.get_write_buffer_size() for transport in transports]
        assert len(buffers) >= 10 and max(buffers) < 1_000_000
        for client in slow[1:]:
            client.close()
        await eventually(lambda: len(api.gateway.feeds) == 1)
        assert memory.held("acme") > LARGE
        slow[0].close()
        await eventually(lambda: len(api.gateway.feeds) == 0 and memory.used == 0)


async def test_a_feed_for_which_there_is_no_memory_ends_and_can_come_back(tmp_path: Path) -> None:
    tenants = {"acme": {"documents": {"body_memory": "15MiB"}}}
    async with serving(tmp_path, tenants=tenants, body_limit="10MiB") as api:
        async with feed(api) as subscriber:
            await subscriber.block()
            first = subscriber.last_id
            await _large_written(api, "x")
            await subscriber.event()
            second = subscriber.last_id
        await _large_written(api, "y")
        memory = api.gateway.documents.memory
        slow = await _slow(api, first)
        await eventually(lambda: memory.held("acme") > LARGE)
        async with feed(api, f"/orders/changes?after={second}") as subscriber:
            assert await subscriber.block() is not None
            assert await subscriber.block() is None
        slow.close()
        await eventually(lambda: not memory.used)
        async with feed(api, f"/orders/changes?after={second}") as subscriber:
            assert (await subscriber.event())[1]["id"] == "y"
        await eventually(lambda: not memory.used)


async def test_a_feed_that_waits_for_changes_holds_none_of_those_before(api: Api) -> None:
    async with feed(api) as subscriber:
        await subscriber.block()
        await api("PUT", "/orders/x", {"t": "x" * 200_000})
        await subscriber.event()
        await eventually(lambda: not [one for one in gc.get_objects() if type(one) is Changes and one.items])
