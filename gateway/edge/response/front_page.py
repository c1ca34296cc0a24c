"""The front page, served: HTML for a browser, JSON for a program."""

from __future__ import annotations

from aiohttp import hdrs, web

from gateway.call import Call
from gateway.core.front_page import CONTENT_SECURITY_POLICY, METHODS, FrontPage, prefers_html
from gateway.core.policy.forwarding import public_prefix
from gateway.edge.response import reply


class FrontPageTarget:
    """The target of the route that takes `/` when no other does."""

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
