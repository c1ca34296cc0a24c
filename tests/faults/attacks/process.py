"""The process: its admin listener, its descriptors, the names of its backends, a way back to itself."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import yaml

from tests.faults.isolation import Site, attack
from tests.support.ports import free_port

_HALF = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nX-A: "
_HELD = 450


async def _hold(host: str, port: int) -> None:
    """Unfinished heads, opened again when they are closed."""

    async def one() -> None:
        while True:
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(_HALF)
            try:
                await reader.read()
            except OSError:
                pass  # closed for a newer one
            writer.transport.abort()

    await asyncio.gather(*(one() for _ in range(_HELD)))


@attack("unfinished heads at the admin listener, 450")
async def admin_heads(site: Site) -> None:
    await _hold(site.host, site.admin_port)


@attack("unfinished heads without a token, 450, begun again when they are refused")
async def public_heads(site: Site) -> None:
    await _hold(site.host, site.port)


async def _storm(host: str, port: int) -> None:
    """As many connections a second as one process opens, each with a request and gone before the answer."""
    loop = asyncio.get_running_loop()

    async def one() -> None:
        while True:
            with socket.socket() as sock:
                sock.setblocking(False)
                try:
                    await loop.sock_connect(sock, (host, port))
                    await loop.sock_sendall(sock, b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                except OSError:
                    await asyncio.sleep(0)

    await asyncio.gather(*(one() for _ in range(64)))


@attack("a storm of connections at the admin listener")
async def admin_storm(site: Site) -> None:
    await _storm(site.host, site.admin_port)


@attack("a storm of connections without a token")
async def public_storm(site: Site) -> None:
    await _storm(site.host, site.port)


@attack("metrics and pages of the admin listener, pipelined and never read")
async def admin_unread(site: Site) -> None:
    async def one() -> None:
        _, writer = await asyncio.open_connection(site.host, site.admin_port, limit=1)
        try:
            while True:
                writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.transport.abort()

    await asyncio.gather(*(one() for _ in range(16)))


def _nameless(routing: dict[str, Any]) -> None:
    """Backends whose names nobody knows, and whose name server takes its time, if there is one."""
    names = [f"nobody-{number}.name.invalid" for number in range(8)]
    for number, name in enumerate(names):
        backend = {"kind": "http", "addresses": [f"http://{name}:81"]}
        routing["backends"][f"nameless-{number}"] = backend
        route = {"name": f"nameless-{number}", "path": f"/nameless-{number}/{{rest*}}", "public": True}
        routing["routes"].append({**route, "target": f"nameless-{number}"})


@attack("backends whose names are not resolved", routing=_nameless)
async def names(site: Site) -> None:
    async def one(number: int) -> None:
        while True:
            reader, writer = await site.connect()
            try:
                writer.write(site.head("noisy-a", "GET", f"/nameless-{number % 8}/x"))
                await reader.read(65536)
            finally:
                writer.transport.abort()

    await asyncio.gather(*(one(number) for number in range(64)))


def _round(routing: dict[str, Any]) -> None:
    routing["backends"]["round"] = {"kind": "http", "addresses": [f"http://127.0.0.1:{free_port()}"]}
    route = {"name": "round", "path": "/round/{rest*}", "target": "round", "public": True}
    routing["routes"].append(route)


@attack("a route that leads to the gateway itself, by a forwarded port", routing=_round)
async def comes_round(site: Site) -> None:
    routing = yaml.safe_load((Path(site.folder) / "routing.yaml").read_text())
    port = int(routing["backends"]["round"]["addresses"][0].rpartition(":")[2])

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await site.connect()
        await asyncio.gather(_copy(reader, forth), _copy(back, writer))

    async def one() -> None:
        reader, writer = await site.connect()
        try:
            while True:
                writer.write(site.head("noisy-a", "GET", "/round/x"))
                if not await reader.read(65536):
                    return
        finally:
            writer.transport.abort()

    async with await asyncio.start_server(pipe, "127.0.0.1", port):
        await asyncio.gather(*(one() for _ in range(64)))


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    except OSError:
        pass
    finally:
        sink.transport.abort()
