"""Django: put `backends.identity.django.GatewayMiddleware` first in MIDDLEWARE, then `request.identity`."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import set_script_prefix

from backends.identity import log, wsgi
from backends.identity.identity import (
    PUBLIC_PATHS,
    ForwardedInvalid,
    IdentityError,
    forwarded,
    parse,
    problem,
    request_id,
)


class GatewayMiddleware:
    """401 without a valid identity; `reverse`, `redirect` and `build_absolute_uri` give public addresses."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path_info in PUBLIC_PATHS:
            return self.get_response(request)
        headers = wsgi.headers(request.META)
        mark = log.request_id.set(request_id(headers))
        try:
            request.identity = parse(headers)
            public = forwarded(headers)
            wsgi.apply(request.META, public)  # META is the environ
            # Django has read SCRIPT_NAME already, before any middleware: say it again where it keeps it.
            set_script_prefix(public.prefix + "/")
            request.path = public.prefix + request.path_info
            return self.get_response(request)
        except IdentityError as error:
            return problem_response(401, str(error))
        except ForwardedInvalid as error:
            return problem_response(400, str(error))
        finally:
            wsgi.drain(request.META)
            log.request_id.reset(mark)


def problem_response(status: int, detail: str, **members: object) -> JsonResponse:
    """An application/problem+json answer."""
    body = problem(status, detail, **members)
    return JsonResponse(body, status=status, content_type="application/problem+json")
