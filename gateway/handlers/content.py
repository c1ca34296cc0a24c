"""What comes in a body: its media type, its bytes, and parsing them without holding up other calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from aiohttp import hdrs

from gateway.call import Call
from gateway.core.errors import UnsupportedMediaType
from gateway.edge import body
from gateway.store import large
from gateway.store.document import LargeMembers, Members, parse_members
from gateway.store.large import is_light
from gateway.store.patch import LargePatch, MergePatch, Patch, parse_json_patch
from gateway.store.port import TenantStore

T = TypeVar("T")

@dataclass(frozen=True, slots=True)
class Accepted:
    """Media types that a method takes. header: the one that tells of them (Accept-Patch is RFC 5789's,
    Accept-Query that of the QUERY method)."""

    types: tuple[str, ...]
    header: str

    @property
    def line(self) -> dict[str, str]:
        return {self.header: ", ".join(self.types)}


MERGE_PATCH_TYPE = "application/merge-patch+json"
JSON_PATCH_TYPE = "application/json-patch+json"
NDJSON_TYPE = "application/x-ndjson"

JSON = Accepted(("application/json",), str(hdrs.ACCEPT))
PATCH = Accepted((MERGE_PATCH_TYPE, JSON_PATCH_TYPE, "application/json"), "Accept-Patch")
MERGE_PATCH = Accepted((MERGE_PATCH_TYPE, "application/json"), "Accept-Patch")
QUERY = Accepted(("application/json",), "Accept-Query")
NDJSON = Accepted((NDJSON_TYPE, "application/ndjson", "application/jsonl"), str(hdrs.ACCEPT))


def check(call: Call, accepted: Accepted) -> str:
    """The body's media type. Raises UnsupportedMediaType, with what is accepted. Accept-Encoding is there
    only where the coding was the reason (RFC 9110 section 12.5.3)."""
    media_type, _, parameters = "".join(call.head.values(b"content-type")).partition(";")
    media_type = media_type.strip().lower()
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    codings = call.head.values(b"content-encoding")
    coded = bool(codings) and [coding.lower() for coding in codings] != ["identity"]
    if media_type not in accepted.types or charset not in ("", "utf-8") or coded:
        detail = f"Send {' or '.join(accepted.types)} in UTF-8, without a content coding."
        tells = dict(accepted.line)
        if call.method == "POST":
            tells["Accept-Post"] = ", ".join(accepted.types)
        if coded:
            tells[hdrs.ACCEPT_ENCODING] = "identity"
        raise UnsupportedMediaType(detail, headers=tells)
    return media_type


async def read(call: Call, accepted: Accepted) -> bytes:
    """The whole body. Raises UnsupportedMediaType, and what body.read raises."""
    check(call, accepted)
    return await body.read(call)


async def members(store: TenantStore, raw: bytes, identifier: str | None) -> Members:
    """A body as a document's members. Raises as parse_members."""
    if is_light(raw):
        return parse_members(raw, identifier)
    return LargeMembers(await store.work(large.members_text, raw, identifier))


async def patch(store: TenantStore, raw: bytes, identifier: str, media_type: str) -> Patch:
    """A body as a patch of a document. Raises as parse_members and parse_json_patch."""
    array = media_type == JSON_PATCH_TYPE
    if is_light(raw):
        return parse_json_patch(raw) if array else MergePatch(parse_members(raw, identifier))
    if array:
        return LargePatch(True, await store.work(large.json_patch_text, raw))
    return LargePatch(False, await store.work(large.merge_patch_text, raw, identifier))


async def parse(store: TenantStore, raw: bytes, parser: Callable[[bytes], T]) -> T:
    """What `parser`, a function of a module, makes of a body that holds no document: small, whatever came."""
    return parser(raw) if is_light(raw) else await store.work(parser, raw)
