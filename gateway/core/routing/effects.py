"""What is written in the routing config and could never have an effect: refused, so that nobody relies on it.

A limit that is not kept, or a header that is not sent, is found out in the worst of moments. Each problem
says why there is no effect, and what was probably meant.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.core.model import Backend
from gateway.core.policy import retry
from gateway.core.routing.settings import BackendSettings, RouteSettings

Found = tuple[tuple[str, ...], str, str]  # where in the route or backend, reason, hint

# What concerns how a backend is talked to. The store is in this process: there is nothing to connect to, to
# wait for, or to pass on.
_OF_BACKENDS = {
    "set_host": "documents are not asked by HTTP, so there is no Host to set",
    "forward_authorization": "documents are in this process, so there is nobody to pass a token on to",
    "retry": "it is about backends, and documents are none",
    "interim": "it is about backends, and documents are none",
}
_TIMES_OF_BACKENDS = {
    "connect": "the document store is in this process: nothing is connected to",
    "first_byte": "the document store is in this process: there is no first byte to wait for",
    "queue": "documents have no seats to wait for",
}
_TOTAL = "remove it; timeouts.total bounds the whole call"


def of_route(written: RouteSettings, backend: Backend | None) -> Iterator[Found]:
    """What of a route has no effect at its target. backend: None for documents."""
    if backend is None:
        yield from _of_documents(written)
    elif written.timeouts.queue is not None and not _has_seats(backend):
        reason = f"any number of requests may be inside the backend {backend.name!r}, so none waits"
        yield ("timeouts", "queue"), reason, "remove it, or give the backend its concurrency"
    if written.methods:
        yield from _of_methods(written, backend)


def _of_documents(written: RouteSettings) -> Iterator[Found]:
    for name, reason in _OF_BACKENDS.items():
        if getattr(written, name) != RouteSettings.model_fields[name].default:
            yield (name,), reason, "remove it"
    if written.encoded_slash == "pass":
        yield ("encoded_slash",), "documents take %2F as it is: it is never a slash there", "remove it"
    for name, reason in _TIMES_OF_BACKENDS.items():
        if getattr(written.timeouts, name) is not None:
            yield ("timeouts", name), reason, _TOTAL


def _of_methods(written: RouteSettings, backend: Backend | None) -> Iterator[Found]:
    """What is about methods that the route does not take. HEAD comes with GET. A bulk of documents is a POST
    that asks for the scopes of PUT, PATCH and DELETE too."""
    methods = {*written.methods, *(("HEAD",) if "GET" in written.methods else ())}
    told = f"the route takes only {', '.join(written.methods)}"
    for word in written.scopes if backend is not None else ():
        if word.isupper() and word not in methods:
            yield ("scopes", word), f"{told}, so nobody needs them", f"add {word} to methods, or remove it"
    if written.websocket is not None and "GET" not in methods:
        yield ("websocket",), f"{told}, and a WebSocket begins with GET", "add GET to methods, or remove it"
    if written.retry != "none" and methods.isdisjoint(retry.METHODS):
        yield ("retry",), f"{told}, which is never tried again", "remove it"


def _has_seats(backend: Backend) -> bool:
    return bool(backend.threads or backend.concurrency)


def of_backend(written: BackendSettings) -> Iterator[Found]:
    """What of a backend has no effect where any number of requests may be inside."""
    if written.kind == "gunicorn" or written.concurrency is not None:
        return
    if written.reserve is not None:
        yield ("reserve",), "there is no limit to keep seats from", "remove it, or add concurrency"
    for name in ("length", "timeout"):
        if getattr(written.queue, name) is not None:
            reason = "any number of requests may be inside, so none waits"
            yield ("queue", name), reason, "remove it, or add concurrency"
