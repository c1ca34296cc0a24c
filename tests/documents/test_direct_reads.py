"""Reads by id that take the short way answer as those that do not: same head, same body, same errors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from gateway.life import Life
from tests import harness
from tests.documents.api import READ, Api, serving
from tests.eventually import at_rest, eventually
from tests.fakes import RawClient

# Whoever asks with a body has it read, and that may have to wait.
LONG_WAY = "Content-Length: 1\r\n"
NDJSON = "Content-Type: application/x-ndjson\r\n"


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each request that could be was answered directly."""
    taken: list[bool] = []
    serve = Life.serve

    def spy(self: Life, client: Any, *args: Any) -> None:
        serve(self, client, *args)
        taken.append(client.serving is None)

    monkeypatch.setattr(Life, "serve", spy)
    return taken


def request(api: Api, path: str, more: str = "", method: str = "GET", version: str = "1.1") -> bytes:
    authorization = api.headers["Authorization"]
    return (
        f"{method} /documents{path} HTTP/{version}\r\nHost: a\r\nAuthorization: {authorization}\r\n{more}\r\n"
    ).encode()


async def answer(client: RawClient, raw: bytes) -> tuple[list[str], bytes]:
    """The status and the headers, in one order and without what differs; and the body."""
    client.send(raw)
    if b"HEAD" in raw[:5] or b"If-None-Match" in raw:
        head, body = await client.head(), b""
        if " 304 " not in head and b"HEAD" not in raw[:5]:
            length = int(re.findall(r"(?i)content-length: (\d+)", head)[0])
            body = await client.reader.readexactly(length)
    else:
        head, body = await client.answer()
    status, *lines = head.rstrip().split("\r\n")
    request_id = next(line[14:] for line in lines if line.startswith("X-Request-ID: "))
    varying = ("X-Request-ID: ", "Date: ")
    kept = sorted(line.replace("Etag:", "ETag:") for line in lines if not line.startswith(varying))
    return [status, *kept], body.replace(request_id.encode(), b"")


async def test_both_ways_answer_alike(api: Api, ways: list[bool]) -> None:
    tag = (await api("PUT", "/orders/x", {"a": "é", "b": [1]}))[1]["ETag"]
    await api("PUT", "/orders/empty", {})
    await api.of("globex")("PUT", "/orders/y", {})
    client, with_body = [await RawClient.connect(harness.address(api.gateway)) for _ in range(2)]
    reader, other = api.of("acme", f"{READ}:orders"), api.of("acme", "documents:write")
    asked = [
        (reader, "/orders/x", "", True), (api, "/orders/empty", "", True), (api, "/orders/none", "", True),
        (api, "/orders/x", f"If-None-Match: {tag}\r\n", True),
        (api, "/orders/x", f"if-none-match: W/{tag}\r\n", True),
        (api, "/orders/x", 'If-None-Match: "other"\r\n', True),
        (api, "/orders/x", f"If-Match: {tag}\r\n", True),
        (api, "/orders/x", 'If-Match: "other"\r\n', True), (api, "/orders/x", "If-Match: x\r\n", True),
        (api, "/orders/none", "If-Match: x\r\n", True), (api, "/orders/none", 'If-None-Match: "\r\n', True),
        (other, "/orders/x", "", True), (api.of("globex"), "/orders/x", "", True),
        (api, "/a.b/x", "", True), (api, "/orders/" + "i" * 201, "", True), (api, "/orders/%20", "", False),
        (api, "/orders/x?a=1", "", False), (api, "/orders/", "", False), (api, "/orders", "", False),
        (api, "/orders/query", "", False), (api, "/orders/x/", "", False), (api, "/", "", False),
    ]  # fmt: skip
    for method in ("GET", "HEAD"):
        for who, path, more, directly in asked:
            ways.clear()
            short = await answer(client, request(who, path, more, method))
            assert ways == [directly], path
            long = await answer(with_body, request(who, path, more + LONG_WAY, method) + b"x")
            assert ways == [directly, False], "the long way was not taken"
            assert short == long, path
    client.close()
    with_body.close()


async def test_both_ways_check_in_the_same_order(tmp_path: Path, ways: list[bool]) -> None:
    """A tenant whose requests are as many as may be, and a token that lacks the scope: 429 both ways."""
    async with serving(tmp_path, tenants={"acme": {"concurrency": 1}}) as api:
        client, feeding = [await RawClient.connect(harness.address(api.gateway)) for _ in range(2)]
        feeding.send(request(api, "/orders/import", "Content-Length: 9\r\n" + NDJSON, "POST"))
        await eventually(lambda: api.gateway.life.inside)
        other = api.of("acme", "documents:write")
        short = await answer(client, request(other, "/orders/x"))
        long = await answer(client, request(other, "/orders/x", LONG_WAY) + b"x")
        assert short[0][0] == long[0][0] == "HTTP/1.1 429 Too Many Requests"
        client.close()
        feeding.close()


async def test_a_direct_answer_carries_cors_and_limits_and_is_logged(
    tmp_path: Path, ways: list[bool]
) -> None:
    cors = {"origins": ["https://app.example"], "expose": ["ETag"]}
    tenants = {"acme": {"rate_limit": "100/s"}}
    config = {"rate_limit_headers": "draft"}
    async with serving(tmp_path, tenants=tenants, config=config, cors=cors) as api:
        await api("PUT", "/orders/x", {"a": 1})
        client = await RawClient.connect(harness.address(api.gateway))
        head, _ = await answer(client, request(api, "/orders/x", "Origin: https://app.example\r\n"))
        assert ways[-1] is True
        assert "Access-Control-Allow-Origin: https://app.example" in head
        assert "Access-Control-Expose-Headers: ETag" in head and "Vary: Origin" in head
        assert any(line.startswith("RateLimit: ") for line in head)
        client.close()
        log = Path(api.gateway.config.access_log)
    line = log.read_text().splitlines()[-1]
    assert '"method":"GET"' in line and '"status":200' in line and '"bytes_out":0' not in line


async def test_pipelined_reads_are_answered_in_order(api: Api, ways: list[bool]) -> None:
    for n in range(3):
        await api("PUT", f"/orders/{n}", {"n": n})
    ways.clear()
    client = await RawClient.connect(harness.address(api.gateway))
    client.send(b"".join(request(api, f"/orders/{n % 3}") for n in range(300)))
    for n in range(300):
        assert (await client.answer())[1] == b'{"id":"%d","n":%d}' % (n % 3, n % 3)
    assert ways.count(True) == 300
    client.close()


async def test_a_client_that_pipelines_and_does_not_read_is_not_answered_into_memory(api: Api) -> None:
    await api("PUT", "/orders/x", {"t": "x" * 50_000})
    client = await RawClient.connect(harness.address(api.gateway))
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    client.send(request(api, "/orders/x") * 2000)  # 100 MB of answers
    connections = api.gateway.listener.connections

    def waiting() -> int:
        return max(c.transport.get_write_buffer_size() for c in connections if c.transport is not None)

    await eventually(waiting)
    assert await at_rest(waiting) < 1_000_000
    client.close()
