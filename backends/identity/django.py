"""Django: put `backends.identity.django.GatewayMiddleware` first in MIDDLEWARE, then `request.identity`."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import set_script_prefix

from backends.identity import log, wsgi
from backends.identity.entry import PROBLEM_TYPE, PUBLIC_PATHS, Refused, admit
from backends.identity.identity import problem


class GatewayMiddleware:
    """401 without a valid identity; `reverse`, `redirect` and `build_absolute_uri` give public addresses."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path_info in PUBLIC_PATHS:
            return self.get_response(request)
        try:
            found = admit(wsgi.headers(request.META))  # META is the environ
            if isinstance(found, Refused):
                return HttpResponse(found.body, status=found.status, content_type=PROBLEM_TYPE)
            request.identity = found.identity
            wsgi.apply(request.META, found.public)
            # Django has read SCRIPT_NAME already, before any middleware: say it again where it keeps it.
            set_script_prefix(found.public.prefix + "/")
            request.path = found.public.prefix + request.path_info
            return self.get_response(request)
        finally:
            wsgi.drain(request.META)
            log.request_id.set(log.NO_REQUEST)


def problem_response(status: int, detail: str, **members: object) -> JsonResponse:
    """An application/problem+json answer."""
    body = problem(status, detail, **members)
    return JsonResponse(body, status=status, content_type=PROBLEM_TYPE)
