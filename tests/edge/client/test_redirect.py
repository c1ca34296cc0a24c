"""A listener that sends its clients on to HTTPS."""

from __future__ import annotations

import asyncio
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


async def test_who_names_the_address_in_the_target_is_sent_on_to_that_with_its_query(tmp_path: Path) -> None:
    listen = (Listen("127.0.0.1", redirect="https:8443"),)
    async with admin_of(tmp_path, listen=listen) as asked:
        for target, host, status, location in (
            ("http://good.example?x=1", "good.example", b"308", b"https://good.example:8443/?x=1\r\n"),
            ("http://good.example:80/a?x", "good.example", b"308", b"https://good.example:8443/a?x\r\n"),
            ("http://good.example/a", "evil.example", b"400", b""),
            ("/a?b=%C3%A9&c=d", "good.example", b"308", b"https://good.example:8443/a?b=%C3%A9&c=d\r\n"),
        ):
            reader, writer = await asyncio.open_connection(*asked.gateway.bound[0].address)
            writer.write(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            answer = await reader.read()
            writer.close()
            assert answer.split(b" ", 2)[1] == status, target
            assert location in answer
            assert (b"Location: " in answer) == bool(location)
