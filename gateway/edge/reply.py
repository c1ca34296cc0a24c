"""Answers that the gateway makes itself: problem+json (RFC 9457), JSON, and what every answer carries."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Mapping
from typing import Any

from aiohttp import hdrs, web

from gateway.call import Call
from gateway.core.errors import GatewayError
from gateway.edge import cors

PROBLEM_TYPE = "application/problem+json"
REQUEST_ID = "X-Request-ID"
SERVER = "gateway"


def decorate(call: Call, response: web.StreamResponse) -> None:
    """Set what every answer carries, before its head is written: the request id and the CORS headers; and
    while the gateway drains, the word that the connection ends here."""
    headers = response.headers
    headers[REQUEST_ID] = call.id
    headers.setdefault(hdrs.SERVER, SERVER)
    if call.route is not None and call.route.cors is not None:
        cors.decorate(call.route.cors, call.headers.get(hdrs.ORIGIN, ""), headers)
    if call.draining():
        response.force_close()


def json(call: Call, status: int, body: Any, headers: Mapping[str, str] | None = None) -> web.Response:
    """An answer with a JSON body, compact, UTF-8."""
    raw = jsonlib.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    response = web.Response(status=status, body=raw, content_type="application/json", headers=headers)
    return response


def empty(status: int, headers: Mapping[str, str] | None = None) -> web.Response:
    """An answer without a body."""
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
    """The answer for an error of ours. A HEAD request gets the head alone (aiohttp leaves the body out)."""
    response = web.Response(status=error.status, body=problem_body(error, call.id), content_type=PROBLEM_TYPE)
    response.headers.update(error.headers)
    response.headers[hdrs.CACHE_CONTROL] = "no-store"
    if error.close:
        response.force_close()
    call.code = error.code
    return response


def abort(call: Call) -> None:
    """Cut the client's connection: an answer that began and cannot be completed must not look complete."""
    request = call.request
    if request is not None and request.transport is not None:
        request.transport.abort()
