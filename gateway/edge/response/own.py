"""What the gateway's own endpoints respond, and the target that they are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import hdrs, web

from gateway.call import Call
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
