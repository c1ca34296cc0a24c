"""Flask: `gateway_identity.flask.init_app(app)`, then use `identity()` in a view."""

from __future__ import annotations

import flask
from werkzeug.exceptions import Unauthorized

from .entry import needs_identity
from .identity import Identity, IdentityMissing
from .settings import Settings
from .wsgi import GatewayMiddleware

__all__ = ["GatewayMiddleware", "identity", "init_app", "optional_identity"]


def init_app(app: flask.Flask, settings: Settings | None = None) -> None:
    """The extension: answer 401 without a valid identity, make `redirect` and `url_for` give public
    addresses, and `request.remote_addr` the client's."""
    app.wsgi_app = GatewayMiddleware(app.wsgi_app, settings)  # type: ignore[method-assign]
    app.extensions["gateway_identity"] = app.wsgi_app


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
