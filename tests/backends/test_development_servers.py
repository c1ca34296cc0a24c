"""The identity middleware under what developers run and test their applications with."""

from __future__ import annotations

import http.client
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import pytest
from werkzeug import serving

from tests.backends import signing
from tests.backends.apps import flask_app, wsgi_app

ROOT = Path(__file__).parents[2]


def caller() -> dict[str, str]:
    return {**signing.caller(), "X-Forwarded-For": "203.0.113.9"}


class _Quiet(WSGIRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        pass


class _QuietWerkzeug(serving.WSGIRequestHandler):
    def log(self, *arguments: Any) -> None:
        pass


class _Threaded(ThreadingMixIn, WSGIServer):
    daemon_threads = True


def wsgiref_server(app: Any) -> Any:
    server = _Threaded(("127.0.0.1", 0), _Quiet)
    server.set_app(app)
    return server


def flask_run(app: Any) -> Any:
    return serving.make_server("127.0.0.1", 0, app, threaded=True, request_handler=_QuietWerkzeug)


@contextmanager
def served(server: Any) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("app", [flask_app.app, wsgi_app.app], ids=["Flask", "WSGI"])
@pytest.mark.parametrize("make", [wsgiref_server, flask_run])
def test_a_server_that_does_not_end_a_body_is_not_waited_for(make: Callable[[Any], Any], app: Any) -> None:
    with served(make(app)) as port:
        for method, path, headers, status in [
            ("GET", "/mine", caller(), 200), ("GET", "/mine", {}, 401), ("POST", "/ignore", caller(), 204),
            ("POST", "/ignore", {}, 401), ("GET", "/healthz", {}, 200),
        ]:  # fmt: skip
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            client.request(method, path, b"abc" if method == "POST" else None, headers)
            response = client.getresponse()
            assert response.status == status, (method, path, response.read())
            client.close()


def test_flasks_test_client_calls_an_application_behind_it() -> None:
    flask = flask_app.app.test_client()
    assert flask.get("/mine", headers=caller()).json == {"tenant": "acme"}
    assert flask.post("/ignore", data=b"x" * 70_000, headers=caller()).status_code == 204
    assert flask.post("/upper", data=b"abc", headers=caller()).data == b"ABC"
    assert flask.get("/mine").status_code == 401


_DJANGO = """
from tests.backends.apps import django_app
import asyncio, django
django.setup()
from django.test import AsyncClient, Client
caller = %r
client = Client()
found = [client.get("/mine", headers=caller).status_code, client.get("/mine").status_code]
found += [client.post("/ignore", {"a": 1}, headers=caller).status_code]
found += [client.post("/ignore", {"a": 1}).status_code]
found += [b"".join(client.post("/upper", b"abc", "text/plain", headers=caller)).decode()]
found += [asyncio.run(AsyncClient().get("/mine", headers=caller)).status_code]
print(found)
"""


def test_djangos_test_clients_call_an_application_behind_it() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _DJANGO % caller()], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert ran.stdout == "[200, 401, 204, 401, 'ABC', 200]\n", ran.stderr
