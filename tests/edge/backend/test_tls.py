"""Backends over TLS: who is spoken to is checked, what goes wrong is told to operators, files may change."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from gateway.app import Gateway
from gateway.core.model import Address, BackendTls
from gateway.edge.backend.pool import Pools
from gateway.edge.backend.tls import TlsContexts, TlsUnusable, load
from tests import harness
from tests.eventually import END, eventually
from tests.fakes import Backend, Heard, RawClient, always, answer
from tests.support.certificates import Authority
from tests.support.sockets import BINARY, connect, echo, websocket

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter
PUBLIC = {"public": True}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "tls")


async def seen(heard: Heard, reader: Reader, writer: Writer) -> None:
    """Answers with what came, and whom it asked for by SNI."""
    writer.write(answer(heard.body or heard.line.encode(), headers="X-Seen: yes\r\n"))


@asynccontextmanager
async def through(
    folder: Path, address: str, tls: dict[str, Any], *, health: Any = None, **route: Any
) -> AsyncIterator[Gateway]:
    app: dict[str, Any] = {"kind": "http", "addresses": [address], "tls": tls}
    if health:
        app["health"] = health
    routes = [harness.route("svc", "app", **(route or PUBLIC))]
    async with harness.running(folder, harness.routing(routes, backends={"app": app})) as gateway:
        yield gateway


async def get(gateway: Gateway, method: str = "GET", body: bytes = b"") -> tuple[int, str]:
    client = await RawClient.connect(harness.address(gateway))
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    client.send(f"{method} /svc/x HTTP/1.1\r\nHost: a\r\n{length}\r\n".encode() + body)
    head, received = await client.answer()
    client.close()
    return int(head.split()[1]), received.decode()


def last_error(gateway: Gateway) -> str:
    (backend,) = gateway.health.states()
    return str(backend["addresses"][0]["last_error"])


def failures(gateway: Gateway) -> list[str]:
    found = [line for one in gateway.pools.instruments() for line in one.lines()]
    return [line.strip() for line in found if line.startswith("gateway_backend_tls_failures_total{")]


async def test_requests_large_bodies_and_the_signed_identity_pass_over_warm_connections(
    tmp_path: Path, authority: Authority
) -> None:
    names: list[str | None] = []
    context = authority.server("dns:localhost")
    context.sni_callback = lambda tls, name, _: names.append(name)
    async with Backend(seen, tls=context) as backend:
        address = backend.address.replace("127.0.0.1", "localhost")
        async with through(tmp_path, address, {"ca": "tls/ca.pem"}, scopes={}) as gateway:
            client = await RawClient.connect(harness.address(gateway))
            bearer = harness.bearer(gateway)["Authorization"]
            large = bytes(range(256)) * 8192  # 2 MiB
            for body in (b"small", large, b"again"):
                head = f"POST /svc/x HTTP/1.1\r\nHost: a\r\nAuthorization: {bearer}\r\n"
                client.send(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
                status, received = await client.answer()
                assert status.startswith("HTTP/1.1 200") and received == body
            client.close()
            assert names == ["localhost"] and backend.connections == 1
            assert "x-gateway-identity" in {name.lower() for name, _ in backend.heard[0].headers}


@pytest.mark.parametrize(
    ("tls", "names", "reason", "told"),
    [
        ({}, ("ip:127.0.0.1",), "certificate", "its certificate is refused: "),
        ({"ca": "tls/ca.pem"}, ("dns:other.example",), "certificate", "IP address mismatch"),
        (
            {"ca": "tls/ca.pem", "server_name": "app.internal"},
            ("ip:127.0.0.1",),
            "certificate",
            "not valid for 'app.internal'",
        ),
        ({"ca": "tls/missing.pem"}, ("ip:127.0.0.1",), "files", "tls/missing.pem: No such file"),
        ({"ca": "tls/junk.pem"}, ("ip:127.0.0.1",), "files", "tls/junk.pem: it cannot be used"),
    ],
)
async def test_a_backend_that_cannot_be_trusted_is_unavailable_and_only_operators_are_told_why(
    tmp_path: Path,
    authority: Authority,
    caplog: pytest.LogCaptureFixture,
    tls: dict[str, Any],
    names: tuple[str, ...],
    reason: str,
    told: str,
) -> None:
    (tmp_path / "tls/junk.pem").write_text("junk")
    async with Backend(seen, tls=authority.server(*names)) as backend:
        async with through(tmp_path, backend.address, tls) as gateway:
            for _ in range(2):
                status, text = await get(gateway)
                assert (status, "backend_unavailable" in text) == (503, True)
                assert "certificate" not in text and "pem" not in text
            assert last_error(gateway).startswith("TLS: ") and told in last_error(gateway)
            assert failures(gateway) == [
                f'gateway_backend_tls_failures_total{{address="{backend.address}",reason="{reason}"}} 2'
            ]
            said = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
            assert sum(told in one for one in said) == 1  # once, not for each request
            assert not backend.heard


async def test_an_expired_certificate_is_refused_unless_nothing_is_verified(
    tmp_path: Path, authority: Authority
) -> None:
    expired = authority.server("ip:127.0.0.1", days=-1 / 24)
    async with Backend(seen, tls=expired) as backend:
        async with through(tmp_path, backend.address, {"ca": "tls/ca.pem"}) as gateway:
            assert (await get(gateway))[0] == 503
            assert last_error(gateway) == "TLS: its certificate is refused: certificate has expired"
        async with through(tmp_path, backend.address, {"verify": False}) as gateway:
            assert (await get(gateway))[0] == 200


async def test_what_does_not_speak_tls_is_told_apart(tmp_path: Path, authority: Authority) -> None:
    async def plain(reader: Reader, writer: Writer) -> None:
        writer.write(answer(b"plain", "400 Bad Request"))
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1")
    host, port = server.sockets[0].getsockname()
    async with through(tmp_path, f"https://{host}:{port}", {"ca": "tls/ca.pem"}) as gateway:
        assert (await get(gateway))[0] == 503
        assert last_error(gateway).startswith("TLS: what listens there does not speak TLS")
    server.close()


async def test_a_backend_that_asks_for_a_certificate_gets_the_gateways(
    tmp_path: Path, authority: Authority
) -> None:
    authority.pair("gateway")
    context = authority.server("ip:127.0.0.1")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.path)
    tls = {"ca": "tls/ca.pem", "certificate": "tls/gateway.pem", "key": "tls/gateway.key"}
    async with Backend(seen, tls=context) as backend:
        async with through(tmp_path, backend.address, tls) as gateway:
            assert (await get(gateway))[0] == 200
        async with through(tmp_path, backend.address, {"ca": "tls/ca.pem"}) as gateway:
            # By TLS 1.3 the server says so after the handshake.
            status, text = await get(gateway)
            assert status == 502 and "backend_reset" in text
            assert "certificate" in last_error(gateway)


async def test_probes_go_over_tls_and_name_the_server_they_ask(tmp_path: Path, authority: Authority) -> None:
    health = {"path": "/healthz", "interval": "200ms"}
    async with Backend(seen, tls=authority.server("dns:app.internal")) as backend:
        tls = {"ca": "tls/ca.pem", "server_name": "app.internal"}
        async with through(tmp_path, backend.address, tls, health=health):
            await eventually(lambda: backend.heard)
            assert backend.heard[0].one("Host") == "app.internal"


async def test_a_websocket_passes_over_tls(tmp_path: Path, authority: Authority) -> None:
    async with Backend(websocket(echo), tls=authority.server("ip:127.0.0.1")) as backend:
        more = {**PUBLIC, "websocket": True}
        async with through(tmp_path, backend.address, {"ca": "tls/ca.pem"}, **more) as gateway:
            peer = await connect(harness.address(gateway), "/svc/ws", {})
            for text in (b"abc", bytes(500_000)):
                peer.send(BINARY, text)
                assert await peer.frame() == (BINARY, True, text)
            peer.cut()


@contextmanager
def closing(context: ssl.SSLContext, response: bytes, *, properly: bool) -> Iterator[str]:
    """A server that sends this to whoever comes and closes: with TLS ended, or as whoever is between can."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listening.accept()
        with context.wrap_socket(connection, server_side=True) as secured:
            secured.recv(65536)
            secured.sendall(response)
            if properly:
                secured.unwrap().close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{listening.getsockname()[1]}"
    thread.join(END)
    listening.close()


@pytest.mark.parametrize("properly", [True, False])
async def test_a_body_that_ends_with_the_connection_is_whole_only_where_tls_was_ended(
    tmp_path: Path, authority: Authority, properly: bool
) -> None:
    """Whoever is between could else cut a response where he likes (RFC 9112 section 9.8)."""
    if not isinstance(asyncio.get_running_loop(), uvloop.Loop):
        pytest.skip("asyncio's own loop does not tell the two apart")
    response = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf of it"
    with closing(authority.server("ip:127.0.0.1"), response, properly=properly) as address:
        async with through(tmp_path, address, {"ca": "tls/ca.pem"}) as gateway:
            client = await RawClient.connect(harness.address(gateway))
            client.send(b"GET /svc/x HTTP/1.1\r\nHost: a\r\n\r\n")
            received = await client.head()
            assert received.startswith("HTTP/1.1 200")
            async with asyncio.timeout(END):
                if properly:
                    assert (await client.reader.readuntil(b"0\r\n\r\n")).endswith(b"0\r\n\r\n")
                else:
                    with pytest.raises(ConnectionResetError):
                        while b"0\r\n\r\n" not in await client.reader.read(100):
                            pass
            client.close()


# --- files that change -------------------------------------------------------------------------------


async def test_files_that_change_count_for_the_next_request_and_bad_ones_change_nothing(
    tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    other = Authority(tmp_path / "other")
    tls = BackendTls(ca=str(authority.path))
    async with Backend(always(answer()), tls=authority.server("ip:127.0.0.1")) as backend:
        host, port = backend.address.removeprefix("https://").split(":")
        address = Address(backend.address, host, int(port), tls=tls)
        pools = Pools()
        pools.reconcile([(address, 60.0)])
        pool = pools.of(address, 60.0)
        pool.give_back(await pool.connect(END), reusable=True)
        used = await pool.connect(END)
        good = authority.path.read_bytes()
        authority.path.write_bytes(good[: len(good) // 2])
        await pools.follow()  # it may still be written
        await pools.follow()
        assert "what was loaded before stays in use" in caplog.text
        warm = pool.take(fresh=True)
        assert warm is not None
        pool.give_back(warm, reusable=True)
        authority.path.write_bytes(other.path.read_bytes())
        await pools.follow()
        await pools.follow()
        assert pool.take(fresh=True) is None  # it was verified by an authority that is none any more
        pool.give_back(used, reusable=True)
        assert pool.take(fresh=True) is None  # and so was this one, which finished its request
        with pytest.raises(Exception, match="TLS"):
            await pool.connect(END)
        pools.close()


async def test_a_call_of_an_older_config_gets_no_connection_by_its_rules(authority: Authority) -> None:
    address = Address("https://127.0.0.1:1", "127.0.0.1", 1, tls=BackendTls(verify=False))
    now = Address("https://127.0.0.1:1", "127.0.0.1", 1, tls=BackendTls(ca=str(authority.path)))
    pools = Pools()
    pools.reconcile([(address, 4.0)])
    assert pools.of(address, 4.0).address is address
    pools.reconcile([(now, 4.0)])
    assert pools.of(address, 4.0).address is now
    pools.close()


def test_a_key_of_another_certificate_and_an_encrypted_one_are_said_and_not_asked_for(
    tmp_path: Path, authority: Authority
) -> None:
    certificate, other = authority.pair("gateway").certificate, authority.pair("other").key
    with pytest.raises(TlsUnusable, match=r"gateway\.pem: it cannot be used \(key values mismatch\)"):
        load(BackendTls(certificate=certificate, key=other))
    with pytest.raises(TlsUnusable, match=r"nowhere\.key: No such file"):
        load(BackendTls(certificate=certificate, key=str(tmp_path / "nowhere.key")))


async def test_files_that_no_backend_names_any_more_are_forgotten(authority: Authority) -> None:
    contexts = TlsContexts()
    tls = BackendTls(ca=str(authority.path))
    first = await contexts.of(tls, "a.")
    assert first["server_hostname"] == "a"
    assert (await contexts.of(tls, "a"))["ssl"] is first["ssl"]
    contexts.keep(())
    assert (await contexts.of(tls, "a"))["ssl"] is not first["ssl"]
