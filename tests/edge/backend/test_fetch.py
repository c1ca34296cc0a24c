"""The small client reads strictly, takes no more than it was told to, and leaves no connection behind."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.core.errors import BackendMalformed, BackendReset, BackendTimeout, GatewayError
from gateway.core.model import Address
from gateway.edge.backend.faults import NameUnresolved, NothingListens
from gateway.edge.backend.fetch import Response, fetch
from gateway.edge.backend.resolver import Names
from tests.fakes import Backend, Heard, Script, always, answer, then_close
from tests.support.ports import free_port

HEADERS = (("Host", "keys.example"), ("Accept", "application/json"))


def at(backend: Backend) -> Address:
    host, _, port = backend.address.removeprefix("http://").partition(":")
    return Address(backend.address, host, int(port))


async def ask(address: Address, limit: int = 100, timeout: float = 30.0) -> Response:
    return await fetch("GET", address, "/keys?a=1", HEADERS, timeout, limit, names=Names())


async def test_a_request_is_sent_as_it_was_given_and_its_response_is_whole() -> None:
    chunked = (
        b"HTTP/1.1 200 OK\r\nETag: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    )
    async with Backend(then_close(b"HTTP/1.1 103 Early\r\n\r\n" + chunked)) as backend:
        response = await ask(at(backend))
    assert response == Response(200, (("etag", "x"),), b"abcde")
    (heard,) = backend.heard
    assert heard.line == "GET /keys?a=1 HTTP/1.1"
    assert tuple(heard.headers) == HEADERS


async def test_a_redirect_is_a_response_as_any_other() -> None:
    async with Backend(always(answer(b"", "302 Found", "Location: /other\r\n"))) as backend:
        response = await ask(at(backend))
    assert response.status == 302 and ("location", "/other") in response.headers
    assert len(backend.heard) == 1


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (always(answer(b"x" * 101)), BackendMalformed),
        (always(b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok"), BackendMalformed),
        (always(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok"), BackendMalformed),
        (then_close(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok"), BackendReset),
        (then_close(b""), BackendReset),
    ],
)
async def test_what_is_too_long_malformed_or_cut_off_is_an_error(
    script: Script, error: type[GatewayError]
) -> None:
    async with Backend(script) as backend:
        with pytest.raises(error):
            await ask(at(backend))


@pytest.mark.parametrize("begins", [False, True])
async def test_one_deadline_is_for_all_of_it(begins: bool) -> None:
    left = asyncio.Event()

    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if begins:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok")
        assert await reader.read() == b""
        left.set()

    async with Backend(script) as backend:
        with pytest.raises(BackendTimeout):
            await ask(at(backend), timeout=0.2)
        await left.wait()


async def test_without_a_body_the_head_is_enough() -> None:
    async def script(heard: Heard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 503 No\r\nContent-Length: 1000\r\n\r\n")
        await reader.read()

    async with Backend(script) as backend:
        assert (await ask(at(backend), limit=0)).status == 503


async def test_who_cannot_be_reached_is_told_apart(tmp_path: Path) -> None:
    port = free_port()
    for address in (Address("a", "127.0.0.1", port), Address("b", path=str(tmp_path / "no.sock"))):
        with pytest.raises(NothingListens):
            await ask(address)

    def lookup(host: str) -> tuple[str, ...]:
        raise OSError(0, "nobody knows it")

    with pytest.raises(NameUnresolved) as caught:
        await fetch("GET", Address("c", "c.example", 1), "/", HEADERS, 30.0, 0, names=Names(lookup))
    assert caught.value.reason == "nobody knows it"
