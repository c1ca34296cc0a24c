"""What a request of the admin API says: its parameters, its reason, its body, its preconditions."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from aiohttp import hdrs, web

from gateway.admin import guard
from gateway.admin.body import JSON, content_type, object_of, value
from gateway.admin.serve import body_of
from gateway.config import source
from gateway.config.refusal import as_dict
from gateway.core.config.revision import Origin
from gateway.core.errors import BadRequest, InvalidConfig
from gateway.core.routing.amounts import parse_duration
from gateway.core.routing.problems import Problem, Problems
from gateway.documents.request import head
from gateway.runtime.files import not_utf8
from gateway.store.model.document import Precondition

MERGE_PATCH = "application/merge-patch+json"
YAML = ("application/yaml", "text/yaml", "application/x-yaml", "text/x-yaml")
REASON = "X-Reason"
CHANGE = ("reason", "confirm_within")  # the query's parameters of a change
MAX_REASON = 500  # characters
_DAY = 24 * 3600.0
# What would make a line of the audit look like another one: controls, line separators, marks of direction.
_MISLEADING = re.compile("[\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")


def parameters(request: web.Request, *known: str) -> Mapping[str, str]:
    """The parameters of the query, each one known and there once; `?text` is `?text=`. Raises BadRequest."""
    parts = request.rel_url.raw_query_string.split("&")
    query = "&".join(part if "=" in part or not part else f"{part}=" for part in parts)
    return head.parameters_from(query, known)


def number(text: str, name: str, most: int = 10**15) -> int:
    """A whole number from 0. Raises BadRequest."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 16 and int(text) <= most):
        raise BadRequest(f"{name} is a whole number.", extra={"parameter": name})
    return int(text)


def precondition(request: web.Request) -> Precondition:
    """If-Match and If-None-Match. Raises BadRequest."""
    lines = request.headers.getall
    return head.precondition_from(lines(hdrs.IF_MATCH, ()), lines(hdrs.IF_NONE_MATCH, ()))


def origin(request: web.Request, given: Mapping[str, Any]) -> Origin:
    """Who asks, and why. given: where `reason` may stand, beside the header. Raises BadRequest."""
    operator = guard.operator(request)
    reason = _reason(request, given)
    role = operator.role.name.lower()
    return Origin(operator.name, reason, "api", request.remote or "", role)


def _reason(request: web.Request, given: Mapping[str, Any]) -> str:
    text = given.get("reason", "")
    header = request.headers.get(REASON)
    if header is not None:
        if text:
            raise BadRequest(f"Give the reason once: as reason, or in {REASON}.")
        try:
            text = unquote(header, errors="strict")
        except UnicodeDecodeError:
            text = None
        if text is None or _BAD_ESCAPE.search(header) or not header.isascii():
            raise BadRequest(f"{REASON} is UTF-8 with % and two digits for what is not ASCII.")
    if not isinstance(text, str):
        raise BadRequest("reason is a text.")
    text = text.strip()
    if len(text) > MAX_REASON:
        raise BadRequest(f"reason has at most {MAX_REASON} characters.")
    if _MISLEADING.search(text) or any(unicodedata.category(one) in ("Cc", "Cs") for one in text):
        raise BadRequest("reason is one line without control characters.")
    return text


def confirm_by(given: Mapping[str, Any], now: float) -> float:
    """When a change goes back by itself, in seconds since the epoch; 0.0 for never. Raises BadRequest."""
    seconds = duration(given, "confirm_within")
    return 0.0 if seconds is None else now + seconds


def duration(given: Mapping[str, Any], name: str) -> float | None:
    """A duration in seconds, None where it is not given. Raises BadRequest."""
    text = given.get(name, "")
    if text in ("", None):
        return None
    try:
        seconds = parse_duration(text)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= _DAY:
        raise BadRequest(f"{name} is a duration from 1s to 24h, such as 60s.")
    return seconds


def members(request: web.Request, *known: str) -> dict[str, Any]:
    """The body's members, of an object of JSON; none of an empty body. Raises UnsupportedMediaType,
    BadRequest, Unprocessable."""
    if not body_of(request):
        return {}
    content_type(request, JSON)
    return object_of(value(request), known)


def config_text(request: web.Request) -> tuple[str, dict[str, Any]]:
    """The config that is sent: YAML, or JSON with the member `text`; and the other members of that. Raises
    UnsupportedMediaType, BadRequest, InvalidConfig."""
    if content_type(request, *YAML, JSON) == JSON:
        given = object_of(value(request), ("text", *CHANGE))
        text = given.pop("text", None)
        if not isinstance(text, str):
            raise BadRequest("The member text, the config in YAML, is missing.")
        return text, given
    return _decoded(body_of(request)), {}


async def object_value(request: web.Request) -> Any:
    """The object that is sent, in JSON or YAML. Raises UnsupportedMediaType, BadRequest, InvalidConfig."""
    if content_type(request, JSON, *YAML) == JSON:
        return value(request)
    try:
        return (await source.parse_apart(_decoded(body_of(request)))).data
    except Problems as problems:
        raise InvalidConfig(extra={"errors": [as_dict(one) for one in problems.items]}) from None


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        reason, hint = not_utf8(raw, error.start)
        raise InvalidConfig(extra={"errors": [as_dict(Problem((), reason, hint))]}) from None
