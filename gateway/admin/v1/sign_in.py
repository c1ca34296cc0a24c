"""Signing in to the console: /admin/v1/tickets, /session and /whoami."""

from __future__ import annotations

from typing import Any

from aiohttp import hdrs, web

from gateway.admin import guard
from gateway.admin.body import Members, json_response
from gateway.admin.operators import Operators, SignedIn
from gateway.admin.refusals import Refusals, address_of
from gateway.admin.sessions import TICKET_LIFE
from gateway.core.errors import Forbidden, Unauthenticated
from gateway.core.jwt.verify import bearer


def install(app: web.Application, operators: Operators, refusals: Refusals) -> None:
    """Put the pages on an application with the guard."""
    pages = _Pages(operators, refusals)
    app.router.add_post("/admin/v1/tickets", pages.ticket)
    app.router.add_post(guard.SESSION, pages.begin)
    app.router.add_post(f"{guard.SESSION}:end", pages.end)
    app.router.add_get("/admin/v1/whoami", pages.whoami)


class _Pages:
    def __init__(self, operators: Operators, refusals: Refusals) -> None:
        self._operators = operators
        self._sessions = operators.sessions
        self._refusals = refusals

    async def ticket(self, request: web.Request) -> web.Response:
        """A ticket for a session of the console, and the URL that opens it with it. The ticket is in the part
        of the URL that browsers keep to themselves."""
        if guard.signed_in(request).session:
            raise Forbidden("A session of the console gives no tickets; show the token itself.")
        ticket = self._sessions.ticket(_credential(request))
        url = f"http://{request.headers.get(hdrs.HOST, '')}/#ticket={ticket}"
        return await json_response({"ticket": ticket, "url": url, "expires_in": int(TICKET_LIFE)}, 201)

    async def begin(self, request: web.Request) -> web.Response:
        """A session for a ticket; this response alone has its token."""
        ticket = Members(request, ("ticket",)).text("ticket")
        try:
            token = self._sessions.begin(ticket)
        except Unauthenticated:
            self._refusals.count(address_of(request))
            raise
        found = await self._operators.of(token)
        await self._refusals.signed_in(request, found.operator)
        return await json_response({"token": token, **_view(found)}, 201)

    async def end(self, request: web.Request) -> web.Response:
        """The session that is shown ends."""
        self._sessions.end(_credential(request))
        return web.Response(status=204)

    async def whoami(self, request: web.Request) -> web.Response:
        """Whose credential is shown, and what they may do."""
        return await json_response(_view(guard.signed_in(request)))


def _credential(request: web.Request) -> str:
    return bearer(request.headers.getall(hdrs.AUTHORIZATION, ()))


def _view(found: SignedIn) -> dict[str, Any]:
    operator = found.operator
    return {
        "operator": operator.name,
        "role": operator.role.name.lower(),
        "patterns": {kind: list(names) for kind, names in operator.patterns},
        "until": found.until,
        "session": found.session,
    }
