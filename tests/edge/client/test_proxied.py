"""Listeners that speak the PROXY protocol: who is let in, and who the client is then."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml

from gateway.app import Gateway
from gateway.core.process.listeners import Listen
from gateway.core.process.tls import TlsSettings
from gateway.edge.client import clients
from tests import harness
from tests.eventually import eventually, head_start
from tests.support.certificates import Authority

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V1 = b"PROXY TCP4 203.0.113.7 10.0.0.1 51000 443\r\n"
IPV6 = socket.inet_pton(socket.AF_INET6, "2001:db8::7") * 2 + struct.pack("!HH", 51000, 443)
V2 = SIGNATURE + b"\x21\x21" + struct.pack("!H", len(IPV6)) + IPV6
LOCAL = SIGNATURE + b"\x20\x11\x00\x0c" + b"\x01" * 12
GET = b"GET /docs/a HTTP/1.1\r\nHost: h\r\n\r\n"
ROUTES = [harness.route("docs", "documents")]
TRUSTED = {"trusted_proxies": ["127.0.0.1", "unix"]}


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """No header is too late because the machine is busy."""
    monkeypatch.setattr(clients, "HEADER_TIME", 3600.0)


@asynccontextmanager
async def gateway_of(tmp_path: Path, config: Any = TRUSTED, **more: Any) -> AsyncIterator[Gateway]:
    listen = Listen("127.0.0.1", proxy=True), Listen("127.0.0.1")
    more = {"listen": listen, **more}
    async with harness.running(tmp_path, harness.routing(ROUTES, **config), **more) as gateway:
        yield gateway


async def ask(gateway: Gateway, *pieces: bytes, listener: int = 0) -> bytes:
    """All that comes back; empty where the connection is closed without a word."""
    one = gateway.bound[listener]
    opened = asyncio.open_unix_connection(one.path) if one.path else asyncio.open_connection(*one.address)
    reader, writer = await opened
    try:
        for number, piece in enumerate(pieces):
            if number:
                await head_start(0.002)  # for a packet of its own
            writer.write(piece)
        async with asyncio.timeout(30):
            head = await reader.readuntil(b"\r\n\r\n")
            return head
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""
    finally:
        writer.close()


async def client(gateway: Gateway, tmp_path: Path, calls: int = 1) -> str:
    """The client of the last call in the access log."""
    log = tmp_path / "var" / "access.log"
    await eventually(lambda: log.exists() and len(log.read_text().splitlines()) >= calls)
    return str(json.loads(log.read_text().splitlines()[-1])["client"])


def refused(gateway: Gateway) -> dict[str, float]:
    return dict(gateway.data.clients.refused.samples())


async def test_the_client_is_who_the_header_names_for_all_requests_of_the_connection(tmp_path: Path) -> None:
    async with gateway_of(tmp_path) as gateway:
        assert b" 401 " in await ask(gateway, V1 + GET)
        assert await client(gateway, tmp_path) == "203.0.113.7"
        assert b" 401 " in await ask(gateway, V2 + GET)
        assert await client(gateway, tmp_path, 2) == "2001:db8::7"
        assert b" 401 " in await ask(gateway, LOCAL + GET)
        assert await client(gateway, tmp_path, 3) == "127.0.0.1"
        assert b" 401 " in await ask(gateway, b"PROXY UNKNOWN\r\n" + GET)
        assert await client(gateway, tmp_path, 4) == "0.0.0.0"
        assert refused(gateway) == {}


@pytest.mark.parametrize("header", [V1, V2, LOCAL])
async def test_a_header_may_come_in_any_pieces(tmp_path: Path, header: bytes) -> None:
    async with gateway_of(tmp_path) as gateway:
        whole = header + GET
        for cuts in ([1], [5, 6], [12, 13, 16], [len(header)], [len(header) - 1, len(header) + 1]):
            ends = [0, *cuts, len(whole)]
            pieces = [whole[start:end] for start, end in pairwise(ends)]
            assert b" 401 " in await ask(gateway, *pieces)


async def test_only_a_trusted_proxy_may_speak_it_and_a_live_change_counts_at_once(tmp_path: Path) -> None:
    async with gateway_of(tmp_path, {}) as gateway:
        assert await ask(gateway, V1 + GET) == b""
        assert refused(gateway) == {'reason="untrusted_proxy"': 1}
        (tmp_path / "routing.yaml").write_text(yaml.safe_dump(harness.routing(ROUTES, **TRUSTED)))
        await gateway.live.reload_when_quiet()
        assert b" 401 " in await ask(gateway, V1 + GET)
        assert await client(gateway, tmp_path) == "203.0.113.7"


@pytest.mark.parametrize(
    "data",
    [GET, b"PROXY TCP4 1.2.3.4\r\n" + GET, SIGNATURE + b"\x21\x12\0\0" + GET, b"\x16\x03\x01\x02\0\x01"],
)
async def test_a_connection_without_a_good_header_is_closed_without_a_word(
    tmp_path: Path, data: bytes
) -> None:
    async with gateway_of(tmp_path) as gateway:
        assert await ask(gateway, data) == b""
        assert refused(gateway) == {'reason="proxy_header"': 1}


async def test_a_header_that_does_not_come_in_time_or_not_whole_ends_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "HEADER_TIME", 0.05)
    async with gateway_of(tmp_path) as gateway:
        assert await ask(gateway, b"PROXY TCP4 203.") == b""
        assert refused(gateway) == {'reason="proxy_header"': 1}
        with socket.create_connection(gateway.bound[0].address):  # a check whether the port is open
            pass
        await asyncio.sleep(0)
        assert refused(gateway) == {'reason="proxy_header"': 1}


@pytest.mark.parametrize("header", [V1, V2])
async def test_a_header_where_none_is_expected_is_a_bad_request(tmp_path: Path, header: bytes) -> None:
    async with gateway_of(tmp_path) as gateway:
        assert b" 400 " in await ask(gateway, header + GET, listener=1)


async def test_a_second_header_is_a_bad_request_and_no_other_client(tmp_path: Path) -> None:
    async with gateway_of(tmp_path) as gateway:
        other = b"PROXY TCP4 198.51.100.1 10.0.0.1 1 2\r\n"
        assert b" 400 " in await ask(gateway, V1 + other + GET)
        assert await client(gateway, tmp_path) == "203.0.113.7"


async def test_what_the_client_says_of_itself_does_not_count_and_what_a_trusted_one_says_does(
    tmp_path: Path,
) -> None:
    said = GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 198.51.100.9\r\n\r\n")
    proxies = {"trusted_proxies": ["127.0.0.1", "203.0.113.0/24"]}
    async with gateway_of(tmp_path) as gateway:
        assert b" 401 " in await ask(gateway, V1 + said)
        assert await client(gateway, tmp_path) == "203.0.113.7"
        assert b" 401 " in await ask(gateway, b"PROXY UNKNOWN\r\n" + said)
        assert await client(gateway, tmp_path, 2) == "0.0.0.0"
        (tmp_path / "routing.yaml").write_text(yaml.safe_dump(harness.routing(ROUTES, **proxies)))
        await gateway.live.reload_when_quiet()
        assert b" 401 " in await ask(gateway, V1 + said)
        assert await client(gateway, tmp_path, 3) == "198.51.100.9"


async def test_a_unix_socket_speaks_it_where_unix_is_trusted(tmp_path: Path) -> None:
    with TemporaryDirectory() as folder:
        listen = (Listen(path=f"{folder}/g", proxy=True), Listen(path=f"{folder}/plain"))
        async with gateway_of(tmp_path, listen=listen) as gateway:
            assert b" 401 " in await ask(gateway, V1 + GET)
            assert await client(gateway, tmp_path) == "203.0.113.7"
            assert b" 401 " in await ask(gateway, GET, listener=1)
            said = GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 198.51.100.9\r\n\r\n")
            assert b" 401 " in await ask(gateway, said, listener=1)
            assert await client(gateway, tmp_path, 3) == "198.51.100.9"
            (tmp_path / "routing.yaml").write_text(yaml.safe_dump(harness.routing(ROUTES)))
            await gateway.live.reload_when_quiet()
            assert await ask(gateway, V1 + GET) == b""


async def test_a_drain_does_not_wait_for_a_header_that_does_not_come(tmp_path: Path) -> None:
    async with gateway_of(tmp_path) as gateway:
        _, writer = await asyncio.open_connection(*gateway.bound[0].address)
        writer.write(b"PROXY ")
        await ask(gateway, V1 + GET)
        async with asyncio.timeout(30):
            await gateway.data.listener.stop_accepting()
        writer.close()


async def test_one_client_has_so_many_connections_by_its_network_and_proxies_have_all(tmp_path: Path) -> None:
    def named(address: str) -> bytes:
        return b"PROXY TCP6 %s ::1 1 2\r\n" % address.encode()

    async with gateway_of(tmp_path, client_connections=2) as gateway:
        address, writers = gateway.bound[0].address, []

        async def stays(header: bytes) -> bool:
            reader, writer = await asyncio.open_connection(*address)
            writer.write(header + GET)
            writers.append(writer)
            try:
                return b" 401 " in await reader.read(100)
            except ConnectionError:
                return False

        assert [await stays(named(f"2001:db8::{number}")) for number in range(1, 4)] == [True, True, False]
        assert await stays(named("2001:db8:0:1::1"))
        assert all([await stays(LOCAL) for _ in range(4)])
        assert refused(gateway) == {'reason="client_limit"': 1}
        writers[0].close()
        await eventually(lambda: len(gateway.data.listener.connections) == 6)
        assert await stays(named("2001:db8::9"))
        for writer in writers:
            writer.close()


@pytest.mark.parametrize("header", [V1, V2])
async def test_the_header_comes_before_tls_in_one_packet_with_its_first_bytes_or_apart(
    tmp_path: Path, header: bytes
) -> None:
    authority = Authority(tmp_path / "ca")
    tls = (TlsSettings("public", (authority.pair("shop", "dns:shop.example"),)),)
    listen = (Listen("127.0.0.1", proxy=True, tls="public"),)
    async with gateway_of(tmp_path, tls=tls, listen=listen) as gateway:
        context = ssl.create_default_context(cafile=str(authority.path))
        for number, cut in enumerate((0, 7, len(header))):
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            session = context.wrap_bio(incoming, outgoing, server_hostname="shop.example")
            with pytest.raises(ssl.SSLWantReadError):
                session.do_handshake()
            whole = header + outgoing.read()
            reader, writer = await asyncio.open_connection(*gateway.bound[0].address)
            writer.write(whole[:cut])
            await head_start(0.002)
            writer.write(whole[cut:])
            async with asyncio.timeout(30):
                head = await _over_tls(session, incoming, outgoing, reader, writer)
            assert b" 401 " in head
            named = "203.0.113.7" if header is V1 else "2001:db8::7"
            assert await client(gateway, tmp_path, number + 1) == named
            writer.close()


async def _over_tls(
    session: ssl.SSLObject,
    incoming: ssl.MemoryBIO,
    outgoing: ssl.MemoryBIO,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> bytes:
    """The start of the response to a request, by a handshake that has begun."""
    steps: list[Callable[[], object]] = [session.do_handshake, lambda: session.write(GET), session.read]
    while True:
        try:
            result = steps[0]()
        except ssl.SSLWantReadError:
            incoming.write(await reader.read(65536))
            continue
        finally:
            writer.write(outgoing.read())
        if len(steps) == 1:
            assert isinstance(result, bytes)
            return result
        steps.pop(0)
