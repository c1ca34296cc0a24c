"""Pages of the admin API that are read: their entity tags, and YAML for who asks for it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from aiohttp import hdrs, web

from gateway.admin import guard
from gateway.admin.body import JSON
from gateway.admin.pieces import gathered, json_bytes
from gateway.admin.v1 import asked
from gateway.core.config.operator import Role
from gateway.core.redact import redact_pieces
from gateway.documents.request import head

_YAML_TYPE = asked.YAML[0]
# Whoever has it asks whether it is the same still. A proxy that compresses it makes its entity tag weak, and
# If-Match takes strong ones only (RFC 9110 section 13.1.1): every change would be refused.
_KEPT = "private, no-cache, no-transform"
SHOWN = "-shown"  # in the entity tag of a text that was not shown whole


async def shown(request: web.Request, text: str) -> str:
    """A config's text, as who asks may see it: a viewer without what resembles a secret in it (in a comment;
    no key of the config holds one)."""
    if guard.operator(request).role >= Role.EDITOR:
        return text
    return (await gathered(redact_pieces(text))).decode()


def text_tag(digest: str, *, whole: bool) -> str:
    """The entity tag of a config's text, without its quotes. whole: it is shown as it is."""
    return digest if whole else f"{digest}{SHOWN}"


async def json_page(
    request: web.Request, body: Any, *, tag: str = "", headers: Mapping[str, str] | None = None
) -> web.Response:
    """A page of JSON, 304 where its client has it. tag: what its entity tag begins with."""
    text = await json_bytes(body)
    digest = hashlib.sha256(text).hexdigest()[:16]
    etag = f'"{tag}-{digest}"' if tag else f'"{digest}"'
    return _page(request, text, etag, JSON, headers)


def yaml_page(
    request: web.Request, text: str, etag: str, headers: Mapping[str, str] | None = None
) -> web.Response:
    """A text, 304 where its client has it. etag: without its quotes."""
    return _page(request, text.encode(), f'"{etag}"', _YAML_TYPE, headers)


def object_page(request: web.Request, value: Any, etag: str, headers: Mapping[str, str]) -> web.Response:
    """An object of the config, as JSON."""
    text = json.dumps(value, ensure_ascii=False, indent=2) + "\n"
    return _page(request, text.encode(), etag, JSON, headers)


def _page(
    request: web.Request, body: bytes, etag: str, media_type: str, headers: Mapping[str, str] | None
) -> web.Response:
    """Raises BadRequest, PreconditionFailed."""
    given = {
        hdrs.ETAG: etag,
        hdrs.CACHE_CONTROL: _KEPT,
        hdrs.VARY: "Accept, Authorization",
        **(headers or {}),
    }
    if head.is_current(asked.precondition(request), etag):
        return web.Response(status=304, headers=given)
    return web.Response(body=body, content_type=media_type, charset="utf-8", headers=given)


def etag_of(value: Any) -> str:
    """The entity tag of an object of the config, by what it says."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def wants_yaml(request: web.Request) -> bool:
    """Whether Accept (RFC 9110 section 12.5.1) prefers YAML to JSON."""
    accept = ",".join(request.headers.getall(hdrs.ACCEPT, ()))
    return max(_weight(accept, one) for one in asked.YAML) > _weight(accept, JSON)


def _weight(accept: str, media_type: str) -> float:
    """That of the most specific range which has the type; 0.0 for none."""
    found, specific = 0.0, -1
    for part in accept.split(","):
        name, *parameters = (one.strip().lower() for one in part.split(";"))
        ranges = (media_type, f"{media_type.split('/')[0]}/*", "*/*")
        if name not in ranges or (rank := 2 - ranges.index(name)) <= specific:
            continue
        weight = next((one[2:] for one in parameters if one.startswith("q=")), "1")
        try:
            found, specific = float(weight), rank
        except ValueError:
            continue
    return found
