"""The gateway's own public endpoints. They are there where no route of routing.yaml takes their path."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Any

from gateway.core.model import CorsRule, Route


class OwnEndpoint(Enum):
    """By its path."""

    TOKEN = "/oauth/token"  # noqa: S105 - a path
    TICKET = "/oauth/ticket"
    METADATA = "/.well-known/oauth-authorization-server"
    KEYS = "/.well-known/jwks.json"


OF_TOKENS = frozenset({OwnEndpoint.TOKEN, OwnEndpoint.METADATA})  # only where tokens of ours are taken
_POST = frozenset({"POST", "OPTIONS"})
_READ = frozenset({"GET", "HEAD", "OPTIONS"})
_ANY_PAGE = CorsRule(origins=("*",), methods=("GET",))
_TICKET_HEADERS = ("Authorization", "Content-Type", "X-API-Key")
_MAX_BODY = 32 * 1024


def own_route(
    endpoint: OwnEndpoint, target: Any, authentication: Any, pages: CorsRule | None
) -> Route[Any, Any]:
    """The route of an endpoint. pages: that may ask for tickets. What is published any page may read."""
    reads = endpoint in (OwnEndpoint.METADATA, OwnEndpoint.KEYS)
    asks = endpoint is OwnEndpoint.TICKET
    return Route(
        name=f"gateway-{endpoint.name.lower()}",
        path=endpoint.value,
        target_name="gateway",
        target=target,
        authentication=authentication if asks else None,
        methods=_READ if reads else _POST,
        public=not asks,
        body_limit=_MAX_BODY,
        cors=_ANY_PAGE if reads else pages if asks else None,
    )


def ticket_pages(routes: Iterable[Route[Any, Any]]) -> CorsRule | None:
    """Which pages may ask for a ticket for one of these routes: those that may read its responses or open its
    WebSocket. None when no page of another origin may."""
    origins: dict[str, None] = {}
    for route in routes:
        if not route.public:
            origins |= dict.fromkeys(route.cors.origins if route.cors is not None else ())
            origins |= dict.fromkeys(route.websocket.origins if route.websocket is not None else ())
    return CorsRule(tuple(origins), methods=("POST",), headers=_TICKET_HEADERS) if origins else None
