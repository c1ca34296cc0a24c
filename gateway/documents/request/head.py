"""What the head of a request to documents says: the scopes of its token, the path by which its client knows
the documents, the parameters of its query, its preconditions (RFC 9110 sections 13.1.1 and 13.1.2) and its
idempotency key. Its body is read in content.py.

Of scopes the policy is in core/policy/access.py; an action is a method, or MANAGE.

Idempotency-Key (draft-ietf-httpapi-idempotency-key-header): a write that is sent twice happens once. The key
is a string of RFC 8941, in quotes; many clients leave them out, so that is understood too. It belongs to the
tenant. A second request counts as the same one when its subject, method, path, query, preconditions, media
type and body are equal; any other request with the key is refused (422).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from urllib.parse import parse_qsl

from gateway.call import Call
from gateway.core.errors import BadRequest
from gateway.core.http.head import Head
from gateway.core.policy import access
from gateway.core.policy.forwarding import public_prefix
from gateway.runtime import threads
from gateway.store.model.document import ANY, UNCONDITIONAL, Precondition, names
from gateway.store.model.idempotency import IdempotencyKey
from gateway.store.model.query import DEFAULT_LIMIT, MAX_LIMIT

Parameters = Mapping[str, str]

_MAX_NAME = 64  # characters of a parameter's name that an error repeats
MAX_TAGS = 100
# entity-tag = [ "W/" ] DQUOTE *etagc DQUOTE; what obs-text would add is left out, we never make it.
_tag = re.compile(r'[ \t]*(W/)?("[\x21\x23-\x7e]*")[ \t]*(?:,|$)')
_empty = re.compile(r"[ \t]*(?:,|$)")
_KEY = "Idempotency-Key"
_KEY_NAME = _KEY.lower().encode()
REPLAYED = "Idempotency-Replayed"
_quoted = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"').fullmatch
_bare = re.compile(r"[\x21\x23-\x2b\x2d-\x7e]*").fullmatch
_INLINE_BYTES = 64 * 1024  # of a body that the event loop digests itself; a longer one takes milliseconds
_COMPARED_HEADERS = (b"if-match", b"if-none-match", b"content-type")


def require_scopes(call: Call, collection: str, *actions: str) -> None:
    """Raises Forbidden unless the token may do all of these in the collection."""
    assert call.route is not None and call.identity is not None
    access.require_in(call.route, actions, collection, call.identity)


def require_scopes_somewhere(call: Call, action: str) -> None:
    """Raises Forbidden unless the token may do this in at least one collection."""
    assert call.route is not None and call.identity is not None
    access.require_in_some(call.route, action, call.identity)


def may(call: Call, collection: str, action: str) -> bool:
    """Whether the token may do this in the collection."""
    assert call.route is not None and call.identity is not None
    return access.allows(call.route, action, collection, call.identity)


def base_path(call: Call) -> str:
    """The public path of the documents: what proxies before the gateway have stripped, and what the route
    strips."""
    assert call.route is not None
    return public_prefix(call.forwarded) + call.route.strip.rstrip("/")


def parameters(call: Call, known: tuple[str, ...] = ()) -> Parameters:
    """The parameters by name, each at most once and one of `known`. Raises BadRequest; its member `parameter`
    names the one that is wrong."""
    return parameters_from(call.query, known)


def parameters_from(query: str, known: tuple[str, ...] = ()) -> Parameters:
    """As `parameters`, of the query as it stands in the target."""
    if not query:
        return {}
    pairs = []
    if query.isascii():
        try:
            pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True, errors="strict")
        except ValueError:  # UnicodeDecodeError is one too
            pairs = []
    if not pairs:
        raise BadRequest("The query is not name=value pairs with & between, percent-encoded UTF-8.")
    found: dict[str, str] = {}
    for name, value in pairs:
        if name not in known:
            allowed = f"Known here: {', '.join(known)}." if known else "None is known here."
            raise _wrong(name, f"A query parameter is unknown. {allowed}")
        if name in found:
            raise _wrong(name, "A query parameter is there more than once.")
        found[name] = value
    return found


def limit(given: Parameters) -> int:
    """How many items a page may hold, from 1 to MAX_LIMIT. Raises BadRequest."""
    text = given.get("limit", str(DEFAULT_LIMIT))
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= MAX_LIMIT):
        raise _wrong("limit", f"limit is a number from 1 to {MAX_LIMIT}.")
    return int(text)


def flag(given: Parameters, name: str, default: bool = False) -> bool:
    """A parameter that is true or false. Raises BadRequest."""
    text = given.get(name, "true" if default else "false")
    if text not in ("true", "false"):
        raise _wrong(name, f"{name} is true or false.")
    return text == "true"


@contextmanager
def in_parameter(name: str) -> Iterator[None]:
    """A BadRequest raised meanwhile names this parameter (or header) in its member `parameter`."""
    try:
        yield
    except BadRequest as error:
        error.with_members(parameter=name)
        raise


def _wrong(name: str, detail: str) -> BadRequest:
    return BadRequest(detail, extra={"parameter": name[:_MAX_NAME]})


def precondition(head: Head) -> Precondition:
    """The precondition of a request; UNCONDITIONAL without one. Raises BadRequest for a header that is not a
    list of entity tags."""
    return precondition_from(head.values(b"if-match"), head.values(b"if-none-match"))


def precondition_from(match: Sequence[str], none_match: Sequence[str]) -> Precondition:
    """As `precondition`, of the values of both headers."""
    if not match and not none_match:
        return UNCONDITIONAL
    return Precondition(
        entity_tags("If-Match", match, weak=False) if match else None,
        entity_tags("If-None-Match", none_match, weak=True) if none_match else None,
    )


def is_current(asked: Precondition, etag: str) -> bool:
    """Whether the client of a read has the version with this tag already, so that the response is 304:
    If-Match is evaluated first (raises PreconditionFailed), then If-None-Match (RFC 9110 section 13.2.2)."""
    if asked.match is not None:
        Precondition(match=asked.match).require(etag)
    return asked.none_match is not None and names(asked.none_match, etag)


def entity_tags(header: str, lines: Sequence[str], *, weak: bool) -> frozenset[str]:
    """The opaque tags in the values of a header, or ANY. weak: weak tags count too, as a weak comparison has
    it; else they are left out. Raises BadRequest, whose detail names the header."""
    value = ", ".join(lines).strip(" \t")
    if value == ANY:
        return frozenset({ANY})
    tags: list[str] = []
    at = listed = 0
    while at < len(value):
        found = _tag.match(value, at)
        if found is None:
            found = _empty.match(value, at)  # RFC 9110 section 5.6.1: empty elements are ignored
            if found is None:
                raise BadRequest(f'{header} is * or a list of quoted entity tags, as in "abc-1", "def-2".')
        else:
            listed += 1
            if weak or found[1] is None:
                tags.append(found[2])
        at = found.end()
    if not 1 <= listed <= MAX_TAGS:
        raise BadRequest(f"{header} names 1 to {MAX_TAGS} entity tags, or is *.")
    return frozenset(tags)


def check_idempotency_key(call: Call) -> str | None:
    """The key of a request, None without one. To be called before the body is read, which would be in vain
    with an invalid key. Raises BadRequest."""
    lines = call.head.values(_KEY_NAME)
    if not lines:
        return None
    quoted = _quoted(lines[0])
    if len(lines) > 1 or not (quoted or _bare(lines[0])):
        raise BadRequest(f'{_KEY} is one string, as in "8e03978e-40d5-43dd-bc93-6894a57f9324".')
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else lines[0]
    return IdempotencyKey(key, b"").key


async def idempotency_key(call: Call, raw: bytes) -> IdempotencyKey | None:
    """The key of a write with this body, and its fingerprint; None without one. Raises BadRequest."""
    key = check_idempotency_key(call)
    if key is None:
        return None
    if len(raw) <= _INLINE_BYTES:
        return IdempotencyKey(key, _fingerprint(call, raw))
    return IdempotencyKey(key, await threads.run(threads.PARSE, _fingerprint, call, raw))


def refuse_idempotency_key(call: Call, instead: str) -> None:
    """Raises BadRequest when a request has a key that would be ignored. instead: what to do, a sentence."""
    if call.head.values(_KEY_NAME):
        raise BadRequest(f"{_KEY} is not heeded here. {instead}")


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
