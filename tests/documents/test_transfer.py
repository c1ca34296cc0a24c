"""Export and import over HTTP: streamed, with back-pressure, and to be gone on with after a failure."""

from __future__ import annotations

import asyncio
import json
import resource
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from gateway.core.errors import StoreUnavailable
from gateway.documents.transfer import MAX_FAILURES
from gateway.store.sqlite.read.export import _Export
from gateway.store.sqlite.tenant import SQLiteTenantStore
from gateway.store.transfer import MAX_LINE
from tests import harness
from tests.documents.api import BODY_LIMIT, NDJSON, Api, ndjson, serving
from tests.documents.request.test_total import request
from tests.documents.test_large_documents import reader_of_little
from tests.edge.test_lifetimes import ENDS
from tests.eventually import at_rest, eventually, eventually_await, head_start
from tests.fakes import RawClient


def resident() -> int:
    """Bytes of memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def put_many(api: Api, count: int, text: str = "") -> None:
    async def lines() -> AsyncIterator[bytes]:
        for n in range(count):
            yield ndjson({"id": f"{n:06}", "n": n, "t": text})

    assert (await api("POST", "/orders/import", lines(), NDJSON))[2][-1]["created"] == count


async def test_what_is_exported_can_be_imported(api: Api) -> None:
    documents = [{"id": f"{n:03}", "n": n, "t": "é\n\u2028"} for n in range(450)]
    status, headers, lines = await api("POST", "/orders/import", ndjson(*documents), NDJSON)
    assert (status, headers["Content-Type"]) == (200, "application/x-ndjson")
    counts = {"lines": 450, "created": 450, "replaced": 0, "skipped": 0, "failed": 0}
    assert lines[-1] == {"done": True, **counts} and lines[-2] == counts and lines[0]["lines"] == 200
    status, headers, exported = await api("GET", "/orders/export")
    assert (status, headers["Content-Type"], exported) == (200, "application/x-ndjson", documents)
    assert (await api("GET", "/orders/export?filter=" + quote('{"n":{"$lt":2}}')))[2] == documents[:2]
    assert (await api("GET", "/none/export"))[2] == []
    status, headers, body = await api.raw("HEAD", "/orders/export")
    assert (status, headers["Content-Type"], body) == (200, "application/x-ndjson", b"")


async def test_an_import_tells_of_each_line_that_failed_and_goes_on(api: Api) -> None:
    body = b'{"id":"a"}\n\n  \n{\n{"id":1}\n{"$x":1}\n{"id":"bulk"}\n{"n":1}\r\n{"id":"b"}'
    status, _, lines = await api("POST", "/orders/import", body, NDJSON)
    assert status == 200
    assert [(line["line"], line["status"]) for line in lines[:4]] == [(4, 400), (5, 422), (6, 422), (7, 400)]
    assert lines[-1] == {"done": True, "lines": 9, "created": 3, "replaced": 0, "skipped": 0, "failed": 4}
    assert len((await api("GET", "/orders/"))[2]["items"]) == 3


async def test_an_import_replaces_or_leaves_what_is_there(api: Api) -> None:
    await api("PUT", "/orders/a", {"old": 1})
    body = ndjson({"id": "a", "new": 1}, {"id": "b"})
    last = (await api("POST", "/orders/import?replace=false", body, NDJSON))[2][-1]
    assert (last["created"], last["skipped"], last["failed"]) == (1, 1, 0)
    assert (await api("GET", "/orders/a"))[2] == {"id": "a", "old": 1}
    last = (await api("POST", "/orders/import", body, NDJSON))[2][-1]
    assert (last["created"], last["replaced"]) == (0, 2)
    assert (await api("GET", "/orders/a"))[2] == {"id": "a", "new": 1}


async def test_an_import_ends_early_after_too_many_failures(api: Api) -> None:
    body = b"{\n" * (MAX_FAILURES + 700)
    status, _, lines = await api("POST", "/orders/import", body, NDJSON)
    last = lines[-1]
    assert status == 200 and last["done"] is False and MAX_FAILURES <= last["failed"] < MAX_FAILURES + 200
    assert last["lines"] == last["failed"] and last["error"]["code"] == "unprocessable"


async def test_an_import_that_ends_early_tells_where_to_go_on(api: Api, monkeypatch: Any) -> None:
    broken = asyncio.Event()

    async def lines() -> AsyncIterator[bytes]:
        for n in range(300):
            yield ndjson({"id": f"{n:03}"})
        await broken.wait()
        for n in range(300, 600):
            yield ndjson({"id": f"{n:03}"})

    bulk = SQLiteTenantStore.bulk

    async def failing(self: Any, *args: Any, **more: Any) -> Any:
        if broken.is_set():
            raise StoreUnavailable("The disk is gone.")
        broken.set()
        return await bulk(self, *args, **more)

    monkeypatch.setattr(SQLiteTenantStore, "bulk", failing)
    status, _, received = await api("POST", "/orders/import", lines(), NDJSON)
    assert status == 200 and received[-1]["done"] is False
    assert (received[-1]["lines"], received[-1]["created"]) == (200, 200)
    assert received[-1]["error"]["code"] == "store_unavailable"
    assert len((await api("GET", "/orders/?limit=1000"))[2]["items"]) == 200


async def test_an_import_answers_while_it_reads(api: Api) -> None:
    answered = asyncio.Event()

    async def lines() -> AsyncIterator[bytes]:
        yield ndjson(*({"id": f"{n:03}"} for n in range(200)))
        await answered.wait()
        yield ndjson({"id": "last"})[:-5]
        yield ndjson({"id": "last"})[-5:]

    headers = {**api.headers, **NDJSON}
    async with api.session.post(api.url("/orders/import"), data=lines(), headers=headers) as response:
        assert json.loads(await response.content.readline())["lines"] == 200
        answered.set()
        assert json.loads((await response.content.read()).splitlines()[-1])["created"] == 201


async def test_a_body_that_breaks_off_keeps_what_was_settled(api: Api) -> None:
    client = await RawClient.connect(harness.address(api.gateway))
    body = ndjson(*({"id": f"{n:03}"} for n in range(250)))
    client.send(_head(api, "/orders/import", "Transfer-Encoding: chunked\r\n"))
    client.send(b"%x\r\n%b\r\n" % (len(body), body))
    head = await client.head()
    client.send(b"nonsense\r\n")
    rest = await client.rest()
    client.close()
    assert " 200 " in head and b'"lines":200' in rest and b'"done":false' in rest and b'"bad_request"' in rest
    assert len((await api("GET", "/orders/?limit=1000"))[2]["items"]) == 200


def _head(api: Api, path: str, more: str = "", method: str = "POST") -> bytes:
    return (
        f"{method} /documents{path} HTTP/1.1\r\nHost: a\r\nAuthorization: {api.headers['Authorization']}\r\n"
        f"Content-Type: application/x-ndjson\r\n{more}\r\n"
    ).encode()


async def test_an_import_is_refused_as_a_whole_before_it_begins(api: Api) -> None:
    line = ndjson({"id": "a"})
    assert (await api("POST", "/orders/import", line))[0] == 415
    assert (await api("POST", "/orders/import?replace=1", line, NDJSON))[2]["parameter"] == "replace"
    status, _, problem = await api("POST", "/orders/import", line, {**NDJSON, "Idempotency-Key": '"k"'})
    assert status == 400 and "id" in problem["detail"]
    status, _, problem = await api("POST", "/orders/import", b" " * (BODY_LIMIT + 1), NDJSON)
    assert (status, problem["code"]) == (413, "body_too_large")
    assert (await api("GET", "/"))[2]["items"] == []
    assert (await api("POST", "/orders/import", b"", NDJSON))[2] == [
        {"done": True, "lines": 0, "created": 0, "replaced": 0, "skipped": 0, "failed": 0}
    ]


@pytest.mark.parametrize(
    "query", ["filter=", "filter={", "filter=[]", "limit=1", "filter=%7B%22%24where%22:1%7D"]
)
async def test_an_export_refuses_what_it_does_not_understand(api: Api, query: str) -> None:
    status, _, problem = await api("GET", f"/orders/export?{query}")
    assert (status, problem["parameter"]) == (400, query.partition("=")[0])


async def test_memory_stays_flat_while_nobody_reads_an_export_and_leaving_frees_it(tmp_path: Path) -> None:
    async with serving(tmp_path, body_limit=10**9) as api:
        await put_many(api, 6000, "x" * 5000)  # 30 MB
        before = resident()
        clients = []
        for _ in range(4):
            client = await RawClient.connect(harness.address(api.gateway))
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            client.send(_head(api, "/orders/export", method="GET"))
            clients.append(client)
        grown = await at_rest(resident) - before
        status, _, problem = await api("GET", "/orders/export")
        assert (status, problem["code"]) == (429, "tenant_limit")
        for client in clients:
            client.close()

        async def free() -> bool:
            return (await api.raw("HEAD", "/orders/export"))[0] == 200

        await eventually_await(free)
        assert grown < 30_000_000, f"{grown} bytes for 120 MB of exports"
        lines = (await api.raw("GET", "/orders/export"))[2]
        assert lines.count(b"\n") == 6000


async def test_a_client_that_takes_nothing_for_too_long_is_cut_off(tmp_path: Path) -> None:
    async with serving(tmp_path, body_limit=10**9, timeouts={"idle": "200ms"}) as api:
        await put_many(api, 4000, "x" * 5000)  # more than the sockets hold
        client = await RawClient.connect(harness.address(api.gateway))
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.send(_head(api, "/orders/export", method="GET"))
        await eventually(lambda: any(c.writer for c in api.gateway.listener.connections))
        await eventually(lambda: not any(c.writer for c in api.gateway.listener.connections))
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert not (await client.rest()).endswith(b"0\r\n\r\n")
        client.close()


async def test_a_client_of_http_1_0_gets_the_export_and_the_end(api: Api) -> None:
    await put_many(api, 10)
    client = await RawClient.connect(harness.address(api.gateway))
    client.send(_head(api, "/orders/export", method="GET").replace(b"HTTP/1.1", b"HTTP/1.0"))
    rest = await client.rest()
    client.close()
    head, _, lines = rest.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n") and b"chunked" not in head
    assert b"Connection: close" in head and lines.count(b"\n") == 10


async def test_a_line_may_be_large_but_not_larger_than_any_document(tmp_path: Path) -> None:
    async with serving(tmp_path, body_limit=10**9) as api:

        async def lines(size: int) -> AsyncIterator[bytes]:
            yield ndjson({"id": "small"}) + b'{"id":"large","t":"'
            for _ in range(size):
                yield b"x" * 1000
            yield b'"}\n'

        last = (await api("POST", "/orders/import", lines(500), NDJSON))[2][-1]
        assert (last["created"], last["failed"]) == (2, 0)
        status, _, problem = await api("POST", "/orders/import", lines(MAX_LINE // 1000 + 2000), NDJSON)
        assert status == 413, problem
        assert (status, problem["code"]) == (413, "body_too_large") and "Line 2" in problem["detail"]


async def test_who_only_ends_its_side_still_gets_the_whole_export(api: Api) -> None:
    await put_many(api, 1500, "x" * 500)
    client = await RawClient.connect(harness.address(api.gateway))
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    client.send(_head(api, "/orders/export", method="GET"))
    client.writer.write_eof()
    await head_start(0.1)
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]
    rest = await client.rest()
    client.close()
    assert rest.count(b'"id":"') == 1500 and rest.endswith(b"0\r\n\r\n")


async def test_an_export_that_fails_midway_does_not_look_complete(api: Api, monkeypatch: Any) -> None:
    await put_many(api, 1000, "x" * 900)
    read, calls = _Export.read, []

    def failing(self: Any, reading: Any) -> bytes:
        calls.append(1)
        if len(calls) == 2:
            raise StoreUnavailable("The disk is gone.")
        return read(self, reading)

    monkeypatch.setattr(_Export, "read", failing)
    client = await RawClient.connect(harness.address(api.gateway))
    client.send(_head(api, "/orders/export", method="GET"))
    assert " 200 OK" in await client.head()
    rest = await client.rest()
    client.close()
    assert len(rest) > 100_000 and not rest.endswith(b"0\r\n\r\n") and b"disk" not in rest


@pytest.mark.parametrize("body", [b"\n" * 200_000, b"{}\n" + b" \n" * 200_000 + b"{}"])
@pytest.mark.parametrize("path", ["import", "bulk"])
async def test_white_space_without_a_document_is_refused(api: Api, body: bytes, path: str) -> None:
    status, headers, problem = await api("POST", f"/orders/{path}", body, NDJSON)
    assert (status, problem["code"]) == (422, "unprocessable")
    assert "white space" in problem["detail"]
    assert headers["Connection"] == "close", "the rest of it is not read"


async def _importing(api: Api, lines: int) -> RawClient:
    """An import of which this came, and no more comes."""
    client = await RawClient.connect(harness.address(api.gateway))
    kind = "Content-Type: application/x-ndjson"
    client.send(request(api, "POST /documents/orders/import", kind, "Transfer-Encoding: chunked"))
    body = ndjson(*({"id": str(n)} for n in range(lines)))
    client.send(b"%x\r\n%b\r\n" % (len(body), body))
    return client


@pytest.mark.parametrize("end", ENDS)
async def test_an_import_ends_with_its_token_and_tenant_and_tells_what_was_done(api: Api, end: str) -> None:
    act, code = ENDS[end]
    client, lifetimes = await _importing(api, 250), api.gateway.lifetimes
    assert (await client.head()).startswith("HTTP/1.1 200 ")
    assert len(lifetimes) == 1
    await act(api.gateway)
    rest = (await client.rest()).decode()
    lines = [json.loads(line) for line in rest.splitlines() if line.startswith("{")]
    counts = {"lines": 200, "created": 200, "replaced": 0, "skipped": 0, "failed": 0}
    error = lines[-1].pop("error")
    assert lines == [counts, {"done": False, **counts}] and error["code"] == code
    client.close()
    await eventually(lambda: not len(lifetimes))


async def test_an_import_that_has_told_nothing_yet_is_refused_with_the_reason(api: Api) -> None:
    act, code = ENDS["its tenant is disabled"]
    client, lifetimes = await _importing(api, 3), api.gateway.lifetimes
    await eventually(lambda: len(lifetimes) == 1)
    await act(api.gateway)
    head, body = await client.answer()
    assert head.startswith("HTTP/1.1 403 ") and json.loads(body)["code"] == code
    assert "Connection: close" in head
    client.close()
    await eventually(lambda: not len(lifetimes))


@pytest.mark.parametrize("end", ENDS)
async def test_an_export_breaks_off_with_its_token_and_tenant(tmp_path: Path, end: str) -> None:
    async with serving(tmp_path, body_limit="20MiB") as api:
        await put_many(api, 1500, "x" * 10_000)
        slow = await reader_of_little(api)
        slow.send(request(api, "GET /documents/orders/export"))
        assert (await slow.head()).startswith("HTTP/1.1 200 ")
        lifetimes = api.gateway.lifetimes
        assert len(lifetimes) == 1
        await ENDS[end][0](api.gateway)
        got = b""
        with suppress(ConnectionError):
            while piece := await slow.reader.read(65536):
                got += piece
        assert not got.endswith(b"0\r\n\r\n")
        slow.close()
        await eventually(lambda: not len(lifetimes))


async def test_what_has_been_imported_and_exported_leaves_no_lifetime_behind(api: Api) -> None:
    await put_many(api, 3)
    assert len((await api("GET", "/orders/export"))[2]) == 3
    await eventually(lambda: not len(api.gateway.lifetimes))
