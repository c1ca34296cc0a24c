"""The total time of a call to documents, and of its body; what streams may take as long as it likes."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from time import monotonic

import pytest

from tests import harness
from tests.documents.api import NDJSON, Api, ndjson, serving
from tests.eventually import eventually_await, head_start, passes
from tests.fakes import RawClient

pytestmark = pytest.mark.asyncio
SHORT = {"timeouts": {"total": "300ms"}}
LONG = 5.0  # seconds; far more than what is waited for, less than SQLite's own patience and the idle time-out


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Another process writes to the tenant's file, and does not end."""
    with closing(sqlite3.connect(folder / "var" / "documents" / "acme.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            other.execute("ROLLBACK")


def request(api: Api, line: str, *headers: str) -> bytes:
    own = (f"{name}: {value}" for name, value in api.headers.items())
    return "\r\n".join([f"{line} HTTP/1.1", "Host: a", *own, *headers, "", ""]).encode()


async def began(api: Api, line: str, *headers: str) -> RawClient:
    client = await RawClient.connect(harness.address(api.gateway))
    client.send(request(api, line, "Content-Type: application/json", *headers))
    return client


@pytest.mark.parametrize("framing", ["Content-Length: 20", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("set_by", ["route", "client"])
async def test_a_body_must_come_within_the_total_time(tmp_path: Path, framing: str, set_by: str) -> None:
    route, more = (SHORT, []) if set_by == "route" else ({}, ["X-Request-Timeout: 0.3"])
    async with serving(tmp_path, **route) as api:
        before = monotonic()
        client = await began(api, "PUT /documents/c/x", framing, *more)
        for _ in range(8):  # never idle for long
            client.send(b"1\r\n \r\n" if "chunked" in framing else b" ")
            await head_start(0.05)
        head, body = await client.answer()
        assert head.startswith("HTTP/1.1 408 ")
        assert "Connection: close" in head
        assert json.loads(body)["code"] == "request_timeout"
        assert "total time" in json.loads(body)["detail"]
        assert monotonic() - before < LONG
        client.close()


@pytest.mark.parametrize("set_by", ["route", "client"])
async def test_a_write_that_the_store_does_not_do_in_time_is_504(tmp_path: Path, set_by: str) -> None:
    route, headers = (SHORT, None) if set_by == "route" else ({}, {"X-Request-Timeout": "0.3"})
    async with serving(tmp_path, **route) as api:
        assert (await api("PUT", "/c/x", {"a": 1}))[0] == 201
        with locked(tmp_path):
            before = monotonic()
            status, _, problem = await api("PUT", "/c/x", {"a": 2}, headers)
            assert (status, problem["code"]) == (504, "store_timeout")
            assert "may be done all the same" in problem["detail"]
            assert monotonic() - before < LONG
            assert (await api("GET", "/c/x"))[2]["a"] == 1

        async def done() -> bool:
            return (await api("GET", "/c/x"))[2]["a"] == 2

        await eventually_await(done)  # as was said


async def test_a_client_may_only_shorten_the_routes_time(tmp_path: Path) -> None:
    async with serving(tmp_path, **SHORT) as api:
        await api("PUT", "/c/x", {"a": 1})
        with locked(tmp_path):
            before = monotonic()
            status, _, _ = await api("PUT", "/c/x", {"a": 2}, {"X-Request-Timeout": "60"})
            assert status == 504
            assert monotonic() - before < LONG


@pytest.mark.parametrize("path", ["/c/x", "/c/", "/c/export", "/c/changes", "/"])
@pytest.mark.parametrize("value", ["0", "soon", "-1", "1e3"])
async def test_a_time_that_is_none_is_400_everywhere(api: Api, path: str, value: str) -> None:
    await api("PUT", "/c/x", {"a": 1})
    status, _, problem = await api("GET", path, headers={"X-Request-Timeout": value})
    assert (status, problem["code"]) == (400, "bad_request")


async def test_an_import_may_take_longer_than_the_total_time(tmp_path: Path) -> None:
    async with serving(tmp_path, **SHORT) as api:

        async def lines() -> AsyncIterator[bytes]:
            for number in range(10):
                yield ndjson({"id": str(number)})
                await head_start(0.1)

        status, _, received = await api("POST", "/c/import", lines(), NDJSON)
        assert (status, received[-1]["done"], received[-1]["created"]) == (200, True, 10)


async def test_an_export_may_take_longer_than_the_total_time(tmp_path: Path) -> None:
    async with serving(tmp_path, **SHORT) as api:
        text = "x" * 500_000
        for number in range(40):
            while (await api("PUT", f"/c/{number}", {"text": text}))[0] not in (200, 201):
                pass  # on a busy machine a write of this size may itself take longer
        client = await RawClient.connect(harness.address(api.gateway))
        client.send(request(api, "GET /documents/c/export", "Connection: close"))
        head = await client.head()
        await passes(0.6)  # the client reads nothing, and the total time passes
        received = await client.rest()
        client.close()
        assert head.startswith("HTTP/1.1 200 ")
        assert received.endswith(b"0\r\n\r\n")
        assert received.count(b'{"id":') == 40


async def test_a_feed_outlives_the_total_time(tmp_path: Path) -> None:
    async with serving(tmp_path, **SHORT) as api:
        await api("PUT", "/c/x", {"a": 1})
        client = await RawClient.connect(harness.address(api.gateway))
        client.send(request(api, "GET /documents/c/changes"))
        await client.head()
        await passes(0.6)
        await api("PUT", "/c/x", {"a": 2})
        async with asyncio.timeout(LONG):
            while b'"a":2' not in await client.reader.readline():
                pass
        client.close()


async def test_no_total_time_is_no_limit(tmp_path: Path) -> None:
    async with serving(tmp_path, timeouts={"total": 0}) as api:
        assert (await api("PUT", "/c/x", {"a": 1}))[0] == 201
