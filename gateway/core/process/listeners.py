"""Listeners and their addresses: how they are written, and whether two would take the same one. No name is
resolved."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_address

from gateway.core.routing.problems import Wrong

Address = tuple[str, int]  # the host, and the port of TCP

UNIX = "unix:"  # before the path of a socket of the file system
ANY4, ANY6 = "0.0.0.0", "::"  # noqa: S104 - compared
_LOCALHOST = frozenset({"127.0.0.1", "::1"})
_number = re.compile(r"0x[0-9a-f]{1,8}|0[0-7]{0,11}|[1-9][0-9]{0,9}", re.ASCII).fullmatch
_numeric = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)", re.ASCII).fullmatch
_label = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII).fullmatch
_port = re.compile(r"[0-9]{1,5}", re.ASCII).fullmatch
_brackets = re.compile(r"\[([^\[\]]*:[^\[\]]*)\]|([^\[\]]*)").fullmatch


@dataclass(frozen=True, slots=True)
class Listen:
    """A listener: where it is, and what is spoken there. As a text: its address as it is written.

    host, port: of TCP; port 0 is any free one. path: of a unix socket, "" for TCP; mode: the permissions of
    its file. tls: the name of its section [tls:NAME], "" for plain HTTP. proxy: each connection begins with
    the header of the PROXY protocol. redirect: what requests are sent on to, "https", with the port
    behind it or not; "" for none.
    """

    host: str = ""
    port: int = 0
    path: str = ""
    mode: int = 0o660
    tls: str = ""
    proxy: bool = False
    redirect: str = ""

    def __str__(self) -> str:
        return UNIX + self.path if self.path else text(self.address)

    @property
    def line(self) -> str:
        """Its address with what is spoken there, as they are written."""
        tls, proxy = f" tls={self.tls}" if self.tls else "", " proxy" if self.proxy else ""
        return f"{self}{proxy}{tls}{' redirect=' if self.redirect else ''}{self.redirect}"

    @property
    def address(self) -> Address:
        """Of TCP."""
        return self.host, self.port

    def clashes(self, other: Listen) -> bool:
        """Whether they cannot both be bound, as far as their texts say."""
        if self.path or other.path:
            return self.path == other.path
        return clash(self.address, other.address)

    @property
    def is_local(self) -> bool:
        """Whether all who reach it are on this machine, as far as can be known here: not those that a proxy
        speaks for."""
        return not self.proxy and (bool(self.path) or is_loopback(self.host))

    @property
    def reached(self) -> Listen:
        """As this machine reaches it: at loopback, where it is on all addresses."""
        return self if self.path else replace(self, host=reachable(self.address)[0])

    @property
    def url(self) -> str:
        """The URL at which this machine reaches it; "" where no URL does: that of a unix socket, or where the
        PROXY protocol or a redirect would be in the way."""
        if self.path or self.proxy or self.redirect:
            return ""
        return f"http{'s' if self.tls else ''}://{self.reached}"


def url_of(listeners: Iterable[Listen]) -> str:
    """The URL at which this machine reaches the first of them that has one; "" where none has. Plain HTTP
    comes first: its client needs no certificate."""
    urls = sorted((one.url for one in listeners), key=lambda url: url.startswith("https:"))
    return next(filter(None, urls), "")


def parse(entry: str) -> Address:
    """`host:port` as it is written in the config; the host in its one spelling, see `plain`. Raises Wrong."""
    host, _, port = entry.rpartition(":")
    found = _brackets(host)
    if found is not None and _port(port) and int(port) < 65536:
        host = plain(found[1] or found[2])
        if (is_address(host) and not _lacks_zone(host)) or name_of(host):
            return host, int(port)
    raise Wrong(f"is no address: {_fault(entry)}", "", parse, _meant(entry))


def plain(host: str) -> str:
    """A host in its one spelling, so that texts can be compared: `*` is every IPv4 address, an IPv4 address
    may be written as inet_aton(3) takes it (`127.1`, `0`) or in an IPv6 one, a name in capitals or with the
    root's dot. The zone of an address is kept where it says which network is meant (RFC 4007 section 11)."""
    host, percent, zone = host.removeprefix("[").removesuffix("]").partition("%")
    host = host.lower().rstrip(".")
    if host == "*":
        return ANY4
    address = _address(host)
    if address is None:
        return host + percent + zone
    return f"{address}%{zone}" if zone and address.is_link_local else str(address)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host)
    except ValueError:
        return _inet_aton(host)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _inet_aton(host: str) -> IPv4Address | None:
    """Up to four numbers, decimal, octal or hexadecimal; the last one has all the bytes that are left."""
    parts = host.split(".")
    if len(parts) > 4 or not all(map(_number, parts)):
        return None
    *front, last = [int(part, 16 if "x" in part else 8 if part[0] == "0" else 10) for part in parts]
    if max(front, default=0) > 255 or last >= 256 ** (4 - len(front)):
        return None
    return IPv4Address(int.from_bytes(bytes([*front, *last.to_bytes(4 - len(front), "big")]), "big"))


def is_address(host: str) -> bool:
    """Whether a host, in its one spelling, is no name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _lacks_zone(host: str) -> bool:
    """Whether it is a link-local address without the zone that says which link (RFC 4007 section 11)."""
    return ":" in host and "%" not in host and IPv6Address(host).is_link_local


def name_of(host: str) -> str:
    """A host, in its one spelling, as clients name it, in ASCII; "" when it is no name that can be resolved.
    What ends with a number is none (the URL standard, section 3.5)."""
    try:
        name = host if host.isascii() else host.encode("idna").decode().lower()
    except ValueError:
        return ""
    is_name = len(name) <= 253 and not _numeric(name) and all(map(_label, name.split(".")))
    return name if is_name else ""


def _fault(entry: str) -> str:
    """Why it is no address; the text is not repeated, for a URL may hold a password."""
    scheme, is_url, _ = entry.partition("://")
    if is_url:
        return f"{scheme}:// is no part of it" if scheme.isalnum() else "a scheme is no part of it"
    if entry.startswith(("unix:", "/", "./")):
        return "it is of TCP, and no socket of the file system"
    if any(sign in entry for sign in "${}"):
        return "variables are not filled in here"
    if "/" in entry:
        return "a path is no part of it"
    if entry.count("[") != entry.count("]"):
        return "a bracket is missing"
    host, _, port = entry.rpartition(":")
    if not host.strip("[]") and _port(port):
        return "it lacks the host"
    if not host or is_address(plain(entry)):
        return "it lacks the port"
    if not _port(port) or int(port) > 65535:
        return "its port is no number up to 65535"
    if is_address(plain(host)) and _lacks_zone(plain(host)):
        return "an address of this kind needs its interface, as in [fe80::1%eth0]:8080"
    return "its host is neither an IP address nor a name"


def _meant(entry: str) -> Iterable[str]:
    rest = entry.partition("://")[2] or entry
    rest = rest.partition("/")[0].rpartition("@")[2]
    host, _, port = rest.rpartition(":")
    yield rest
    if not host.strip("[]") and _port(port):
        yield f"127.0.0.1:{port}"
    elif rest.count("[") == rest.count("]"):
        yield text((plain(rest), 8080))


def free_beside(near: Address, taken: Iterable[Address]) -> Address:
    """The same host with the next port that clashes with none of these."""
    taken = list(taken)
    ports = [*range(near[1] + 1, 65536), *range(1024, near[1])]
    for port in ports:
        if not any(clash((near[0], port), other) for other in taken):
            return near[0], port
    return near[0], 0


def clash(one: Address, other: Address) -> bool:
    """Whether they cannot both be bound, as far as their texts say. Port 0 is any free one.

    `::` takes IPv4 too, as systems bind it by default.
    """
    if one[1] != other[1] or one[1] == 0:
        return False
    ours, theirs = _hosts(one[0]), _hosts(other[0])
    return bool(ours & theirs) or _covers(ours, theirs) or _covers(theirs, ours)


def reaches(host: str, bound: str, is_ours: Callable[[str], bool]) -> bool:
    """Whether a connection to an address arrives at a listener on the same port that is bound to another one,
    both IPv4 or IPv6. is_ours: whether this machine has an address. 0.0.0.0 and :: mean this
    machine to a client, and every address of it to a listener; `::` takes IPv4 too."""
    target, listens = plain(host), plain(bound)
    if listens in (ANY4, ANY6):
        if target in (ANY4, ANY6) or ip_address(target.partition("%")[0]).is_loopback:
            return listens == ANY6 or ":" not in target
        return (listens == ANY6 or ":" not in target) and is_ours(target)
    if target in (ANY4, ANY6):
        target = "127.0.0.1" if target == ANY4 else "::1"
    return target == listens


def first_clash(listeners: Iterable[Listen], others: Iterable[Listen]) -> tuple[Listen, Listen] | None:
    """The first of these and the one of the others that it clashes with."""
    others = list(others)
    return next(((one, other) for one in listeners for other in others if one.clashes(other)), None)


def text(address: Address) -> str:
    """As it is written in the config."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _hosts(host: str) -> frozenset[str]:
    host = plain(host)
    return _LOCALHOST if host == "localhost" or host.endswith(".localhost") else frozenset({host})


def is_loopback(host: str) -> bool:
    """Whether a listener on this host is reached from this machine only."""
    hosts = _hosts(host)
    return all(is_address(host) and ip_address(host).is_loopback for host in hosts)


def reachable(address: Address) -> Address:
    """The address at which this machine reaches a listener: loopback, for one on all addresses."""
    host = plain(address[0])
    return {ANY4: "127.0.0.1", ANY6: "::1"}.get(host, host), address[1]


def _covers(ours: frozenset[str], theirs: frozenset[str]) -> bool:
    """Whether ours is every address of a kind that theirs is one of. A name may be of either kind."""
    if ANY6 in ours:
        return True
    return ANY4 in ours and any(":" not in host for host in theirs)
