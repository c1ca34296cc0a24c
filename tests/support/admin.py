"""The admin listener of a real gateway, on a real socket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from gateway.admin import web as admin
from gateway.admin.serve import AdminService
from gateway.app import Gateway
from gateway.core.process.listeners import Listen
from gateway.edge.client.listener import Listener
from gateway.edge.client.slots import UNLIMITED, ConnectionLimits
from tests import harness

ROUTING = harness.routing(
    [harness.route("docs", "documents")], tenants={"acme": {}, "old": {"disabled": True}}
)


class Admin:
    def __init__(
        self, gateway: Gateway, listener: Listener, session: aiohttp.ClientSession, app: web.Application
    ) -> None:
        self.gateway = gateway
        self.app = app
        self.listener = listener
        self.session = session

    @property
    def address(self) -> tuple[str, int]:
        return self.listener.addresses[0]

    def url(self, path: str) -> str:
        host, port = self.address
        return f"http://{host}:{port}{path}"

    async def ask(
        self, path: str, method: str = "GET", body: Any = None, **headers: str
    ) -> tuple[int, Any, Any]:
        """Status, headers and body (parsed when it is JSON). body: bytes, or what is sent as JSON."""
        data = {"data": body} if isinstance(body, bytes) else {"json": body}
        async with self.session.request(method, self.url(path), headers=headers, **data) as answer:
            text = await answer.text()
            return answer.status, answer.headers, json.loads(text) if "json" in answer.content_type else text


@asynccontextmanager
async def admin_of(
    folder: Path,
    limits: ConnectionLimits = UNLIMITED,
    routing: Mapping[str, Any] = ROUTING,
    **more: Any,
) -> AsyncIterator[Admin]:
    async with harness.running(folder, dict(routing), **more) as gateway:
        app = web.Application()
        admin.install(app, gateway)
        service = AdminService(app, lambda: gateway.draining, lambda: gateway.live.current)
        await service.setup()
        listener = Listener(service, limits)
        listener.bind([Listen("127.0.0.1")])
        await listener.open()
        try:
            async with aiohttp.ClientSession() as session:
                yield Admin(gateway, listener, session, app)
        finally:
            await listener.drain(lambda connections: False)
            await service.cleanup()
