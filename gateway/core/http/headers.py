"""Header rules: what a hop may not pass on, and what a client may not say.

Values are latin-1/UTF-8 text as aiohttp gives it (surrogateescape). Names are compared in lower case.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from gateway.core.model import TrustedProxies

Pairs = list[tuple[str, str]]

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
        # From these an application may take another path than the one that was authorised.
        "x-original-url",
        "x-original-uri",
        "x-rewrite-url",
        "x-script-name",
        # A CGI script finds it as HTTP_PROXY, and so do the libraries that it calls out with ("httpoxy").
        "proxy",
    }
)

_MAPPED = 96  # bits before an IPv4 address in an IPv6 one (RFC 4291 section 2.5.5.2)
_MAX_KNOWN = 4096  # addresses of which it is remembered whether they are trusted


def is_ours(name: str) -> bool:
    """Whether a header is the gateway's to set, so that a client's is dropped. name: in lower case."""
    return name in OURS or name.startswith("x-forwarded-")


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
