"""The body of a request: its media type, its bytes, and parsing them without blocking the event loop."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from aiohttp import hdrs

from gateway.call import Call
from gateway.core.errors import BadRequest, Unprocessable, UnsupportedMediaType
from gateway.edge.client import body
from gateway.store.json import large
from gateway.store.json.large import is_light
from gateway.store.model.document import LargeMembers, Members, parse_members
from gateway.store.model.patch import LargePatch, MergePatch, Patch, parse_json_patch
from gateway.store.port import TenantStore

T = TypeVar("T")
_UTF_8 = frozenset({"utf-8", "utf8"})


@dataclass(frozen=True, slots=True)
class Accepted:
    """The media types that a method takes. header: the response header that lists them (Accept-Patch is from
    RFC 5789, Accept-Query from the QUERY method)."""

    types: tuple[str, ...]
    header: str

    @property
    def headers(self) -> dict[str, str]:
        """The response header that lists the types."""
        return {self.header: ", ".join(self.types)}


MERGE_PATCH_TYPE = "application/merge-patch+json"
JSON_PATCH_TYPE = "application/json-patch+json"
NDJSON_TYPE = "application/x-ndjson"

JSON = Accepted(("application/json",), str(hdrs.ACCEPT))
PATCH = Accepted((MERGE_PATCH_TYPE, JSON_PATCH_TYPE, "application/json"), "Accept-Patch")
MERGE_PATCH = Accepted((MERGE_PATCH_TYPE, "application/json"), "Accept-Patch")
QUERY = Accepted(("application/json",), "Accept-Query")
NDJSON = Accepted((NDJSON_TYPE, "application/ndjson", "application/jsonl"), str(hdrs.ACCEPT))


# Media types as RFC 9110 section 8.3.1 writes them: `application/json; charset="utf-8"; version=1;`.
_WORD = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_media_type = re.compile(rf"[ \t]*({_WORD}/{_WORD})[ \t]*(?:;|\Z)")
# RFC 9110 section 5.6.6: a parameter may be left out between two semicolons, and behind the last one.
_QUOTED = r"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\U0010ffff]|\\[\t \x21-\x7e\x80-\U0010ffff])*"
_parameter = re.compile(rf'[ \t]*(?:({_WORD})=(?:({_WORD})|"({_QUOTED})"))?[ \t]*(?:;|\Z)')
_escaped = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class MediaType:
    """name: in small letters. parameters: their names in small letters, their values as they were meant."""

    name: str
    parameters: tuple[tuple[str, str], ...] = ()


def parse_media_type(value: str) -> MediaType | None:
    """The media type that a header's value tells; None when it is not one."""
    found = _media_type.match(value)
    if found is None:
        return None
    name, position = found[1].lower(), found.end()
    parameters = []
    while position < len(value):
        found = _parameter.match(value, position)
        if found is None or found.end() == position:
            return None
        position = found.end()
        if found[1] is not None:
            text = found[2] if found[2] is not None else _escaped.sub(r"\1", found[3])
            parameters.append((found[1].lower(), text))
    return MediaType(name, tuple(parameters))


def check(call: Call, accepted: Accepted) -> str:
    """The body's media type, checked. Its parameters are ignored, but for a charset other than UTF-8 (JSON
    has no such parameter, RFC 8259 section 11). Raises UnsupportedMediaType with the headers that list what
    is accepted; Accept-Encoding is there only where the coding was the reason (RFC 9110 section 12.5.3)."""
    lines = call.head.values(b"content-type")
    if len(lines) == 1 and lines[0] in accepted.types and not call.head.values(b"content-encoding"):
        return lines[0]
    given = parse_media_type(", ".join(lines))
    codings = call.head.values(b"content-encoding")
    coded = bool(codings) and [coding.lower() for coding in codings] != ["identity"]
    if given is None:
        why = "The Content-Type is no media type." if lines else "There is no Content-Type."
    elif given.name not in accepted.types:
        why = "The body is of another media type."
    elif any(name == "charset" and value.lower() not in _UTF_8 for name, value in given.parameters):
        why = "The charset is another one than UTF-8, which JSON is written in."
    elif coded:
        why = "The body has a content coding."
    else:
        return given.name
    detail = f"{why} Send {' or '.join(accepted.types)} in UTF-8, without a content coding."
    headers = accepted.headers
    if call.method == "POST":
        headers["Accept-Post"] = ", ".join(accepted.types)
    if coded:
        headers[hdrs.ACCEPT_ENCODING] = "identity"
    raise UnsupportedMediaType(detail, headers=headers)


async def read(call: Call, accepted: Accepted) -> bytes:
    """The whole body. Raises UnsupportedMediaType, and what body.read raises."""
    check(call, accepted)
    return await body.read(call)


async def members(store: TenantStore, raw: bytes, identifier: str | None) -> Members:
    """A body as the members of the document with this id; None: the store makes the id. Raises as
    parse_members."""
    if is_light(raw):
        return parse_members(raw, identifier)
    return LargeMembers(await store.work(large.members_text, raw, identifier))


async def patch(store: TenantStore, raw: bytes, identifier: str, media_type_name: str) -> Patch:
    """A body of this media type as a patch of a document. Raises as parse_members and parse_json_patch."""
    array = media_type_name == JSON_PATCH_TYPE
    if is_light(raw):
        return parse_json_patch(raw) if array else MergePatch(parse_members(raw, identifier))
    if array:
        return LargePatch(True, await store.work(large.json_patch_text, raw))
    return LargePatch(False, await store.work(large.merge_patch_text, raw, identifier))


async def parse(store: TenantStore, raw: bytes, parser: Callable[[bytes], T]) -> T:
    """The result of `parser`, a module-level function, for a body that holds no document. The result is
    small, however large the body is."""
    return parser(raw) if is_light(raw) else await store.work(parser, raw)


@contextmanager
def in_body(pointer: str) -> Iterator[None]:
    """The errors of a BadRequest or Unprocessable raised meanwhile are at or below this JSON pointer into the
    body."""
    try:
        yield
    except (BadRequest, Unprocessable) as error:
        error.below(pointer)
        raise
