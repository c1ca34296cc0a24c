"""The address of the client of a request, where a limit is to be kept for each client."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address

from gateway.core.model import TrustedProxies
from gateway.core.policy.forwarding import Said, chain

_SITE = 64  # bits: an IPv6 client has a network of them to choose its address from


def client_key(peer: str, forwarded: Said, trusted: TrustedProxies) -> str:
    """The client's address as a limit counts it: IPv4 whole, IPv6 by its /64; see `forwarding.chain`.

    peer: "" for a unix socket. forwarded: the request's X-Forwarded-* by lower-case name.
    """
    address = chain(peer, forwarded, trusted)[0]
    if not address:
        return "unix"
    parsed = ip_address(address)
    if not isinstance(parsed, IPv6Address):
        return address
    return f"{IPv6Address(int(parsed) >> _SITE << _SITE)}/{_SITE}"
