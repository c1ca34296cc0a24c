"""The recipes of config/edge, as they are, in front of a gateway."""

from __future__ import annotations

import asyncio
import hashlib
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from gateway.core.process.listeners import Listen
from gateway.edge.client import clients
from tests import harness
from tests.eventually import END, eventually, eventually_await
from tests.support import edge_proxies, http3
from tests.support.admin import Admin, admin_of
from tests.support.certificates import Authority
from tests.support.ports import free_port

NAME = "api.example.com"
SPOOFED = ("X-Forwarded-For: 198.51.100.9", "X-Forwarded-Host: evil.example", "X-Forwarded-Prefix: /evil")
CLIENT = "127.0.0.9"


class Backend:
    """Says what it was sent; its stream of events goes on once `more` is set."""

    def __init__(self) -> None:
        self.more = asyncio.Event()
        self.app = web.Application(client_max_size=2**30)
        self.app.router.add_get("/events", self.events)
        self.app.router.add_get("/talk", self.talk)
        self.app.router.add_route("*", "/said", self.said)

    async def said(self, request: web.Request) -> web.Response:
        body = hashlib.sha256(await request.read()).hexdigest()
        return web.json_response({"headers": dict(request.headers), "body": body})

    async def events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: 1\n\n")
        await self.more.wait()
        await response.write(b"data: 2\n\n")
        return response

    async def talk(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data)
        return socket


def _temporary(folder: Path) -> str:
    """nginx's folders for bodies, which it makes at its start."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)


@asynccontextmanager
async def edge(name: str, folder: Path) -> AsyncIterator[tuple[str, str, Backend, Admin, Path]]:
    """A proxy before a gateway: its URL, that of its second way in, the backend, the gateway, the CA."""
    backend = Backend()
    runner = web.AppRunner(backend.app, shutdown_timeout=0.1)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    routes = [harness.route("app", "app", websocket=True, body_limit="64MiB")]
    backends = {"app": {"kind": "asab", "addresses": [f"http://127.0.0.1:{port}"]}}
    routing = harness.routing(routes, backends=backends, trusted_proxies=["127.0.0.1"])
    listen = (Listen("127.0.0.1"), Listen("127.0.0.1", proxy=True))
    authority = Authority(folder / "ca")
    pair = authority.pair("gateway", f"dns:{NAME}")
    both = folder / "gateway.pem"
    both.write_bytes(Path(pair.certificate).read_bytes() + Path(pair.key).read_bytes())
    try:
        async with admin_of(folder, routing=routing, listen=listen) as admin:
            plain, proxied = (str(one.port) for one in admin.gateway.bound)
            https, http, second = str(free_port()), str(free_port()), str(free_port())
            gateway = {"127.0.0.1:8080": f"127.0.0.1:{plain}"}
            changes = {
                "haproxy": gateway | {
                    "bind :443 ": f"bind 127.0.0.1:{https} ",
                    "bind :80\n": f"bind 127.0.0.1:{http}\n",
                    "bind :8443 ": f"bind 127.0.0.1:{second} ",
                    "127.0.0.1:8082": f"127.0.0.1:{proxied}",
                    "port 8081": f"port {admin.address[1]}",
                    "/etc/haproxy/gateway.pem": str(both),
                },
                "nginx": gateway | {
                    "http {\n": f"http {{\naccess_log off;\n{_temporary(folder)}",
                    "listen 443 ": f"listen 127.0.0.1:{https} ",
                    "listen 80;": f"listen 127.0.0.1:{http};",
                    "/etc/nginx/gateway.pem": pair.certificate,
                    "/etc/nginx/gateway.key": pair.key,
                    "/run/nginx.pid": str(folder / "pid"),
                },
                "caddy": gateway | {
                    "\n{\n": f"\n{{\n\tadmin off\n\thttp_port {http}\n\thttps_port {https}\n",
                    "health_port 8081": f"health_port {admin.address[1]}",
                    "/etc/caddy/gateway.pem": pair.certificate,
                    "/etc/caddy/gateway.key": pair.key,
                },
            }  # fmt: skip
            with edge_proxies.running(name, folder, changes[name]):
                urls = f"https://{NAME}:{https}", f"https://{NAME}:{second}"
                yield *urls, backend, admin, authority.path
    finally:
        backend.more.set()
        await runner.cleanup()


async def curl(url: str, authority: Path, *more: str) -> bytes:
    """What curl prints, over HTTP/2 where it is spoken."""
    port = url.split(":")[2].partition("/")[0]
    way = ["--resolve", f"{NAME}:{port}:127.0.0.1", "--cacert", str(authority)]
    process = await asyncio.create_subprocess_exec(
        edge_proxies.program("curl"), "-sS", "--http2", "--interface", CLIENT, "--max-time", "60",
        *way, *more, url,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out


async def serves(url: str, authority: Path) -> bool:
    try:
        return (await curl(url, authority, "-o", "/dev/null", "-w", "%{http_code}")) == b"401"
    except AssertionError:
        return False


def clients_logged(folder: Path) -> list[str]:
    log = folder / "var" / "access.log"
    return [str(json.loads(line)["client"]) for line in log.read_text().splitlines()] if log.exists() else []


@pytest.mark.parametrize("name", ["haproxy", "nginx", "caddy"])
async def test_a_proxy_in_front_passes_on_who_calls_streams_sockets_and_large_bodies(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edge_proxies.program(name)
    monkeypatch.setattr(clients, "HEADER_TIME", 60.0)
    async with edge(name, tmp_path) as (url, second, backend, admin, authority):
        await eventually_await(lambda: serves(f"{url}/app/said", authority))
        bearer = "Authorization: " + harness.bearer(admin.gateway)["Authorization"]
        spoofed = [word for header in SPOOFED for word in ("-H", header)]

        async def said(where: str, *more: str) -> tuple[dict[str, Any], str]:
            version = ("-w", "\n%{http_version}")
            out = await curl(f"{where}/app/said", authority, "-H", bearer, *spoofed, *version, *more)
            body, _, spoken = out.decode().rpartition("\n")
            return json.loads(body), spoken

        found, spoken = await said(url)
        headers = found["headers"]
        assert spoken == "2"
        assert headers["X-Forwarded-For"] == f"{CLIENT}, 127.0.0.1"
        assert headers["X-Forwarded-Proto"] == "https"
        assert headers["X-Forwarded-Host"].startswith(NAME)
        assert headers["X-Forwarded-Prefix"] == "/app"

        large = tmp_path / "large"
        large.write_bytes(bytes(range(256)) * 64 * 1024)
        found, _ = await said(url, "--data-binary", f"@{large}")
        assert found["body"] == hashlib.sha256(large.read_bytes()).hexdigest()

        if name == "haproxy":  # by the PROXY protocol: the client's own word does not count
            found, spoken = await said(second)
            assert (spoken, found["headers"]["X-Forwarded-For"]) == ("1.1", CLIENT)
            assert found["headers"]["X-Forwarded-Proto"] == "https"
            assert found["headers"]["X-Forwarded-Prefix"] == "/app"
            assert dict(admin.gateway.data.clients.refused.samples()) == {}

        if name == "caddy":
            assert await _by_http3(url, authority, bearer) == "127.0.0.1, 127.0.0.1"

        called = {CLIENT, "127.0.0.1"} if name == "caddy" else {CLIENT}
        await eventually(lambda: len(clients_logged(tmp_path)) >= 2 + len(called))
        assert set(clients_logged(tmp_path)) == called
        await _streams(url, authority, bearer, backend)


async def _by_http3(url: str, authority: Path, bearer: str) -> str:
    """Whom the backend is told that the client is, which says something else itself."""
    token = bearer.partition(": ")[2].encode()
    headers = [(b"authorization", token), (b"x-forwarded-for", b"192.0.2.1")]
    async with asyncio.timeout(END):
        status, body = await http3.get(int(url.rpartition(":")[2]), NAME, "/app/said", authority, headers)
    assert status == 200, body
    return str(json.loads(body)["headers"]["X-Forwarded-For"])


async def _streams(url: str, authority: Path, bearer: str, backend: Backend) -> None:
    """An event comes while its stream goes on, and a WebSocket talks."""
    port = int(url.rpartition(":")[2])
    context = ssl.create_default_context(cafile=str(authority))
    connector = aiohttp.TCPConnector(ssl=context, resolver=_Here())
    headers = {"Authorization": bearer.partition(": ")[2]}
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        async with asyncio.timeout(30):
            async with session.get(f"https://{NAME}:{port}/app/events") as response:
                assert await response.content.readexactly(9) == b"data: 1\n\n"
                backend.more.set()
                assert await response.content.read() == b"data: 2\n\n"
            async with session.ws_connect(f"https://{NAME}:{port}/app/talk") as socket:
                await socket.send_str("hello")
                assert await socket.receive_str() == "hello"


class _Here(aiohttp.abc.AbstractResolver):
    """All names are this machine's."""

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[Any]:
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": 2, "proto": 0, "flags": 0}]

    async def close(self) -> None:
        return
