"""Tickets: a page can set no header of an event stream or a WebSocket, and a token must not be in a URL.

So a page asks for a ticket with its token (POST /oauth/ticket), and shows that instead, as `?ticket=`. It
stands for the token for half a minute, once, on one path. It is kept in memory, or where processes share what
may be used once: there it is sealed by the ticket itself, which only the page has.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.auth.oauth import form
from gateway.auth.oauth.once import Once
from gateway.call import Call
from gateway.core.errors import (
    BadRequest,
    GatewayError,
    MethodNotAllowed,
    NoRoute,
    Saturated,
    TenantLimit,
    Unauthenticated,
    UnsupportedMediaType,
)
from gateway.core.http import request_target
from gateway.core.http.tickets import PREFIX
from gateway.core.own_endpoints import ticket_pages
from gateway.core.policy import access
from gateway.core.shared.ports import Away
from gateway.edge.client import body
from gateway.edge.response.own import OwnResponse

LIFE = 30.0  # seconds
_MOST = 20_000  # that wait to be used, some 20 MB
_MOST_OF_TENANT = 1_000
_BYTES = 32
_NONCE = bytes(12)  # a ticket is a key that seals once
_GONE = "The ticket is not valid: it is good for 30 s, once, on the path that it was asked for."


@dataclass(frozen=True, slots=True)
class _Ticket:
    """token: that it stands for. until: on the monotonic clock."""

    token: str = field(repr=False)
    tenant: str
    route: str
    path: str
    until: float


class Tickets:
    """The tickets that were given and not used. now: the monotonic clock, in seconds. once: where they are
    kept for several processes; while that is away, here."""

    def __init__(self, now: Callable[[], float] = monotonic, once: Once | None = None) -> None:
        self._now = now
        self._once = once
        self._given: dict[str, _Ticket] = {}  # the oldest first, so the first that ends too
        self._of_tenant: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._given)

    def give(self, token: str, tenant: str, route: str, path: str) -> str:
        """A ticket for a token, on the canonical path of a route. Raises TenantLimit, Saturated."""
        self._forget_old()
        if self._of_tenant[tenant] >= _MOST_OF_TENANT:
            raise TenantLimit("Too many tickets of the tenant wait to be used.", retry_after=LIFE)
        if len(self._given) >= _MOST:
            raise Saturated("Too many tickets wait to be used.", retry_after=LIFE)
        ticket = PREFIX + secrets.token_urlsafe(_BYTES)
        self._given[ticket] = _Ticket(token, tenant, route, path, self._now() + LIFE)
        self._of_tenant[tenant] += 1
        return ticket

    async def share(self, ticket: str) -> None:
        """Keep it where all processes find it, and not here any more."""
        if self._once is None:
            return
        with suppress(Away):
            await self._once.put(_key(ticket), _sealed(self._given[ticket], ticket), LIFE)
            self._take(ticket)

    def try_redeem(self, ticket: str, call: Call) -> str | None:
        """The token that a ticket stands for; None where only `redeem` can tell. The ticket is used up,
        whatever comes of it. Raises Unauthenticated."""
        if self._once is not None and ticket not in self._given:
            return None
        return self._check(self._take(ticket), call)

    async def redeem(self, ticket: str, call: Call) -> str:
        """As `try_redeem`, where the ticket may be of another process."""
        assert self._once is not None
        found = None
        with suppress(Away):
            sealed = await self._once.take(_key(ticket))
            found = None if sealed is None else _opened(sealed, ticket, self._now() + LIFE)
        return self._check(found, call)

    def _check(self, found: _Ticket | None, call: Call) -> str:
        assert call.route is not None
        if found is None or found.until <= self._now():
            raise Unauthenticated(_GONE)
        if call.method != "GET" or (found.route, found.path) != (call.route.name, call.path):
            raise Unauthenticated("The ticket is for another path, or for a GET; ask for a new one.")
        return found.token

    def _take(self, ticket: str) -> _Ticket | None:
        found = self._given.pop(ticket, None)
        if found is not None:
            self._of_tenant[found.tenant] -= 1
            if not self._of_tenant[found.tenant]:
                del self._of_tenant[found.tenant]
        return found

    def _forget_old(self) -> None:
        now = self._now()
        while self._given:
            oldest = next(iter(self._given))
            if self._given[oldest].until > now:
                return
            self._take(oldest)

    async def serve(self, call: Call) -> OwnResponse:
        """POST /oauth/ticket: a ticket for the path that the body names (a member `path`, as JSON or as a
        form), of the token that the request carries. Raises GatewayError."""
        assert call.identity is not None
        path = await _asked_path(call)
        host = request_target.host_of(call.head.hosts[0])
        try:
            route, params = call.snapshot.table.match("GET", host, path)
        except (NoRoute, MethodNotAllowed):
            raise BadRequest("No route takes a GET of this `path`.") from None
        call.cors = ticket_pages([route])
        if route.public:
            raise BadRequest("The route of this `path` is public, and takes no ticket.")
        named = [params["tenant"]] if "tenant" in params else []
        tenant = access.resolve_tenant(call.identity, call.snapshot.tenants, named)
        access.require(route, "GET", call.identity)
        ticket = self.give(call.head.token, tenant.id.value, route.name, path)
        await self.share(ticket)
        made = json.dumps({"ticket": ticket, "expires_in": int(LIFE)})
        return OwnResponse(200, made.encode(), headers=form.NOT_STORED)


def _key(ticket: str) -> str:
    """Under which it is kept: not what redeems it."""
    return hashlib.sha256(b"ticket " + ticket.encode()).hexdigest()


def _cipher(ticket: str) -> AESGCM:
    return AESGCM(hashlib.sha256(b"seal " + ticket.encode()).digest())


def _sealed(kept: _Ticket, ticket: str) -> str:
    text = json.dumps([kept.token, kept.tenant, kept.route, kept.path]).encode()
    return base64.b64encode(_cipher(ticket).encrypt(_NONCE, text, None)).decode()


def _opened(sealed: str, ticket: str, until: float) -> _Ticket | None:
    try:
        token, tenant, route, path = json.loads(
            _cipher(ticket).decrypt(_NONCE, base64.b64decode(sealed), None)
        )
    except (InvalidTag, ValueError):
        return None
    return _Ticket(token, tenant, route, path, until)


async def _asked_path(call: Call) -> str:
    """The canonical path that a ticket is asked for. Raises BadRequest, UnsupportedMediaType."""
    kind, raw = form.media_type(call), await body.read(call)
    try:
        if kind == form.FORM:
            asked = form.parse(raw).get("path")
        elif kind == "application/json":
            document = json.loads(raw)
            asked = document.get("path") if isinstance(document, dict) else None
        else:
            raise UnsupportedMediaType(f"Send application/json or {form.FORM}.")
    except (ValueError, RecursionError):
        raise BadRequest("The body is neither JSON nor a form.") from None
    if not isinstance(asked, str):
        raise BadRequest('The body names no path, as in {"path": "/events/stream"}.')
    try:
        return request_target.canonical_path(asked.partition("?")[0])
    except GatewayError as error:
        raise BadRequest(f"The `path` of the body is not valid: {error.detail}") from None
