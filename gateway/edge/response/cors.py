"""CORS (the Fetch standard, section 3.3): which pages of other origins may read the responses of a route.

aiohttp-cors' resource options hold what a rule allows. Its preflight handler is private and not used: it
answers with the requested method alone, sends no Vary, and echoes any origin for `*`. Each field is set
exactly once: a browser refuses a response that names its origin twice. On a route with a rule the gateway's
fields replace the backend's.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from aiohttp import hdrs, web
from aiohttp_cors import ResourceOptions
from multidict import CIMultiDict

from gateway.call import Call
from gateway.core.model import CorsRule
from gateway.core.policy.cors import allows_method, check_preflight

Fields = tuple[tuple[str, str], ...]
_PREFIX = b"access-control-"
_ORIGIN = ("Origin",)
_ASKED = ("Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers")


class _Policy:
    """A rule, ready to use. fields: of a response to each allowed origin. any: to others."""

    __slots__ = ("any", "fields", "options")

    def __init__(self, rule: CorsRule) -> None:
        self.options = ResourceOptions(
            allow_credentials=rule.credentials,
            expose_headers=rule.expose,
            allow_headers="*" if "*" in rule.headers else rule.headers,
            allow_methods=rule.methods or "*",
            max_age=rule.max_age,
        )
        more: list[tuple[str, str]] = []
        if self.options.allow_credentials:
            more.append((hdrs.ACCESS_CONTROL_ALLOW_CREDENTIALS, "true"))
        if rule.expose:
            more.append((hdrs.ACCESS_CONTROL_EXPOSE_HEADERS, ", ".join(rule.expose)))
        self.fields: dict[str, Fields] = {
            origin: ((hdrs.ACCESS_CONTROL_ALLOW_ORIGIN, origin), *more) for origin in rule.origins
        }
        self.any: Fields = self.fields.get("*", ())

    def response_fields(self, origin: str) -> Fields:
        """The fields of a response to a page of this origin; "" for a request without one."""
        return self.fields.get(origin, self.any) if origin else ()


_policy = lru_cache(maxsize=4096)(_Policy)


def is_preflight(call: Call) -> bool:
    """OPTIONS with an Origin and Access-Control-Request-Method: a browser's question, not its page's."""
    return call.method == "OPTIONS" and bool(call.head.asked) and bool(call.head.origins)


def preflight(rule: CorsRule | None, call: Call, methods: Iterable[str]) -> web.Response:
    """The response to a preflight on a route with this rule. methods: those that come to the route on the
    path.

    Its Access-Control-Allow-Origin is set by `decorate`, as on every response. Raises as `check_preflight`.
    """
    head = call.head
    asked = head.values(b"access-control-request-method")
    wanted = check_preflight(rule, call.origin, asked, head.values(b"access-control-request-headers"))
    assert rule is not None
    listed = [method for method in methods if allows_method(rule, method)]
    headers = {
        hdrs.ACCESS_CONTROL_ALLOW_METHODS: ", ".join(dict.fromkeys([*listed, asked[0]])),
        hdrs.ACCESS_CONTROL_MAX_AGE: str(rule.max_age),
    }
    # Said by name: `*` covers neither Authorization nor any request with credentials.
    allowed = wanted if _policy(rule).options.allow_headers == "*" else list(rule.headers)
    if allowed:
        headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = ", ".join(allowed)
    return web.Response(status=204, headers=headers)


def decorate(call: Call, to: CIMultiDict[str]) -> None:
    """Set the fields of a response of ours, errors included, in place of any that are there."""
    rule = call.cors
    if rule is None:
        return
    asked = is_preflight(call)
    for name, value in _policy(rule).response_fields(call.origin):
        if not (asked and name == hdrs.ACCESS_CONTROL_EXPOSE_HEADERS):  # it is about responses with content
            to[name] = value
    to[hdrs.VARY] = _vary(to.getall(hdrs.VARY, ()), _ASKED if asked else _ORIGIN)


def headers(rule: CorsRule, origin: str) -> list[tuple[str, str]]:
    """All fields of a response that has none of them yet; origin "" for a request without one."""
    return [(hdrs.VARY, "Origin"), *_policy(rule).response_fields(origin)]


def relayed(rule: CorsRule, origin: str, lines: bytes, *, speaks: bool) -> tuple[bytes, Fields]:
    """The header lines of a backend's response without its own word on other origins, and the fields that say
    the gateway's. speaks: whether there is a line about other origins, or a Vary, among them."""
    vary = "Origin"
    if speaks:
        kept, theirs = [], []
        for line in lines.splitlines(True):
            name = line[: len(_PREFIX)].lower()
            if name.startswith(b"vary:"):
                theirs.append(line[5:])
            elif name != _PREFIX:
                kept.append(line)
        lines, vary = b"".join(kept), _merged(b",".join(theirs))
    return lines, ((hdrs.VARY, vary), *_policy(rule).response_fields(origin))


def without(lines: bytes) -> bytes:
    """The header lines of a backend without what they say about other origins."""
    kept = [line for line in lines.splitlines(True) if not line.lower().startswith(_PREFIX)]
    return b"".join(kept)


@lru_cache(maxsize=1024)  # a backend says the same again and again
def _merged(theirs: bytes) -> str:
    return _vary([theirs.decode("latin-1").replace("\r\n", "")], _ORIGIN)


def _vary(there: Iterable[str], more: Iterable[str]) -> str:
    """One value of Vary for all: each name once, in any case of its letters; `*` says it all."""
    names = [name.strip(" \t") for value in there for name in value.split(",")]
    if "*" in names:
        return "*"
    found: dict[str, str] = {}
    for name in filter(None, (*more, *names)):
        found.setdefault(name.lower(), name)
    return ", ".join(found.values())
