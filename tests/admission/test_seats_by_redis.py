"""Two gateways share the seats of a backend by Redis, on real sockets: never more inside than it has."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from gateway.app import Gateway
from gateway.core.process.shared_state import SharedSettings
from tests import harness
from tests.eventually import eventually, takes
from tests.fakes import Backend, Heard, answer
from tests.support.redis_server import NEEDS_REDIS, redis_server

THREADS = 4


class Counting:
    """A backend's script: how many are inside, how many there were at most, and how many of each path."""

    def __init__(self) -> None:
        self.inside = self.most = 0
        self.served: dict[str, int] = {"noisy": 0, "quiet": 0}

    async def __call__(
        self, heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        await takes(0.02)
        self.inside -= 1
        self.served[heard.line.split()[1].strip("/")] += 1
        writer.write(answer())


@NEEDS_REDIS
async def test_a_noisy_tenant_on_one_gateway_and_a_quiet_one_on_another_never_exceed_the_threads(
    tmp_path: Path,
) -> None:
    pytest.importorskip("redis", reason="the client of Redis is not installed")
    folders = tmp_path / "a", tmp_path / "b"
    for folder in folders:
        folder.mkdir()
    script, stop = Counting(), False
    async with redis_server(tmp_path) as redis, aiohttp.ClientSession() as session, Backend(script) as served:
        backends = {"app": {"kind": "http", "addresses": [served.address], "concurrency": THREADS}}
        routing = harness.routing([harness.route("svc", "app")], backends=backends)
        shared = SharedSettings(redis.uri)

        async def ask(gateway: Gateway, tenant: str, path: str) -> None:
            headers = harness.bearer(gateway, tenant)
            while not stop:
                async with session.get(harness.url(gateway, f"/svc/{path}"), headers=headers) as response:
                    await response.read()

        async with harness.running(folders[0], routing, shared=shared) as one:
            async with harness.running(folders[1], routing, shared=shared) as other:
                tasks = [asyncio.create_task(ask(one, "acme", "noisy")) for _ in range(12)]
                try:
                    await eventually(lambda: script.served["noisy"] > 20)
                    tasks.append(asyncio.create_task(ask(other, "globex", "quiet")))
                    await eventually(lambda: script.served["quiet"] > 5)
                    redis.pause()
                    await eventually(lambda: one.data.sharing.redis.away and other.data.sharing.redis.away)
                    before = dict(script.served)
                    await eventually(lambda: all(script.served[k] > before[k] + 5 for k in before))
                    redis.resume()
                    await eventually(
                        lambda: not (one.data.sharing.redis.away or other.data.sharing.redis.away)
                    )
                    before = dict(script.served)
                    await eventually(lambda: all(script.served[k] > before[k] + 5 for k in before))
                finally:
                    redis.resume()
                    stop = True
                    await asyncio.gather(*tasks, return_exceptions=True)
                assert script.most == THREADS
