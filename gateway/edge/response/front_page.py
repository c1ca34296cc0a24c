"""The front page, served: HTML for a browser, JSON for a program."""

from __future__ import annotations

from aiohttp import hdrs, web

from gateway.call import Call, CallRoute
from gateway.core.front_page import CONTENT_SECURITY_POLICY, FrontPage, prefers_html
from gateway.core.model import Route
from gateway.core.policy.forwarding import public_prefix
from gateway.edge.response import reply

NAME = "front-page"
PATH = "/"
METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def route(page: FrontPage | None) -> CallRoute | None:
    """The route that takes `/` when no other does; None when there is no page."""
    if page is None:
        return None

    async def answer(call: Call) -> web.StreamResponse:
        if call.method == "OPTIONS":
            return reply.empty(204, {hdrs.ALLOW: ", ".join(sorted(METHODS))})
        html = prefers_html(call.head.values(b"accept"))
        prefix = public_prefix(call.forwarded)
        response = web.Response(
            body=page.html(prefix) if html else page.json(prefix),
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

    return Route(
        name=NAME,
        path=PATH,
        target_name=NAME,
        target=answer,
        methods=METHODS,
        public=True,
    )
