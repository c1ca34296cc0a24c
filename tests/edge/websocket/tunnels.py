"""What the tests of WebSockets share: routes, handshakes, and what must be left at the end."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.app import Gateway
from tests import harness
from tests.eventually import AT_ONCE, eventually
from tests.fakes import Backend, RawClient, Script
from tests.support.sockets import Peer, connect, request


def config(address: str, **rule: Any) -> dict[str, Any]:
    """/ws opts in with this rule, /plain does not, /open is public, /scoped needs a scope."""
    rules = rule or True
    return harness.routing(
        [
            harness.route("ws", "app", websocket=rules),
            harness.route("plain", "app"),
            harness.route("open", "app", public=True, websocket=rules),
            harness.route(
                "scoped", "app", websocket=rules, scopes={"read": ["app:read"], "write": ["app:write"]}
            ),
        ],
        backends={"app": {"kind": "http", "addresses": [address]}},
    )


@asynccontextmanager
async def through(folder: Path, script: Script, **rule: Any) -> AsyncIterator[tuple[Gateway, Backend]]:
    async with Backend(script) as backend:
        async with harness.running(folder, config(backend.address, **rule)) as gateway:
            yield gateway, backend


_opened: list[Peer] = []


@pytest.fixture(autouse=True)
async def cut_at_the_end() -> AsyncIterator[None]:
    yield
    while _opened:
        _opened.pop().cut()


async def opened(gateway: Gateway, path: str = "/ws/chat", **claims: Any) -> Peer:
    peer = await connect(harness.address(gateway), path, harness.bearer(gateway, **claims))
    _opened.append(peer)
    return peer


async def refused(gateway: Gateway, path: str, *lines: str) -> tuple[int, dict[str, Any], str]:
    """The status, the problem and the head of a handshake that fails."""
    client = await RawClient.connect(harness.address(gateway))
    client.send(request(path, "gateway.example", *lines))
    head, body = await client.answer()
    client.close()
    return int(head.split()[1]), json.loads(body or b"{}"), head


async def nobody_inside(gateway: Gateway) -> None:
    """No seat is taken and no tunnel is open: at once, and not by a time-out."""
    await eventually(
        lambda: not any(gateway.admission.in_use().values()) and not len(gateway.tunnels),
        lambda: (gateway.admission.in_use(), len(gateway.tunnels)),
        AT_ONCE,
    )


def logged(gateway: Gateway) -> list[dict[str, Any]]:
    text = Path(gateway.config.access_log).read_text()
    return [json.loads(line) for line in text.splitlines()]
