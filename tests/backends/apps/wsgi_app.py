"""gunicorn ... tests.backends.apps.wsgi_app:app; WSGI without a framework."""

import json
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

from backends.identity.wsgi import GatewayMiddleware


def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    path, who = environ["PATH_INFO"], environ.get("gateway.identity")
    prefix = quote(environ["SCRIPT_NAME"], safe="/'", encoding="latin-1")  # as PEP 3333 makes an address
    if path == "/go":
        start_response("302 Found", [("Location", prefix + "/open")])
        return [b""]
    if path == "/upper":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return (piece.upper() for piece in iter(lambda: environ["wsgi.input"].read(1000), b""))
    if path == "/ignore":
        start_response("204 No Content", [])
        return [b""]
    body: dict[str, Any] = {"status": "ok"}
    if path == "/mine":
        body = {"tenant": who.tenant}
    elif path == "/open":
        url = f"{environ['wsgi.url_scheme']}://{environ['HTTP_HOST']}{prefix}{path}"
        body = {
            "tenant": who.tenant if who else None,
            "client": environ["REMOTE_ADDR"],
            "url": url,
            "port": environ["SERVER_PORT"],
        }
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(body).encode()]


app = GatewayMiddleware(answer)
