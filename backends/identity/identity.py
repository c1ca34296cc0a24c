"""What the gateway says as values: who calls, from where (X-Forwarded-For) and at which public address
(X-Forwarded-Proto, -Host, -Prefix). Pure: no framework is imported here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import ip_address
from typing import NoReturn
from urllib.parse import unquote, unquote_to_bytes

# Gives all values of a header, in the order received; none if the header is absent.
Headers = Callable[[str], Sequence[str]]

_TENANT = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_SUBJECT = re.compile(r"[\x21-\x7e]{1,200}")
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # RFC 6749, 3.3
# No encoded slash, backslash, dot, NUL or line break: one reads another path out of it than the next.
_PREFIX = re.compile(r"(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%(?!00|0[ADad]|2[EFef]|5[Cc])[0-9A-Fa-f]{2})+)+")
_HOST = re.compile(r"([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?")
_NO_NAME = "localhost"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


class IdentityError(Exception):
    """The request does not say, or not credibly, who calls. The text is for the caller; it echoes nothing."""


class IdentityMissing(IdentityError):
    pass


class IdentityInvalid(IdentityError):
    pass


class ForwardedInvalid(Exception):
    """A forwarding header is not what a gateway would send."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is calling. Every query of a backend is made for `tenant`, and for no other."""

    tenant: str
    subject: str
    scopes: frozenset[str]


class Anonymous(Identity):
    """Nobody: the caller of a route that the gateway calls public. False where an identity is true; to ask it
    for a tenant, a subject or scopes raises IdentityMissing, which the middleware answers with 401."""

    __slots__ = ()
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __init__(self) -> None:
        pass  # no field is set, so that each of them comes to __getattr__

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "Anonymous()"

    def __getattr__(self, name: str) -> NoReturn:
        if name in Identity.__slots__:
            raise IdentityMissing("This needs to know who calls: send a token.")
        raise AttributeError(name)


ANONYMOUS = Anonymous()


@dataclass(frozen=True, slots=True)
class Forwarded:
    """The public address of the request, and its client's. `prefix` is "" or starts with a slash and ends
    without one, as it stands in an address (percent-encoded); an empty `scheme`, `host` or `client` was not
    said, and the request's own holds."""

    scheme: str
    host: str
    prefix: str
    client: str = ""

    @property
    def script_name(self) -> str:
        """The prefix as an application sees paths: decoded."""
        return unquote(self.prefix)

    def server(self, scheme: str) -> tuple[str, str]:
        """The public host and port. scheme: what holds when none was said."""
        name, colon, port = self.host.rpartition(":")
        if not colon or self.host.endswith("]"):
            name, port = self.host, ""
        return name, port or {"https": "443", "wss": "443"}.get(self.scheme or scheme, "80")


def identity_of(tenant: str, subject: str, scope: str) -> Identity:
    """Raises IdentityInvalid where it is not what a gateway says. scope: names separated by spaces."""
    if not _TENANT.fullmatch(tenant):
        raise IdentityInvalid("The caller's tenant must be [a-z0-9][a-z0-9-]{0,62}.")
    if not _SUBJECT.fullmatch(subject):
        raise IdentityInvalid("The caller's subject must be 1 to 200 visible ASCII characters.")
    scopes = frozenset(scope.split(" ")) - {""}
    if not all(_SCOPE.fullmatch(name) for name in scopes):
        raise IdentityInvalid("The caller's scopes must be names separated by spaces (RFC 6749).")
    return Identity(tenant, subject, scopes)


def parse(headers: Headers) -> Identity:
    """The identity that X-Tenant, X-Subject and X-Scopes say, or IdentityMissing / IdentityInvalid. Nothing
    proves them: only a request from a trusted peer is read so."""
    tenant = _one(headers, "X-Tenant")
    subject = _one(headers, "X-Subject")
    if tenant is None or subject is None:
        missing = "X-Tenant" if tenant is None else "X-Subject"
        raise IdentityMissing(
            f"The header {missing} is missing. This application answers only what comes through the "
            "gateway, which sets X-Tenant and X-Subject from the token: call the gateway instead."
        )
    return identity_of(tenant, subject, _one(headers, "X-Scopes") or "")


def is_anonymous(headers: Headers) -> bool:
    """Whether the gateway passes this on for nobody: then it says from where, as always, and no word of who
    calls. What came around the gateway says neither."""
    return bool(headers("X-Forwarded-For")) and not (headers("X-Tenant") or headers("X-Subject"))


def forwarded(headers: Headers) -> Forwarded:
    """The public address of a request, or ForwardedInvalid. The port is part of X-Forwarded-Host. The client
    is the first of X-Forwarded-For: the gateway leaves out what a client wrote there itself."""
    try:
        scheme = _one(headers, "X-Forwarded-Proto") or ""
        host = _one(headers, "X-Forwarded-Host") or ""
        if not host and list(headers("Host")) == [""]:
            # Legal, and what a request of HTTP/1.0 becomes. A framework that has no name to make an address
            # with takes its socket's path, or makes http:///path, whose host is the path.
            host = _NO_NAME
        prefix = (_one(headers, "X-Forwarded-Prefix") or "").removesuffix("/")
        client = (_one(headers, "X-Forwarded-For") or "").partition(",")[0].strip()
    except IdentityInvalid as error:
        raise ForwardedInvalid(str(error)) from None
    if scheme not in ("", "http", "https"):
        raise ForwardedInvalid("The header X-Forwarded-Proto must be http or https.")
    if host and not _HOST.fullmatch(host):
        raise ForwardedInvalid("The header X-Forwarded-Host must be a host name or address and maybe a port.")
    # A prefix becomes the start of every link: "//evil.example" would send browsers elsewhere.
    if prefix and not _is_prefix(prefix):
        raise ForwardedInvalid(
            "The header X-Forwarded-Prefix must be a path in UTF-8, percent-encoded, without '//' and '..'."
        )
    if client == "unknown":  # it came to the gateway by a unix socket
        client = ""
    if client:
        try:
            client = str(ip_address(client))
        except ValueError:
            raise ForwardedInvalid("The header X-Forwarded-For must be a list of addresses.") from None
    return Forwarded(scheme, host, prefix, client)


def joined(prefix: str, own: str) -> str:
    """The prefix before the one that the application has within its server, where it is mounted in another
    one. Where the server was told the same as the gateway says, it is the prefix once."""
    own = own.removesuffix("/")
    return prefix if own == prefix else prefix + own


def _is_prefix(text: str) -> bool:
    if not _PREFIX.fullmatch(text) or {".", ".."} & set(text.split("/")):
        return False
    try:
        unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        return False
    return True


def request_id(headers: Headers) -> str:
    """The gateway's id of this request for the log, "-" when there is none that is safe to write."""
    values = headers("X-Request-ID")
    return values[0] if len(values) == 1 and _REQUEST_ID.fullmatch(values[0]) else "-"


def problem(status: int, detail: str, **members: object) -> dict[str, object]:
    """The members of an application/problem+json answer (RFC 9457)."""
    title = HTTPStatus(status).phrase
    return {"type": "about:blank", "title": title, "status": status, "detail": detail, **members}


def _one(headers: Headers, name: str) -> str | None:
    values = headers(name)
    if len(values) > 1:
        raise IdentityInvalid(f"The header {name} came {len(values)} times; the gateway sends it once.")
    return values[0] if values else None
