"""ASAB, or any aiohttp application: `web.Application(middlewares=[gateway])`, then `request[IDENTITY]`."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

from aiohttp import web

from .entry import PROBLEM_TYPE, PUBLIC_PATHS, Refused, admit, needs_identity
from .identity import Forwarded, Identity, IdentityMissing, problem

IDENTITY = web.RequestKey("identity", Identity)
PUBLIC = web.RequestKey("public", Forwarded)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def gateway(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answers 401 without a valid identity; keeps the public address for `public_url`; `request.remote` is
    the client's, `scheme` and `host` are what it called. On a public route `request[IDENTITY]` is ANONYMOUS,
    which is false; a handler that asks it for a tenant is answered 401."""
    if request.path in PUBLIC_PATHS:
        return await handler(request)
    found = admit(lambda name: request.headers.getall(name, []))
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
