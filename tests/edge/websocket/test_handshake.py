"""Who may open a WebSocket, and what is none."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from tests import harness
from tests.edge.websocket.tunnels import config, cut_at_the_end, nobody_inside, refused, through
from tests.fakes import Backend, RawClient, always, answer
from tests.support.sockets import KEY, echo, request, switching, websocket

__all__ = ["cut_at_the_end"]  # a fixture of every test here
pytestmark = pytest.mark.asyncio


# --- who may open one ---


async def test_what_is_not_authorised_never_reaches_the_backend(tmp_path: Path) -> None:
    async with through(tmp_path, websocket(echo)) as (gateway, backend):
        bearer = harness.bearer(gateway)["Authorization"]
        stranger = harness.bearer(gateway, tenant="initech")["Authorization"]
        late = harness.bearer(gateway, exp=time.time() - 5)["Authorization"]  # within the leeway
        cases = [
            ("/ws/", (), 401, "unauthenticated"),
            ("/ws/", ("Authorization: Bearer x",), 401, "unauthenticated"),
            ("/ws/", (f"Authorization: {late}",), 401, "unauthenticated"),
            ("/ws/", (f"Authorization: {stranger}",), 403, "forbidden"),
            ("/ws/", (f"Authorization: {bearer}", "X-Tenant: globex"), 403, "forbidden"),
            ("/scoped/", (f"Authorization: {bearer}",), 403, "forbidden"),
            ("/nowhere/", (f"Authorization: {bearer}",), 404, "no_route"),
        ]
        for path, lines, status, code in cases:
            found, problem, _ = await refused(gateway, path, *lines)
            assert (found, problem["code"]) == (status, code), lines
        assert backend.connections == 0


@pytest.mark.parametrize(
    ("origin", "opens"),
    [
        ("http://gateway.example", True),
        ("https://gateway.example", True),
        ("http://friend.example", True),
        ("http://gateway.example:81", False),
        ("http://gateway.example.evil.example", False),
        ("http://evil.example", False),
        ("null", False),
        ("http://friend.example, http://gateway.example", False),
    ],
)
async def test_a_page_of_another_origin_opens_none(tmp_path: Path, origin: str, opens: bool) -> None:
    rule = {"origins": ["http://friend.example"]}
    async with through(tmp_path, websocket(echo), **rule) as (gateway, backend):
        client = await RawClient.connect(harness.address(gateway))
        client.send(request("/open/", "gateway.example", f"Origin: {origin}"))
        assert (await client.head()).split()[1] == ("101" if opens else "403")
        assert backend.connections == opens
        client.close()


async def test_the_origins_of_the_cors_rule_may_open_one(tmp_path: Path) -> None:
    async with Backend(websocket(echo)) as backend:
        routing = config(backend.address)
        routing["routes"][2]["cors"] = {"origins": ["http://friend.example"]}
        async with harness.running(tmp_path, routing) as gateway:
            for origin, status in (("http://friend.example", "101"), ("http://evil.example", "403")):
                client = await RawClient.connect(harness.address(gateway))
                client.send(request("/open/", "gateway.example", f"Origin: {origin}"))
                assert (await client.head()).split()[1] == status
                client.close()


async def test_a_handshake_that_is_not_one_is_refused(tmp_path: Path) -> None:
    async with through(tmp_path, websocket(echo)) as (gateway, backend):
        whole = request("/open/", "a")
        key, version = f"Sec-WebSocket-Key: {KEY}\r\n".encode(), b"Sec-WebSocket-Version: 13\r\n"
        cases = [
            (whole.replace(key, b""), "400"),
            (whole.replace(key, b"Sec-WebSocket-Key: c2hvcnQ=\r\n"), "400"),
            (whole.replace(key, key * 2), "400"),
            (whole.replace(version, b"Sec-WebSocket-Version: 8\r\n"), "426"),
            (whole.replace(version, b""), "426"),
            (whole.replace(version, version + b"Content-Length: 1\r\n") + b"x", "400"),
        ]
        for raw, status in cases:
            client = await RawClient.connect(harness.address(gateway))
            client.send(raw)
            head, _ = await client.answer()
            assert head.split()[1] == status, raw
            assert status != "426" or "Sec-WebSocket-Version: 13\r\n" in head
            client.close()
        assert backend.connections == 0


# --- what is no WebSocket ---


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("/plain/", b"", b""),
        ("/ws/", b"Upgrade: websocket", b"Upgrade: h2c"),
        ("/ws/", b"Upgrade: websocket", b"Upgrade: websocket, h2c"),
        ("/ws/", b"keep-alive, Upgrade", b"keep-alive"),
        ("/ws/", b"GET ", b"DELETE "),
    ],
)
async def test_any_other_upgrade_is_ignored_and_the_connection_goes_on(
    tmp_path: Path, path: str, old: bytes, new: bytes
) -> None:
    async with through(tmp_path, always(answer(b"plain"))) as (gateway, backend):
        client = await RawClient.connect(harness.address(gateway))
        lines = [f"{name}: {value}" for name, value in harness.bearer(gateway).items()]
        for _ in range(2):
            client.send(request(path, "a", *lines).replace(old, new))
            head, body = await client.answer()
            assert head.startswith("HTTP/1.1 200 ") and body == b"plain"
        for heard in backend.heard:
            assert heard.one("Upgrade") is heard.one("Sec-WebSocket-Key") is None
        assert len(backend.heard) == 2
        client.close()


async def test_a_request_with_a_body_and_an_upgrade_that_is_ignored_passes_whole(tmp_path: Path) -> None:
    async with through(tmp_path, always(answer(b"plain"))) as (gateway, backend):
        client = await RawClient.connect(harness.address(gateway))
        lines = [f"{name}: {value}" for name, value in harness.bearer(gateway).items()]
        raw = request("/plain/", "a", *lines, "Content-Length: 4").replace(b"GET", b"POST") + b"body"
        client.send(raw + raw)
        for _ in range(2):
            assert (await client.answer())[1] == b"plain"
        assert [heard.body for heard in backend.heard] == [b"body", b"body"]
        client.close()


# --- what a backend may answer ---


async def test_a_backend_that_refuses_the_upgrade_is_heard_and_the_connection_goes_on(tmp_path: Path) -> None:
    refusal = answer(b"not you", "418 I'm a teapot", "X-Why: tea\r\n")
    async with through(tmp_path, always(refusal)) as (gateway, backend):
        client = await RawClient.connect(harness.address(gateway))
        lines = [f"{name}: {value}" for name, value in harness.bearer(gateway).items()]
        for _ in range(2):
            client.send(request("/ws/", "a", *lines))
            head, body = await client.answer()
            assert head.startswith("HTTP/1.1 418 ") and "X-Why: tea\r\n" in head and body == b"not you"
        assert backend.connections == 1
        client.close()
        await nobody_inside(gateway)


BAD = "Upgrade: websocket\r\nConnection: Upgrade\r\n"
BAD_ANSWERS = {
    "a wrong accept": f"{BAD}Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n",
    "no accept": BAD,
    "another protocol": "Upgrade: h2c\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n",
    "no Connection": "Upgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n",
    "an extension": BAD
    + "Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Extensions: permessage-deflate\r\n",
    "a subprotocol without a name": BAD + "Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: \r\n",
    "a subprotocol that nobody offered": BAD
    + "Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: three\r\n",
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
async def test_a_101_that_does_not_answer_the_handshake_is_502(tmp_path: Path, name: str) -> None:
    async def script(heard: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        right = switching(heard.one("Sec-WebSocket-Key") or "").decode().split("Accept: ")[1].split("\r\n")[0]
        lines = BAD_ANSWERS[name].replace("{accept}", right)
        writer.write(f"HTTP/1.1 101 Switching Protocols\r\n{lines}\r\n".encode())

    async with through(tmp_path, script) as (gateway, _):
        bearer = harness.bearer(gateway)["Authorization"]
        lines = (f"Authorization: {bearer}", "Sec-WebSocket-Protocol: one, , two,")
        status, problem, _ = await refused(gateway, "/ws/", *lines)
        assert (status, problem["code"]) == (502, "backend_malformed")
        await nobody_inside(gateway)


async def test_a_backend_that_is_not_there_is_503_and_one_that_hangs_504(tmp_path: Path) -> None:
    async def hang(heard: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with Backend(hang) as backend:
        routing = config(backend.address)
        routing["routes"][2]["timeouts"] = {"first_byte": 0.2}
        routing["backends"]["gone"] = {"kind": "http", "addresses": ["http://127.0.0.1:1"]}
        routing["routes"].append(harness.route("gone", "gone", public=True, websocket=True))
        async with harness.running(tmp_path, routing) as gateway:
            assert (await refused(gateway, "/open/"))[0] == 504
            assert (await refused(gateway, "/gone/"))[0] == 503
            await nobody_inside(gateway)
