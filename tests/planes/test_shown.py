"""What one data plane says of itself, in a real gateway of one process."""

from __future__ import annotations

import json
from pathlib import Path

import aiohttp
import yaml

from gateway.core.config.revision import Draft, Origin
from gateway.core.merge.metrics import Report
from gateway.planes.shown import Shown
from tests import harness

ROUTING = harness.routing([harness.route("docs", "documents")])
KEYS = "/.well-known/jwks.json"


async def test_all_that_is_shown_is_json_and_no_metric_is_left_out(tmp_path: Path) -> None:
    async with harness.running(tmp_path, ROUTING) as gateway, aiohttp.ClientSession() as session:
        async with session.get(harness.url(gateway, KEYS)) as response:
            assert response.status == 200
        bodies = {"tenant": "acme", "documents": "acme", "recent": 10, "recent of route": "docs"}
        shown = Shown(gateway.data, gateway.live)
        for name in shown.handlers():
            (answer,) = await gateway.planes.ask(name, bodies.get(name))
            json.dumps(answer)
        report = Report()
        for piece in await gateway.planes.ask_one("metrics"):
            report.add(piece)
        names = {metric.name for metric in report.metrics.values()}
        assert names == {one.name for one in gateway.metrics.instruments()}


async def test_what_our_own_endpoints_served_counts_on_after_a_change_of_the_config(tmp_path: Path) -> None:
    async with harness.running(tmp_path, ROUTING) as gateway, aiohttp.ClientSession() as session:
        for _ in range(3):
            async with session.get(harness.url(gateway, KEYS)) as response:
                assert response.status == 200
        text = yaml.safe_dump({**ROUTING, "routes": [harness.route("more", "documents")]})
        await gateway.live.apply(Draft(text, Origin("alice", "", "api"), 1.0), gateway.live.head.number)
        lines = "".join(await gateway.planes.metrics()).splitlines()
        assert 'gateway_request_seconds_count{route="gateway-keys",status="2xx"} 3' in lines
