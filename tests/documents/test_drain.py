"""What a drain does to transfers and feeds of documents: a transfer gets its time, and what is cut is logged
as that, with the status of what had begun."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.app import Gateway
from tests import harness
from tests.documents.api import ALL, NDJSON, Api, ndjson, serving
from tests.eventually import END
from tests.fakes import RawClient


def last_line(gateway: Gateway) -> tuple[int, str | None]:
    """Status and code of the last call."""
    line: dict[str, Any] = json.loads(Path(gateway.config.access_log).read_text().splitlines()[-1])
    return line["status"], line["code"]


async def fill(api: Api, rounds: int = 24) -> None:
    """Some 20 MB, more than the system takes for a client that does not read."""
    for _ in range(rounds):
        lines = ndjson(*({"n": n, "text": "x" * 45_000} for n in range(20)))
        status, _, _ = await api("POST", "/orders/import", lines, NDJSON)
        assert status == 200


async def asked(gateway: Gateway, path: str) -> RawClient:
    """A client that has the head of its response, and has read no further."""
    client = await RawClient.connect(harness.address(gateway))
    token = harness.token(gateway, scope=ALL)
    lines = f"Host: a\r\nAuthorization: Bearer {token}\r\n"
    client.send(f"GET /documents{path} HTTP/1.1\r\n{lines}\r\n".encode())
    assert (await client.head()).startswith("HTTP/1.1 200 ")
    return client


async def test_an_export_whose_client_reads_is_whole(tmp_path: Path) -> None:
    async with serving(tmp_path) as api:
        await fill(api, 4)
        client = await asked(api.gateway, "/orders/export")
        drain = asyncio.create_task(api.gateway.drain())
        assert (await client.rest(END)).endswith(b"0\r\n\r\n")
        await drain
        client.close()
    assert last_line(api.gateway) == (200, None)


@pytest.mark.parametrize("path", ["/orders/export", "/orders/changes"])
async def test_a_client_that_does_not_read_is_cut_and_its_call_keeps_its_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr("gateway.process.drain.ENDING", 0.2)
    async with serving(tmp_path) as api:
        if "export" in path:
            await fill(api)
        client = await asked(api.gateway, path)
        if "changes" in path:
            await fill(api)
        api.gateway.data.config = replace(api.gateway.config, drain=0.5)
        async with asyncio.timeout(END):
            await api.gateway.drain()
        client.close()
    assert last_line(api.gateway) == (200, "draining")
