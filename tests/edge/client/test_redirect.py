"""A listener that sends its clients on to HTTPS."""

from __future__ import annotations

import json
from pathlib import Path

from gateway.core.process.listeners import Listen
from tests import harness
from tests.support.admin import admin_of


async def test_requests_that_are_sent_on_are_counted_and_logged_as_others_are(tmp_path: Path) -> None:
    listen = (Listen("127.0.0.1", redirect="https:8443"),)
    async with admin_of(tmp_path, listen=listen) as asked:
        url = harness.url(asked.gateway, "/a?b=c")
        async with asked.session.post(url, data=b"x", allow_redirects=False) as response:
            assert response.status == 308
            sent_on = response.headers["X-Request-ID"]
        _, _, metrics = await asked.ask("/metrics")
        asked.gateway.access_log.close()
        (line,) = map(json.loads, (tmp_path / "var" / "access.log").read_text().splitlines())
        assert (line["id"], line["method"], line["path"], line["status"]) == (sent_on, "POST", "/a", 308)
        assert 'gateway_request_seconds_count{route="none",status="3xx"} 1' in metrics
