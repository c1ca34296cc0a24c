"""What the gateway itself responds: the targets of its endpoints, and of its front page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import hdrs, web

from gateway.call import Call
from gateway.core.front_page import CONTENT_SECURITY_POLICY, METHODS, FrontPage, prefers_html
from gateway.core.policy.forwarding import public_prefix
from gateway.edge.response import reply


@dataclass(frozen=True, slots=True)
class OwnResponse:
    """A whole response. headers: beside those that every response has."""

    status: int
    body: bytes = field(default=b"", repr=False)
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[Call], Awaitable[OwnResponse]]


class OwnTarget:
    """An endpoint of the gateway's own as a target. handle: makes the response; raises GatewayError."""

    def __init__(self, handle: Handler) -> None:
        self._handle = handle

    def try_serve(self, call: Call) -> bool:
        """False, always: these are asked for too rarely to have a way of their own."""
        return False

    async def serve(self, call: Call) -> web.StreamResponse:
        """The endpoint's response; OPTIONS lists its methods."""
        assert call.route is not None
        if call.method == "OPTIONS":
            return reply.empty(204, {hdrs.ALLOW: ", ".join(sorted(call.route.methods))})
        made = await self._handle(call)
        response = web.Response(status=made.status, body=made.body, headers=made.headers)
        if made.body:
            response.content_type = made.content_type
        return response


class FrontPageTarget:
    """The target of the route that takes `/` when no other does: HTML for a browser, JSON for a program."""

    def __init__(self, page: FrontPage) -> None:
        self._page = page

    def try_serve(self, call: Call) -> bool:
        """False, always: it is too rarely asked for to have a way of its own."""
        return False

    async def serve(self, call: Call) -> web.StreamResponse:
        """The page in the form that the request prefers."""
        if call.method == "OPTIONS":
            return reply.empty(204, {hdrs.ALLOW: ", ".join(sorted(METHODS))})
        html = prefers_html(call.head.values(b"accept"))
        prefix = public_prefix(call.forwarded)
        response = web.Response(
            body=self._page.html(prefix) if html else self._page.json(prefix),
            content_type="text/html" if html else "application/json",
            charset="utf-8" if html else None,
            headers={
                hdrs.VARY: "Accept",
                hdrs.CACHE_CONTROL: "no-cache",
                "X-Content-Type-Options": "nosniff",
                "Referrer-Policy": "no-referrer",
            },
        )
        if html:
            response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        return response
