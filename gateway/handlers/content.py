"""What comes in a body: its media type, its bytes, and parsing them without holding up other calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from aiohttp import hdrs

from gateway import threads
from gateway.call import Call
from gateway.core.errors import UnsupportedMediaType
from gateway.edge import body

T = TypeVar("T")

# Beyond this many bytes a body is parsed in a thread, so that other calls go on meanwhile.
PARSE_INLINE = 64 * 1024


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


async def parse(raw: bytes, parser: Callable[[bytes], T]) -> T:
    """What `parser` makes of it, or raises."""
    if len(raw) <= PARSE_INLINE:
        return parser(raw)
    return await threads.run(threads.PARSE, parser, raw)
