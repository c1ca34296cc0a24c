"""FastAPI: `app.add_middleware(GatewayMiddleware)`, then a handler, of a request or a WebSocket, takes a
`Caller`."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from .asgi import GatewayMiddleware
from .identity import Identity, IdentityMissing

__all__ = ["Caller", "GatewayMiddleware", "OptionalCaller"]


def _current(connection: HTTPConnection) -> Identity:
    identity: Identity = connection.state.identity
    if not identity:
        raise IdentityMissing("This needs to know who calls: send a token.")
    return identity


def _optional(connection: HTTPConnection) -> Identity | None:
    identity: Identity = connection.state.identity
    return identity or None


Caller = Annotated[Identity, Depends(_current)]
# For what public routes reach: None when nobody calls.
OptionalCaller = Annotated[Identity | None, Depends(_optional)]
