"""Limits that several processes share, over real sockets: two gateways by Redis, and two workers of one."""

from __future__ import annotations

import asyncio
import http.client
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from gateway.app import Gateway
from gateway.auth.keys import read_keys, signing_key
from gateway.core.jwt.keys import sign
from gateway.core.process.shared_state import SharedSettings
from tests import harness
from tests.eventually import eventually
from tests.fakes import Backend, always, answer
from tests.limits.test_limits import config
from tests.process.test_serve import Serving
from tests.support.redis_server import NEEDS_REDIS, redis_server


async def statuses(session: aiohttp.ClientSession, gateways: list[Gateway], calls: int) -> Counter[int]:
    """Of so many calls at each, at once."""

    async def one(gateway: Gateway) -> int:
        headers = harness.bearer(gateway)
        async with session.get(harness.url(gateway, "/svc/"), headers=headers) as response:
            return response.status

    return Counter(await asyncio.gather(*(one(gateway) for _ in range(calls) for gateway in gateways)))


@NEEDS_REDIS
async def test_two_gateways_share_a_burst_and_a_quota_and_go_on_without_redis(tmp_path: Path) -> None:
    pytest.importorskip("redis", reason="the client of Redis is not installed")
    folders = tmp_path / "a", tmp_path / "b"
    for folder in folders:
        folder.mkdir()
    async with redis_server(tmp_path) as redis, aiohttp.ClientSession() as session:
        async with Backend(always(answer())) as backend:
            tenant = {"rate_limit": {"rate": "1/h", "burst": 20}, "quota": "22/day"}
            routing = config(backend, tenant=tenant)
            shared = SharedSettings(redis.uri)
            async with harness.running(folders[0], routing, shared=shared) as one:
                async with harness.running(folders[1], routing, shared=shared) as other:
                    await eventually(lambda: one.data.sharing.redis.members == 2)
                    found = await statuses(session, [one, other], 30)
                    assert 9 <= found[200] <= 22  # half of it where one was busy, and so silent
                    assert found[200] + found[429] == 60
                    assert one.quotas.used("acme") >= found[200] // 2
                    redis.kill()
                    found = await statuses(session, [one, other], 2)
                    assert found[200] <= 2
                    assert found[200] + found[429] == 4
                    await eventually(lambda: one.data.sharing.status()["state"] == "away")
                    assert "gateway_shared_up 0" in one.metrics.render()


@pytest.mark.whole
def test_two_workers_give_a_burst_and_a_quota_as_one_process_would(tmp_path: Path) -> None:
    routing = """
version: 1
tenants: { acme: { rate_limit: { rate: 1/h, burst: 20 } }, globex: { quota: 5/day } }
backends: { nobody: { kind: http, addresses: ['http://127.0.0.1:1'] } }
routes:
  - { name: docs, path: '/docs/{rest*}', strip: /docs, target: documents }
  - { name: open, path: /open, target: nobody, public: true, rate_limit: { rate: 1/h, burst: 10 } }
"""
    serving = Serving(tmp_path, routing, "workers = 2")
    with serving.started() as process:
        serving.until_ready(process)
        key = signing_key(read_keys(tmp_path / "var" / "keys.jwks", harness.RULE.algorithms))
        claims = {"iss": "gateway", "aud": "gateway", "sub": "a", "scope": "documents:read"}
        acme, globex = (
            sign({**claims, "tenant": tenant, "exp": 4_000_000_000}, key) for tenant in ("acme", "globex")
        )
        found: Counter[int] = Counter()
        for path, token, calls in (
            ("/docs/things/1", acme, 60), ("/docs/things/1", globex, 15), ("/open", acme, 30),
        ):  # fmt: skip
            for _ in range(calls):
                connection = http.client.HTTPConnection(urlsplit(serving.public).netloc, timeout=30)
                connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
                found[connection.getresponse().status] += 1
                connection.close()
    assert found == {404: 20 + 5, 503: 10, 429: 40 + 10 + 20}, serving.log.read_text()
