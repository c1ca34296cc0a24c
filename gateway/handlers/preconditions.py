"""Reading If-Match and If-None-Match (RFC 9110 sections 13.1.1 and 13.1.2)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from aiohttp import hdrs

from gateway.call import Call
from gateway.core.errors import BadRequest
from gateway.store.document import ANY, Precondition

MAX_TAGS = 100

# entity-tag = [ "W/" ] DQUOTE *etagc DQUOTE; what obs-text would add is left out, we never make it.
_tag = re.compile(r'[ \t]*(W/)?("[\x21\x23-\x7e]*")[ \t]*(?:,|$)')
_empty = re.compile(r"[ \t]*(?:,|$)")


def read(call: Call) -> Precondition:
    """The precondition of a request. Raises BadRequest for a header that is not a list of entity tags."""
    match = _read(hdrs.IF_MATCH, call.headers.getall(hdrs.IF_MATCH, ()), weak=False)
    none_match = _read(hdrs.IF_NONE_MATCH, call.headers.getall(hdrs.IF_NONE_MATCH, ()), weak=True)
    return Precondition(match, none_match)


def _read(header: str, lines: Sequence[str], *, weak: bool) -> frozenset[str] | None:
    """The opaque tags of a header; weak ones only where a weak comparison is asked."""
    if not lines:
        return None
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
