"""Interim answers (103 Early Hints and others): dropped, or relayed at once where the route says so."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.app import Gateway
from tests import harness
from tests.eventually import takes
from tests.fakes import Backend, Heard, RawClient, Script, always, answer, then_close

pytestmark = pytest.mark.asyncio

HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"


def config(backend: Backend, interim: str = "relay", kind: str = "http", **more: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {"kind": kind, "addresses": [backend.address]}
    if kind == "gunicorn":
        settings["threads"] = 1
    route = harness.route("svc", "app", public=True, interim=interim, **more)
    return harness.routing([route], backends={"app": settings})


async def ask(gateway: Gateway, version: str = "1.1", more: str = "") -> RawClient:
    client = await RawClient.connect(harness.address(gateway))
    client.send(f"GET /svc/ HTTP/{version}\r\nHost: a\r\n{more}\r\n".encode())
    return client


@pytest.mark.parametrize("kind", ["http", "gunicorn"])
@pytest.mark.parametrize("way", ["direct", "task"])
async def test_it_arrives_before_the_answer_has_begun(tmp_path: Path, kind: str, way: str) -> None:
    go_on = asyncio.Event()

    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HINTS)
        await go_on.wait()
        writer.write(answer(b"done"))
        go_on.clear()

    async with (
        Backend(script) as backend,
        harness.running(tmp_path, config(backend, kind=kind)) as gateway,
    ):
        client = await RawClient.connect(harness.address(gateway))
        for _ in range(2 if way == "direct" else 1):
            client.send(b"GET /svc/ HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await client.head()).encode() == HINTS
            go_on.set()
            head, body = await client.answer()
            assert head.startswith("HTTP/1.1 200 ")
            assert body == b"done"
        assert backend.connections == 1
        client.close()


async def test_without_the_route_s_word_it_is_dropped(tmp_path: Path) -> None:
    async with (
        Backend(always(HINTS + answer())) as backend,
        harness.running(tmp_path, config(backend, "drop")) as gateway,
    ):
        client = await ask(gateway)
        assert (await client.head()).startswith("HTTP/1.1 200 ")
        client.close()


async def test_http_1_0_has_none(tmp_path: Path) -> None:
    async with (
        Backend(always(HINTS + answer())) as backend,
        harness.running(tmp_path, config(backend)) as gateway,
    ):
        client = await ask(gateway, "1.0")
        assert (await client.rest()).startswith(b"HTTP/1.1 200 ")
        client.close()


async def test_100_is_ours_to_say(tmp_path: Path) -> None:
    raw = b"HTTP/1.1 100 Continue\r\n\r\n" + b"HTTP/1.1 102 Processing\r\n\r\n" + answer()
    async with Backend(always(raw)) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await ask(gateway)
        assert await client.head() == "HTTP/1.1 102 Processing\r\n\r\n"
        assert (await client.head()).startswith("HTTP/1.1 200 ")
        client.close()


async def test_what_is_of_one_hop_or_ours_stays_here(tmp_path: Path) -> None:
    raw = (
        b"HTTP/1.1 103 Early Hints\r\nConnection: X-Hop, close\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n"
        b"Upgrade: h2c\r\nTransfer-Encoding: chunked\r\nX-Request-ID: theirs\r\nLink: <a>\r\nLink: <b>\r\n"
        b"Access-Control-Allow-Origin: *\r\n\r\n"
    )
    routing: dict[str, Any] = {"cors": {"origins": ["http://a.example"]}}
    async with (
        Backend(always(raw + answer())) as backend,
        harness.running(tmp_path, config(backend, **routing)) as gateway,
    ):
        client = await ask(gateway)
        assert await client.head() == "HTTP/1.1 103 Early Hints\r\nLink: <a>\r\nLink: <b>\r\n\r\n"
        assert (await client.head()).startswith("HTTP/1.1 200 ")
        client.close()


BROKEN: dict[str, Script] = {
    "a bad header": then_close(b"HTTP/1.1 103 Early Hints\r\nX : 1\r\n\r\n" + answer()),
    "a NUL": then_close(b"HTTP/1.1 103 Early Hints\r\nX: a\0b\r\n\r\n" + answer()),
    "a bare line feed": then_close(b"HTTP/1.1 103 Early Hints\nLink: <a>\n\n" + answer()),
    "two framings": then_close(
        b"HTTP/1.1 103 Early Hints\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n" + answer()
    ),
    "too many headers": then_close(b"HTTP/1.1 103 Early Hints\r\n" + b"X: y\r\n" * 200 + b"\r\n" + answer()),
    "101": then_close(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n" + answer()),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_it_is_checked_as_strictly_as_an_answer(tmp_path: Path, name: str) -> None:
    async with Backend(BROKEN[name]) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await ask(gateway)
        head = await client.head()
        assert head.startswith("HTTP/1.1 502 ")
        assert '"backend_malformed"' in (await client.reader.read(1000)).decode()
        client.close()


async def test_sixteen_pass_and_a_seventeenth_is_502(tmp_path: Path) -> None:
    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HINTS * (16 if "16" in heard.line else 17) + answer())

    async with Backend(script) as backend, harness.running(tmp_path, config(backend)) as gateway:
        client = await RawClient.connect(harness.address(gateway))
        for number, last in ((16, "200"), (17, "502")):
            client.send(f"GET /svc/{number} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            heads = [(await client.head()).split()[1] for _ in range(16)]
            assert heads == ["103"] * 16
            assert (await client.answer())[0].split()[1] == last
        client.close()


async def test_an_error_of_ours_may_follow_it(tmp_path: Path) -> None:
    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HINTS)
        await takes(1)

    async with Backend(script) as backend:
        async with harness.running(tmp_path, config(backend, timeouts={"first_byte": "100ms"})) as gateway:
            client = await ask(gateway)
            assert (await client.head()).encode() == HINTS
            head, body = await client.answer()
            assert head.startswith("HTTP/1.1 504 ")
            assert b'"backend_timeout"' in body
            client.send(b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await client.head()).startswith("HTTP/1.1 404 ")
            client.close()
