"""What Django and Flask have in common: the WSGI environ (PEP 3333)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import unquote_to_bytes

from .identity import Forwarded, Headers


def headers(environ: dict[str, Any]) -> Headers:
    """Headers of an environ. A WSGI server joins repeated ones with a comma: a tenant's name has none, so a
    repeated X-Tenant is refused by its pattern."""

    def get(name: str) -> list[str]:
        value = environ.get("HTTP_" + name.upper().replace("-", "_"))
        return [] if value is None else [value]

    return get


def apply(environ: dict[str, Any], public: Forwarded) -> None:
    """Make the environ say the public address, and the client's.

    SCRIPT_NAME is the prefix that the gateway stripped, PATH_INFO stays. (Given to gunicorn itself, by
    header or environment, SCRIPT_NAME must still be in the path; with a stripped path it answers 500.)
    """
    environ["SCRIPT_NAME"] = unquote_to_bytes(public.prefix).decode("latin-1")
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
