"""The header lines of a client's request: what the policies ask of them, and what a backend may see."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from gateway.core.api_keys import is_api_key
from gateway.core.errors import BadRequest, ExpectationFailed, HeadersTooLarge
from gateway.core.http.headers import HOP_BY_HOP, MAX_LENGTH, LineCache, is_long_line, is_ours, line_pattern
from gateway.core.http.request_target import without_empty_port
from gateway.core.redact import redact
from gateway.core.websocket.handshake import names

_length = re.compile(r"[0-9]{1,20}", re.ASCII).fullmatch
MAX_LINES = 128
MAX_OUTLINE = 600  # characters: of the values of an outline, and of the names

# What a line means for the request.
_PASS, _DROP, _HOST, _AUTHORIZATION, _TENANT, _ORIGIN, _LENGTH, _CONNECTION = range(8)
_EXPECT, _TIMEOUT, _ASKED, _FORWARDED, _AMBIGUOUS, _CODING, _UPGRADE, _SINGLETON = range(8, 16)

_VIA = 16  # passes, and tells of loops
_ID = 17
_API_KEY = 18
_PROTOCOLS = 19

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
    b"x-request-id": _ID,
    b"x-api-key": _API_KEY,
    b"sec-websocket-protocol": _PROTOCOLS,  # what is offered may hold a token
    # Of a WebSocket draft: its request ends with eight bytes that no length announces.
    b"sec-websocket-key1": _AMBIGUOUS,
    # What is no list has one value (RFC 9110 section 5.3): of two, the next reader takes either.
    b"content-location": _SINGLETON,
    b"content-range": _SINGLETON,
    b"content-type": _SINGLETON,
    b"etag": _SINGLETON,
    b"max-forwards": _SINGLETON,
    b"server": _SINGLETON,
    b"user-agent": _SINGLETON,
    # Of one hop, as the Upgrade that they belong to.
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
    if meaning == _API_KEY and not is_api_key(text):
        meaning = _PASS  # a backend's own
    if meaning == _HOST:
        text = without_empty_port(text)
    out = line + b"\r\n" if meaning in (_PASS, _ORIGIN, _ASKED, _SINGLETON, _VIA) else b""
    return _Kind(meaning, out, text_name, text)


_lines = LineCache(_classify)


class Outline(NamedTuple):
    """What of a head is kept when its request is over: nothing secret, and not much. tenants: of X-Tenant.
    origin, asked: as in Head, "" without exactly one. wanted: the lines of Access-Control-Request-Headers, of
    a preflight. upgrade: to a WebSocket. credential: whether there was one. length: as in Head. names: of
    all headers, separated by spaces."""

    host: str
    tenants: tuple[str, ...]
    origin: str
    asked: str
    wanted: tuple[str, ...]
    upgrade: bool
    credential: bool
    length: int
    names: str


_names = re.compile(rb"\r\n([^:\r]+)").findall


@lru_cache(maxsize=4096)  # most heads differ in lines of which nothing is kept
def _plain(host: str, credential: bool, length: int, names: bytes) -> Outline:
    return Outline(host, (), "", "", (), False, credential, length, names.decode("latin-1"))


class Head:
    """What the header lines of a request say; the next request of a client that repeats them shares it.

    hosts, authorization, tenants, origins, via: the values of those headers; ids: of X-Request-ID;
    api_keys: of X-API-Key, those that are ours; protocols: the subprotocols of WebSockets that are offered.
    length: -1 when it is not said. lines: what a backend may see, ready to send. connection: what
    Connection lists, in lower case; listed: those of them that name headers. expect: what Expect lists,
    in lower case. singletons: names of the headers that came and may come only once. raw: the lines as they
    came, each after its line break. token: the bearer token, once read. made: what the target made of the
    lines for a backend, with what it made it from; logged: what the access log says of them, likewise;
    outlined: what `outline` gives, once it was asked for; kept for the next request.
    """

    __slots__ = (
        "_values",
        "api_keys",
        "asked",
        "authorization",
        "codings",
        "connection",
        "expect",
        "forwarded",
        "hosts",
        "ids",
        "length",
        "lines",
        "listed",
        "logged",
        "made",
        "origins",
        "outlined",
        "protocols",
        "raw",
        "singletons",
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
        self.outlined: Outline | None = None
        self.hosts: list[str] = []
        self.authorization: list[str] = []
        self.tenants: list[str] = []
        self.origins: list[str] = []
        self.asked = ""
        self.expect: frozenset[str] = _NOTHING
        self.timeouts: list[str] = []
        self.forwarded: list[tuple[str, str]] = []
        self.length = -1
        self.lines: list[bytes] = []
        self.singletons: list[str] = []
        self.connection: frozenset[str] = _NOTHING
        self.listed: frozenset[str] = _NOTHING
        self.codings: list[str] = []
        self.upgrades: list[str] = []
        self.via: list[str] = []
        self.ids: list[str] = []
        self.api_keys: list[str] = []
        self.protocols: list[str] = []
        self._values: dict[bytes, list[str]] | None = None

    @classmethod
    def of_origins(cls, origins: list[str]) -> Head:
        """A head of which nothing else is known."""
        head = cls()
        head.origins = origins
        return head

    # What is made of a head once is remembered for the requests that repeat it.

    def remember_token(self, token: str) -> None:
        """Sets `token`."""
        self.token = token

    def remember_made(self, route: object, identity: object, lines: bytes) -> None:
        """Sets `made`: the lines for a backend, of this identity on this route."""
        self.made = (route, identity, lines)

    def remember_logged(self, trusted: object, peer: str, text: str) -> None:
        """Sets `logged`: the text for the access log, with these trusted proxies and from this peer."""
        self.logged = (trusted, peer, text)

    def outline(self) -> Outline | None:
        """What of it may be kept; None where that is more than MAX_OUTLINE characters."""
        host = self.hosts[0] if len(self.hosts) == 1 else ""
        names = b" ".join(_names(self.raw))[:MAX_OUTLINE]
        credential = bool(self.authorization or self.api_keys)
        outline = _plain(host, credential, self.length, names)
        values: tuple[str, ...] = (host,)
        if self.tenants or self.origins or self.asked or self.upgrades:
            outline = outline._replace(
                tenants=tuple(map(redact, self.tenants)),
                origin=redact(self.origins[0]) if len(self.origins) == 1 else "",
                asked=self.asked,
                wanted=tuple(self.values(b"access-control-request-headers")) if self.asked else (),
                upgrade=self.upgrades == ["websocket"],
            )
            values = (host, *outline.tenants, outline.origin, outline.asked, *outline.wanted)
        if len("".join(values)) > MAX_OUTLINE:
            return None
        self.outlined = outline
        return outline

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
        """Everything but the lines that simply pass. Raises BadRequest."""
        meaning = kind.meaning
        if meaning == _SINGLETON:
            if kind.name in self.singletons:
                raise BadRequest("A header that has one value is there twice.", close=True)
            self.singletons.append(kind.name)
            self.lines.append(kind.line)
        elif meaning == _HOST:
            self.hosts.append(kind.value)
        elif meaning == _AUTHORIZATION:
            self.authorization.append(kind.value)
        elif meaning == _CONNECTION:
            self.connection |= {token.strip() for token in kind.value.lower().split(",")}
            self.listed = self.connection - _END_TO_END
        elif meaning == _TENANT:
            self.tenants.append(kind.value)
        elif meaning == _ORIGIN:
            self.origins.append(kind.value)
            self.lines.append(kind.line)
        elif meaning == _LENGTH:
            if self.length >= 0 or not _length(kind.value):
                raise BadRequest("The request has no single valid Content-Length.", close=True)
            self.length = int(kind.value)
        elif meaning == _FORWARDED:
            self.forwarded.append((kind.name, kind.value))
        elif meaning == _VIA:
            self.via.append(kind.value)
            self.lines.append(kind.line)
        elif meaning == _AMBIGUOUS:
            raise BadRequest("A header's name or value can be read in two ways.", close=True)
        else:
            self._add_rare(kind)

    def _add_rare(self, kind: _Kind) -> None:
        if kind.meaning == _CODING:
            self.codings.append(kind.value.lower())
        elif kind.meaning == _UPGRADE:
            self.upgrades.append(kind.value.lower())
        elif kind.meaning == _EXPECT:
            self.expect |= {member.strip() for member in kind.value.lower().split(",")} - _EMPTY
        elif kind.meaning == _ID:
            self.ids.append(kind.value)
        elif kind.meaning == _API_KEY:
            self.api_keys.append(kind.value)
        elif kind.meaning == _TIMEOUT:
            self.timeouts.append(kind.value)
        elif kind.meaning == _PROTOCOLS:
            self.protocols += names([kind.value])
        elif kind.meaning == _ASKED:
            self.asked = kind.value
            self.lines.append(kind.line)


_NOTHING: frozenset[str] = frozenset()
_EMPTY = frozenset({""})  # the members of a list that are to be ignored (RFC 9110 section 5.6.1.2)
_CONTINUE = frozenset({"100-continue"})
_END_TO_END = frozenset({"", "host", "content-length", "content-type", "keep-alive", "close", "upgrade"})


def check_expect(head: Head, *, old: bool) -> None:
    """What the client expects is offered (RFC 9110 section 10.1.1). old: its request is of HTTP/1.0, which
    has no Expect. Raises ExpectationFailed."""
    if head.expect and not old and head.expect != _CONTINUE:
        raise ExpectationFailed()


def read(raw: bytes) -> Head:
    """The head that these lines are (each after its line break). Raises BadRequest, HeadersTooLarge."""
    _, *rest = raw.split(b"\r\n")
    if len(rest) > MAX_LINES:
        raise HeadersTooLarge("The request has too many headers.", close=True)
    head = Head(raw)
    lines, lookup = head.lines, _lines.get
    for line in rest:
        kind = lookup(line)
        if kind is None:
            try:
                kind = _lines.learn(line)
            except ValueError:
                raise BadRequest("A header of the request is malformed.", close=True) from None
        if kind.meaning == _PASS:
            lines.append(kind.line)
        else:
            head._add(kind)
    return head


def is_line(line: bytes) -> bool:
    """Whether it is a header line."""
    if len(line) > MAX_LENGTH:
        return is_long_line(line)
    return _lines.get(line) is not None or line_pattern(line) is not None
