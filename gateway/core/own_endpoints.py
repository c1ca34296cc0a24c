"""The gateway's own public endpoints. They are there where no route of routing.yaml takes their path."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Any

from gateway.core.model import CorsRule, Route


class OwnEndpoint(Enum):
    """By its path."""

    TICKET = "/oauth/ticket"


_POST = frozenset({"POST", "OPTIONS"})
_TICKET_HEADERS = ("Authorization", "Content-Type", "X-API-Key")
_MAX_BODY = 32 * 1024


def own_route(
    endpoint: OwnEndpoint, target: Any, authentication: Any, pages: CorsRule | None
) -> Route[Any, Any]:
    """The route of an endpoint. pages: that may ask for tickets."""
    return Route(
        name=f"gateway-{endpoint.name.lower()}",
        path=endpoint.value,
        target_name="gateway",
        target=target,
        authentication=authentication,
        methods=_POST,
        body_limit=_MAX_BODY,
        cors=pages,
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
