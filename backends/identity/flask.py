"""Flask: `backends.identity.flask.init_app(app)`, then use `identity()` in a view."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

import flask
from werkzeug.exceptions import Unauthorized

from . import wsgi
from .entry import PUBLIC_PATHS, Refused, admit, needs_identity
from .identity import Identity, IdentityMissing

WSGIApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def init_app(app: flask.Flask) -> None:
    """Answer 401 without a valid identity, make `redirect` and `url_for` give public addresses, and
    `request.remote_addr` the client's."""
    app.wsgi_app = GatewayMiddleware(app.wsgi_app)  # type: ignore[method-assign]


def identity() -> Identity:
    """Who calls the current view; 401 when nobody does (a public route)."""
    found: Identity = flask.request.environ["gateway.identity"]
    if not found:
        refused = needs_identity(IdentityMissing("This needs to know who calls: send a token."))
        answer = flask.Response(refused.body, refused.status, refused.headers)
        raise Unauthorized(refused.detail, response=answer)
    return found


def optional_identity() -> Identity | None:
    """Who calls the current view, None when nobody does: for views that public routes reach."""
    found: Identity = flask.request.environ["gateway.identity"]
    return found or None


class GatewayMiddleware:
    """Plain WSGI, so that the address is right before Flask matches the URL; fits any WSGI application, which
    finds who calls in `environ["gateway.identity"]`."""

    def __init__(self, app: WSGIApp) -> None:
        self.app = app

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("PATH_INFO") in PUBLIC_PATHS:
            return self.app(environ, start_response)
        # The log's request id stays afterwards, for the body may be made later; the thread's next request
        # sets its own.
        found = admit(wsgi.headers(environ))
        if isinstance(found, Refused):
            wsgi.drain(environ)
            return _refuse(start_response, found)
        environ["gateway.identity"] = found.identity
        wsgi.apply(environ, found.public)
        start = _Start(start_response)
        whole = True
        try:
            pieces = self.app(environ, start)
            whole = start.whole or isinstance(pieces, environ.get("wsgi.file_wrapper", ()))
        except IdentityMissing as error:  # of an application that lets it pass
            return _refuse(start_response, needs_identity(error))
        finally:
            if whole:
                wsgi.drain(environ)
        return pieces if whole else wsgi.Streamed(pieces, environ)


class _Start:
    """start_response, and whether the answer is made by now: it has a length, or no body. Else it is a
    stream, which may still want the request's body."""

    def __init__(self, start_response: Callable[..., Any]) -> None:
        self._start_response = start_response
        self.whole = False

    def __call__(self, status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
        bodyless = status[:3] in ("204", "304")
        self.whole = bodyless or any(name.lower() == "content-length" for name, _ in headers)
        return self._start_response(status, headers, *exc_info)


def _refuse(start_response: Callable[..., Any], refused: Refused) -> list[bytes]:
    body = refused.body
    head = [*refused.headers.items(), ("Content-Length", str(len(body)))]
    start_response(f"{refused.status} {HTTPStatus(refused.status).phrase}", head)
    return [body]
