"""Where a request comes from, and under which address its client knows us: the X-Forwarded-* headers.

What a trusted proxy says is continued; what anybody else says is overwritten. A proxy may say it as a list or
on several lines, one value for each hop: of the scheme, host and port the first counts, for it is what the
client saw; prefixes were stripped one after the other, so they are joined. What makes no sense is taken for
unsaid. `Forwarded` (RFC 7239) is neither read nor written: a proxy that writes one of the two passes on the
other as the client sent it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from gateway.core.http.request_target import authority, without_empty_port
from gateway.core.model import TrustedProxies

# The X-Forwarded-* of a request that count: by lower-case name, in the order that they came.
Said = Sequence[tuple[str, str]]
Pairs = list[tuple[str, str]]

_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_PORTS = {"http": 80, "https": 443}
_port = re.compile(r"[0-9]{1,5}", re.ASCII).fullmatch
_MAX_PREFIX = 512  # characters: a page of ours may hold it many times
# It becomes the start of addresses that we and the backends write: `//` at its start would be another host's.
# An encoded slash, backslash, dot, NUL or line break would be another path to a reader that decodes it.
_prefix = re.compile(
    r"(?:/(?!\.{1,2}(?:/|$))(?:[A-Za-z0-9._~!$&'()*+;=:@-]|%(?!00|0[ADad]|2[EFef]|5[Cc])[0-9A-Fa-f]{2})+)+",
    re.ASCII,
).fullmatch

_MAPPED = 96  # bits before an IPv4 address in an IPv6 one (RFC 4291 section 2.5.5.2)
_MAX_KNOWN = 4096  # addresses of which it is remembered whether they are trusted
_SITE = 64  # bits: an IPv6 client has a network of them to choose its address from


def network(text: str) -> IPv4Network | IPv6Network:
    """A network as `is_trusted` compares it: one of IPv4 addresses written as IPv6 ones
    (::ffff:10.0.0.0/104) is that of the IPv4 addresses, for so the system tells peers. Raises ValueError."""
    parsed = ip_network(text)
    if isinstance(parsed, IPv6Network) and parsed.prefixlen >= _MAPPED:
        first = parsed.network_address.ipv4_mapped
        if first is not None:
            return IPv4Network((first, parsed.prefixlen - _MAPPED))
    return parsed


def is_trusted(peer: str, trusted: TrustedProxies) -> bool:
    """Whether a peer's forwarding headers count. An empty peer is a unix socket."""
    if not peer:
        return trusted.unix
    if not trusted.networks:
        return False
    known = trusted.known.get(peer)
    if known is None:
        address = ip_address(peer.partition("%")[0])
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped  # an IPv4 peer of a dual-stack listener
        known = any(address in network for network in trusted.networks)
        if len(trusted.known) >= _MAX_KNOWN:
            trusted.known.clear()
        trusted.known[peer] = known
    return known


def chain(peer: str, said: Said, trusted: TrustedProxies) -> list[str]:
    """The addresses that the request came through, from the client to the peer ("" for a unix socket).

    The client is the rightmost of X-Forwarded-For that is not a trusted proxy's: all to the left of it is the
    client's own word, and left out. An entry that is no address ends the search at the proxy that passed it
    on.
    """
    found = [plain(peer)]
    if not said:
        return found
    entries = [part for name, value in said if name == "x-forwarded-for" for part in value.split(",")]
    while entries and is_trusted(found[-1], trusted):
        entry = entries.pop()
        if not entry.strip():  # an empty member of the list is none (RFC 9110 section 5.6.1.2)
            continue
        before = _address(entry)
        if not before:
            break
        found.append(before)
    found.reverse()
    return found


def client_key(peer: str, forwarded: Said, trusted: TrustedProxies) -> str:
    """The client's address as a limit counts it: IPv4 whole, IPv6 by its /64; see `chain`.

    peer: "" for a unix socket. forwarded: the request's X-Forwarded-* by lower-case name.
    """
    address = chain(peer, forwarded, trusted)[0]
    return site_of(address) if address else "unix"


@lru_cache(maxsize=4096)
def site_of(address: str) -> str:
    """What one client has of addresses: an IPv4 address, or a /64 of IPv6."""
    parsed = ip_address(address.partition("%")[0])
    if not isinstance(parsed, IPv6Address):
        return address
    return f"{IPv6Address(int(parsed) >> _SITE << _SITE)}/{_SITE}"


def pairs(peer: str, said: Said, trusted: TrustedProxies, *, scheme: str, host: str, prefix: str) -> Pairs:
    """The forwarding headers for the backend. said: nothing, unless the peer is trusted. scheme, host: the
    request's own; host may be empty in HTTP/1.0. prefix: what we strip."""
    if said:
        scheme = _SCHEMES.get(_first(said, "x-forwarded-proto").lower(), scheme)
        host = public_host(said, host)
    known = authority(host)
    port = _number(_first(said, "x-forwarded-port")) or (known[1] if known is not None else 0)
    made = [
        ("X-Forwarded-For", ", ".join([address or "unknown" for address in chain(peer, said, trusted)])),
        ("X-Forwarded-Proto", scheme),
        ("X-Forwarded-Host", host),
        ("X-Forwarded-Port", str(port or _PORTS[scheme])),
        ("X-Forwarded-Prefix", public_prefix(said) + prefix),
    ]
    return [pair for pair in made if pair[1]]


def public_host(said: Said, host: str) -> str:
    """The host, with its port, as the client wrote it. host: the request's own."""
    named = _first(said, "x-forwarded-host")
    return without_empty_port(named) if named and authority(named) is not None else host


def public_prefix(said: Said) -> str:
    """What proxies before us have stripped of the path: the start of each address that we write. "" for
    nothing; else it starts with a slash and ends without one."""
    values = [value for name, value in said if name == "x-forwarded-prefix"]
    if not values:
        return ""
    if sum(map(len, values)) > _MAX_PREFIX:
        return ""
    prefixes = [part.strip().rstrip("/") for value in values for part in value.split(",")]
    if not all(prefix == "" or _prefix(prefix) for prefix in prefixes):
        return ""
    return "".join(prefixes)


@lru_cache(maxsize=4096)
def plain(address: str) -> str:
    """An address without its zone, and IPv4 as such where a dual-stack listener says it as IPv6."""
    if ":" not in address:
        return address
    parsed = ip_address(address.partition("%")[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return str(mapped or parsed)


def _first(said: Said, name: str) -> str:
    """The first value of a list that may go over several lines (RFC 9110 section 5.6.1); "" for none."""
    for key, value in said:
        if key == name:
            for part in value.split(","):
                if part := part.strip():
                    return part
    return ""


def _number(text: str) -> int:
    return int(text) if _port(text) and int(text) < 65536 else 0


@lru_cache(maxsize=4096)
def _address(text: str) -> str:
    """One entry of X-Forwarded-For without a port (some proxies write it); "" when it is no address."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return plain(str(ip_address(text.partition("%")[0])))
    except ValueError:
        return ""
