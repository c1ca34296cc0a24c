"""What a CORS rule allows to a page of another origin (the Fetch standard, section 3.3)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from gateway.core.errors import BadRequest, Forbidden
from gateway.core.model import CorsRule

_name = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+").fullmatch


def allows_origin(rule: CorsRule | None, origin: str) -> bool:
    """Whether a page of this origin may read a response; False for a request without one."""
    return rule is not None and bool(origin) and ("*" in rule.origins or origin in rule.origins)


def allows_method(rule: CorsRule, method: str) -> bool:
    """HEAD reads no more than GET."""
    asked = {method.upper(), "GET"} if method == "HEAD" else {method.upper()}
    return not rule.methods or not asked.isdisjoint(rule.methods)


def check_preflight(
    rule: CorsRule | None, origin: str, asked: Sequence[str], wanted: Iterable[str]
) -> list[str]:
    """The names of headers that a preflight asks for, each once. asked, wanted: the lines of
    Access-Control-Request-Method and -Headers. Raises Forbidden when it is denied, BadRequest when it cannot
    be understood."""
    if rule is None:
        raise Forbidden("This route does not allow requests from other origins.")
    if not allows_origin(rule, origin):
        raise Forbidden("This route does not allow requests from that origin.")
    if len(asked) != 1:
        raise BadRequest("A preflight asks for exactly one method.")
    if not allows_method(rule, asked[0]):
        raise Forbidden("This route does not allow that method from other origins.")
    names = _wanted(wanted)
    allowed = {name.lower() for name in rule.headers}
    if "*" not in allowed and not allowed.issuperset(names):
        raise Forbidden("This route does not allow one of those headers from other origins.")
    return names


def _wanted(values: Iterable[str]) -> list[str]:
    """The names in Access-Control-Request-Headers; a list may have empty members (RFC 9110 section 5.6.1.2).
    Raises BadRequest."""
    listed = (name.strip(" \t") for value in values for name in value.lower().split(","))
    wanted = list(dict.fromkeys(filter(None, listed)))
    if not all(map(_name, wanted)):
        raise BadRequest("Access-Control-Request-Headers is no list of header names.")
    return wanted
