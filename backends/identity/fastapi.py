"""FastAPI: `app.add_middleware(GatewayMiddleware)`, then a handler, of a request or a WebSocket, takes a
`Caller`; or `Annotated[Identity, Security(caller, scopes=["prices:write"])]`, where it needs scopes. All of
them are in the OpenAPI document as the bearer token that the gateway asks for.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, HTTPException
from fastapi.openapi.models import HTTPBearer
from fastapi.security import SecurityScopes
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection

from .asgi import GatewayMiddleware
from .identity import Identity, IdentityMissing

__all__ = ["Caller", "GatewayMiddleware", "OptionalCaller", "caller"]


class _Bearer(SecurityBase):
    """Who calls; 401 for nobody, 403 without the scopes."""

    scheme_name = "gateway"
    model = HTTPBearer(bearerFormat="JWT", description="The token that the gateway asks for.")

    async def __call__(self, connection: HTTPConnection, scopes: SecurityScopes) -> Identity:
        identity: Identity = connection.state.identity
        if not identity:
            raise IdentityMissing("This needs to know who calls: send a token.")
        missing = [scope for scope in scopes.scopes if scope not in identity.scopes]
        if missing:
            raise HTTPException(403, f"The token lacks the scope {' '.join(missing)}.")
        return identity


async def _optional(connection: HTTPConnection) -> Identity | None:
    identity: Identity = connection.state.identity
    return identity or None


caller = _Bearer()
Caller = Annotated[Identity, Depends(caller)]
# For what public routes reach: None when nobody calls.
OptionalCaller = Annotated[Identity | None, Depends(_optional)]
