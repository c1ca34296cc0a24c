"""Header lines: read once, remembered. Peers send the same few lines again and again, so each distinct line
is validated and classified the first time (RFC 9110 section 5.5, RFC 9112 section 5) and looked up after.
What a line means depends on its bytes alone, so no peer changes how another's line is read.

Strict: a name is a token, nothing stands before its colon, a value holds no control character but tab; bare
CR, bare LF, NUL and folded lines are refused. Lines that may hold secrets are never remembered.

And the rules for them: what a hop may not pass on, and what a client may not say. Names are compared in lower
case.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")

MAX_REMEMBERED = 4096  # lines
MAX_LENGTH = 256  # bytes of a line that is worth remembering
# Possessive: the white space and the value share characters, and 64 KiB of spaces before a NUL would be tried
# in every way to divide them (15 s, measured).
line_pattern = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]++):[ \t]*+([\t\x20-\x7e\x80-\xff]*+)").fullmatch
_name = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++:").match
_NO_VALUE = bytes(byte for byte in range(128) if (byte < 0x20 and byte != 0x09) or byte == 0x7F)
# By name (lower case), wherever a credential may stand: X-Api-Key, X-CSRF-Token; a Location may hold a code,
# Sec-WebSocket-Protocol a token.
_secret = re.compile(
    rb"auth|identity|cookie|token|secret|passw|session|signature|[cx]srf|jwt|key|location|referer|protocol"
).search

# RFC 9110 section 7.6.1, and what older peers still send.
HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
# Set by us or not at all, never by the client; and every other X-Forwarded-*, see `is_ours`.
OURS = frozenset(
    {
        "x-request-id",
        "x-gateway-identity",
        "x-tenant",
        "x-subject",
        "x-scopes",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-prefix",
        "x-request-start",
        "x-request-deadline",
        "x-request-timeout",
        "x-real-ip",
        "forwarded",
        # RFC 9440: what the client's certificate is, says whoever verified it.
        "client-cert",
        "client-cert-chain",
        # From these an application may take another path than the one that was authorised.
        "x-original-url",
        "x-original-uri",
        "x-rewrite-url",
        "x-script-name",
        # A CGI script finds it as HTTP_PROXY, and so do the libraries that it calls out with ("httpoxy").
        "proxy",
    }
)


def is_long_line(line: bytes) -> bool:
    """Whether `line_pattern` would match, for a long line: three times as fast as that (16 KiB: 16 µs)."""
    return _name(line) is not None and len(line.translate(None, _NO_VALUE)) == len(line)


class LineCache(Generic[K]):
    """A bounded memory of `classify(name, value, line)` by line. classify gets the name in lower case and the
    value without surrounding white space; it may raise ValueError."""

    __slots__ = ("_classify", "_known", "get")

    def __init__(self, classify: Callable[[bytes, bytes, bytes], K]) -> None:
        self._classify = classify
        self._known: dict[bytes, K] = {}
        self.get = self._known.get

    def learn(self, line: bytes) -> K:
        """Classify a line that `get` does not know. Raises ValueError when it is not a header line."""
        found = line_pattern(line)
        if found is None:
            raise ValueError("it is not a header line")
        name = found[1].lower()
        kind = self._classify(name, found[2].rstrip(b" \t"), line)
        if len(line) <= MAX_LENGTH and _secret(name) is None:
            if len(self._known) >= MAX_REMEMBERED:
                self._known.clear()
            self._known[line] = kind
        return kind


def is_ours(name: str) -> bool:
    """Whether a header is the gateway's to set, so that a client's is dropped. name: in lower case."""
    return name in OURS or name.startswith("x-forwarded-")
