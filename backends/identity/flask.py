"""Flask: `backends.identity.flask.init_app(app)`, then use `identity()` in a view."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

import flask

from backends.identity import log, wsgi
from backends.identity.identity import (
    PUBLIC_PATHS,
    ForwardedInvalid,
    Identity,
    IdentityError,
    forwarded,
    parse,
    problem,
    request_id,
)

WSGIApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def init_app(app: flask.Flask) -> None:
    """Answer 401 without a valid identity, and make `redirect` and `url_for` give public addresses."""
    app.wsgi_app = GatewayMiddleware(app.wsgi_app)  # type: ignore[method-assign]


def identity() -> Identity:
    """Who calls the current view."""
    found: Identity = flask.request.environ["gateway.identity"]
    return found


class GatewayMiddleware:
    """Plain WSGI, so that the address is right before Flask matches the URL; fits any WSGI application."""

    def __init__(self, app: WSGIApp) -> None:
        self.app = app

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("PATH_INFO") in PUBLIC_PATHS:
            return self.app(environ, start_response)
        headers = wsgi.headers(environ)
        # Not reset afterwards, since the body may be made later; the thread's next request sets its own.
        log.request_id.set(request_id(headers))
        try:
            environ["gateway.identity"] = parse(headers)
            wsgi.apply(environ, forwarded(headers))
            return self.app(environ, start_response)
        except IdentityError as error:
            return _refuse(start_response, 401, str(error))
        except ForwardedInvalid as error:
            return _refuse(start_response, 400, str(error))
        finally:
            wsgi.drain(environ)


def _refuse(start_response: Callable[..., Any], status: int, detail: str) -> list[bytes]:
    body = json.dumps(problem(status, detail)).encode()
    head = [("Content-Type", "application/problem+json"), ("Content-Length", str(len(body)))]
    start_response(f"{status} {HTTPStatus(status).phrase}", head)
    return [body]
