"""What never became a request: which error it is, and how it is answered."""

from __future__ import annotations

from http import HTTPStatus

from aiohttp import http_exceptions

from gateway.core.errors import BadRequest, GatewayError, HeadersTooLarge, InternalError, TargetTooLong
from gateway.edge import reply

_MAX_LINE = 8190  # bytes of a request line or a header, aiohttp's own limit


def error_of(status: int, exc: BaseException | None, line_length: int) -> GatewayError:
    """The error for what aiohttp's parser raised. line_length: of the request line; aiohttp has one error
    for a long target and a long header."""
    if isinstance(exc, http_exceptions.LineTooLong):
        if line_length > _MAX_LINE:
            return TargetTooLong("The request's target is too long.")
        return HeadersTooLarge("A header is too long.")
    if "Too many headers" in str(exc):
        return HeadersTooLarge("The request has too many headers.")
    if status == 400:
        return BadRequest("The request is not valid HTTP/1.1.")
    return InternalError()


def answer(error: GatewayError, request_id: str) -> bytes:
    """The whole answer to a head that did not come; the connection ends with it."""
    body = reply.problem_body(error, request_id)
    return (
        b"HTTP/1.1 %d %b\r\nContent-Type: application/problem+json\r\nX-Request-ID: %b\r\nServer: gateway\r\n"
        b"Cache-Control: no-store\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"
        % (error.status, HTTPStatus(error.status).phrase.encode(), request_id.encode(), len(body), body)
    )
