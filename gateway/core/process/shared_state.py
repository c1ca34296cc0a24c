"""Where what several machines share is kept, as [shared] of gateway.conf says."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from gateway.core.process.operators import Reader

SECTION = "shared"
KEYS = frozenset({"uri", "prefix", "cluster", "lease_time"})
_SCHEMES = ("redis", "rediss", "unix")
_OPTIONS = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
_is_prefix = re.compile(r"[A-Za-z0-9._-]{1,64}").fullmatch
_LEASE_TIME = 300.0


@dataclass(frozen=True, slots=True)
class SharedSettings:
    """uri: of Redis or Valkey, "" where nothing is shared beyond this host. prefix: of its keys. cluster: it
    is a Redis Cluster. lease_time: seconds for which the part of a node that is silent is kept for it."""

    uri: str = field(default="", repr=False)  # it may hold a password
    prefix: str = "gateway"
    cluster: bool = False
    lease_time: float = _LEASE_TIME

    @property
    def where(self) -> str:
        """The URI without secrets."""
        parts = urlsplit(self.uri)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


NOT_SHARED = SharedSettings()


def parse(read: Reader) -> SharedSettings:
    """[shared]. Problems go to `read`."""
    uri = read.text(SECTION, "uri", "")
    if uri and (wrong := problem(uri)):
        hint = "write redis://user:password@host:6379/0, or rediss:// for TLS; percent-encode the password"
        read.wrong(SECTION, "uri", wrong, hint)
    prefix = read.text(SECTION, "prefix", "gateway")
    if not _is_prefix(prefix):
        read.wrong(SECTION, "prefix", f"{prefix!r} is no prefix", "use letters, digits, . _ - (64 at most)")
    lease_time = read.seconds(SECTION, "lease_time", _LEASE_TIME)
    if lease_time < 10:
        hint = "write seconds, longer than a partition of the network may last, such as 300"
        read.wrong(SECTION, "lease_time", "it is less than 10 s", hint)
    return SharedSettings(uri, prefix, read.choice(SECTION, "cluster", "no"), lease_time)


def problem(uri: str) -> str:
    """What is wrong with a URI, without repeating it; "" when nothing is found."""
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        return "its host or port is not valid"
    if parts.scheme not in _SCHEMES:
        return "it is not redis://, rediss:// or unix://"
    if parts.scheme == "unix":
        return "" if parts.path.strip("/") else "it names no socket"
    if not parts.hostname or port == 0:
        return "it names no host"
    if not re.fullmatch(r"/?|/[0-9]{1,5}", parts.path):
        return "behind the host is the number of the database alone"
    if "@" in (parts.username or "") or "@" in unquote(parts.path):
        return "the user's name or password is not percent-encoded"
    for name, _ in parse_qsl(parts.query, keep_blank_values=True):
        if name not in _OPTIONS:
            return f"the option {name[:40]!r} is not offered ({', '.join(sorted(_OPTIONS))})"
    return ""
