"""Idempotency-Key (draft-ietf-httpapi-idempotency-key-header): a write that is sent twice happens once.

The key is a string of RFC 8941, in quotes; many clients leave them out, so that is understood too. It belongs
to the tenant. A second request counts as the same one when its subject, method, path, query, preconditions,
media type and body are equal; any other request with the key is refused (422).
"""

from __future__ import annotations

import hashlib
import re

from gateway.call import Call
from gateway.core.errors import BadRequest
from gateway.runtime import threads
from gateway.store.model.idempotency import IdempotencyKey

HEADER = "Idempotency-Key"
_NAME = HEADER.lower().encode()
REPLAYED = "Idempotency-Replayed"

_quoted = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"').fullmatch
_bare = re.compile(r"[\x21\x23-\x2b\x2d-\x7e]*").fullmatch
_INLINE_BYTES = 64 * 1024  # of a body that the event loop digests itself; a longer one takes milliseconds
_COMPARED_HEADERS = (b"if-match", b"if-none-match", b"content-type")


def check(call: Call) -> str | None:
    """The key of a request, None without one. To be called before the body is read, which would be in vain
    with an invalid key. Raises BadRequest."""
    lines = call.head.values(_NAME)
    if not lines:
        return None
    quoted = _quoted(lines[0])
    if len(lines) > 1 or not (quoted or _bare(lines[0])):
        raise BadRequest(f'{HEADER} is one string, as in "8e03978e-40d5-43dd-bc93-6894a57f9324".')
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else lines[0]
    return IdempotencyKey(key, b"").key


async def read(call: Call, raw: bytes) -> IdempotencyKey | None:
    """The key of a write with this body, and its fingerprint; None without one. Raises BadRequest."""
    key = check(call)
    if key is None:
        return None
    if len(raw) <= _INLINE_BYTES:
        return IdempotencyKey(key, _fingerprint(call, raw))
    return IdempotencyKey(key, await threads.run(threads.PARSE, _fingerprint, call, raw))


def refuse(call: Call, instead: str) -> None:
    """Raises BadRequest when a request has a key that would be ignored. instead: what to do, a sentence."""
    if call.head.values(_NAME):
        raise BadRequest(f"{HEADER} is not heeded here. {instead}")


def replayed(key: IdempotencyKey | None) -> dict[str, str]:
    """The header of a replayed response; none for the first response, or without a key."""
    return {REPLAYED: "true"} if key is not None and key.replayed else {}


def _fingerprint(call: Call, raw: bytes) -> bytes:
    subject = call.identity.subject if call.identity is not None else ""
    parts = [subject, call.method, call.subpath, call.query]
    parts += [", ".join(call.head.values(name)) for name in _COMPARED_HEADERS]
    digest = hashlib.sha256()
    for part in [*(part.encode("utf-8", "surrogateescape") for part in parts), raw]:
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.digest()
