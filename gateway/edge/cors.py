"""CORS: aiohttp-cors' resource options and preflight logic, driven by the live route.

aiohttp-cors alone raises on a denial, echoes any origin for `*` with credentials and sends no Vary; here a
denial is problem+json, `*` with credentials is refused when the config is loaded, and Vary is always sent.
"""

from __future__ import annotations

from functools import lru_cache

from aiohttp import hdrs, web
from aiohttp_cors import ResourceOptions
from aiohttp_cors.preflight_handler import _PreflightHandler
from multidict import CIMultiDict

from gateway.core.errors import Forbidden
from gateway.core.model import CorsRule


@lru_cache(maxsize=4096)
def _options(rule: CorsRule) -> dict[str, ResourceOptions]:
    """The rule as aiohttp-cors wants it: origin -> options."""
    options = ResourceOptions(
        allow_credentials=rule.credentials,
        expose_headers=rule.expose,
        allow_headers="*" if "*" in rule.headers else rule.headers,
        max_age=rule.max_age,
    )
    return dict.fromkeys(rule.origins, options)


class _Preflight(_PreflightHandler):  # type: ignore[misc]
    """aiohttp-cors' preflight algorithm over the options of one rule."""

    def __init__(self, rule: CorsRule) -> None:
        self._rule = rule

    async def _get_config(
        self, request: web.BaseRequest, origin: str, request_method: str
    ) -> dict[str, ResourceOptions]:
        if self._rule.methods and request_method not in self._rule.methods:
            raise KeyError(request_method)
        return _options(self._rule)


async def preflight(rule: CorsRule | None, request: web.BaseRequest) -> web.Response:
    """The answer to a preflight on a route with this rule. Raises Forbidden when it is denied."""
    if rule is None:
        raise Forbidden("This route does not allow requests from other origins.")
    try:
        response: web.Response = await _Preflight(rule)._preflight_handler(request)
    except web.HTTPForbidden:
        raise Forbidden("This route does not allow that origin, method or header.") from None
    response.set_status(204)
    if "*" in rule.origins:
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = "*"
    return response


def headers(rule: CorsRule, origin: str) -> list[tuple[str, str]]:
    """The CORS headers of an answer on a route with this rule, errors included; origin "" for none."""
    found = [(str(hdrs.VARY), "Origin")]
    if not origin:
        return found
    options = _options(rule)
    allowed = options.get(origin) or options.get("*")
    if allowed is None:
        return found
    found.append((hdrs.ACCESS_CONTROL_ALLOW_ORIGIN, origin if origin in options else "*"))
    if allowed.allow_credentials:
        found.append((hdrs.ACCESS_CONTROL_ALLOW_CREDENTIALS, "true"))
    if rule.expose:
        found.append((hdrs.ACCESS_CONTROL_EXPOSE_HEADERS, ", ".join(rule.expose)))
    return found


def decorate(rule: CorsRule, origin: str, to: CIMultiDict[str]) -> None:
    """Add them to an answer of ours. A Vary that is there stays; a second one is as good as a list."""
    for name, value in headers(rule, origin):
        to.add(name, value)
