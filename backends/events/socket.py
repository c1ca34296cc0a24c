"""A WebSocket of one tenant: its events go out as they are accepted, drafts come in.

Out: {"id", "type", "time", "data"}, or {"error": ...} for a draft that was not taken. In: as POST /events;
who publishes hears the event as everybody else does.
"""

from __future__ import annotations

import asyncio

from aiohttp import WSCloseCode, WSMsgType, web

from backends.events import drafts
from backends.events.service import EventService
from backends.events.stream import Stream, StreamClosed
from backends.identity.asab import IDENTITY

MOST_BYTES = 256 * 1024  # of a message
# The handshake is a GET, which a gateway lets through for readers: who may publish is checked here.
WRITE_SCOPE = "events:write"
_QUIET = 3600.0


async def serve(request: web.Request, service: EventService, stream: Stream) -> web.WebSocketResponse:
    """Until one of the two sides leaves."""
    socket = web.WebSocketResponse(max_msg_size=MOST_BYTES, compress=False)
    await socket.prepare(request)
    sending = asyncio.create_task(_send(socket, stream))
    identity = request[IDENTITY]
    try:
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                await socket.send_json({"error": "Send JSON as text."})
            elif WRITE_SCOPE not in identity.scopes:
                await socket.send_json({"error": f"Publishing needs the scope {WRITE_SCOPE}."})
            else:
                await _publish(socket, service, identity.tenant, message.data)
    except ConnectionError:
        pass  # the reader left, or was too slow and was cut off
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    return socket


async def _publish(socket: web.WebSocketResponse, service: EventService, tenant: str, text: str) -> None:
    try:
        service.publish(tenant, drafts.read(text))
    except drafts.NoDrafts as error:
        await socket.send_json({"error": str(error)})


async def _send(socket: web.WebSocketResponse, stream: Stream) -> None:
    try:
        while True:
            for event in await stream.next(_QUIET):
                await socket.send_json(event.as_json())
    except StreamClosed:
        await socket.close(code=WSCloseCode.GOING_AWAY, message=b"The application stops.")
    except ConnectionError:
        pass  # `serve` hears of it too
