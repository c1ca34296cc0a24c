"""Reading If-Match and If-None-Match (RFC 9110 sections 13.1.1 and 13.1.2)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gateway.core.errors import BadRequest
from gateway.core.http.head import Head
from gateway.store.model.document import ANY, UNCONDITIONAL, Precondition, names

MAX_TAGS = 100

# entity-tag = [ "W/" ] DQUOTE *etagc DQUOTE; what obs-text would add is left out, we never make it.
_tag = re.compile(r'[ \t]*(W/)?("[\x21\x23-\x7e]*")[ \t]*(?:,|$)')
_empty = re.compile(r"[ \t]*(?:,|$)")


def read(head: Head) -> Precondition:
    """The precondition of a request; UNCONDITIONAL without one. Raises BadRequest for a header that is not a
    list of entity tags."""
    return from_values(head.values(b"if-match"), head.values(b"if-none-match"))


def from_values(match: Sequence[str], none_match: Sequence[str]) -> Precondition:
    """As read, of the values of both headers."""
    if not match and not none_match:
        return UNCONDITIONAL
    return Precondition(
        parse("If-Match", match, weak=False) if match else None,
        parse("If-None-Match", none_match, weak=True) if none_match else None,
    )


def is_current(precondition: Precondition, etag: str) -> bool:
    """Whether the client of a read has the version with this tag already, so that the response is 304:
    If-Match is evaluated first (raises PreconditionFailed), then If-None-Match (RFC 9110 section 13.2.2)."""
    if precondition.match is not None:
        Precondition(match=precondition.match).require(etag)
    return precondition.none_match is not None and names(precondition.none_match, etag)


def parse(header: str, lines: Sequence[str], *, weak: bool) -> frozenset[str]:
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
