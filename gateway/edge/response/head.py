"""The heads of responses, in bytes: the only place that writes a status line of ours and what every response
carries. (That of a backend's response comes from core/http/response_head.py, in its canonical form.)

A response comes from a backend (`relayed_head`, `interim_head`, `upgrade_head`), is made of aiohttp's parts
(`own_head`), or is written without them where that would cost too much (`direct_head`) or there is no request
(`refusal_head`). X-Request-ID, Date and Server, the limits' fields, those of CORS, the framing and Connection
are the same for all.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from http import HTTPStatus

from aiohttp import hdrs, web

from gateway.call import Call
from gateway.core.http.hops import Via
from gateway.core.http.response_head import ResponseHead
from gateway.edge.response import cors

REQUEST_ID = "X-Request-ID"
SERVER = "gateway"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"  # the whole interim response
_STATUS_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus}
_CHUNKED = b"Transfer-Encoding: chunked\r\n"
_CLOSE = b"Connection: close\r\n"
# By keep_alive, and whether the client speaks HTTP/1.0 (RFC 9112 section 9.3).
_CONNECTION = ((_CLOSE, _CLOSE), (b"", b"Connection: keep-alive\r\n"))
_LIMIT_FIELDS = frozenset(
    {
        b"ratelimit",
        b"ratelimit-policy",
        b"x-ratelimit-limit",
        b"x-ratelimit-remaining",
        b"x-ratelimit-reset",
    }
)


# --- from a backend ---


def relayed_head(call: Call, head: ResponseHead, via: Via, *, chunked: bool, keep_alive: bool) -> bytes:
    """The head of a backend's response as the client gets it. chunked: how the body is framed on the client's
    side; else it has the backend's length, or ends with the connection."""
    lines, limits = head.lines, b""
    if call.cors is not None:
        lines, fields = cors.relayed(call.cors, call.origin, lines, speaks=head.cors)
        lines += _field_lines(fields, "latin-1")  # as the backend's own bytes were read
    if call.limit_fields:
        lines = _without_limits(lines) if b"ratelimit" in lines.lower() else lines
        limits = _field_lines(call.limit_fields)
    if chunked:
        framing = _CHUNKED
    elif head.length >= 0 and head.status != 204:
        framing = b"Content-Length: %d\r\n" % head.length
    else:
        framing = b""
    return b"".join(
        (
            head.status_line,
            lines,
            b"X-Request-ID: ",
            call.id.encode(),
            b"\r\n",
            b"" if head.dated else date_line(),
            b"" if head.served else b"Server: gateway\r\n",
            via.response_lines[head.old],
            limits,
            call.client_fields,
            framing,
            _CONNECTION[keep_alive][call.old],
            b"\r\n",
        )
    )


def interim_head(call: Call, head: ResponseHead) -> bytes:
    """A whole interim response of a backend's, as the client gets it."""
    lines = head.lines
    if call.cors is not None and head.cors:
        lines = cors.without(lines)
    return b"%b%b\r\n" % (head.status_line, lines)


def upgrade_head(call: Call, head: ResponseHead, lines: bytes, via: Via) -> bytes:
    """The whole 101 that begins a tunnel. head: of the backend's. lines: the client's own, those of the
    handshake among them."""
    return b"".join(
        (
            _STATUS_LINES[101],
            lines,
            via.response_lines[head.old],
            _common(call.id, dated=head.dated, served=head.served),
            b"\r\n",
        )
    )


# --- our own ---


def own_head(call: Call, response: web.StreamResponse) -> bytes:
    """The head of a response of ours. Its framing is set already, and whether the connection ends with it."""
    _complete(call, response)
    headers = response.headers
    if response.keep_alive is False:
        headers.setdefault(hdrs.CONNECTION, "close")
    elif call.old:
        headers[hdrs.CONNECTION] = "keep-alive"
    start = f"HTTP/1.1 {response.status} {response.reason}\r\n".encode()
    return start + _field_lines(headers.items()) + call.client_fields + date_line() + b"\r\n"


def _complete(call: Call, response: web.StreamResponse) -> None:
    """Set what every response carries."""
    headers = response.headers
    headers[REQUEST_ID] = call.id
    headers.setdefault(hdrs.SERVER, SERVER)
    headers.update(call.limit_fields)
    if call.cors is not None:
        cors.decorate(call, headers)
    if hdrs.CONNECTION in headers and not (call.keep_alive and response.keep_alive is not False):
        # It names the Upgrade of a 426.
        headers[hdrs.CONNECTION] += ", close"


def direct_head(call: Call, status: int, lines: bytes, length: int, *, keep_alive: bool) -> bytes:
    """The head of a response of ours to which aiohttp is not needed. lines: its own header lines. length: of
    the body, in bytes; a 304 does not tell it, for it would be that of what is not here."""
    more = call.client_fields
    if call.limit_fields:
        more += _field_lines(call.limit_fields)
    if call.cors is not None:
        more += _field_lines(cors.headers(call.cors, call.origin))
    return b"%bX-Request-ID: %b\r\n%bServer: gateway\r\n%b%b%b%b\r\n" % (
        _STATUS_LINES[status],
        call.id.encode(),
        date_line(),
        lines,
        more,
        _CONNECTION[keep_alive][call.old],
        b"Content-Length: %d\r\n" % length if status != 304 else b"",
    )


def refusal_head(
    status: int, request_id: str, content_type: str, length: int, fields: Iterable[tuple[str, str]]
) -> bytes:
    """The head of the response to what never became a request; the connection ends with it."""
    return b"%bContent-Type: %b\r\n%bCache-Control: no-store\r\n%bContent-Length: %d\r\n%b\r\n" % (
        _STATUS_LINES[status],
        content_type.encode(),
        _common(request_id),
        _field_lines(fields),
        length,
        _CLOSE,
    )


# --- what they have in common ---


def _common(request_id: str, *, dated: bool = False, served: bool = False) -> bytes:
    """X-Request-ID, and what the backend has not said itself."""
    return b"X-Request-ID: %b\r\n%b%b" % (
        request_id.encode(),
        b"" if dated else date_line(),
        b"" if served else b"Server: gateway\r\n",
    )


def date_line() -> bytes:
    """The Date header of now (RFC 9110 section 6.6.1), made once a second."""
    global _date
    now = int(time.time())
    if _date[0] != now:
        text = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(now))
        _date = now, f"Date: {text}\r\n".encode()
    return _date[1]


_date: tuple[int, bytes] = (0, b"")


def _field_lines(fields: Iterable[tuple[str, str]], encoding: str = "utf-8") -> bytes:
    return "".join([f"{name}: {value}\r\n" for name, value in fields]).encode(encoding)


def _without_limits(lines: bytes) -> bytes:
    """Where the gateway tells how the limits stand, what a backend says about its own is taken away."""
    kept = [line for line in lines.splitlines(True) if line.partition(b":")[0].lower() not in _LIMIT_FIELDS]
    return b"".join(kept)
