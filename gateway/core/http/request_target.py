"""The request target and the Host header (RFC 9112 section 3): which host, which path, which query.

One canonical form of the path is used to match, to authorise and to forward (RFC 3986 section 6.2).
Percent-encoded unreserved characters are decoded, hex digits are upper case, characters that a URI may
not hold are encoded, everything else stays as it came: `%2F` is never a separator. What could be read in
two ways is refused: NUL, LF, CR and backslash in any spelling, dot segments (also beside a `%2F`, since WSGI
and ASGI servers decode it), empty segments. Where a backend might take `%2F` for a separator the route says
whether it may pass (`refuse_encoded_slash`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv6Address
from urllib.parse import unquote

from gateway.core.errors import BadRequest, MethodNotAllowed, NotImplementedByGateway
from gateway.core.methods import KNOWN

_authority = re.compile(
    r"(?P<host>[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9.])?|\[[0-9A-Fa-f:.]{2,45}\])"
    r"(?::(?P<port>[0-9]{0,5}))?"
).fullmatch
_absolute = re.compile(r"(https?)://([^/?#]+)(.*)", re.IGNORECASE | re.DOTALL).fullmatch
_query = re.compile(r"[^\x00-\x20\x7f]*").fullmatch
_method = re.compile(r"[A-Z][A-Z0-9-]{0,31}").fullmatch
# The common case in one search: nothing encoded, no dot segment, no empty segment.
_canonical = re.compile(r"(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9\-._~!$&'()*+,;=:@]+)*/?").fullmatch

_unreserved = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_escape = re.compile(r"%([0-9A-Fa-f]{2})|%|([^A-Za-z0-9\-._~!$&'()*+,;=:@/%])")
_forbidden = frozenset("\x00\n\r\\")
_LIKELY_SEGMENTS = 32  # what is below them is one


def host_of(authority: str) -> str:
    """The host of `host[:port]`, in lower case, without a root dot. Raises BadRequest."""
    return _host_and_port(authority)[0]


def authority(text: str) -> tuple[str, int] | None:
    """The host (lower case, no root dot) and port (0 without one) of `host[:port]`; None when not valid."""
    try:
        return _host_and_port(text)
    except BadRequest:
        return None


def without_empty_port(authority: str) -> str:
    """`host:` names no port (RFC 3986 section 3.2.3), and is the same as `host`; many backends refuse it."""
    return authority[:-1] if authority[-1:] == ":" and authority[-2:-1] not in ("", ":") else authority


@lru_cache(maxsize=1024)  # a gateway is called by few names; 1.3 µs a request
def _host_and_port(authority: str, default: int = 0) -> tuple[str, int]:
    found = _authority(authority)
    if not authority:
        return "", default  # RFC 9112 section 3.2: it names none, and says so
    if found is None or int(found["port"] or 0) > 65535 or not _is_whole(found["host"]):
        raise BadRequest("The Host header is not a valid host.", close=True)
    return found["host"].lower().removesuffix("."), int(found["port"] or default)


def _is_whole(host: str) -> bool:
    """Whether what is in brackets is an IPv6 address."""
    try:
        return host[0] != "[" or bool(IPv6Address(host[1:-1]))
    except ValueError:
        return False


def resolve(method: str, target: str, hosts: Sequence[str]) -> tuple[str, str, str]:
    """The host (lower case, no port), the canonical path and the raw query of a request.

    hosts: the values of all Host headers. Absolute-form names the same authority as Host: a backend that
    takes the other one would serve another host than was matched. The path `*` is given only for OPTIONS.
    Raises BadRequest, NotImplementedByGateway (CONNECT), MethodNotAllowed (TRACE).
    """
    if method not in KNOWN:
        _check_method(method)
    if len(hosts) != 1:
        raise BadRequest("A request has exactly one Host header.", close=True)
    host = _host_and_port(hosts[0])[0]
    if not target.startswith("/"):
        if target == "*" and method == "OPTIONS":
            return host, "*", ""
        absolute = _absolute(target)
        if absolute is None:
            raise BadRequest("The request target is not valid.", close=True)
        scheme, authority, rest = absolute.groups()
        port = 443 if scheme.lower() == "https" else 80
        if _host_and_port(authority, port) != _host_and_port(hosts[0], port):
            raise BadRequest("The request target names another host than the Host header.", close=True)
        target = rest if rest.startswith("/") else "/" + rest
    path, _, query = target.partition("?")
    if "#" in target or (query and not _query(query)):
        raise BadRequest("The request target holds a character that must be percent-encoded.", close=True)
    return host, canonical_path(path), query


def likely(target: str, hosts: Sequence[str]) -> tuple[str, str]:
    """The host and the canonical path that a request most likely was about which `resolve`, or the reader,
    refused: any other text stands for a segment that no path may hold. For messages only, never for a
    decision."""
    host = authority(hosts[0]) if len(hosts) == 1 else None
    absolute = _absolute(target)
    path = re.split(r"[?#]", absolute[3] if absolute is not None else target, maxsplit=1)[0]
    *above, last = path.removeprefix("/").split("/", _LIKELY_SEGMENTS)
    readable = [canonical_segment(text) or "-" for text in above]
    readable.append(canonical_segment(last) or ("-" if last else ""))
    return host[0] if host is not None else "", "/" + "/".join(readable)


def _check_method(method: str) -> None:
    if method == "CONNECT":
        raise NotImplementedByGateway("CONNECT is not offered here.", close=True)
    if method == "TRACE":
        raise MethodNotAllowed("GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE", "TRACE is not offered here.")
    if not _method(method):
        raise BadRequest("The method is not valid; methods are in capitals.", close=True)


def canonical_path(path: str) -> str:
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


def canonical_segment(text: str) -> str:
    """A raw segment in its canonical form; empty when no path may hold it."""
    if "/" in text:
        return ""
    try:
        found = canonical_path("/" + text)[1:]
        decode_segment(found)
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


def decode_segment(segment: str) -> str:
    """A canonical segment's text. Raises BadRequest when it is not UTF-8."""
    if "%" not in segment:
        return segment
    try:
        return unquote(segment, errors="strict")
    except UnicodeDecodeError:
        raise BadRequest("A path segment is not valid UTF-8 once its %XX are decoded.", close=True) from None


def decode_path_loosely(path: str) -> str:
    """The text of some canonical segments; what is not UTF-8 stays percent-encoded."""
    try:
        return unquote(path, errors="strict")
    except UnicodeDecodeError:
        return path
