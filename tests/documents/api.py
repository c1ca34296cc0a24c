"""Documents over HTTP as a client meets them: a whole gateway, real sockets, the real store."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, ClientTimeout
from yarl import URL

from gateway.app import Gateway
from tests import harness

PREFIX = "/documents"
BODY_LIMIT = 1_000_000
READ, WRITE, MANAGE = "documents:read", "documents:write", "documents:manage"
ALL = f"{READ} {WRITE} {MANAGE}"
SCOPES = {"read": [READ], "write": [WRITE], "manage": [MANAGE]}
MERGE = {"Content-Type": "application/merge-patch+json"}
JSON_PATCH = {"Content-Type": "application/json-patch+json"}
NDJSON = {"Content-Type": "application/x-ndjson"}

Answer = tuple[int, Any, Any]


class Api:
    """A client of one tenant. Answers are status, headers, content. X-Request-ID and the same in a problem
    are taken away: they differ from request to request."""

    def __init__(
        self, session: ClientSession, gateway: Gateway, tenant: str = "acme", scope: str = ALL
    ) -> None:
        self.session = session
        self.gateway = gateway
        self.headers = harness.bearer(gateway, tenant, scope)

    def of(self, tenant: str, scope: str = ALL) -> Api:
        return Api(self.session, self.gateway, tenant, scope)

    def url(self, path: str) -> URL:
        return URL(harness.url(self.gateway, PREFIX + path), encoded=True)

    async def __call__(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """As `raw`, with the body parsed: JSON, or a list of the lines of NDJSON."""
        status, received, content = await self.raw(method, path, body, headers)
        if received.get("Content-Type") == "application/x-ndjson":
            return status, received, [json.loads(line) for line in content.splitlines()]
        return status, received, json.loads(content) if content else None

    async def raw(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any, bytes]:
        sent = {**self.headers, **(headers or {})}
        if body is not None:
            body = (
                body if isinstance(body, bytes) or hasattr(body, "__aiter__") else json.dumps(body).encode()
            )
            sent.setdefault("Content-Type", "application/json")
        async with self.session.request(method, self.url(path), data=body, headers=sent) as response:
            content = await response.read()
            received = response.headers.copy()
            request_id = received.popone("X-Request-ID")
            return response.status, received, content.replace(request_id.encode(), b"")


@asynccontextmanager
async def serving(
    folder: Path,
    *,
    tenants: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    **route: Any,
) -> AsyncIterator[Api]:
    """A gateway with documents below /documents. config, route: more of the config's, of the route's
    settings."""
    settings = {"scopes": SCOPES, "body_limit": BODY_LIMIT, **route}
    known = {"acme": {}, "globex": {}} if tenants is None else tenants
    routing = harness.routing(
        [harness.route("documents", "documents", **settings)], tenants=known, **(config or {})
    )
    timeout = ClientTimeout(total=30)
    async with (
        harness.running(folder, routing) as gateway,
        ClientSession(timeout=timeout, skip_auto_headers=("Content-Type",)) as session,
    ):
        yield Api(session, gateway)


def ndjson(*values: Any) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)
