"""Hops: through whom a message came, and how many more it may pass.

Via (RFC 9110 section 7.6.3) tells whether a request runs in a circle. A gateway's pseudonym is its
installation's own. A request that comes back with it is sent round by a backend, or by a proxy before us: it
is refused, before it takes every seat there is. An application that calls the gateway on its own makes a new
request, without a Via; only an intermediary copies the one that it received.

Max-Forwards (section 7.6.2) is for following an OPTIONS from hop to hop: it is sent with 0, 1, 2 and so on;
each intermediary counts it down, and at 0 it is the recipient. (TRACE, the other method that it is for, ends
here always.)
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence

from gateway.core.errors import LoopDetected
from gateway.core.http.head import Head

_comment = re.compile(r"\([^()]*\)")
pseudonym_pattern = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII).fullmatch
_MOST_FORWARDS = 2**31 - 1  # the largest number that is passed on
_forwards_line = re.compile(rb"^max-forwards:.*\r\n", re.IGNORECASE | re.MULTILINE)
_digits = re.compile(r"0*+([0-9]*+)", re.ASCII).fullmatch


def pseudonym(secret: bytes) -> str:
    """The name of an installation, made of a secret of its own; it tells nothing of the secret."""
    return f"gateway-{hmac.digest(secret, b'via', 'sha256').hex()[:12]}"


class Via:
    """What this gateway adds, and its loop check. responses: whether responses carry it too. loops: how often
    a request may come back; 0 for never. request_lines, response_lines: what is added for the backend and for
    the client, by whether the message came in HTTP/1.0."""

    __slots__ = ("_own", "loops", "name", "request_lines", "response_lines")

    def __init__(self, name: str, *, responses: bool = True, loops: int = 0) -> None:
        self.name = name
        self.loops = loops
        self._own = re.compile(
            rf"(?:^|,)[ \t]*(?:[!-+\--.0-~]+/)?[!-+\--.0-~]+[ \t]+{re.escape(name)}(?=[ \t]*(?:,|$))",
            re.ASCII | re.IGNORECASE,
        )
        self.request_lines = tuple(f"Via: 1.{minor} {name}\r\n".encode() for minor in (1, 0))
        self.response_lines = self.request_lines if responses else (b"", b"")

    def check(self, values: Sequence[str]) -> None:
        """Raises LoopDetected when a request with these Via lines has been here too often."""
        if sum(len(self._own.findall(_without_comments(value))) for value in values) > self.loops:
            raise LoopDetected()


def _without_comments(value: str) -> str:
    """They may nest (RFC 9110 section 5.6.5)."""
    while "(" in value:
        shorter = _comment.sub("", value)
        if shorter == value:
            return value.partition("(")[0]
        value = shorter
    return value


def hops_left(head: Head) -> int | None:
    """How many more hops the request may make. None when it does not say, or not in digits."""
    if "max-forwards" not in head.singletons:
        return None
    value = head.values(b"max-forwards")[0]
    found = _digits(value)
    if not value or found is None:
        return None
    return int(found[1] or 0) if len(found[1]) <= 10 else _MOST_FORWARDS


def counted_down(lines: bytes, left: int) -> bytes:
    """The header lines for the next hop. left: the hops that the request may make, at least 1."""
    return _forwards_line.sub(b"Max-Forwards: %d\r\n" % min(left - 1, _MOST_FORWARDS), lines)
