"""Django: put `gateway_identity.django.GatewayMiddleware` first in MIDDLEWARE, then `request.identity`.

For `request.user` and permissions: `gateway_identity.django_auth`. For Django REST framework:
`gateway_identity.drf`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse
from django.urls import set_script_prefix

from . import asgi, log, wsgi
from .assertion import Incoming
from .entry import PROBLEM_TYPE, PUBLIC_PATHS, Admitted, Refused, entrance, needs_identity
from .identity import IdentityMissing, joined, problem


class GatewayMiddleware:
    """401 without a valid identity; `reverse`, `redirect` and `build_absolute_uri` give public addresses, and
    REMOTE_ADDR is the client's. On a public route `request.identity` is ANONYMOUS, which is false; a view
    that asks it for a tenant is answered 401. Under WSGI, and under ASGI without a thread of its own."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self._entrance = entrance()
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        if self._is_async:
            return self._call_async(request)
        whole = True
        try:
            refused = None
            if request.path_info not in PUBLIC_PATHS:
                refused = _enter(request, self._entrance.admit(_incoming(request)))
            if refused is not None:
                return refused
            response = self.get_response(request)
            if response.streaming and not response.is_async and not isinstance(response, FileResponse):
                response.streaming_content = wsgi.Streamed(response.streaming_content, request.META)
                whole = False
            return response
        finally:
            if whole and request.path_info not in PUBLIC_PATHS:
                wsgi.drain(request.META)
            log.request_id.set(log.NO_REQUEST)

    async def _call_async(self, request: HttpRequest) -> HttpResponse:
        """ASGI: there the server takes care of what is left of a body."""
        try:
            refused = None
            if request.path_info not in PUBLIC_PATHS:
                refused = _enter(request, await self._entrance.admit_async(_incoming(request)))
            return refused if refused is not None else await self.get_response(request)
        finally:
            log.request_id.set(log.NO_REQUEST)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Django calls this for what a view, or the rendering of its answer, raises."""
        return _refuse(needs_identity(exception)) if isinstance(exception, IdentityMissing) else None


def _incoming(request: HttpRequest) -> Incoming:
    scope = getattr(request, "scope", None)
    if scope is not None:
        return asgi.incoming(scope)
    # Under WSGI Django has put the path back into the environ, as the text that it is in UTF-8. (What is not
    # UTF-8 cannot be told any more from its percent-encoding, and is refused where the request is bound.)
    path = request.META.get("SCRIPT_NAME", "") + request.path_info
    return wsgi.incoming(request.META)._replace(path=path.encode())


def _enter(request: HttpRequest, found: Admitted | Refused) -> HttpResponse | None:
    """Give the request its identity and its public address; the answer instead, when it is refused."""
    if isinstance(found, Refused):
        return _refuse(found)
    request.identity = found.identity
    scope = getattr(request, "scope", None)
    if scope is not None:
        request.META["wsgi.url_scheme"] = scope.get("scheme", "http")
    prefix = joined(found.public.script_name, request.META.get("SCRIPT_NAME", ""))
    wsgi.apply(request.META, found.public)
    if scope is not None:
        scope["scheme"] = request.META["wsgi.url_scheme"]  # where Django looks first
    # Django has read SCRIPT_NAME already, before any middleware: say it again where it keeps it.
    request.META["SCRIPT_NAME"] = prefix
    set_script_prefix(prefix + "/")
    request.path = prefix + request.path_info
    return None


def _refuse(refused: Refused) -> HttpResponse:
    return HttpResponse(refused.body, status=refused.status, headers=refused.headers)


def problem_response(status: int, detail: str, **members: object) -> JsonResponse:
    """An application/problem+json answer."""
    body = problem(status, detail, **members)
    return JsonResponse(body, status=status, content_type=PROBLEM_TYPE)
