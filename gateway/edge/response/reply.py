"""Responses that the gateway makes itself: problem+json (RFC 9457), JSON, and none at all."""

from __future__ import annotations

import asyncio
import contextlib
import json as jsonlib
import socket
import struct
from collections.abc import Callable, Iterable, Mapping

from aiohttp import hdrs, web

from gateway.call import Call
from gateway.core.errors import GatewayError
from gateway.edge.response.head import direct_head, own_head, refusal_head

PROBLEM_TYPE = "application/problem+json"


def empty(status: int, headers: Mapping[str, str] | None = None) -> web.Response:
    """A response without a body."""
    return web.Response(status=status, headers=headers)


def problem_body(error: GatewayError, instance: str) -> bytes:
    """The problem details of an error, as bytes. `instance` is the request id."""
    return jsonlib.dumps(
        {
            "type": f"urn:gateway:problem:{error.code}",
            "title": error.title,
            "status": error.status,
            "detail": error.detail,
            "instance": instance,
            "code": error.code,
            **error.extra,
        },
        ensure_ascii=False,
    ).encode()


def problem(call: Call, error: GatewayError) -> web.Response:
    """The response for an error of ours, which the call keeps for the log. A HEAD request gets the head alone
    (see `as_bytes`)."""
    call.code = error.code
    return problem_response(error, call.id)


def problem_response(error: GatewayError, request_id: str) -> web.Response:
    """The response for an error of ours, where there is no call."""
    body = problem_body(error, request_id)
    response = web.Response(status=error.status, body=body, content_type=PROBLEM_TYPE)
    response.headers.update(error.headers)
    response.headers[hdrs.CACHE_CONTROL] = "no-store"
    if error.close:
        response.force_close()
    return response


def as_bytes(call: Call, response: web.Response) -> bytes:
    """A whole response of ours, ready to write."""
    body = response.body if isinstance(response.body, bytes) else b""
    if response.status not in _WITHOUT_LENGTH:
        response.headers[hdrs.CONTENT_LENGTH] = str(len(body))
    head = own_head(call, response)
    return head if call.method == "HEAD" else head + body


def finish(call: Call, response: web.StreamResponse, observe: Callable[[Call], None]) -> None:
    """Write a response of ours, unless it has left by itself (`Sent`); then the connection takes its next
    request, or ends where the response, the client or the gateway wants that. observe: called in between, to
    count and log the call."""
    client = call.client
    assert client is not None
    ends = not call.keep_alive or call.draining()
    if isinstance(response, web.Response):
        if ends or not client.can_keep_alive or call.waits_for_word:
            response.force_close()
        raw = as_bytes(call, response)
        call.status, call.bytes_out = response.status, len(raw)
        if client.transport is not None:
            client.transport.write(raw)
        else:
            call.status = 499
    observe(call)
    client.done(keep_alive=response.keep_alive is not False, expected=ends)


def refusal(error: GatewayError, request_id: str, fields: Iterable[tuple[str, str]] = ()) -> bytes:
    """The whole response to what never became a request; the connection ends with it. fields: header fields
    beside those of the error."""
    body = problem_body(error, request_id)
    more = (*error.headers.items(), *fields)
    return refusal_head(error.status, request_id, PROBLEM_TYPE, len(body), more) + body


# RFC 9110 section 8.6: never with 204; with 304 it would be that of the response which is not there.
_WITHOUT_LENGTH = frozenset({204, 304})


class Direct:
    """What `Call.on_end` gets of a response of ours that has left in one piece."""

    __slots__ = ("keep_alive",)

    begun = True
    error: GatewayError | None = None

    def __init__(self, keep_alive: bool) -> None:
        self.keep_alive = keep_alive


def send(call: Call, status: int, lines: bytes, body: bytes) -> None:
    """Respond to a direct call at once (see Life.serve): nothing waits, nothing is made by aiohttp. lines:
    the response's own header lines, without a Content-Length."""
    client = call.client
    assert client is not None and call.on_end is not None
    keep_alive = call.keep_alive and not call.draining()
    raw = direct_head(call, status, lines, len(body), keep_alive=keep_alive)
    if call.method != "HEAD":
        raw += body
    call.status, call.bytes_out = status, len(raw)
    if client.transport is not None:
        client.transport.write(raw)
    call.on_end(call, Direct(keep_alive))


def reset(transport: asyncio.Transport) -> None:
    """End a connection whose response began and cannot be completed. It must not look complete: one of
    HTTP/1.0 may end with its connection, so this is no ordinary end, but a reset (socket(7), SO_LINGER)."""
    with contextlib.suppress(OSError):
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()


_RESET = struct.pack("ii", 1, 0)  # on, 0 s


class Sent(web.StreamResponse):
    """Stands for a response that has left already."""

    def __init__(self, status: int, *, keep_alive: bool) -> None:
        super().__init__(status=status or 500)
        self._keep_alive = keep_alive
