"""A query ends with its client, and with nothing less: who only sends no more still gets the answer."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

import pytest

from gateway.store.sqlite.engine import SQLiteDocumentStore
from gateway.store.sqlite.read.reads import Reads
from tests import harness
from tests.documents.api import PREFIX, Api
from tests.eventually import END, eventually

_ALTERNATIVES = ",".join(f'{{"a.b":-{number}}}' for number in range(1, 90))
_COSTLY = quote(f'{{"$or":[{_ALTERNATIVES}]}}')


def reads_of(api: Api) -> Reads:
    store = api.gateway.store
    assert isinstance(store, SQLiteDocumentStore) and store._services is not None
    return store._services.reads


async def sent(api: Api, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    url = harness.url(api.gateway, "")
    host, port = url.removeprefix("http://").split("/")[0].split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = [f"GET {PREFIX}{path} HTTP/1.1", f"Host: {host}", *(f"{k}: {v}" for k, v in api.headers.items())]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    return reader, writer


@pytest.mark.parametrize(
    "path", ["/orders/?filter=", "/orders/?count=true&sort=-n&filter=", "/orders/export?filter="]
)
async def test_a_query_ends_when_its_client_has_left(api: Api, path: str) -> None:
    for number in range(40):
        body = {"n": number, "a": [{"b": n} for n in range(20_000)]}
        assert (await api("PUT", f"/orders/{number}", body))[0] == 201
    reads = reads_of(api)
    reads._query_seconds = 3600.0  # it takes long, and has no end of its own
    for _ in range(3):
        _, writer = await sent(api, path + _COSTLY)
        await eventually(lambda: reads.scans.fair.inside)
        writer.transport.abort()
        await eventually(lambda: not reads.scans.fair.inside, end=10.0)
    await eventually(lambda: not api.gateway.life.inside)
    assert (await api("GET", "/orders/?limit=1&fields=n"))[0] == 200


async def test_who_only_shuts_its_sending_down_gets_the_answer(api: Api) -> None:
    await api("PUT", "/orders/x", {"a": [{"b": n} for n in range(4_000)]})
    reads_of(api)._query_seconds = 3600.0  # on a busy machine it takes longer than a query may
    reader, writer = await sent(api, "/orders/?filter=" + _COSTLY)
    await eventually(lambda: reads_of(api)._running)
    writer.write_eof()
    async with asyncio.timeout(END):
        answer = await reader.read()
    assert b"HTTP/1.1 200 OK\r\n" in answer and answer.endswith(b'{"items":[]}')
    writer.close()
