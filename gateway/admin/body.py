"""The bodies of the admin listener's requests and responses: objects of JSON."""

from __future__ import annotations

from typing import Any

from aiohttp import hdrs, web

from gateway.admin.pieces import json_bytes
from gateway.admin.serve import body_of
from gateway.core.errors import BadRequest, UnsupportedMediaType
from gateway.store.json import strict

JSON = "application/json"


def content_type(request: web.Request, *taken: str) -> str:
    """The media type of the body, one of those that are taken. Raises UnsupportedMediaType."""
    given, charset = request.content_type, (request.charset or "utf-8").lower()
    if hdrs.CONTENT_TYPE not in request.headers or given not in taken:
        raise UnsupportedMediaType(f"Send it as Content-Type: {' or '.join(taken)}.")
    if charset not in ("utf-8", "utf8"):
        raise UnsupportedMediaType("The text is to be in UTF-8.")
    if (coding := request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower()) != "identity":
        raise UnsupportedMediaType(f"Send it as it is, and not with Content-Encoding: {coding[:40]}.")
    return given


def value(request: web.Request) -> Any:
    """The body's value, of strict JSON. Raises BadRequest, Unprocessable."""
    return strict.read(body_of(request), "body", "The body is not accepted.")


def object_of(found: Any, known: tuple[str, ...]) -> dict[str, Any]:
    """An object that has no other members than these. Raises BadRequest."""
    if not isinstance(found, dict):
        raise BadRequest("The body is not an object.")
    for name in found:
        if name not in known:
            raise BadRequest(f"There is no member of that name; there are {', '.join(known)}.")
    return found


class Members:
    """The members of a request's body, an object of JSON. names: those that there are. Raises
    UnsupportedMediaType, BadRequest."""

    def __init__(self, request: web.Request, names: tuple[str, ...]) -> None:
        content_type(request, JSON)
        self._found = object_of(value(request), names)

    def text(self, name: str) -> str:
        """The member's text, "" where it is not there. A list of scopes is one text."""
        value = self._found.get(name, "")
        if name == "scopes" and isinstance(value, list):
            value = " ".join(map(str, value))
        if not isinstance(value, str):
            raise BadRequest(f"The member {name} is not a text.")
        return value

    def texts(self, name: str) -> dict[str, str]:
        """An object whose members are texts; empty where it is not there."""
        value = self._found.get(name, {})
        if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
            raise BadRequest(f"The member {name} is not an object of texts.")
        return value

    def moment(self, name: str, now: float) -> float:
        """Seconds since the epoch of a number or of "now"; 0.0 where it is not there."""
        value = self._found.get(name, 0)
        if value == "now":
            return now
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise BadRequest(f'The member {name} is not "now" or a number of seconds since the epoch.')
        return float(value)


async def json_response(body: Any, status: int = 200) -> web.Response:
    """A response of JSON that nobody keeps: it may hold a secret, and is old at once."""
    text = await json_bytes(body)
    headers = {hdrs.CACHE_CONTROL: "no-store"}
    return web.Response(
        body=text, status=status, content_type="application/json", charset="utf-8", headers=headers
    )
