"""gunicorn ... tests.backends.apps.wsgi_app:app; WSGI without a framework."""

import json
from collections.abc import Callable, Iterable
from typing import Any

from backends.identity.flask import GatewayMiddleware


def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    path, who = environ["PATH_INFO"], environ.get("gateway.identity")
    if path == "/go":
        start_response("302 Found", [("Location", environ["SCRIPT_NAME"] + "/open")])
        return [b""]
    body: dict[str, Any] = {"status": "ok"}
    if path == "/mine":
        body = {"tenant": who.tenant}
    elif path == "/open":
        url = f"{environ['wsgi.url_scheme']}://{environ['HTTP_HOST']}{environ['SCRIPT_NAME']}{path}"
        body = {
            "tenant": who.tenant if who else None,
            "client": environ["REMOTE_ADDR"],
            "url": url,
            "port": environ["SERVER_PORT"],
        }
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(body).encode()]


app = GatewayMiddleware(answer)
