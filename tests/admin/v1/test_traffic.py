"""What a console watches: the traffic of each second as server-sent events, over real sockets."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp

from gateway.core.config.revision import Draft, Origin
from tests import harness
from tests.eventually import eventually
from tests.support.admin import admin_of

END = 30.0  # seconds; far beyond what a busy machine needs


async def events(response: aiohttp.ClientResponse, until: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(END):
        async for line in response.content:
            if line.startswith(b"data: "):
                found.append(json.loads(line[6:]))
                if len(found) == until:
                    break
    return found


async def test_a_watcher_sees_the_requests_of_each_second_by_route_and_tenant(tmp_path: Path) -> None:
    async with admin_of(tmp_path) as asked, aiohttp.ClientSession() as session:
        async with session.get(asked.url("/admin/v1/traffic")) as response:
            assert (response.status, response.content_type) == (200, "text/event-stream")
            headers = harness.bearer(asked.gateway, "acme", "documents:read")
            path = harness.url(asked.gateway, "/docs/orders")
            await events(response, 1)
            for _ in range(3):
                async with session.get(path, headers=headers) as read:
                    assert read.status == 404
            seen = await events(response, 2)
    docs = [event["routes"]["docs"] for event in seen if "docs" in event["routes"]]
    assert sum(one["requests"] for one in docs) == 3
    assert all(one["errors"] == 0 and one["refused"] == one["requests"] and one["p50"] > 0 for one in docs)
    assert sum(event["tenants"].get("acme", {}).get("requests", 0) for event in seen) == 3


async def test_a_watcher_sees_who_changed_the_config_why_and_what_waits_for_a_confirmation(
    tmp_path: Path,
) -> None:
    async with admin_of(tmp_path) as asked, aiohttp.ClientSession() as session:
        async with session.get(asked.url("/admin/v1/traffic")) as response:
            (first,) = await events(response, 1)
            live = asked.gateway.live
            assert (first["config"]["revision"], first["config"]["pending"]) == (1, None)
            draft = Draft(f"{live.text}# more\n", Origin("alice", "a trial", "api"), time.time())
            await live.apply(replace(draft, confirm_by=time.time() + 600), live.head.number)
            seen = (await events(response, 2))[-1]["config"]
    assert (seen["revision"], seen["author"], seen["reason"]) == (2, "alice", "a trial")
    assert (seen["pending"]["number"], seen["pending"]["back_to"]) == (2, 1)


async def test_all_watchers_share_one_look_and_nobody_looks_when_they_left(tmp_path: Path) -> None:
    async with admin_of(tmp_path) as asked:
        async with aiohttp.ClientSession() as one, aiohttp.ClientSession() as other:
            first = await one.get(asked.url("/admin/v1/traffic"))
            second = await other.get(asked.url("/admin/v1/traffic"))
            seen = await asyncio.gather(events(first, 2), events(second, 2))
            first.close()
            second.close()
            assert {event["at"] for event in seen[0]} & {event["at"] for event in seen[1]}
        await eventually(lambda: not any("_tick" in str(task) for task in asyncio.all_tasks()))


async def test_a_drain_ends_the_stream_as_a_whole_one(tmp_path: Path) -> None:
    async with admin_of(tmp_path) as asked, aiohttp.ClientSession() as session:
        async with session.get(asked.url("/admin/v1/traffic")) as response:
            await events(response, 1)
            asked.gateway.life.draining = True
            async with asyncio.timeout(END):
                assert b"data" not in await response.content.read()
        asked.gateway.life.draining = False


async def test_forty_watch_and_ten_more_who_show_a_credential_and_the_next_is_told_so(tmp_path: Path) -> None:
    async with admin_of(tmp_path) as asked:
        connector = aiohttp.TCPConnector(limit=0)
        operator = harness.bearer(asked.gateway, "acme", "gateway:admin")
        async with aiohttp.ClientSession(connector=connector) as session:
            opened = []
            for count, headers in ((40, {}), (10, operator)):
                for _ in range(count):
                    opened.append(await session.get(asked.url("/admin/v1/traffic"), headers=headers))
                    assert opened[-1].status == 200
                async with session.get(asked.url("/admin/v1/traffic"), headers=headers) as refused:
                    assert (refused.status, (await refused.json())["code"]) == (503, "saturated")
            for response in opened:
                response.close()
