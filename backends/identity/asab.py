"""ASAB, or any aiohttp application: `web.Application(middlewares=[gateway])`, then `request[IDENTITY]`.

Where ASAB's own authorization is used, `add_provider(auth_service)` makes the caller's scopes the resources
that `@asab.web.auth.require` asks for, in the caller's tenant.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote_to_bytes

from aiohttp import web

from .assertion import Incoming
from .entry import PROBLEM_TYPE, PUBLIC_PATHS, Refused, entrance, needs_identity
from .identity import Forwarded, Identity, IdentityMissing, problem
from .settings import Settings

IDENTITY = web.RequestKey("identity", Identity)
PUBLIC = web.RequestKey("public", Forwarded)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def middleware(settings: Settings | None = None) -> Callable[[web.Request, Handler], Awaitable[Any]]:
    """A middleware with these settings, or those of the environment. Raises SettingsInvalid."""
    let_in = entrance(settings)

    @web.middleware
    async def gateway(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answers 401 without a valid identity; keeps the public address for `public_url`; `request.remote`
        is the client's, `scheme` and `host` are what it called. On a public route `request[IDENTITY]` is
        ANONYMOUS, which is false; a handler that asks it for a tenant is answered 401."""
        if request.path in PUBLIC_PATHS:
            return await handler(request)
        found = await let_in.admit_async(_incoming(request))
        if isinstance(found, Refused):
            return _refuse(found)
        public = found.public
        said = {"remote": public.client, "scheme": public.scheme, "host": public.host}
        request = request.clone(**{name: value for name, value in said.items() if value})
        request[IDENTITY], request[PUBLIC] = found.identity, public
        try:
            return await handler(request)
        except IdentityMissing as error:
            return _refuse(needs_identity(error))

    return gateway


gateway: Callable[[web.Request, Handler], Awaitable[Any]]


def __getattr__(name: str) -> Any:
    """`gateway` is made when it is imported: who uses `middleware(settings)` needs no environment."""
    if name == "gateway":
        return middleware()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _incoming(request: web.Request) -> Incoming:
    path, _, query = request.raw_path.encode("utf-8", "surrogateescape").partition(b"?")
    peer = request.remote or ""
    return Incoming(
        lambda name: request.headers.getall(name, []), request.method, unquote_to_bytes(path), query, peer
    )


def _refuse(refused: Refused) -> web.Response:
    return web.Response(body=refused.body, status=refused.status, headers=refused.headers)


def public_url(request: web.Request, path: str, absolute: bool = True) -> str:
    """The public form of one of this application's own paths, for Location and links; aiohttp has no notion
    of a prefix. With `absolute` off it is a path."""
    public = request[PUBLIC]
    if not absolute:
        return public.prefix + path
    return f"{public.scheme or request.scheme}://{public.host or request.host}{public.prefix}{path}"


def problem_response(status: int, detail: str, **members: object) -> web.Response:
    """An application/problem+json answer."""
    # As bytes: aiohttp would add a charset to text, and this media type has none.
    body = json.dumps(problem(status, detail, **members)).encode()
    return web.Response(body=body, status=status, content_type=PROBLEM_TYPE)


class GatewayAuthProvider:
    """A provider of ASAB's AuthService: the middleware `gateway` has verified who calls by then."""

    Type = "gateway"

    async def authorize(self, request: web.Request) -> Any:
        """The caller's asab.web.auth.Authorization. Raises NotAuthenticatedError for nobody."""
        from asab.exceptions import NotAuthenticatedError
        from asab.web.auth import SUPERUSER_RESOURCE_ID, Authorization

        identity = request.get(IDENTITY)
        if not identity:
            raise NotAuthenticatedError
        now = int(time.time())
        # This one opens every tenant, and whoever issues tokens for one of them writes their scopes.
        scopes = sorted(identity.scopes - {SUPERUSER_RESOURCE_ID})
        # "*" is where ASAB looks when no tenant is in its context. It asks again and again whether the caller
        # may go on: that ends with the request, which the gateway ends when the caller's token does.
        resources = {identity.tenant: scopes, "*": scopes}
        claims = {"iss": "gateway", "sub": identity.subject, "iat": now, "exp": now + 86400}
        return Authorization({**claims, "resources": resources})


def add_provider(auth_service: Any) -> None:
    """Have asab.web.auth.AuthService authorize requests by what the gateway says of their callers."""
    auth_service.Providers.insert(0, GatewayAuthProvider())
