"""TLS on the wire: handshakes, what is no TLS, and how a connection ends."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.core.process.listeners import Listen
from gateway.core.process.tls import TlsSettings
from gateway.edge.client.listener import Listener
from gateway.edge.client.slots import ConnectionLimits
from gateway.edge.tls import connection as tls_connection
from gateway.edge.tls.connection import TlsConnection
from gateway.edge.tls.sites import TlsSites
from tests.eventually import END, eventually
from tests.support.certificates import Authority

GET = b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n"


class Service:
    """Responds with what it was told, and how long the body was."""

    body = b"hello"

    def serve(self, client: Any, request: Any, request_body: bytes, content: Any) -> None:
        if content is not None:
            client.run(self._stream(client, content))
            return
        self._respond(client, len(request_body), request.keep_alive)

    async def _stream(self, client: Any, content: Any) -> None:
        size = 0
        while piece := await content.read():
            size += len(piece)
        self._respond(client, size, True)

    def _respond(self, client: Any, size: int, keep_alive: bool) -> None:
        head = b"HTTP/1.1 200 OK\r\nX-Size: %d\r\nContent-Length: %d\r\n\r\n" % (size, len(self.body))
        client.transport.write(head + self.body)
        client.done(keep_alive=keep_alive)

    def holder(self, request: Any, peer: str) -> str:
        return peer

    def gone(self, request: Any, peer: str) -> None: ...

    def sent_on(self, request: Any, peer: str, status: int) -> str:
        return "1"

    def refused(self, error: Any, peer: str, request: Any) -> bytes:
        return b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n%b" % (error.status, error.detail.encode())


class Site:
    """A listener of TLS, and who it serves."""

    def __init__(
        self, folder: Path, listen: Listen, limits: ConnectionLimits, wall: Any = time.time, **more: Any
    ) -> None:
        self.ca = Authority(folder)
        pair = self.ca.pair("server", "dns:shop.example")
        self.sites = TlsSites([TlsSettings("public", (pair,), **more)], "gateway.conf", wall=wall)
        self.service = Service()
        self.listener = Listener(self.service, limits, sites=self.sites)  # type: ignore[arg-type]
        self.listener.bind([listen], "")

    @property
    def port(self) -> int:
        return self.listener.addresses[0][1]

    def results(self) -> dict[str, int]:
        return {result: n for result, n in self.sites.handshakes("public").items() if n}

    def context(self, **more: Any) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.ca.path))
        for name, value in more.items():
            setattr(context, name, value)
        return context

    async def connect(self, context: ssl.SSLContext | None = None) -> tuple[Any, Any]:
        with_tls = {"ssl": context or self.context(), "server_hostname": "shop.example"}
        return await asyncio.open_connection("127.0.0.1", self.port, limit=2**24, **with_tls)

    async def plain(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)


@asynccontextmanager
async def serving(
    folder: Path,
    listen: Listen = Listen("127.0.0.1", tls="public"),  # noqa: B008 - frozen
    limits: ConnectionLimits = ConnectionLimits(1000, 2**31),  # noqa: B008
    **more: Any,
) -> AsyncIterator[Site]:
    site = Site(folder / "tls", listen, limits, **more)
    await site.listener.open()
    try:
        async with asyncio.timeout(END):
            yield site
    finally:
        await site.listener.drain(lambda left: False)


async def response(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
    return head + await reader.readexactly(length)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_requests_are_served_one_after_the_other_in_both_versions(tmp_path: Path, version: Any) -> None:
    async with serving(tmp_path) as site:
        reader, writer = await site.connect(site.context(minimum_version=version, maximum_version=version))
        for _ in range(3):
            writer.write(GET)
            assert (await response(reader)).endswith(b"hello")
        writer.close()
        await eventually(lambda: not site.listener.connections)


async def test_large_bodies_pass_both_ways_whole(tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        site.service.body = bytes(range(256)) * 20_000
        reader, writer = await site.connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 3_000_000)
        got = await response(reader)
        assert b"X-Size: 3000000\r\n" in got
        assert got.endswith(site.service.body)
        writer.close()


async def test_a_client_that_does_not_read_pauses_the_writing(tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        site.service.body = b"x" * 40_000_000
        reader, writer = await site.connect()
        writer.transport.pause_reading()
        writer.write(GET)
        (connection,) = site.listener.connections
        await eventually(lambda: connection.writing_paused)
        writer.transport.resume_reading()
        assert len(await response(reader)) > 40_000_000
        await eventually(lambda: not connection.writing_paused)
        writer.close()


async def test_bytes_that_come_one_by_one_are_the_same_requests(tmp_path: Path) -> None:
    """Handshake and records, cut anywhere."""
    async with serving(tmp_path) as site:
        reader, writer = await site.plain()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = site.context().wrap_bio(incoming, outgoing, server_hostname="shop.example")

        async def send() -> None:
            for byte in outgoing.read():
                writer.write(bytes([byte]))
                await writer.drain()

        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                await send()
                incoming.write(await reader.read(65536))
        client.write(GET + GET)
        await send()
        got = b""
        while got.count(b"hello") < 2:
            try:
                got += client.read(65536)
            except ssl.SSLWantReadError:
                incoming.write(await reader.read(65536))
        writer.close()


async def test_plain_http_gets_a_response_that_says_what_is_wrong(tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        reader, writer = await site.plain()
        writer.write(GET)
        got = await reader.read()
        assert got.startswith(b"HTTP/1.1 400 ")
        assert b"This port speaks HTTPS" in got
        writer.close()


@pytest.mark.parametrize(
    "sent", [b"\x80\x2e\x01\x03\x01", b"\0\0\0", b"\x16\x03\x01\x00\x05hello", b"\x16" * 9000]
)
async def test_what_is_no_tls_ends_the_connection(tmp_path: Path, sent: bytes) -> None:
    async with serving(tmp_path) as site:
        reader, writer = await site.plain()
        writer.write(sent)
        assert b"HTTP" not in await reader.read()
        writer.close()
        await eventually(lambda: not site.listener.connections)
        assert site.results() == {"failed": 1}


async def test_a_handshake_that_is_not_over_in_time_ends_and_so_does_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_connection, "HANDSHAKE_TIME", 0.3)
    async with serving(tmp_path) as site:
        for sent in (b"", b"\x16\x03\x01\x02\x00\x01"):
            reader, writer = await site.plain()
            writer.write(sent)
            assert await reader.read() == b""
            writer.close()
        assert site.results() == {"failed": 1}


async def test_connections_without_a_handshake_count_and_give_way(tmp_path: Path) -> None:
    async with serving(tmp_path, limits=ConnectionLimits(3, 2**31)) as site:
        waiting = [await site.plain() for _ in range(3)]
        await eventually(lambda: len(site.listener.connections) == 3)
        reader, writer = await site.connect()
        writer.write(GET)
        assert (await response(reader)).endswith(b"hello")
        for _, other in (*waiting, (reader, writer)):
            other.close()


async def test_the_end_of_a_handshake_is_answered_before_any_request(tmp_path: Path) -> None:
    """A client without TCP_NODELAY holds its request back until what it sent before is acknowledged."""
    async with serving(tmp_path) as site:

        def call() -> bytes:
            with (
                socket.create_connection(("127.0.0.1", site.port), END) as sock,
                site.context().wrap_socket(sock, server_hostname="shop.example") as client,
                socket.socket(fileno=os.dup(client.fileno())) as raw,
            ):
                raw.settimeout(END)
                return raw.recv(1)  # of the record of its ticket

        assert await asyncio.to_thread(call)


async def test_a_session_is_resumed_and_not_after_the_certificates_were_loaded_again(tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        context = site.context(maximum_version=ssl.TLSVersion.TLSv1_2)  # asyncio takes no session of 1.3

        def call(session: ssl.SSLSession | None) -> ssl.SSLSession | None:
            with socket.create_connection(("127.0.0.1", site.port)) as sock:
                sock.settimeout(END)
                with context.wrap_socket(sock, server_hostname="shop.example", session=session) as client:
                    client.sendall(GET)
                    assert client.recv(4096).startswith(b"HTTP/1.1 200")
                    return client.session

        session = await asyncio.to_thread(call, None)
        await asyncio.to_thread(call, session)
        assert site.results() == {"full": 1, "resumed": 1}
        await site.sites.reload()
        await asyncio.to_thread(call, session)
        assert site.results() == {"full": 2, "resumed": 1}


async def test_nothing_is_left_of_connections_that_ended_in_the_middle_of_a_handshake(tmp_path: Path) -> None:
    def shakes_hands(connection: Any) -> bool:
        transport = connection.transport
        return transport is not None and transport.get_extra_info("ssl_object") is not None

    def left() -> int:
        return sum(issubclass(type(one), TlsConnection | ssl.SSLObject) for one in gc.get_objects())

    async with serving(tmp_path) as site:
        hello = ssl.MemoryBIO()
        client = site.context().wrap_bio(ssl.MemoryBIO(), hello, server_hostname="shop.example")
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        sent = hello.read()
        gc.collect()
        gc.disable()
        try:
            before = left()
            for number in range(6):
                _, writer = await site.plain()
                writer.write(sent if number % 2 else sent[:100])
                await eventually(lambda: any(map(shakes_hands, site.listener.connections)))
                writer.transport.abort()
                await eventually(lambda: not site.listener.connections)
            await eventually(lambda: left() == before, left, end=20.0)
        finally:
            gc.enable()


async def test_a_certificate_that_expired_since_its_session_began_is_refused(tmp_path: Path) -> None:
    ca = str(tmp_path / "tls" / "ca.pem")
    now = [time.time()]
    async with serving(tmp_path, wall=lambda: now[0], verify=ca) as site:
        context = site.context()
        pair = site.ca.pair("till", days=1)
        context.load_cert_chain(pair.certificate, pair.key)
        reader, writer = await site.connect(context)
        writer.write(GET)
        assert (await response(reader)).endswith(b"hello")
        writer.close()
        now[0] += 2 * 86_400
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            reader, writer = await site.connect(context)
            writer.write(GET)
            await response(reader)


async def shaken(
    context: ssl.SSLContext, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> tuple[ssl.SSLObject, ssl.MemoryBIO]:
    """A client at the end of its handshake, whose last message is still in what it has to send."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="shop.example")
    while True:
        try:
            client.do_handshake()
            return client, outgoing
        except ssl.SSLWantReadError:
            writer.write(outgoing.read())
            incoming.write(await reader.read(65536))


async def test_a_client_that_ends_its_side_still_gets_its_response(tmp_path: Path) -> None:
    """By a close_notify (RFC 8446 section 6.1), or by the end of the connection of TCP alone."""
    async with serving(tmp_path) as site:
        reader, writer = await site.plain()
        client, outgoing = await shaken(site.context(), reader, writer)
        writer.write(outgoing.read())
        client.write(GET)
        with pytest.raises(ssl.SSLWantReadError):
            client.unwrap()
        writer.write(outgoing.read())
        writer.write_eof()
        raw = await reader.read()
        assert len(raw) > 100  # the response, and our close_notify
        writer.close()
        await eventually(lambda: not site.listener.connections)


async def test_a_refusal_arrives_whole_while_the_client_still_sends(tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        reader, writer = await site.connect()
        writer.write(b"NO REQUEST AT ALL\r\n\r\n" + b"x" * 2_000_000)
        got = await reader.readuntil(b"\r\n\r\n")
        assert got.startswith(b"HTTP/1.1 400")
        writer.close()


async def test_a_certificate_of_the_client_is_required_where_that_is_said(tmp_path: Path) -> None:
    ca = str(tmp_path / "tls" / "ca.pem")
    async with serving(tmp_path, verify=ca, client="required") as site:
        pair = site.ca.pair("till", "uri:spiffe://shop.example/till/7")
        stranger = Authority(tmp_path / "other").pair("x")
        late = site.ca.pair("late", days=-1, begins=30)
        for shown in (None, stranger, late):
            context = site.context()
            if shown is not None:
                context.load_cert_chain(shown.certificate, shown.key)
            with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
                reader, writer = await site.connect(context)
                writer.write(GET)
                await response(reader)
        context = site.context()
        context.load_cert_chain(pair.certificate, pair.key)
        reader, writer = await site.connect(context)
        writer.write(GET)
        assert (await response(reader)).endswith(b"hello")
        (connection,) = [one for one in site.listener.connections if one.certificate]
        assert connection.certificate is not None
        assert ("uri", "spiffe://shop.example/till/7") in connection.certificate.names
        writer.close()


async def test_a_listener_sends_its_clients_on_to_https(tmp_path: Path) -> None:
    async with serving(tmp_path, Listen("127.0.0.1", redirect="https:8443")) as site:
        sent = {
            b"GET /a%20b?c=d HTTP/1.1\r\nHost: Shop.example:80\r\n\r\n": b"https://shop.example:8443/a%20b?c=d",
            b"POST / HTTP/1.1\r\nHost: [::1]\r\nContent-Length: 3\r\n\r\nabc": b"https://[::1]:8443/",
            b"GET http://a.example/x HTTP/1.1\r\nHost: a.example\r\n\r\n": b"https://a.example:8443/x",
        }
        for request, location in sent.items():
            reader, writer = await site.plain()
            writer.write(request)
            got = await reader.read()
            assert got.startswith(b"HTTP/1.1 308 ")
            assert b"\r\nLocation: " + location + b"\r\n" in got
            writer.close()
        for request in (b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n"):
            reader, writer = await site.plain()
            writer.write(request)
            assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
            writer.close()


async def test_a_certificate_is_refused_that_was_verified_with_what_was_replaced_meanwhile(
    tmp_path: Path,
) -> None:
    ca = tmp_path / "tls" / "ca.pem"
    async with serving(tmp_path, verify=str(ca)) as site:
        pair, context = site.ca.pair("till"), site.context()
        context.load_cert_chain(pair.certificate, pair.key)
        reader, writer = await site.plain()
        _client, outgoing = await shaken(context, reader, writer)
        ca.write_bytes(ca.read_bytes() + Authority(tmp_path / "other").path.read_bytes())
        await site.sites.reload()
        writer.write(outgoing.read())  # its certificate
        assert await reader.read() == b""
        assert site.results() == {"failed": 1}
        writer.close()
