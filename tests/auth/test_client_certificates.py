"""Clients that show a certificate: whose they are, what backends are told, and when they are not any more."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.app import Gateway
from gateway.core.process.listeners import Listen
from gateway.core.process.tls import KeyPair, TlsSettings
from gateway.core.revocations import Revocation
from tests.eventually import END, eventually
from tests.harness import bearer, route, routing, running
from tests.support.certificates import Authority

ALL = {"read": [], "write": []}


async def backend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Responds with the head that it got."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(head), head))
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


class Clients:
    def __init__(self, gateway: Gateway, ca: Authority) -> None:
        self.gateway = gateway
        self.ca = ca
        self._sessions: list[aiohttp.ClientSession] = []

    def of(self, pair: KeyPair | None, listener: int = 0) -> Any:
        """A client of a listener with this certificate, and kept connections."""
        context = ssl.create_default_context(cafile=str(self.ca.path))
        if pair is not None:
            context.load_cert_chain(pair.certificate, pair.key)
        host, port = self.gateway.listener.addresses[listener]
        connector = aiohttp.TCPConnector(ssl=context)
        session = aiohttp.ClientSession(f"https://{host}:{port}", connector=connector)
        self._sessions.append(session)

        async def get(path: str, **headers: str) -> tuple[int, str]:
            async with session.get(path, headers=headers, server_hostname="gw.example") as response:
                return response.status, await response.text()

        return get

    async def logged(self) -> bytes:
        """The access log, once it has a line."""
        path = Path(self.gateway.config.access_log)
        return await eventually(lambda: path.is_file() and path.read_bytes())

    async def close(self) -> None:
        for session in self._sessions:
            await session.close()


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Clients]:
    ca = Authority(folder / "tls")
    server = await asyncio.start_server(backend, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    config = routing(
        [
            route("mtls", "echo", auth=["mtls"], scopes=ALL | {"read": ["read"]}),
            route("both", "echo", auth=["mtls", "jwt"], scopes=ALL),
            route("tokens", "echo", scopes=ALL),
            route("open", "echo", public=True),
        ],
        backends={"echo": {"kind": "http", "addresses": [f"http://127.0.0.1:{port}"], "concurrency": 9}},
        certificates={
            "tills": {"subjects": ["uri:spiffe://shop/till/*"], "tenant": "acme", "scopes": ["read"]},
            "partners": {"subjects": ["cn:partner"], "tenant": "acme", "scopes": ["read"], "tls": "partner"},
        },
    )
    pair = ca.pair("gw", "dns:gw.example")
    verify = (pair,), str(ca.path), "optional", str(ca.revoke())
    tls = tuple(TlsSettings(name, *verify) for name in ("public", "partner"))
    listen = tuple(Listen("127.0.0.1", tls=one.name) for one in tls)
    async with running(folder, config, listen=listen, tls=tls) as gateway:
        clients = Clients(gateway, ca)
        try:
            async with asyncio.timeout(END):
                yield clients
        finally:
            await clients.close()
            server.close()


async def test_its_name_says_whose_it_is_and_what_it_may_do(tmp_path: Path) -> None:
    async with serving(tmp_path) as clients:
        till = clients.of(clients.ca.pair("till", "uri:spiffe://shop/till/7"))
        status, head = await till("/mtls/a")
        assert status == 200
        assert "X-Forwarded-Proto: https\r\n" in head
        assert b'"tenant":"acme","subject":"spiffe://shop/till/7","issuer":"tills"' in await clients.logged()


async def test_other_clients_are_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as clients:
        anonymous, other = clients.of(None), clients.of(clients.ca.pair("other", "uri:spiffe://else/1"))
        for client in (anonymous, other):
            assert (await client("/mtls/a"))[0] == 401
            assert (await client("/mtls/a", **bearer(clients.gateway, scope="read")))[0] == 401
            assert (await client("/both/a", **bearer(clients.gateway)))[0] == 200
        till = clients.of(clients.ca.pair("till", "uri:spiffe://shop/till/7"))
        assert (await till("/both/a"))[0] == 200
        assert (await till("/both/a", Authorization="Bearer nonsense"))[0] == 401  # what is shown counts
        assert (await till("/tokens/a"))[0] == 401  # a route takes them only where it says so


async def test_an_entry_for_a_section_counts_on_its_listeners_alone(tmp_path: Path) -> None:
    async with serving(tmp_path) as clients:
        pair = clients.ca.pair("partner")
        here, elsewhere = clients.of(pair, listener=1), clients.of(pair)
        for _ in range(2):  # it is remembered, for each section
            assert [(await client("/mtls/a"))[0] for client in (here, elsewhere)] == [200, 401]


async def test_a_config_that_names_no_section_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as clients:
        written, live = tmp_path / "routing.yaml", clients.gateway.live
        written.write_text(written.read_text().replace("tls: partner", "tls: partnr"))
        assert not await live.reload()
        assert live.refusal is not None
        (problem,) = live.refusal.problems
        assert (problem.where, problem.reason) == (
            "certificates.partners.tls",
            "there is no section [tls:partnr] in gateway.conf",
        )
        assert problem.hint.startswith("did you mean partner?")
        assert (await clients.of(clients.ca.pair("partner"), listener=1)("/mtls/a"))[0] == 200


async def test_backends_are_told_of_the_certificate_and_never_by_the_client(tmp_path: Path) -> None:
    said = {"Client-Cert": ":AAAA:", "Client-Cert-Chain": ":BBBB:", "client-cert": "x"}
    async with serving(tmp_path) as clients:
        pair = clients.ca.pair("till", "uri:spiffe://shop/till/7")
        anonymous, till = clients.of(None), clients.of(pair)
        assert "client-cert" not in (await anonymous("/open/a", **said))[1].lower()
        _, head = await till("/open/a", **said)
        (line,) = [line for line in head.split("\r\n") if line.lower().startswith("client-cert")]
        pem = Path(pair.certificate).read_text()
        assert line == f"Client-Cert: :{''.join(pem.split('-----')[2].split())}:"


async def test_one_that_is_revoked_is_refused_on_kept_connections_too(tmp_path: Path) -> None:
    async with serving(tmp_path) as clients:
        pair, certificate = clients.ca.sign("till", "uri:spiffe://shop/till/7")
        till = clients.of(pair)
        assert (await till("/mtls/a"))[0] == 200
        clients.ca.revoke(certificate)
        await clients.gateway.tls.reload()
        assert (await till("/mtls/a"))[0] == 401  # and the connection ends
        with pytest.raises(aiohttp.ClientError):
            await till("/mtls/a")
        new = clients.of(clients.ca.pair("new", "uri:spiffe://shop/till/8"))
        assert (await new("/mtls/a"))[0] == 200


async def test_a_subject_that_is_revoked_here_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as clients:
        till = clients.of(clients.ca.pair("till", "uri:spiffe://shop/till/7"))
        assert (await till("/mtls/a"))[0] == 200
        stored = clients.gateway.stored
        soon = time.time() + 600
        revocation = Revocation(soon, created=soon - 600, tenant="acme", subject="spiffe://shop/till/7")
        await stored.change(stored.store.revoke, revocation)
        assert (await till("/mtls/a"))[0] == 401
