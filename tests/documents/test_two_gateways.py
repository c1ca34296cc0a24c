"""Two gateways on one data folder: what a client got from one counts at the other."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp

from gateway.store.sqlite.changes import SQLiteChangeLog
from tests.eventually import END
from tests.harness import routing, running, token, url

ROUTE: dict[str, Any] = {
    "name": "documents", "path": "/documents/{rest*}", "strip": "/documents", "target": "documents"
}  # fmt: skip
SCOPE = "documents:read documents:write documents:manage"


async def test_cursors_and_events_of_one_are_taken_by_the_other_and_feeds_hear_of_its_writes(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(SQLiteChangeLog, "POLL_SECONDS", 2 * END)  # it is told, not looked for
    async with (
        running(tmp_path, routing([ROUTE])) as one,
        running(tmp_path, routing([ROUTE])) as other,
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {token(one, scope=SCOPE)}"}) as client,
    ):
        path = "/documents/orders"
        for number in range(3):
            async with client.put(url(one, f"{path}/{number}"), json={"n": number}) as response:
                assert response.status == 201, await response.text()
        async with client.get(url(one, f"{path}/?limit=2")) as response:
            cursor = (await response.json())["next"]
        async with client.get(url(other, f"{path}/?limit=2&cursor={cursor}")) as response:
            assert [item["id"] for item in (await response.json())["items"]] == ["2"]
        async with asyncio.timeout(END), client.get(url(other, f"{path}/changes")) as feed:
            event = await lines(feed)
            async with client.put(url(one, f"{path}/told"), json={"n": 0}):
                assert '"told"' in await lines(feed)
        last = event.partition("id: ")[2].partition("\n")[0]
        again = client.get(url(one, f"{path}/changes"), headers={"Last-Event-ID": last})
        async with asyncio.timeout(END), again as feed:
            assert '"told"' in await lines(feed) + await lines(feed)


async def lines(feed: aiohttp.ClientResponse) -> str:
    """The next event."""
    found = []
    while (line := (await feed.content.readline()).decode().strip()) or not found:
        found.append(line)
    return "\n".join(found)
