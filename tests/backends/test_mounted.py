"""An application with the identity middleware that is mounted within another one: its own prefix stays."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.routing import Mount
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from tests.backends import signing
from tests.backends.apps import fastapi_app, flask_app, wsgi_app

ROOT = Path(__file__).parents[2]
PUBLIC = "https://api.example:8443/v1/sub/open"


def proxied() -> dict[str, str]:
    return {
        **signing.caller(), "X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "api.example:8443", "X-Forwarded-Prefix": "/v1",
    }  # fmt: skip


def test_wsgi() -> None:
    for app in (flask_app.app, wsgi_app.app):
        client = Client(DispatcherMiddleware(wsgi_app.answer, {"/sub": app}))
        assert client.get("/sub/open", headers=proxied()).json["url"] == PUBLIC
        assert client.get("/sub/go", headers=proxied()).headers["Location"] == "/v1/sub/open"


async def asgi_get(app: Any, path: str, root_path: str = "") -> list[dict[str, Any]]:
    """What the application sends."""
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": root_path, "client": None,
        "server": None, "headers": [(key.lower().encode(), text.encode()) for key, text in proxied().items()],
    }  # fmt: skip
    sent = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


def test_asgi() -> None:
    app = Starlette(routes=[Mount("/sub", fastapi_app.app)])
    head, *body = asyncio.run(asgi_get(app, "/sub/open"))
    assert head["status"] == 200
    assert json.loads(b"".join(message.get("body", b"") for message in body))["url"] == PUBLIC


def test_a_prefix_that_the_server_was_told_too_is_there_once() -> None:
    """uvicorn --root-path /v1 puts it before the path; gunicorn with SCRIPT_NAME takes it off the path."""
    head, *body = asyncio.run(asgi_get(fastapi_app.app, "/v1/open", "/v1"))
    assert head["status"] == 200
    found = json.loads(b"".join(message.get("body", b"") for message in body))["url"]
    assert found == "https://api.example:8443/v1/open"
    client = Client(flask_app.app)
    told = {"SCRIPT_NAME": "/v1"}
    assert client.get("/open", headers=proxied(), environ_overrides=told).json["url"] == found


_DJANGO = """
from tests.backends.apps import django_app
import django
django.setup()
from django.test import Client
client = Client(SCRIPT_NAME="/sub")
headers = %r
print(client.get("/open", headers=headers).json()["url"], client.get("/go", headers=headers)["Location"])
print(client.get("/go", headers=headers)["Location"])
"""


def test_django() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _DJANGO % proxied()], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert ran.stdout == f"{PUBLIC} /v1/sub/open\n/v1/sub/open\n", ran.stderr
