"""FastAPI, or any ASGI app: `app.add_middleware(GatewayMiddleware)`, then a handler takes a `Caller`."""

from __future__ import annotations

import json
from typing import Annotated

from fastapi import Depends, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from backends.identity import log
from backends.identity.identity import (
    PUBLIC_PATHS,
    Forwarded,
    ForwardedInvalid,
    Headers,
    Identity,
    IdentityError,
    forwarded,
    parse,
    problem,
    request_id,
)


class GatewayMiddleware:
    """Pure ASGI, so that streams pass untouched. A refused websocket is closed before the handshake."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or scope["path"] in PUBLIC_PATHS:
            await self.app(scope, receive, send)
            return
        headers = _headers(scope)
        log.request_id.set(request_id(headers))
        try:
            scope.setdefault("state", {})["identity"] = parse(headers)
            _apply(scope, forwarded(headers))
        except IdentityError as error:
            await _refuse(scope, send, 401, str(error))
        except ForwardedInvalid as error:
            await _refuse(scope, send, 400, str(error))
        else:
            await self.app(scope, receive, send)


def _current(request: Request) -> Identity:
    identity: Identity = request.state.identity
    return identity


Caller = Annotated[Identity, Depends(_current)]


def _headers(scope: Scope) -> Headers:
    def get(name: str) -> list[str]:
        wanted = name.lower().encode()
        return [value.decode("latin-1") for key, value in scope["headers"] if key == wanted]

    return get


def _apply(scope: Scope, public: Forwarded) -> None:
    """root_path is the prefix. By the ASGI specification `path` includes it: put back what was stripped."""
    prefix = public.prefix
    scope["root_path"] = prefix
    scope["path"] = prefix + scope["path"]
    scope["raw_path"] = prefix.encode() + scope["raw_path"]
    if public.host:
        others = [(key, value) for key, value in scope["headers"] if key != b"host"]
        scope["headers"] = [(b"host", public.host.encode()), *others]
    if public.scheme:
        websocket = {"http": "ws", "https": "wss"}
        scope["scheme"] = websocket[public.scheme] if scope["type"] == "websocket" else public.scheme


async def _refuse(scope: Scope, send: Send, status: int, detail: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": detail[:120]})
        return
    body = json.dumps(problem(status, detail)).encode()
    head = [(b"content-type", b"application/problem+json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})
