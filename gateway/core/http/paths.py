"""One canonical form of a path, used to match, to authorise and to forward (RFC 3986 section 6.2).

Percent-encoded unreserved characters are decoded, hex digits are upper case, characters that a URI may
not hold are encoded, everything else stays as it came: `%2F` is never a separator. What could be read in
two ways is refused: NUL, LF, CR and backslash in any spelling, dot segments (also beside a `%2F`, since WSGI
and ASGI servers decode it), empty segments. Where a backend might take `%2F` for a separator the route says
whether it may pass (`refuse_encoded_slash`).
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from gateway.core.errors import BadRequest

# The common case in one search: nothing encoded, no dot segment, no empty segment.
_canonical = re.compile(r"(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9\-._~!$&'()*+,;=:@]+)*/?").fullmatch

_unreserved = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_escape = re.compile(r"%([0-9A-Fa-f]{2})|%|([^A-Za-z0-9\-._~!$&'()*+,;=:@/%])")
_forbidden = frozenset("\x00\n\r\\")


def canonical(path: str) -> str:
    """The canonical form of a raw path. Raises BadRequest with the reason."""
    if path and _canonical(path):
        return path
    if not path.startswith("/"):
        raise BadRequest("The request target must start with a slash.", close=True)
    result = _escape.sub(_normalise, path)
    for segment in result.split("/")[1:-1]:
        if not segment:
            raise BadRequest("The path holds an empty segment (two slashes in a row).", close=True)
    for segment in result.replace("%2F", "/").split("/"):
        if segment in (".", ".."):
            raise BadRequest("The path holds a dot segment.", close=True)
    return result


def refuse_encoded_slash(path: str) -> None:
    """Refuse `%2F` in a canonical path, for routes that do not pass it (`Route.encoded_slash`).

    WSGI and ASGI servers decode it: the application would see another path than the one that was matched
    and authorised. Raises BadRequest.
    """
    if "%2F" in path:
        raise BadRequest("The path holds an encoded slash (%2F), which this route does not take.", close=True)


def _normalise(found: re.Match[str]) -> str:
    digits, raw = found.group(1), found.group(2)
    if digits is not None:
        character = chr(int(digits, 16))
        if character in _forbidden:
            raise BadRequest("The path holds an encoded NUL, line break or backslash.", close=True)
        return character if character in _unreserved else f"%{digits.upper()}"
    if raw is None:
        raise BadRequest("The path holds a % that is not followed by two hex digits.", close=True)
    if raw in _forbidden or raw < " " or not raw.isascii() or raw == "\x7f":
        raise BadRequest("The path holds a character that must be percent-encoded.", close=True)
    return f"%{ord(raw):02X}"


def segment(text: str) -> str:
    """A raw segment in its canonical form; empty when no path may hold it."""
    if "/" in text:
        return ""
    try:
        found = canonical("/" + text)[1:]
        decode(found)
    except BadRequest:
        return ""
    return found


def unreachable(text: str) -> str:
    """Why no canonical path has this text as one of its segments, percent-encoded as it must be; empty when
    one has."""
    if not text:
        return "it is empty"
    if not _forbidden.isdisjoint(text):
        return "it holds a NUL, line break or backslash"
    if "." in text and any(part in (".", "..") for part in text.split("/")):
        return "it is, or holds between slashes, a dot segment (. or ..)"
    return ""


def decode(segment: str) -> str:
    """A canonical segment's text. Raises BadRequest when it is not UTF-8."""
    if "%" not in segment:
        return segment
    try:
        return unquote(segment, errors="strict")
    except UnicodeDecodeError:
        raise BadRequest("A path segment is not valid UTF-8 once its %XX are decoded.", close=True) from None


def decode_loosely(path: str) -> str:
    """The text of some canonical segments; what is not UTF-8 stays percent-encoded."""
    try:
        return unquote(path, errors="strict")
    except UnicodeDecodeError:
        return path
