"""HTTP in and out: reads requests, asks the service, writes answers. Keeps no state."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from backends.events import drafts, socket
from backends.events.service import EventService, TooManyStreams
from backends.events.stream import Stream, StreamClosed
from backends.identity.asab import IDENTITY, problem_response, public_url

PAGE, LARGEST_PAGE = 50, 1000
HEARTBEAT = 15.0  # seconds of silence after which a comment shows that the stream is alive
METRICS_SCOPE = "events:metrics"


class EventHandler:
    def __init__(self, web_app: web.Application, service: EventService) -> None:
        self.service = service
        web_app.router.add_get("/", self.index)
        web_app.router.add_get("/healthz", self.healthz)
        web_app.router.add_get("/events", self.recent)
        web_app.router.add_post("/events", self.accept)
        web_app.router.add_get("/events/stream", self.stream, allow_head=False)
        web_app.router.add_get("/events/socket", self.socket, allow_head=False)
        web_app.router.add_get("/metrics", self.metrics)

    async def healthz(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def index(self, request: web.Request) -> web.Response:
        raise web.HTTPFound(public_url(request, "/events", absolute=False))

    async def recent(self, request: web.Request) -> web.Response:
        """GET /events?limit=: the latest events, the oldest first."""
        text = request.query.get("limit", str(PAGE))
        if not (text.isascii() and text.isdigit() and len(text) < 5 and 1 <= int(text) <= LARGEST_PAGE):
            return problem_response(400, f"limit must be a whole number from 1 to {LARGEST_PAGE}.")
        events = self.service.recent(request[IDENTITY].tenant, int(text))
        items = [event.as_json() for event in events]
        return web.json_response({"items": items, "stream": public_url(request, "/events/stream")})

    async def accept(self, request: web.Request) -> web.Response:
        """POST /events: {"type", "data"} or a list of these, all taken or none."""
        try:
            pairs = drafts.read(await request.read())
        except drafts.NoDrafts as error:
            return problem_response(error.status, str(error))
        events = self.service.publish(request[IDENTITY].tenant, pairs)
        return web.json_response({"items": [event.as_json() for event in events]}, status=201)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """GET /events/stream: server-sent events from now on, or from Last-Event-ID on. When events between
        are gone, `_reset` comes first: the reader must fetch afresh what it builds from events."""
        tenant = request[IDENTITY].tenant
        try:
            with self.service.stream(tenant, request.transport) as stream:
                return await self._send(request, stream, request.headers.get("Last-Event-ID"))
        except TooManyStreams as error:
            return _too_many(error)

    async def socket(self, request: web.Request) -> web.StreamResponse:
        """GET /events/socket, a WebSocket: the tenant's events from now on, and drafts to publish."""
        try:
            with self.service.stream(request[IDENTITY].tenant, request.transport) as stream:
                return await socket.serve(request, self.service, stream)
        except TooManyStreams as error:
            return _too_many(error)

    async def _send(self, request: web.Request, stream: Stream, last_id: str | None) -> web.StreamResponse:
        # No await between subscribing and this: an event is in one of the two, and in one only.
        complete, missed = (True, []) if last_id is None else self.service.since(stream.tenant, last_id)
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        )
        await response.prepare(request)
        first = b": connected\n\n" if complete else b"event: _reset\ndata: {}\n\n"
        await response.write(first + b"".join(event.as_frame() for event in missed))
        try:
            while True:
                events = await stream.next(HEARTBEAT)
                await response.write(b"".join(event.as_frame() for event in events) or b": alive\n\n")
        except StreamClosed:
            await response.write_eof()
        return response

    async def metrics(self, request: web.Request) -> web.Response:
        """GET /metrics: counts over all tenants, so only for a caller with the scope for it."""
        if METRICS_SCOPE not in request[IDENTITY].scopes:
            return problem_response(403, f"This needs the scope {METRICS_SCOPE}.")
        return web.json_response(self.service.metrics())


@web.middleware
async def problems(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """aiohttp's own refusals (404, 405, 413) as application/problem+json."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        answer = problem_response(error.status, f"{error.reason}.")
        if "Allow" in error.headers:
            answer.headers["Allow"] = error.headers["Allow"]
        return answer


def _too_many(error: TooManyStreams) -> web.Response:
    answer = problem_response(429, str(error))
    answer.headers["Retry-After"] = "5"
    return answer
