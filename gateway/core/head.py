"""The head of a client's request: what the policies ask of it, and the lines that a backend may see.

Made from aiohttp's parsed message (`from_pairs`), or straight from bytes when the request is simple
(`parse_simple`): a well-formed head without anything that needs a second look. Whatever is not simple is
left to aiohttp's parser, so this one may be stricter than it but never laxer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from gateway.core.headers import HOP_BY_HOP, is_ours
from gateway.core.lines import Lines

_request_line = re.compile(
    rb"(GET|HEAD|POST|PUT|PATCH|DELETE|QUERY) (/[\x21\x22\x24-\x7e]*) HTTP/1\.1"
).fullmatch
_length = re.compile(r"0*([0-9]{1,15})", re.ASCII).fullmatch
_TOO_LONG = 10**15  # bytes: stands for any length that is not read, and is above every limit
MAX_HEAD = 8190  # bytes of a simple head; longer ones are aiohttp's to judge
MAX_LINES = 64

# What a line means for the request.
_PASS, _DROP, _HOST, _AUTHORIZATION, _TENANT, _ORIGIN, _LENGTH, _CONNECTION = range(8)
_EXPECT, _TIMEOUT, _ASKED, _FORWARDED, _AMBIGUOUS, _HARD, _CODING, _UPGRADE, _ONCE = range(8, 17)

_VIA = 17  # passes, and tells of loops

_MEANINGS = {
    b"host": _HOST,
    b"authorization": _AUTHORIZATION,
    b"x-tenant": _TENANT,
    b"origin": _ORIGIN,
    b"content-length": _LENGTH,
    b"connection": _CONNECTION,
    b"expect": _EXPECT,
    b"x-request-timeout": _TIMEOUT,
    b"access-control-request-method": _ASKED,
    b"x-forwarded-for": _FORWARDED,
    b"x-forwarded-proto": _FORWARDED,
    b"x-forwarded-host": _FORWARDED,
    b"x-forwarded-port": _FORWARDED,
    b"x-forwarded-prefix": _FORWARDED,
    b"transfer-encoding": _CODING,
    b"upgrade": _UPGRADE,
    b"via": _VIA,
    b"trailer": _HARD,
    b"proxy-connection": _HARD,  # aiohttp's parser takes it for Connection
    b"sec-websocket-key1": _HARD,  # and refuses this
    # What aiohttp refuses when it is there twice.
    b"content-location": _ONCE,
    b"content-range": _ONCE,
    b"content-type": _ONCE,
    b"etag": _ONCE,
    b"max-forwards": _ONCE,
    b"server": _ONCE,
    b"user-agent": _ONCE,
    # Of one hop, as the Upgrade that they belong to; the offered subprotocols pass.
    b"sec-websocket-key": _DROP,
    b"sec-websocket-version": _DROP,
    b"sec-websocket-extensions": _DROP,
    b"sec-websocket-accept": _DROP,
}


class _Kind(NamedTuple):
    meaning: int
    line: bytes  # as it goes out, with its end
    name: str
    value: str


def _classify(name: bytes, value: bytes, line: bytes) -> _Kind:
    text_name = name.decode()
    text = value.decode("utf-8", "surrogateescape")
    if b"_" in name or (not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text)):
        return _Kind(_AMBIGUOUS, b"", text_name, text)
    meaning = _MEANINGS.get(name)
    if meaning is None:
        meaning = _DROP if text_name in HOP_BY_HOP or is_ours(text_name) else _PASS
    if meaning in (_CONNECTION, _CODING, _UPGRADE) and not text.isascii():
        meaning = _AMBIGUOUS  # some letters outside ASCII have one of ASCII as their lower case
    out = line + b"\r\n" if meaning in (_PASS, _ORIGIN, _ASKED, _ONCE, _VIA) else b""
    return _Kind(meaning, out, text_name, text)


_lines = Lines(_classify)


class Head:
    """What the header lines of a request say; the next request of a client that repeats them shares it.

    hosts, authorization, tenants, origins, via: the values of those headers. length: -1 when it is not said.
    lines: what a backend may see, ready to send. listed: names that Connection lists, in lower case.
    once: the names that were there of those that may be there once. raw: the lines as they came, when the
    head is simple. token: the bearer token, once read. made: what the target made of the lines for a backend,
    with what it made it from; logged: what the access log says of them, likewise; kept for the next request.
    """

    __slots__ = (
        "_values",
        "ambiguous",
        "asked",
        "authorization",
        "codings",
        "expect",
        "forwarded",
        "hard",
        "hosts",
        "length",
        "lines",
        "listed",
        "logged",
        "made",
        "once",
        "origins",
        "raw",
        "tenants",
        "timeouts",
        "token",
        "upgrades",
        "via",
    )

    def __init__(self, raw: bytes = b"") -> None:
        self.raw = raw
        self.token = ""
        self.made: tuple[object, object, bytes] | None = None
        self.logged: tuple[object, str, str] | None = None
        self.hosts: list[str] = []
        self.authorization: list[str] = []
        self.tenants: list[str] = []
        self.origins: list[str] = []
        self.asked = ""
        self.expect: str | None = None
        self.timeouts: list[str] = []
        self.forwarded: list[tuple[str, str]] = []
        self.length = -1
        self.lines: list[bytes] = []
        self.once: list[str] = []
        self.listed: frozenset[str] = frozenset()
        self.ambiguous = ""
        self.hard = False
        self.codings: list[str] = []
        self.upgrades: list[str] = []
        self.via: list[str] = []
        self._values: dict[bytes, list[str]] | None = None

    def values(self, name: bytes) -> list[str]:
        """The values of the lines with this name, in lower case, of those that a backend may see."""
        if self._values is None:
            self._values = {}
            for line in self.lines:
                key, _, value = line.partition(b":")
                text = value.decode("utf-8", "surrogateescape").strip(" \t\r\n")
                self._values.setdefault(key.lower(), []).append(text)
        return self._values.get(name, [])

    def block(self) -> bytes:
        """The lines that a backend may see, as they go out."""
        if not self.listed:
            return b"".join(self.lines)
        listed = {name.encode() for name in self.listed}
        return b"".join(line for line in self.lines if line.partition(b":")[0].lower() not in listed)

    def _add(self, kind: _Kind) -> None:
        """Everything but the lines that simply pass."""
        meaning = kind.meaning
        if meaning == _ONCE:
            self.hard |= kind.name in self.once
            self.once.append(kind.name)
            self.lines.append(kind.line)
        elif meaning == _HOST:
            self.hosts.append(kind.value)
        elif meaning == _AUTHORIZATION:
            self.authorization.append(kind.value)
        elif meaning == _CONNECTION:
            tokens = frozenset(token.strip() for token in kind.value.lower().split(","))
            self.listed |= tokens - _END_TO_END
            self.hard |= tokens != _KEEP_ALIVE
        elif meaning == _TENANT:
            self.tenants.append(kind.value)
        elif meaning == _ORIGIN:
            self.origins.append(kind.value)
            self.lines.append(kind.line)
        elif meaning == _LENGTH:
            found = _length(kind.value)
            self.hard |= self.length >= 0 or found is None
            self.length = int(found[1]) if found else _TOO_LONG
        elif meaning == _FORWARDED:
            self.forwarded.append((kind.name, kind.value))
        elif meaning == _VIA:
            self.via.append(kind.value)
            self.lines.append(kind.line)
        elif meaning == _AMBIGUOUS:
            self.ambiguous = kind.name
        else:
            self._add_rare(kind)

    def _add_rare(self, kind: _Kind) -> None:
        if kind.meaning == _DROP:
            return
        self.hard = True
        if kind.meaning == _CODING:
            self.codings.append(kind.value.lower())
        elif kind.meaning == _UPGRADE:
            self.upgrades.append(kind.value.lower())
        elif kind.meaning == _EXPECT:
            self.expect = kind.value
        elif kind.meaning == _TIMEOUT:
            self.timeouts.append(kind.value)
        elif kind.meaning == _ASKED:
            self.asked = kind.value
            self.lines.append(kind.line)


_END_TO_END = frozenset({"", "host", "content-length", "content-type", "keep-alive", "close", "upgrade"})
_KEEP_ALIVE = frozenset({"keep-alive"})


def parse_simple(raw: bytes, last: Head | None = None) -> tuple[str, str, Head] | None:
    """The method, the target and the head of a simple request, None for any other.

    raw: without the empty line that ends it. last: the head before it on this connection; most clients repeat
    theirs, and then it is the head again (measured: 7 µs for five lines, 1 µs when they are the same).
    """
    end = raw.find(b"\r\n")
    found = _request_line(raw, 0, end)
    if found is None or len(raw) > MAX_HEAD:
        return None
    lines = raw[end:]
    if last is not None and last.raw == lines:
        head: Head | None = last
    else:
        head = _simple(lines)
    if head is None:
        return None
    return found[1].decode(), found[2].decode(), head


def _simple(raw: bytes) -> Head | None:
    _, *rest = raw.split(b"\r\n")
    if len(rest) > MAX_LINES:
        return None
    head = Head(raw)
    lines, lookup = head.lines, _lines.get
    for line in rest:
        kind = lookup(line)
        if kind is None:
            try:
                kind = _lines.learn(line)
            except ValueError:
                return None
        if kind.meaning == _PASS:
            lines.append(kind.line)
        else:
            head._add(kind)
    if head.hard or head.ambiguous or len(head.hosts) != 1:
        return None
    return head


def from_pairs(pairs: Iterable[tuple[bytes, bytes]]) -> Head:
    """The head of a request that aiohttp has parsed (raw header names and values)."""
    head = Head()
    lookup = _lines.get
    for name, value in pairs:
        line = b"%b: %b" % (name, value)
        kind = lookup(line)
        if kind is None:
            try:
                kind = _lines.learn(line)
            except ValueError:
                head.ambiguous = "a header that is not valid"
                continue
        if kind.meaning == _PASS:
            head.lines.append(kind.line)
        else:
            head._add(kind)
    return head
