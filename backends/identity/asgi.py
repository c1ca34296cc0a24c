"""Any ASGI application, without a framework: `app = GatewayMiddleware(app)`. Who calls is in
`scope["state"]["identity"]`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote_to_bytes

from .assertion import Incoming
from .entry import PUBLIC_PATHS, Entrance, Refused, entrance, needs_identity
from .identity import Forwarded, Headers, IdentityMissing, joined
from .settings import Settings, SettingsInvalid

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


class GatewayMiddleware:
    """Pure ASGI, so that streams pass untouched. A refused websocket is closed before the handshake. On a
    public route the state's identity is ANONYMOUS, which is false; what asks it for a tenant gets a 401.

    Settings that cannot be meant end the server's start."""

    def __init__(self, app: ASGIApp, settings: Settings | None = None) -> None:
        self.app = app
        # Starlette makes its middleware in the first call, the lifespan's: servers take an exception there
        # for an application without a lifespan, and go on. So it is kept, and told them as they expect it.
        self._entrance: Entrance | SettingsInvalid
        try:
            self._entrance = entrance(settings)
        except SettingsInvalid as error:
            self._entrance = error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if isinstance(self._entrance, SettingsInvalid):
            if scope["type"] != "lifespan":
                raise self._entrance
            await receive()
            await send({"type": "lifespan.startup.failed", "message": str(self._entrance)})
            return
        if scope["type"] == "lifespan" or scope["path"] in PUBLIC_PATHS:
            await self.app(scope, receive, send)
            return
        found = await self._entrance.admit_async(incoming(scope))
        if isinstance(found, Refused):
            await _refuse(scope, send, found)
            return
        scope.setdefault("state", {})["identity"] = found.identity
        _apply(scope, found.public)
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, send if found.identity else watched)
        except IdentityMissing as error:
            if begun:
                raise
            await _refuse(scope, send, needs_identity(error))


def _headers(scope: Scope) -> Headers:
    def get(name: str) -> list[str]:
        wanted = name.lower().encode()
        return [value.decode("latin-1") for key, value in scope["headers"] if key == wanted]

    return get


def incoming(scope: Scope) -> Incoming:
    """The request of a scope."""
    raw, client = scope.get("raw_path"), scope.get("client")
    path = scope["path"].encode("utf-8", "surrogateescape") if raw is None else unquote_to_bytes(raw)
    root = scope.get("root_path", "").encode("utf-8", "surrogateescape")
    method = scope.get("method", "GET")  # a WebSocket's handshake
    return Incoming(
        _headers(scope), method, path, scope.get("query_string", b""), (client and client[0]) or "", root
    )


def _apply(scope: Scope, public: Forwarded) -> None:
    """root_path is the prefix. By the ASGI specification `path` includes it: put back what was stripped. The
    client's port is not known."""
    own, prefix = scope.get("root_path", ""), public.script_name
    scope["root_path"] = joined(prefix, own)
    if scope["root_path"] != own:
        scope["path"] = prefix + scope["path"]
        if scope.get("raw_path") is not None:  # not every server says it
            scope["raw_path"] = public.prefix.encode() + scope["raw_path"]
        if "app_root_path" in scope:  # Starlette's, of the application that this one is mounted in
            scope["app_root_path"] = prefix + scope["app_root_path"]
    if public.host:
        others = [(key, value) for key, value in scope["headers"] if key != b"host"]
        scope["headers"] = [(b"host", public.host.encode()), *others]
        name, port = public.server(scope["scheme"])
        scope["server"] = (name, int(port))
    if public.client:
        scope["client"] = (public.client, 0)
    if public.scheme:
        websocket = {"http": "ws", "https": "wss"}
        scope["scheme"] = websocket[public.scheme] if scope["type"] == "websocket" else public.scheme


async def _refuse(scope: Scope, send: Send, refused: Refused) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": refused.detail[:120]})
        return
    body = refused.body
    head = [(name.lower().encode(), value.encode()) for name, value in refused.headers.items()]
    head.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": refused.status, "headers": head})
    await send({"type": "http.response.body", "body": body})
