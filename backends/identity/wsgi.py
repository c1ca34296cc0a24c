"""Any WSGI application (PEP 3333), without a framework: `app = GatewayMiddleware(app)`. Who calls is in
`environ["gateway.identity"]`. Django and Flask share the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote_to_bytes

from .assertion import Incoming
from .entry import PUBLIC_PATHS, Refused, entrance, needs_identity
from .identity import Forwarded, Headers, IdentityMissing, joined
from .settings import Settings

WSGIApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def headers(environ: dict[str, Any]) -> Headers:
    """Headers of an environ. A WSGI server joins repeated ones with a comma: a tenant's name has none, so a
    repeated X-Tenant is refused by its pattern."""

    def get(name: str) -> list[str]:
        value = environ.get("HTTP_" + name.upper().replace("-", "_"))
        return [] if value is None else [value]

    return get


def incoming(environ: dict[str, Any]) -> Incoming:
    """The request of an environ."""
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    query, peer = environ.get("QUERY_STRING", ""), environ.get("REMOTE_ADDR", "")
    raw = (text.encode("latin-1", "replace") for text in (path, query))
    return Incoming(headers(environ), environ["REQUEST_METHOD"], *raw, peer)


def apply(environ: dict[str, Any], public: Forwarded) -> None:
    """Make the environ say the public address, and the client's.

    SCRIPT_NAME is the prefix that the gateway stripped, PATH_INFO stays. (Given to gunicorn itself, by
    header or environment, SCRIPT_NAME must still be in the path; with a stripped path it answers 500.)
    """
    prefix = unquote_to_bytes(public.prefix).decode("latin-1")
    environ["SCRIPT_NAME"] = joined(prefix, environ.get("SCRIPT_NAME", ""))
    if public.host:
        environ["HTTP_HOST"] = public.host
        environ["SERVER_NAME"], environ["SERVER_PORT"] = public.server(environ["wsgi.url_scheme"])
    if public.scheme:
        environ["wsgi.url_scheme"] = public.scheme
    if public.client:
        environ["REMOTE_ADDR"] = public.client
        environ.pop("REMOTE_PORT", None)  # the gateway's
        environ.pop("REMOTE_HOST", None)


def drain(environ: dict[str, Any]) -> None:
    """Read what the application left of the body, e.g. of a request that it refused. gunicorn closes a
    connection with an unread body, and the gateway, still sending, would find a reset and not the answer.

    Only where the server says that the body has an end: PEP 3333 leaves it open, and to read on waits for
    ever at those that do not (`flask run`, wsgiref), and is an error in Django's test client.
    """
    if environ.get("wsgi.input_terminated"):
        while environ["wsgi.input"].read(65536):
            pass


class Streamed:
    """The body of an answer that may be made while the request's is still being read, such as an upload that
    is passed on piece by piece: only when it is closed is what it left of the request's body read."""

    def __init__(self, pieces: Iterable[bytes], environ: dict[str, Any]) -> None:
        self._pieces = pieces
        self._environ = environ

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)

    def close(self) -> None:
        """The server has sent the answer, or has given it up."""
        try:
            close = getattr(self._pieces, "close", None)
            if close is not None:
                close()
        finally:
            drain(self._environ)


class GatewayMiddleware:
    """401 without a valid identity; the address is the public one before a framework matches it, REMOTE_ADDR
    the client's. On a public route the identity is ANONYMOUS, which is false."""

    def __init__(self, app: WSGIApp, settings: Settings | None = None) -> None:
        self.app = app
        self._entrance = entrance(settings)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("PATH_INFO") in PUBLIC_PATHS:
            return self.app(environ, start_response)
        # The log's request id stays afterwards, for the body may be made later; the thread's next request
        # sets its own.
        found = self._entrance.admit(incoming(environ))
        if isinstance(found, Refused):
            drain(environ)
            return _refuse(start_response, found)
        environ["gateway.identity"] = found.identity
        apply(environ, found.public)
        start = _Start(start_response)
        whole = True
        try:
            pieces = self.app(environ, start)
            whole = start.whole or isinstance(pieces, environ.get("wsgi.file_wrapper", ()))
        except IdentityMissing as error:  # of an application that lets it pass
            return _refuse(start_response, needs_identity(error))
        finally:
            if whole:
                drain(environ)
        return pieces if whole else Streamed(pieces, environ)


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
